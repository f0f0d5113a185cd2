"""Broken candidates: what one call returns, raises or does costs that call's clauses, and nothing ends the judge."""

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.errors import TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.judge import run
from deeplab_spec.judge.request import request_from
from deeplab_spec.result import ExitCode
from deeplab_spec.views.progress import silent

ROOT = Path(__file__).parents[2]
MODULE = "tests.support.broken_candidate"
LIMIT = 300.0
"""Seconds that a judgement may take, on a busy machine: each of its answers has ``TIMEOUT``."""

TIMEOUT = 20.0
GIVEN_UP = 10.0
"""Seconds of an answer from a candidate that does not answer."""

UNANSWERED = ("looping", "sleeping", "stopping itself")
RESULTS = {"OUTPUT-TENSOR", "OUTPUT-SHAPE", "OUTPUT-DTYPE", "OUTPUT-FINITE", "VALUES-EVERY-CALL"}
"""Clauses about the results of every call that is made at the interface."""

UNHURT = {"SIZES-ACCEPTED", "DETERMINISM", "STATE-UNCHANGED", "DECODER-CONVS", "VALUES-END-TO-END", "TRAIN-STEP"}
"""Clauses of every level, which no call with a batch of three decides."""


def deep(*values: object) -> object:
    """Return a case of the long run: the usual run has one of its kind."""
    return pytest.param(*values, marks=pytest.mark.deep)


def judged(builder: str, *, part: str | None = "decoder", timeout: float = TIMEOUT, **arguments: str) -> Certificate:
    """Judge a broken candidate within the time limit.

    Args:
        builder: The name in the module of broken candidates, or a whole target.
        part: The part that it implements.
        timeout: Seconds of an answer.
        arguments: The arguments of the builder.
    """
    started = time.monotonic()
    request = request_from(
        builder if ":" in builder else f"{MODULE}:{builder}",
        variant="notebook",
        overrides=("width=0.03125", "middle_blocks=2"),
        part=part,
        arguments=arguments,
    )
    timeout = GIVEN_UP if arguments.get("thing") in UNANSWERED else timeout
    try:
        return run(request, silent, ProcessSettings(search=(str(ROOT),), timeout=timeout, memory=2**32))
    finally:
        assert time.monotonic() - started < LIMIT


def of(certificate: Certificate, verdict: Verdict) -> set[str]:
    """Return the clauses with a verdict."""
    return {clause.id for clause in certificate.clauses if clause.verdict is verdict}


def refused(builder: str, **arguments: str) -> str:
    """Return the error of a candidate that is not judged: one line."""
    with pytest.raises(TargetError) as refusal:
        judged(builder, **arguments)
    text = str(refusal.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 1000
    return text


@pytest.fixture(autouse=True)
def known_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the candidate the folder of the tensors."""
    make = tempfile.mkdtemp

    def noted(**options: Any) -> str:
        folder = make(**options)
        monkeypatch.setenv("FOLDER_OF_TENSORS", folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", noted)


def test_a_candidate_that_does_nothing_else_conforms() -> None:
    """The counter-test of all others."""
    assert judged("build").exit_code is ExitCode.DONE


@pytest.mark.parametrize(
    "thing",
    [
        "ValueError",
        "segmentation fault",
        "looping",
        "deleting the folder",
        *map(
            deep,
            [
                "SystemExit",
                "an error without a text",
                "closing every descriptor",
                "endless memory",
                "BaseException",
                "KeyboardInterrupt",
                "GeneratorExit",
                "StopIteration",
                "MemoryError",
                "an error of 100 MB",
                "recursion",
                "a warning as an error",
                "abort",
                "exit",
                "killing itself",
                "killing its group",
                "killing its parent",
                "stopping itself",
                "sleeping",
                "closing the pipes",
                "more memory",
            ],
        ),
    ],
)
def test_one_call_costs_its_own_clauses(thing: str) -> None:
    """The call with a batch of three is hurt; everything else is decided, in a process that is started again."""
    certificate = judged("build", place="one batch", thing=thing)

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert "BATCHES-ACCEPTED" in of(certificate, Verdict.FAILED) <= {"BATCHES-ACCEPTED", "VALUES-EVERY-CALL"}
    assert of(certificate, Verdict.UNDECIDED) <= RESULTS
    assert of(certificate, Verdict.PASSED) >= UNHURT


@pytest.mark.parametrize(
    ("thing", "clause"),
    [
        ("none", "OUTPUT-TENSOR"),
        deep("sparse", "OUTPUT-TENSOR"),
        deep("cyclic list", "BATCHES-ACCEPTED"),
        ("expanded", "BATCHES-ACCEPTED"),
        deep("half", "OUTPUT-DTYPE"),
        deep("wider", "OUTPUT-SHAPE"),
        ("nan", "OUTPUT-FINITE"),
        deep("int", "OUTPUT-TENSOR"),
        deep("text", "OUTPUT-TENSOR"),
        deep("numpy", "OUTPUT-TENSOR"),
        deep("meta", "OUTPUT-TENSOR"),
        deep("quantized", "OUTPUT-TENSOR"),
        deep("nested", "OUTPUT-TENSOR"),
        deep("parameter", "OUTPUT-TENSOR"),
        deep("subclass", "OUTPUT-TENSOR"),
        deep("list", "OUTPUT-TENSOR"),
        deep("empty dict", "OUTPUT-TENSOR"),
        deep("cyclic dict", "BATCHES-ACCEPTED"),
        deep("complex", "OUTPUT-TENSOR"),
        deep("integers", "OUTPUT-DTYPE"),
        deep("without batch", "OUTPUT-SHAPE"),
        deep("empty", "OUTPUT-SHAPE"),
    ],
)
def test_one_result_costs_its_own_clauses(thing: str, clause: str) -> None:
    """What the call with a batch of three returns is no tensor, or another one."""
    certificate = judged("build", place="one batch", thing=thing)

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert clause in of(certificate, Verdict.FAILED) <= {clause, "VALUES-EVERY-CALL"}
    assert of(certificate, Verdict.UNDECIDED) <= RESULTS
    assert of(certificate, Verdict.PASSED) >= UNHURT


@pytest.mark.parametrize(
    "thing", ["none", deep("cyclic list"), deep("expanded"), deep("nan"), deep("half"), deep("empty dict")]
)
def test_results_that_are_always_wrong_deviate(thing: str) -> None:
    """No comparison of values fails on them."""
    assert judged("build", place="every call", thing=thing).exit_code is ExitCode.DIFFERENT


@pytest.mark.parametrize(
    "thing",
    ["threads", *map(deep, ["no gradients", "more threads", "another folder", "ignoring signals"])],
)
def test_what_a_call_leaves_behind_changes_no_other(thing: str) -> None:
    """A setting of its process is not the judge's, and the judge's requests do not depend on it."""
    assert judged("build", place="one batch", thing=thing).exit_code is ExitCode.DONE


@pytest.mark.parametrize("thing", ["another device", deep("another dtype")])
def test_defaults_that_a_call_leaves_behind_change_later_builds_only(thing: str) -> None:
    """The second build of the process is on another device, or in another dtype."""
    certificate = judged("build", place="one batch", thing=thing)

    assert of(certificate, Verdict.FAILED) == {"VALUES-EVERY-CALL"}
    assert of(certificate, Verdict.PASSED) >= UNHURT


def test_children_that_a_call_leaves_behind_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is in a session of its own, and one has lost its parent."""
    monkeypatch.setenv("BROKEN_NOTE", str(tmp_path / "note"))

    assert judged("build", place="one batch", thing="children").exit_code is ExitCode.DONE

    numbers = (tmp_path / "note").read_text(encoding="utf-8").split()
    assert len(numbers) >= 3
    deadline = time.monotonic() + 2
    while any(runs(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(runs(number) for number in numbers)


def runs(number: str) -> bool:
    """Tell whether a process runs."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_call_prints_is_cut_and_cleaned(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to stderr: 200 MB without a line, with characters that a terminal would obey."""
    assert judged("build", place="one batch", thing="printing").exit_code is ExitCode.DONE

    printed = capfd.readouterr()
    assert printed.out == ""
    assert 2**15 <= len(printed.err) < 2**17
    assert "\x1b" not in printed.err
    assert "(the candidate printed more, which is not shown)" in printed.err


@pytest.mark.parametrize(
    ("place", "thing", "failed"),
    [
        ("training", "exit", "TRAIN-STEP"),
        deep("backward", "ValueError", "GRADIENT-REACHES"),
        deep("training", "ValueError", "TRAIN-STEP"),
        deep("training", "none", "TRAIN-STEP"),
        deep("training", "looping", "TRAIN-STEP"),
        deep("backward", "exit", "GRADIENT-REACHES"),
        deep("backward", "segmentation fault", "GRADIENT-REACHES"),
        deep("backward", "looping", "GRADIENT-REACHES"),
    ],
)
def test_training_costs_clauses_of_training(place: str, thing: str, failed: str) -> None:
    """Evaluation is decided before and after it."""
    certificate = judged("build", place=place, thing=thing)

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert failed in of(certificate, Verdict.FAILED)
    levels = {clause.id: clause.level for clause in certificate.clauses}
    hurt = of(certificate, Verdict.FAILED) | of(certificate, Verdict.UNDECIDED)
    assert {levels[clause] for clause in hurt} == {"training"}


@pytest.mark.parametrize("thing", ["ValueError", deep("exit"), deep("segmentation fault"), deep("looping")])
def test_an_export_that_fails_leaves_the_structure_undecided(thing: str) -> None:
    """The values are judged all the same: its tensors are matched by their order."""
    certificate = judged("build", place="export", thing=thing)

    assert certificate.exit_code is ExitCode.UNDECIDED
    assert of(certificate, Verdict.FAILED) == set()
    assert of(certificate, Verdict.PASSED) >= {"SIZES-ACCEPTED", "DETERMINISM", "VALUES-EVERY-CALL"}
    assert of(certificate, Verdict.PASSED) >= {"VALUES-END-TO-END", "VALUES-FLOAT32"}
    assert of(certificate, Verdict.UNDECIDED) >= {"GRAPH-KNOWN", "WEIGHTS-FIT", "TRAIN-STEP"}


@pytest.mark.parametrize("thing", ["exit", deep("ValueError"), deep("segmentation fault"), deep("looping")])
def test_a_second_build_costs_the_clauses_that_need_one(thing: str) -> None:
    """The first build is judged; it is built again in a new process if the second one ended that."""
    certificate = judged("build", place="second build", thing=thing)

    assert certificate.exit_code in {ExitCode.UNDECIDED, ExitCode.DIFFERENT}
    assert of(certificate, Verdict.FAILED) <= {"VALUES-EVERY-CALL"}
    assert "INITIALISATION" in of(certificate, Verdict.UNDECIDED)
    assert of(certificate, Verdict.PASSED) >= UNHURT


@pytest.mark.parametrize("thing", ["exit", deep("segmentation fault"), deep("looping"), deep("closing the pipes")])
def test_a_process_that_always_ends_is_given_up(thing: str) -> None:
    """It is started three times; sizes that it does not answer are findings, and the rest is undecided."""
    certificate = judged("build", place="first call", thing=thing)

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert {"SIZES-ACCEPTED", "BATCHES-ACCEPTED"} <= of(certificate, Verdict.FAILED)
    assert "SAME-FAMILY" not in of(certificate, Verdict.FAILED)


@pytest.mark.parametrize(
    ("place", "thing", "codes"),
    [
        ("state_dict", "ValueError", {ExitCode.DIFFERENT}),
        deep("train", "ValueError", {ExitCode.DIFFERENT}),
        deep("train", "exit", {ExitCode.DIFFERENT}),
        deep("to", "ValueError", {ExitCode.DIFFERENT, ExitCode.UNDECIDED}),
        deep("to", "exit", {ExitCode.DIFFERENT, ExitCode.UNDECIDED}),
        deep("deepcopy", "ValueError", {ExitCode.DONE}),
        deep("deepcopy", "exit", {ExitCode.DONE, ExitCode.UNDECIDED, ExitCode.DIFFERENT}),
        deep("deepcopy", "looping", {ExitCode.DONE, ExitCode.UNDECIDED, ExitCode.DIFFERENT}),
    ],
)
def test_a_method_that_fails_does_not_end_the_judge(place: str, thing: str, codes: set[ExitCode]) -> None:
    """Methods of modules that the judge has called for it are foreign code too."""
    assert judged("build", place=place, thing=thing).exit_code in codes


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        deep("Silent", ExitCode.DONE),
        ("ExtraArgument", ExitCode.DIFFERENT),
        deep("Called", ExitCode.DONE),
        deep("AnyArguments", ExitCode.DONE),
        deep("KeywordOnly", ExitCode.DIFFERENT),
    ],
)
def test_methods_of_another_form_are_called_as_modules_are(kind: str, code: ExitCode) -> None:
    """What a method returns is not needed; what ``forward`` requires must be the images."""
    assert judged("build", kind=kind).exit_code is code


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("line", ExitCode.DONE),
        ("twice", ExitCode.DONE),
        deep("dtypes", ExitCode.DONE),
        deep("sparse", ExitCode.DONE),
        deep("long", ExitCode.DONE),
        deep("control", ExitCode.DONE),
        deep("surrogate", ExitCode.DONE),
        deep("float8", ExitCode.DONE),
        deep("quantized", ExitCode.UNDECIDED),
        deep("meta", ExitCode.DIFFERENT),
        deep("nan", ExitCode.DONE),
    ],
)
def test_other_state_is_judged(state: str, code: ExitCode) -> None:
    """Tensors that no operation reads, of any dtype, layout and name; torch itself cannot export or convert some."""
    assert judged("with_state", state=state).exit_code is code


@pytest.mark.parametrize(
    ("builder", "arguments", "reason"),
    [
        ("with_state", {"state": "lazy"}, "uninitialized parameter"),
        deep("with_state", {"state": "expanded"}, "more than 8589934592 bytes of tensors"),
        deep("build", {"place": "named_parameters", "thing": "ValueError"}, "its state cannot be read: ValueError: no"),
        deep("build", {"place": "named_parameters", "thing": "exit"}, "the process ended with exit status 0"),
        deep("build", {"place": "state_dict", "thing": "exit"}, "the process ended with exit status 0"),
    ],
)
def test_state_that_cannot_be_read_is_one_line(builder: str, arguments: dict[str, str], reason: str) -> None:
    """Nothing can be loaded into it."""
    assert reason in refused(builder, **arguments)


@pytest.mark.deep
def test_a_state_of_a_hundred_thousand_tensors_is_read() -> None:
    """They take a minute, and no more than that."""
    assert judged("with_state", state="many", timeout=120).exit_code in {ExitCode.DONE, ExitCode.UNDECIDED}


@pytest.mark.parametrize("how", ["quarter", deep("sixteenth"), deep("one")])
def test_logits_that_are_too_small_are_a_finding(how: str) -> None:
    """Every other clause is decided all the same."""
    certificate = judged("whole", part=None, how=how)

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert "OUTPUT-SHAPE" in of(certificate, Verdict.FAILED)
    assert {"SIZES-ACCEPTED", "DETERMINISM", "STEM-CONVS"} <= of(certificate, Verdict.PASSED)


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        deep("ValueError", "cannot be built: ValueError: no"),
        ("exit", "the process ended with exit status 0 while it was being built"),
        ("looping", "no answer within 10 s while it was being built"),
        deep("SystemExit", "cannot be built: SystemExit: 0"),
        deep("an error without a text", "cannot be built: Unprintable, which has no text"),
        deep("an error of 100 MB", "cannot be built: Endless: xxx"),
        deep("recursion", "cannot be built: RecursionError"),
        deep("segmentation fault", "the process was ended by SIGSEGV while it was being built"),
        deep("abort", "the process was ended by SIGABRT while it was being built"),
        deep("endless memory", "cannot be built: MemoryError"),
        deep("stopping itself", "no answer within 10 s while it was being built"),
        deep("closing the pipes", "while it was being built"),
    ],
)
def test_a_build_that_fails_is_one_line(thing: str, reason: str) -> None:
    """It cannot be judged: exit status 3."""
    assert reason in refused("build", place="build", thing=thing)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        deep("import os; os._exit(0)", "the process ended with exit status 0 while it was being built"),
        ("raise KeyboardInterrupt", "cannot import 'broken': KeyboardInterrupt"),
        deep("import ctypes; ctypes.string_at(0)", "the process was ended by SIGSEGV while it was being built"),
        deep("while True: pass", "no answer within 10 s while it was being built"),
        deep("raise SystemExit(0)", "cannot import 'broken': SystemExit: 0"),
        deep("def f(): f()\nf()", "cannot import 'broken': RecursionError"),
        deep("build = None", "must be callable, but is a NoneType"),
        deep("build = lambda: 3", "must return a torch.nn.Module, but returned a int"),
        deep("(", "cannot import 'broken': SyntaxError"),
        deep("\0", "cannot import 'broken'"),
        deep("import os; os.closerange(3, 4096); build = None", "while it was being built"),
    ],
)
def test_an_import_that_fails_is_one_line(tmp_path: Path, code: str, reason: str) -> None:
    """It cannot be judged: exit status 3."""
    (tmp_path / "broken.py").write_text(code, encoding="utf-8")
    request = request_from("broken:build", variant="notebook")

    with pytest.raises(TargetError) as refusal:
        run(request, silent, ProcessSettings(search=(str(tmp_path),), timeout=GIVEN_UP))

    assert reason in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_state_that_cannot_be_saved_costs_the_call_that_loads_it() -> None:
    """A hook raises; nothing else needs the state dict."""
    certificate = judged("with_state", state="hook")

    assert of(certificate, Verdict.FAILED) == {"VALUES-EVERY-CALL"}
    assert of(certificate, Verdict.PASSED) >= UNHURT
