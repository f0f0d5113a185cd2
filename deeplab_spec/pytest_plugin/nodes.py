"""The tests in pytest's tree: one collector per output stride, one item per clause.

Their ids are ``deeplab_spec/notebook@16::ASPP-RATES``; they belong to no file.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.pytest_plugin.clause_tests import Judgements, conclude
from deeplab_spec.spec.clauses import Clause

VERDICT: Final = "deeplab_spec_verdict"
"""Name of the property of a report that holds the verdict of its clause."""
RECORD: Final = "deeplab_spec_clause"
"""Name of the property that holds all that was decided of it, as JSON."""


class AtOutputStride(pytest.Collector):
    """The clauses of a network at one output stride."""

    judgements: Judgements
    clauses: Sequence[Clause]
    output_stride: int | None

    def collect(self) -> Iterator[pytest.Item]:
        """Give one item per clause; nothing is judged yet."""
        for clause in self.clauses:
            yield ClauseItem.of(self, clause)

    def setup(self) -> None:
        """Judge, before the first of the items runs; one line says why where that cannot be."""
        self.judgements.certificate(self.output_stride)

    @property
    def certificate(self) -> Certificate:
        """What was decided."""
        return self.judgements.certificate(self.output_stride)


class ClauseItem(pytest.Item):
    """One clause at one output stride."""

    clause: Clause
    at: AtOutputStride

    @classmethod
    def of(cls, parent: AtOutputStride, clause: Clause) -> "ClauseItem":
        """Return the item of a clause."""
        item: ClauseItem = cls.from_parent(parent, name=clause.id, nodeid=f"{parent.nodeid}::{clause.id}")
        item.clause = clause
        item.at = parent
        item.extra_keyword_matches.add(clause.level.value)
        return item

    def runtest(self) -> None:
        """End as the clause was decided; the whole record is a property of the report."""
        certificate = self.at.certificate
        for record in certificate.clauses:
            if record.id == self.clause.id:
                self.user_properties += [(VERDICT, record.verdict.value), (RECORD, record.model_dump_json())]
        conclude(certificate, self.clause.id)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Give the headline of its report."""
        return str(self.path), None, self.nodeid


class Waived(pytest.Collector):
    """The waivers of a run, held against all output strides."""

    judgements: Judgements
    output_strides: Sequence[int | None]

    def collect(self) -> Iterator[pytest.Item]:
        """Give one item."""
        item: WaiversItem = WaiversItem.from_parent(self, name="WAIVERS", nodeid=f"{self.nodeid}::WAIVERS")
        item.waived = self
        yield item


class WaiversItem(pytest.Item):
    """Every waiver covers a finding at some output stride."""

    waived: Waived

    def runtest(self) -> None:
        """Fail where a waiver covers nothing."""
        self.waived.judgements.check_waivers(self.waived.output_strides)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Give the headline of its report."""
        return str(self.path), None, self.nodeid
