"""A base class for tests of one implementation, or of several: one test per target, output stride and clause."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import DTYPES, asks_for_lower, read_dtypes
from deeplab_spec.judge.waivers import Entry, waivers_from
from deeplab_spec.pytest_plugin.clause_tests import DECIDED, Judgements, conclude
from deeplab_spec.spec.api import Override
from deeplab_spec.spec.clauses import Level, clauses_of
from deeplab_spec.spec.variants import NOTEBOOK, variant

if TYPE_CHECKING:
    from torch import nn


class Conformance:
    """The tests of one implementation, which ``build`` builds, or of several, which ``targets`` names.

    What is built by ``build``, or by a callable among the targets, is judged in the test process, once per output
    stride. If it may crash, name it as ``module:callable``, which is judged in another process.

    Attributes:
        targets: The implementations by name: callables as ``build``, or targets as of ``certify``.
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
        waivers: Accepted findings, of any target: a TOML file, or its entries; their tests are expected failures.
        today: The date that the expiry of waivers is checked against; None for today in UTC.
    """

    targets: ClassVar[Mapping[str, "str | Callable[..., nn.Module]"]] = {}
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
    waivers: ClassVar[str | Path | Sequence[Entry] | None] = None
    today: ClassVar[date | None] = None

    def build(self, output_stride: int, num_classes: int) -> "nn.Module":
        """Build the implementation.

        Args:
            output_stride: Input pixels per pixel of the backbone's features.
            num_classes: Channels of the logits.
        """
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test per target, output stride and clause; a target that has no name is in no test's id."""
        suite = type(self)
        if "target" in metafunc.fixturenames and suite.targets:
            metafunc.parametrize("target", suite.targets)
        if "output_stride" in metafunc.fixturenames:
            metafunc.parametrize("output_stride", _listed(suite, "output_strides", suite.output_strides))
        if "clause" in metafunc.fixturenames:
            metafunc.parametrize("clause", _listed(suite, "levels", _clauses(suite)))

    @pytest.fixture
    def target(self) -> str:
        """The name of the target; empty for what ``build`` builds."""
        return ""

    @pytest.fixture
    def certificate(self, target: str, output_stride: int) -> Certificate:
        """The certificate of one target at one output stride."""
        return _judgements(type(self)).certificate((target, output_stride))

    def test_clause(self, certificate: Certificate, clause: str) -> None:
        """The clause passes, or is waived with a reason."""
        conclude(certificate, clause)

    def test_something_is_decided_and_every_waiver_covers_a_finding(self) -> None:
        """At least one clause is decided per target and output stride, and every waiver covers a finding."""
        judgements = _judgements(type(self))
        cases = list(product(self.targets or [""], self.output_strides))
        for target, output_stride in cases:
            if not DECIDED & {record.verdict for record in judgements.certificate((target, output_stride)).clauses}:
                of = f" of {target}" if target else ""
                pytest.fail(f"no clause{of} was decided at output stride {output_stride}", pytrace=False)
        judgements.check_waivers(cases)


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


_JUDGEMENTS: Final[dict[type[Conformance], Judgements[tuple[str, int]]]] = {}
"""The certificates of each class, in this process."""


def _judgements(suite: type[Conformance]) -> Judgements[tuple[str, int]]:
    if suite not in _JUDGEMENTS:
        try:
            waivers = waivers_from(suite.waivers, f"{suite.__name__}.waivers", suite.today)
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)
        _JUDGEMENTS[suite] = Judgements(lambda case: _judge(suite, *case), waivers)
    return _JUDGEMENTS[suite]


def _judge(suite: type[Conformance], target: str, output_stride: int) -> Certificate:
    from deeplab_spec.judge.judge import certify

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command does: warnings are not faults of the network
        return certify(
            suite.targets[target] if target else suite().build,
            suite.variant,
            against=suite.against,
            choices=suite.choices,
            output_strides=(output_stride,),
            num_classes=suite.num_classes,
            part=suite.part,
            levels=suite.levels,
            dtypes=suite.dtypes,
            device=suite.device,
            seed=suite.seed,
        )
