"""The plugin: one test per clause and output stride, each judged once; without a target it changes nothing."""

import json
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deeplab_spec.judge.certificate import ClauseRecord
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.spec.clauses import clauses_of
from tests.support.certificates import Decided, certificate
from tests.support.pytest_runs import PLUGIN, ROOT, TARGET, XDIST, fake, judged, outcomes, run, run_afresh

DECIDED: dict[str, Decided] = {
    "ASPP-RATES": ("aspp.atrous1.conv", "aspp.atrous2.conv"),
    "ASPP-POOL": (Verdict.UNDECIDED, "the map is too small"),
    "HEAD-BIAS": (Verdict.NOT_APPLICABLE, "normalisations are folded"),
    "SKIP-UNIT": ("backbone.entry_flow.block1.skip.conv",),
}
WAIVER = """
[[waiver]]
clause = "{clause}"
node = "{node}"
reason = "our checkpoints have it"
expires = {expires}
"""
SKIP = WAIVER.format(clause="SKIP-UNIT", node="backbone.entry_flow.block1.skip.conv", expires="2027-01-31")
DAY = ("--deeplab-today", "2026-11-24")
CLAUSES = [clause for clause in clauses_of(None) if not clause.on_request]
STRUCTURE = [clause.id for clause in CLAUSES if clause.level == "structure"]
BOTH = ("--deeplab-output-stride", "8", "--deeplab-output-stride", "16")


def waivers(folder: Path, text: str = SKIP) -> tuple[str, ...]:
    """Return the options for a file of waivers."""
    (folder / "w.toml").write_text(text, encoding="utf-8")
    return ("--deeplab-waivers", "w.toml", *DAY)


def test_every_clause_is_a_test_that_ends_with_its_verdict(tmp_path: Path) -> None:
    """All five verdicts, judged once, in a folder without tests."""
    fake(tmp_path, os16=certificate(DECIDED))
    done = run(tmp_path, *TARGET, "-v", "-rsxX", "--junitxml", "report.xml", *waivers(tmp_path))
    at = {name.removeprefix("deeplab_spec/notebook@16::"): outcome for name, outcome in outcomes(done).items()}

    assert done.returncode == 1, done.stderr
    assert at.pop("deeplab_spec/notebook::WAIVERS") == "PASSED"
    assert list(at) == [clause.id for clause in CLAUSES]
    assert {name: outcome for name, outcome in at.items() if outcome != "PASSED"} == {
        "SKIP-UNIT": "XFAIL",
        "ASPP-RATES": "FAILED",
        "ASPP-POOL": "FAILED",
        "HEAD-BIAS": "SKIPPED",
    }
    assert judged(tmp_path) == [16]
    assert "deeplab_spec: my_model:build, judged against notebook at output stride 16" in done.stdout
    assert "our checkpoints have it (until 2027-01-31)" in done.stdout
    assert "HEAD-BIAS not applicable: normalisations are folded" in done.stdout
    assert "undecided: the map is too small" in done.stdout
    _check_the_report(done.stdout)
    _check_junit(tmp_path / "report.xml")


def test_a_requested_lower_precision_has_tests(tmp_path: Path) -> None:
    """Its clauses are decided on request only."""
    options = ("--deeplab-level", "numerics", "--deeplab-dtype", "bfloat16")
    done = run(tmp_path, *TARGET, "--collect-only", "-q", *options)
    names = [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]

    assert names == [clause.id for clause in clauses_of(None, on_request=True) if clause.level == "numerics"]
    assert sum(name.startswith("VALUES-LOWER-PRECISION-") for name in names) == 4


def _check_the_report(report: str) -> None:
    failure = """
failed: aspp.atrous1.conv and 1 more
  The atrous branches have the specified rates, and the padding that keeps the map.
    aspp.atrous1.conv  my.aspp.atrous1.conv  rate is 12, must be 6
    aspp.atrous2.conv  my.aspp.atrous2.conv  rate is 12, must be 6
    hint: as at output stride 8
  judged: my_model:build against notebook
  source: arXiv:1706.05587, section 3.3
"""
    assert failure in report


def _check_junit(file: Path) -> None:
    cases = {case.get("name"): case for case in ET.parse(file).iter("testcase")}  # noqa: S314 - made here
    case = cases["ASPP-RATES"]
    properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
    record = ClauseRecord.model_validate_json(properties["deeplab_spec_clause"] or "")

    assert len(cases) == len(CLAUSES) + 1
    assert case.get("classname") == "deeplab_spec.notebook@16"
    assert case.find("failure") is not None
    assert properties["deeplab_spec_verdict"] == "failed"
    assert [finding.path for finding in record.findings] == list(DECIDED["ASPP-RATES"])


def test_a_waived_failure_fails_with_runxfail(tmp_path: Path) -> None:
    """Pytest then reports expected failures as failures."""
    fake(tmp_path, os16=certificate({"SKIP-UNIT": DECIDED["SKIP-UNIT"]}))

    assert run(tmp_path, *TARGET, *waivers(tmp_path)).returncode == 0
    assert outcomes(run(tmp_path, *TARGET, "-v", "--runxfail", *waivers(tmp_path)))[
        "deeplab_spec/notebook@16::SKIP-UNIT"
    ] == ("FAILED")


@pytest.mark.parametrize("processes", [(), XDIST], ids=["alone", "xdist"])
def test_each_output_stride_is_judged_once(processes: tuple[str, ...], tmp_path: Path) -> None:
    """Also with several processes; a waiver may cover findings at one output stride only."""
    fake(tmp_path, os8=certificate(), os16=certificate({"SKIP-UNIT": DECIDED["SKIP-UNIT"]}))
    done = run(tmp_path, *TARGET, *BOTH, *processes, "-rA", *waivers(tmp_path))

    assert done.returncode == 0, done.stdout
    assert f"{2 * len(CLAUSES)} passed, 1 xfailed" in done.stdout
    assert sorted(judged(tmp_path)) == [8, 16]
    assert "XFAIL deeplab_spec/notebook@16::SKIP-UNIT" in done.stdout


def test_clause_tests_are_selected_like_other_tests(tmp_path: Path) -> None:
    """By clause, level and output stride; collection judges nothing, and a run only judges selected output strides."""
    fake(tmp_path, os8=certificate(DECIDED), os16=certificate(DECIDED))
    listed = run(tmp_path, *TARGET, *BOTH, "--collect-only", "-q", "-k", "structure and not ASPP")
    names = [line for line in listed.stdout.splitlines() if "::" in line]

    assert names == [
        f"deeplab_spec/notebook@{stride}::{name}" for stride in (8, 16) for name in STRUCTURE if "ASPP" not in name
    ]
    assert (listed.returncode, judged(tmp_path)) == (0, [])
    assert run(tmp_path, *TARGET, *BOTH, "-k", "16 and HEAD-NORM-EPS").returncode == 0
    assert judged(tmp_path) == [16]
    first = run(tmp_path, *TARGET, *BOTH, "-x")
    assert (first.returncode, "stopping after 1 failures" in first.stdout) == (1, True)


def test_the_projects_own_tests_run_too(tmp_path: Path) -> None:
    """They run first, and all results are counted together."""
    fake(tmp_path, os16=certificate())
    (tmp_path / "test_own.py").write_text("def test_own(tmp_path): assert tmp_path\n", encoding="utf-8")
    done = run(tmp_path, *TARGET, "-v")

    assert done.returncode == 0
    assert f"{len(CLAUSES) + 1} passed" in done.stdout
    assert done.stdout.index("test_own.py::test_own PASSED") < done.stdout.index("deeplab_spec/notebook@16::")


@pytest.mark.parametrize(
    "processes", [pytest.param((), id="alone"), pytest.param(XDIST, id="xdist", marks=pytest.mark.deep)]
)
def test_a_target_that_cannot_be_built_is_one_line_and_4(processes: tuple[str, ...], tmp_path: Path) -> None:
    """As for any wrong argument, no test runs."""
    fake(tmp_path)
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")
    done = run(tmp_path, *TARGET, *processes)

    assert done.returncode == 4
    assert [line for line in done.stderr.splitlines() if line] == [
        "ERROR: my_model:build: cannot be built: RuntimeError: no such weights"
    ]
    assert "passed" not in done.stdout
    assert judged(tmp_path) == [16]


def test_a_target_that_cannot_be_built_at_one_output_stride_is_an_error_there(tmp_path: Path) -> None:
    """Each clause has the error in one line; the other output stride is judged."""
    fake(tmp_path, os8=certificate())
    done = run(tmp_path, *TARGET, *BOTH)
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR deeplab_spec/notebook@16::")]

    assert done.returncode == 1
    assert f"{len(CLAUSES)} passed, {len(CLAUSES)} errors" in done.stdout
    assert len(errors) == len(CLAUSES)
    assert all("my_model:build: cannot be built: RuntimeError: no such weights" in line for line in errors)
    assert "Traceback" not in done.stdout
    assert judged(tmp_path) == [8, 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SKIP.replace("2027-01-31", "2026-11-23"), "w.toml: waiver 1: must not have expired by 2026-11-24"),
        (SKIP.replace('"backbone.entry_flow.block1.skip.conv"', '"*"'), "w.toml: waiver 1: node must be a path"),
    ],
    ids=["expired", "broad"],
)
def test_a_wrong_waiver_is_one_line_and_4(text: str, message: str, tmp_path: Path) -> None:
    """The error precedes collection."""
    fake(tmp_path, os16=certificate({"SKIP-UNIT": DECIDED["SKIP-UNIT"]}))
    done = run(tmp_path, *TARGET, *waivers(tmp_path, text))

    assert (done.returncode, judged(tmp_path)) == (4, [])
    assert message in done.stderr


def test_an_unused_waiver_fails_the_run(tmp_path: Path) -> None:
    """All clauses pass, and the test of the waivers fails."""
    fake(tmp_path, os16=certificate())
    done = run(tmp_path, *TARGET, "-v", *waivers(tmp_path))

    assert done.returncode == 1
    assert outcomes(done)["deeplab_spec/notebook::WAIVERS"] == "FAILED"
    assert "w.toml: waiver 1: must cover a finding of SKIP-UNIT, which is passed, but got" in done.stdout
    assert f"1 failed, {len(CLAUSES)} passed" in done.stdout


def test_a_waiver_that_covers_some_findings_waives_nothing(tmp_path: Path) -> None:
    """The report names the finding that is not covered."""
    fake(tmp_path, os16=certificate({"ASPP-RATES": DECIDED["ASPP-RATES"]}))
    one = WAIVER.format(clause="ASPP-RATES", node="aspp.atrous1.conv", expires="2027-01-31")
    done = run(tmp_path, *TARGET, *waivers(tmp_path, one))

    assert done.returncode == 1
    assert "ASPP-RATES is not waived: no waiver covers aspp.atrous2.conv" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("-k", "own")], ids=["skipped", "deselected"])
def test_a_run_that_decides_nothing_fails(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Otherwise a run of skipped or deselected tests would succeed."""
    nothing: dict[str, Decided] = {clause.id: (Verdict.NOT_APPLICABLE, "no pyramid") for clause in CLAUSES}
    fake(tmp_path, os16=certificate(nothing))
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")
    done = run(tmp_path, *TARGET, *arguments)

    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "deeplab_spec: no clause was decided of my_model:build" in done.stdout


def test_a_wrong_option_is_one_line_and_4(tmp_path: Path) -> None:
    """Pytest's exit status for usage errors, with the rule and the value."""
    done = run(tmp_path, "--deeplab-target", "a:b")

    assert done.returncode == 4
    assert "ERROR: variant: say which network a:b is: --variant with one of notebook" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_the_package_registers_the_plugin() -> None:
    """Pytest finds the plugin of an installed package by its entry point, without ``-p``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["entry-points"] == {"pytest11": {"deeplab_spec": "deeplab_spec.pytest_plugin"}}
    assert json.dumps(project["optional-dependencies"]["torch"]).count("pytest")


WATCH = """
import atexit, sys
OWN = {"deeplab_spec", "torch", "pydantic", "hypothesis", "numpy"}
loaded = lambda: sorted(name for name in sys.modules if name.partition(".")[0] in OWN)
atexit.register(lambda: sys.stderr.write("LOADED " + " ".join(loaded()) + "\\n"))
"""


def loaded(folder: Path, *arguments: str, plugin: tuple[str, ...] = PLUGIN) -> set[str]:
    """Return the modules of this package and of slow packages that a run has loaded at its end."""
    (folder / "watch.py").write_text(WATCH, encoding="utf-8")
    done = run_afresh(folder, "-p", "watch", *arguments, plugin=plugin)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


def test_a_run_without_a_target_loads_only_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a target it loads the collectors, but no framework: only the judge's process does."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fake(tmp_path)
    (tmp_path / "conftest.py").unlink()
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")

    assert loaded(tmp_path) == {"deeplab_spec", "deeplab_spec.pytest_plugin"}
    modules = loaded(tmp_path, *TARGET, "--collect-only")
    assert {"deeplab_spec.pytest_plugin.session", "pydantic"} <= modules
    assert not {"torch", "numpy", "hypothesis"} & modules


def test_an_import_of_torch_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the watch reports a project that imports a module named torch."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "torch.py").touch()
    (tmp_path / "test_own.py").write_text("import torch\ndef test_own(): assert torch\n", encoding="utf-8")

    assert "torch" in loaded(tmp_path)


def test_a_run_without_a_target_ends_as_without_the_plugin(tmp_path: Path) -> None:
    """The exit statuses are equal for passed, failed and no tests."""
    (tmp_path / "test_own.py").write_text("def test_own(): pass\ndef test_wrong(): assert 0\n", encoding="utf-8")

    for arguments in (("-k", "own"), (), ("-k", "nothing")):
        with_it, without = (run(tmp_path, *arguments, plugin=plugin) for plugin in (PLUGIN, ()))
        assert with_it.returncode == without.returncode
        assert _counts(with_it.stdout) == _counts(without.stdout)


def _counts(report: str) -> str:
    """Return the last line of a report without the time."""
    return report.splitlines()[-1].rpartition(" in ")[0]
