"""A base class for tests of one implementation: one test per clause and output stride."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import DTYPES, asks_for_lower, read_dtypes
from deeplab_spec.judge.waivers import load_waivers
from deeplab_spec.pytest_plugin.clause_tests import DECIDED, Judgements, conclude
from deeplab_spec.spec.api import Override
from deeplab_spec.spec.clauses import Level, clauses_of
from deeplab_spec.spec.variants import NOTEBOOK, variant

if TYPE_CHECKING:
    from torch import nn


class Conformance:
    """The tests of one implementation.

    The implementation is built and judged in the test process, once per output stride. If it may crash, use
    ``pytest --deeplab-target``, which judges in another process.

    Attributes:
        variant: The published network that it must match.
        against: Another target, or a ``.lock`` file, that it must match instead.
        choices: Choices in which it must differ from the variant.
        output_strides: The output strides that it is built with.
        num_classes: Channels of the logits.
        part: The part of the network that it is; None for the whole network.
        levels: The levels to decide.
        dtypes: The precisions of the numerics, named as by ``certify``.
        device: The device that runs it: ``cpu`` or ``cuda``.
        seed: Seed of the weights and images.
        waivers: A TOML file of accepted findings; their tests are expected failures.
        today: The date that the expiry of waivers is checked against; None for today in UTC.
    """

    variant: ClassVar[str | None] = None
    against: ClassVar[str | None] = None
    choices: ClassVar[Mapping[str, Override]] = {}
    output_strides: ClassVar[Sequence[int]] = (16,)
    num_classes: ClassVar[int] = 21
    part: ClassVar[str | None] = None
    levels: ClassVar[Sequence[str]] = tuple(Level)
    dtypes: ClassVar[Sequence[str]] = DTYPES
    device: ClassVar[str] = "cpu"
    seed: ClassVar[int] = 0
    waivers: ClassVar[str | Path | None] = None
    today: ClassVar[date | None] = None

    def build(self, output_stride: int, num_classes: int) -> "nn.Module":
        """Build the implementation.

        Args:
            output_stride: Input pixels per pixel of the backbone's features.
            num_classes: Channels of the logits.
        """
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test per clause and output stride."""
        suite = type(self)
        if "output_stride" in metafunc.fixturenames:
            metafunc.parametrize("output_stride", _listed(suite, "output_strides", suite.output_strides))
        if "clause" in metafunc.fixturenames:
            metafunc.parametrize("clause", _listed(suite, "levels", _clauses(suite)))

    @pytest.fixture
    def certificate(self, output_stride: int) -> Certificate:
        """The certificate at one output stride."""
        return _judgements(type(self)).certificate(output_stride)

    def test_clause(self, certificate: Certificate, clause: str) -> None:
        """The clause passes, or is waived with a reason."""
        conclude(certificate, clause)

    def test_something_is_decided_and_every_waiver_covers_a_finding(self) -> None:
        """At least one clause is decided per output stride, and every waiver covers a finding."""
        judgements = _judgements(type(self))
        for output_stride in self.output_strides:
            if not DECIDED & {record.verdict for record in judgements.certificate(output_stride).clauses}:
                pytest.fail(f"no clause was decided at output stride {output_stride}", pytrace=False)
        judgements.check_waivers(self.output_strides)


def _clauses(suite: type[Conformance]) -> list[str]:
    """Return the ids of the clauses that are decided."""
    try:
        lower = asks_for_lower(read_dtypes(suite.dtypes, "dtypes"))
    except DeepLabSpecError as error:
        raise pytest.Collector.CollectError(f"{suite.__name__}: {error}") from error
    family = variant(suite.variant or NOTEBOOK.name).family.family
    decided = clauses_of(suite.part, family, on_request=lower)
    return [clause.id for clause in decided if clause.level in suite.levels]


def _listed(suite: type, name: str, values: Sequence[object]) -> Sequence[object]:
    """Return the values; an empty list is an error, since pytest would skip its tests."""
    if not values:
        raise pytest.Collector.CollectError(f"{suite.__name__}: {name} must not be empty")
    return values


_JUDGEMENTS: Final[dict[type[Conformance], Judgements]] = {}
"""The certificates of each class, in this process."""


def _judgements(suite: type[Conformance]) -> Judgements:
    if suite not in _JUDGEMENTS:
        try:
            waivers = load_waivers(Path(suite.waivers), suite.today) if suite.waivers is not None else None
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)
        _JUDGEMENTS[suite] = Judgements(partial(_judge, suite), waivers)
    return _JUDGEMENTS[suite]


def _judge(suite: type[Conformance], output_stride: int | None) -> Certificate:
    from deeplab_spec.judge.judge import certify

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command does: warnings are not faults of the network
        return certify(
            suite().build,
            suite.variant,
            against=suite.against,
            choices=suite.choices,
            output_strides=() if output_stride is None else (output_stride,),
            num_classes=suite.num_classes,
            part=suite.part,
            levels=suite.levels,
            dtypes=suite.dtypes,
            device=suite.device,
            seed=suite.seed,
        )
