"""The test class for other projects: every test ends with the verdict of its clause."""

import re
from pathlib import Path
from typing import ClassVar

import pytest

import deeplab_spec
from deeplab_spec.conformance import Conformance, suite
from deeplab_spec.errors import TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.pytest_plugin.clause_tests import Judgements, conclude
from deeplab_spec.spec.clauses import clauses_of
from tests.support.candidates import SMALL
from tests.support.certificates import certificate
from tests.support.pytest_runs import ROOT, run

PROJECT = """
import deeplab_spec.conformance.suite as suite
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.clauses import CLAUSES
from tests.support.certificates import certificate

judged = []

def judge(cls, target, output_stride):
    judged.append((cls.__name__, output_stride))
    if cls.__name__ == "TestUnbuildable":
        raise TargetError("TestUnbuildable.build", "cannot be built: RuntimeError: no weights")
    return certificate(cls.decided)

suite._judge = judge

class Mine(suite.Conformance):
    variant = "notebook"
    decided = {"ASPP-RATES": ("aspp.atrous1.conv",)}
    waivers = "w.toml"

class TestWaived(Mine):
    output_strides = (8, 16)

class TestOneMore(Mine):
    decided = {"ASPP-RATES": ("aspp.atrous1.conv", "aspp.atrous2.conv")}

class TestStale(Mine):
    decided = {}

class TestExpired(Mine):
    waivers = "old.toml"

class TestNothingDecided(Mine):
    decided = {clause.id: (Verdict.NOT_APPLICABLE, "nothing is there") for clause in CLAUSES}
    waivers = None

class TestUnbuildable(Mine):
    waivers = None

class TestNoLevel(Mine):
    levels = ()

class TestNoOutputStride(Mine):
    output_strides = ()

def test_judged_once():
    assert judged.count(("TestWaived", 8)) == judged.count(("TestWaived", 16)) == 1
    assert judged.count(("TestUnbuildable", 16)) == 1
"""
WAIVER = '[[waiver]]\nclause = "ASPP-RATES"\nnode = "aspp.atrous1.conv"\nreason = "ours"\nexpires = 2999-01-31\n'


NETWORKS = f"""
from functools import partial
from deeplab_spec import build

SMALL = {SMALL}
build_new = partial(build, "notebook", choices=SMALL)
build_old = partial(build, "notebook", choices={{**SMALL, "norm_momentum": 0.1}})
"""
"""Two implementations, of which the older one has another momentum."""


class TestReference(Conformance):
    """The class as other projects use it, on the reference."""

    variant = "notebook"
    choices: ClassVar = SMALL
    output_strides = (8,)
    levels = ("structure",)

    def build(self, output_stride: int, num_classes: int) -> object:  # type: ignore[override]
        """Build the reference, narrow."""
        return deeplab_spec.build("notebook", output_stride, num_classes, SMALL)


class Requested(Conformance):
    """A class that requests a lower precision and a device; pytest does not collect it."""

    variant = "notebook"
    levels = ("numerics",)
    dtypes = ("autocast-bfloat16",)
    device = "cuda"

    def build(self, output_stride: int, num_classes: int) -> object:  # type: ignore[override]
        """Build nothing: there is no device."""


def test_a_requested_lower_precision_has_tests() -> None:
    """One for each of its clauses."""
    lower = [clause.id for clause in clauses_of(None, on_request=True) if clause.on_request]

    assert suite._clauses(Requested)[-len(lower) :] == lower


def test_a_class_sets_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing device is the reason of the error, as in ``certify``."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(TargetError, match="--device cuda: no CUDA device is available"):
        suite._judge(Requested, "", 16)


def test_an_unknown_precision_is_a_collection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the name of the class."""
    monkeypatch.setattr(Requested, "dtypes", ("int8",))
    with pytest.raises(pytest.Collector.CollectError, match=r"^Requested: dtypes: must be one of float64, .* 'int8'$"):
        suite._clauses(Requested)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Run a project with classes of every kind; return failures, skips and errors by class."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_project.py").write_text(PROJECT, encoding="utf-8")
    (folder / "w.toml").write_text(WAIVER, encoding="utf-8")
    (folder / "old.toml").write_text(WAIVER.replace("2999", "1999"), encoding="utf-8")
    done = run(folder, "-rA", "--continue-on-collection-errors", plugin=())
    found: dict[str, list[str]] = {"all": [done.stdout]}
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" test_project.py::")
        if rest and not kind.startswith("PASSED"):
            name, _, test = rest.partition("::")
            found.setdefault(name.partition(" ")[0], []).append(f"{kind} {test}")
    return found


def test_a_waived_clause_is_an_expected_failure_with_its_reason(outcomes: dict[str, list[str]]) -> None:
    """At every output stride; the other tests of the class pass."""
    assert outcomes["TestWaived"] == [
        f"XFAIL test_clause[{stride}-ASPP-RATES] - ours (until 2999-01-31)" for stride in (8, 16)
    ]


def test_a_partial_an_unused_and_an_expired_waiver_fail_the_class(outcomes: dict[str, list[str]]) -> None:
    """Each has its own message."""
    assert [line.partition(" - ")[0] for line in outcomes["TestOneMore"]] == ["FAILED test_clause[16-ASPP-RATES]"]
    (stale,) = outcomes["TestStale"]
    assert stale.startswith("FAILED test_something_is_decided_and_every_waiver_covers_a_finding - ")
    assert "must cover a finding of ASPP-RATES, which is passed" in outcomes["all"][0]
    assert all(line.startswith(("ERROR", "FAILED")) for line in outcomes["TestExpired"])
    assert "old.toml: waiver 1: must not have expired by 2" in outcomes["all"][0]


def test_a_class_that_decides_nothing_fails(outcomes: dict[str, list[str]]) -> None:
    """If all clauses are skipped, one test fails; an empty list is an error without tests."""
    failed = [line for line in outcomes["TestNothingDecided"] if line.startswith("FAILED")]
    assert [line.partition(" - ")[0] for line in failed] == [
        "FAILED test_something_is_decided_and_every_waiver_covers_a_finding"
    ]
    assert "no clause was decided at output stride 16" in outcomes["all"][0]
    assert "TestNoLevel: levels must not be empty" in outcomes["all"][0]
    assert "TestNoOutputStride: output_strides must not be empty" in outcomes["all"][0]


def test_an_implementation_that_cannot_be_built_is_an_error_of_every_clause(outcomes: dict[str, list[str]]) -> None:
    """One line each; it is built once, and no test of the class passes."""
    lines = outcomes["TestUnbuildable"]

    assert {line.partition(" ")[0] for line in lines} == {"ERROR", "FAILED"}
    assert "TestUnbuildable.build: cannot be built: RuntimeError: no weights" in outcomes["all"][0]
    assert not any("judged_once" in line for line in outcomes.get("test_judged_once", []))
    assert "PASSED test_project.py::test_judged_once" in outcomes["all"][0]


def test_each_verdict_ends_the_test_its_own_way() -> None:
    """``conclude`` returns only for a passed clause; a missing clause is undecided."""
    decided = certificate(
        {
            "ASPP-RATES": ("aspp.atrous1.conv",),
            "ASPP-POOL": (Verdict.UNDECIDED, "the map is too small"),
            "HEAD-BIAS": (Verdict.NOT_APPLICABLE, "folded"),
        },
        only=["ASPP-RATES", "ASPP-POOL", "HEAD-BIAS", "OUTPUT-SHAPE"],
    )
    conclude(decided, "OUTPUT-SHAPE")
    with pytest.raises(pytest.fail.Exception, match=r"failed: aspp.atrous1.conv\n  The atrous branches have"):
        conclude(decided, "ASPP-RATES")
    with pytest.raises(pytest.fail.Exception, match="undecided: the map is too small"):
        conclude(decided, "ASPP-POOL")
    with pytest.raises(pytest.skip.Exception, match="HEAD-BIAS not applicable: folded"):
        conclude(decided, "HEAD-BIAS")
    with pytest.raises(pytest.fail.Exception, match="STEM-CONVS undecided: the certificate of my_model:build does"):
        conclude(decided, "STEM-CONVS")


def test_a_judgement_that_failed_is_not_tried_again() -> None:
    """Every clause gets the same error."""
    calls = []

    def judge(output_stride: int | None) -> Certificate:
        calls.append(output_stride)
        raise TargetError("my_model:build", "cannot be built")

    judgements = Judgements(judge)
    for _ in range(2):
        with pytest.raises(TargetError, match="my_model:build: cannot be built"):
            judgements.at(16)
    assert calls == [16]


def test_a_class_without_build_raises() -> None:
    """``build`` must be overridden."""

    class Unfinished(Conformance):
        variant = "notebook"

    with pytest.raises(NotImplementedError):
        Unfinished().build(16, 21)


@pytest.mark.parametrize("page", ["README.md", "docs/guide/tests.md"])
def test_a_program_of_ten_lines_judges_two_implementations_with_a_waiver(page: str, tmp_path: Path) -> None:
    """The one that the pages show, on narrow networks: the waiver covers the older one, and the newer one passes."""
    (program,) = (
        code for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if "Both" in code
    )
    small = f'    choices = {SMALL}\n    levels = ("training",)\n'
    (tmp_path / "my_networks.py").write_text(NETWORKS, encoding="utf-8")
    (tmp_path / "test_both.py").write_text(program + small, encoding="utf-8")
    done = run(tmp_path, "-rA", plugin=())

    lines = done.stdout.splitlines()
    assert len([line for line in program.splitlines() if line]) <= 10
    assert done.returncode == 0, done.stdout
    assert [line for line in lines if line.startswith("XFAIL")] == [
        "XFAIL test_both.py::TestBoth::test_clause[old-16-BN-MOMENTUM] - trained so (until 2099-01-31)"
    ]
    assert "PASSED test_both.py::TestBoth::test_clause[new-16-BN-MOMENTUM]" in lines
