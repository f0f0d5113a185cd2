"""A class to inherit from: one test per clause and output stride, in any suite that pytest runs."""

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

if TYPE_CHECKING:
    from torch import nn


class Conformance:
    """The tests of one implementation.

    It is built and judged in the process of the tests, once at each output stride. A network that may end
    its process is safer with ``pytest --deeplab-target``, which judges in another.

    Attributes:
        variant: The published network that it shall be.
        against: Another target, or a file of ``lock``, that it shall equal instead.
        choices: Decisions in which it shall differ from the variant.
        output_strides: The output strides that it is built for.
        num_classes: Channels of the logits.
        part: The part that it implements; None for the whole network.
        levels: The levels to decide.
        dtypes: The precisions of the numerics, named as by ``certify``.
        device: Where it runs: ``cpu`` or ``cuda``.
        seed: Seed of weights and images.
        waivers: A TOML file of findings that are accepted: their tests are expected failures.
        today: The day on which waivers are held against their expiry; None for the present one, in UTC.
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
        """Build what is judged.

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
        """What was decided at one output stride."""
        return _judgements(type(self)).certificate(output_stride)

    def test_clause(self, certificate: Certificate, clause: str) -> None:
        """The clause is true of the network, or waived with a reason."""
        conclude(certificate, clause)

    def test_something_is_decided_and_every_waiver_covers_a_finding(self) -> None:
        """Tests that are all skipped show nothing, and a waiver that covers nothing hides the next fault."""
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
    return [clause.id for clause in clauses_of(suite.part, on_request=lower) if clause.level in suite.levels]


def _listed(suite: type, name: str, values: Sequence[object]) -> Sequence[object]:
    """Refuse an empty list, of which pytest would make tests that are skipped."""
    if not values:
        raise pytest.Collector.CollectError(f"{suite.__name__}: {name} must name something to judge")
    return values


_KNOWN: Final[dict[type[Conformance], Judgements]] = {}
"""What was judged of each class, in this process."""


def _judgements(suite: type[Conformance]) -> Judgements:
    if suite not in _KNOWN:
        try:
            waivers = load_waivers(Path(suite.waivers), suite.today) if suite.waivers is not None else None
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)
        _KNOWN[suite] = Judgements(partial(_judge, suite), waivers)
    return _KNOWN[suite]


def _judge(suite: type[Conformance], output_stride: int | None) -> Certificate:
    from deeplab_spec.judge.api import certify

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in the process of the command: warnings are no faults of the network
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
