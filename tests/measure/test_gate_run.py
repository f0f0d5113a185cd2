"""Running the gate: looks and the cap, the clock's witness, and every way in which nothing was measured."""

import os
import subprocess
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.measure.gate_cases import CASES, CPU_FORWARD, case
from deeplab_spec.measure.gate_pairs import Pair, Plant, job_of, run_pair
from deeplab_spec.measure.gate_process import SamplingProcess
from deeplab_spec.measure.gate_rule import GateVerdict, Rule
from deeplab_spec.measure.gate_run import Settings, Timing, compare_counts, time_case
from deeplab_spec.measure.gate_sides import PACKAGES, Side, opened

TINY = replace(CPU_FORWARD, name="tiny", size=(8, 8), rounds=3)

NETWORK = """
    from torch import nn

    def build(channels=4):
        return nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())

    def check(text, number, variant, output_stride, num_classes, choices):
        assert (text, number) == ("as-is", 1621)
        assert (variant, output_stride, num_classes, choices) == ("notebook", 16, 21, {"width": 0.25})
        return build()
"""


def pair(log_ratio: float = 0.0, witness_ratio: float = 1.0) -> Pair:
    """Return a pair that was not measured."""
    return Pair(
        log_ratio=log_ratio,
        base_seconds=0.03,
        head_seconds=0.03,
        witness_ratio=witness_ratio,
        seconds=6.0,
        device="cpu",
        torch="2.13.0",
    )


def timed(rule: Rule, pairs: list[Pair]) -> Timing:
    """Return what the gate makes of pairs that come in this order, the last one again and again."""
    return time_case(rule, lambda number: pairs[min(number, len(pairs) - 1)], lambda *_: None, "case")


def checkout(folder: Path, source: str = NETWORK) -> Path:
    """Write a package-less checkout with one module, and return its directory."""
    folder.mkdir()
    (folder / "tiny_network.py").write_text(textwrap.dedent(source))
    return folder


def test_pairs_are_run_until_the_rule_decides_and_not_one_more() -> None:
    """Equal times are decided at the first look; noise runs to the cap."""
    noisy = [pair(0.8 if number % 2 else -0.8) for number in range(8)]
    done = timed(Rule(), [pair()])
    capped = timed(Rule(max_pairs=8), noisy)

    assert (done.decision.verdict, len(done.pairs), done.dropped, done.reason) == (GateVerdict.PASS, 6, 0, "")
    assert done.seconds == 36.0
    assert (capped.decision.verdict, len(capped.pairs)) == (GateVerdict.INCONCLUSIVE, 8)
    assert capped.reason == "8 pairs were not enough to tell"


def test_a_pair_with_unequal_clocks_is_dropped_and_counted() -> None:
    """Its ratio would have failed the case: the processor was slower, not the code."""
    slow = pair(0.9, witness_ratio=1.3)
    done = timed(Rule(), [pair(), slow, pair(), pair()])
    inverse = timed(Rule(), [pair(), pair(-0.9, witness_ratio=1 / 1.3), pair(), pair()])

    assert (done.decision.verdict, len(done.pairs), done.dropped) == (GateVerdict.PASS, 6, 1)
    assert slow not in done.pairs
    assert inverse.dropped == 1
    assert timed(Rule(), [pair(witness_ratio=1.14)]).dropped == 0


def test_too_many_dropped_pairs_are_inconclusive() -> None:
    """A machine whose clock will not hold still cannot say anything; and the run ends."""
    done = timed(Rule(), [pair(witness_ratio=2.0)])

    assert (done.decision.verdict, done.decision.estimate) == (GateVerdict.INCONCLUSIVE, None)
    assert (len(done.pairs), done.dropped, done.reason) == (0, 6, "the clocks differed in 6 of 6 pairs")


def test_there_are_at_most_eight_cases_each_with_a_reason() -> None:
    """A case that shows nothing that another does not is none."""
    assert len(CASES) <= 8
    assert len({entry.name for entry in CASES}) == len({entry.reason for entry in CASES}) == len(CASES)
    assert all(case(entry.name) is entry for entry in CASES)
    with pytest.raises(SpecError, match=r"--case: must be one of cpu-forward, .* but got 'fast'"):
        case("fast")


@pytest.mark.parametrize("fields", [{"mode": "quick"}, {"batch": 0}, {"direction": "train", "mode": "folded"}])
def test_a_case_refuses_what_cannot_be_run(fields: dict[str, object]) -> None:
    """Before any process is started."""
    with pytest.raises(SpecError):
        replace(TINY, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os; os.abort()", "the process was ended by SIGABRT"),
        ("raise SystemExit(5)", "the process ended with exit status 5"),
        ("import time; time.sleep(60)", "no answer within 1 seconds: it hangs"),
        ("import os, sys; os.write(int(sys.argv[1]), b'half a line')", "the process ended with exit status 0"),
    ],
    ids=["crash", "exit", "hang", "half an answer"],
)
def test_a_process_that_gives_no_answer_is_an_error(script: str, reason: str, tmp_path: Path) -> None:
    """None of these may look like a measurement."""
    file = tmp_path / "child.py"
    file.write_text(script)

    with (
        pytest.raises(TargetError, match=f"^head: {reason}$"),
        SamplingProcess("head", (), {"threads": 1}, 1.0, file) as process,
    ):
        process.ready()


def test_a_process_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """Nothing is left that would disturb the next pair."""
    file, note = tmp_path / "child.py", tmp_path / "pids"
    file.write_text(
        "import os, subprocess, sys, time\n"
        f"other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        'os.write(int(sys.argv[1]), b\'{"event": "ready"}\\n\')\n'
        "time.sleep(60)\n"
    )
    with SamplingProcess("head", (), {"threads": 1}, 30.0, file) as process:
        process.ready()
    mine, other = map(int, note.read_text().split())

    with pytest.raises(ProcessLookupError):
        os.kill(mine, 0)
    assert _ends(other)


def _ends(pid: int) -> bool:
    """Tell whether a process that was told to end does so; a busy system needs a moment for it."""
    return any(_gone(pid) or time.sleep(0.1) for _ in range(100))


def _gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet has, too."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] in {"Z", "X"}


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("nowhere", TargetError, "there is no such directory"),
        ("nothing.whl", TargetError, "the wheel cannot be read"),
        ("ref:no-such-ref", TargetError, "no-such-ref"),
        ("ref:--output=x", SpecError, "must name a commit"),
        ("reference:xception", SpecError, "variant"),
        ("module:not a name", SpecError, "must be MODULE:CALLABLE"),
        ("", TargetError, "there is no such directory"),
    ],
)
def test_a_missing_side_is_an_error(name: str, error: type[Exception], reason: str) -> None:
    """A baseline that is not there is never a pass."""
    with pytest.raises(error, match=reason), opened(name):
        pass


def test_each_form_of_a_side_says_where_it_is_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout, a wheel and a commit come first on the path; what was unpacked goes away again."""
    plain = checkout(tmp_path / "plain")
    (plain / "src").mkdir()
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as wheel:
        wheel.writestr("tiny_network.py", textwrap.dedent(NETWORK))
    _commit(plain)
    monkeypatch.chdir(plain)

    with opened(str(plain), "tiny_network:build") as side:
        assert (side.target, side.within, side.paths) == ("tiny_network:build", plain, (plain / "src", plain))
    for name in (str(tmp_path / "tiny.whl"), "ref:HEAD"):
        with opened(name, "tiny_network:build") as side:
            assert side.within
            assert side.paths == (side.within,)
            assert (side.within / "tiny_network.py").exists()
        assert not side.within.exists()
    with opened("reference:tf-release") as side:
        assert (side.target, side.variant, side.within) == ("deeplab_spec:build", "tf-release", None)
        assert side.paths == (PACKAGES,)
    with opened("tiny_network:build") as side:
        assert (side.target, side.paths[0]) == ("tiny_network:build", plain)


def _commit(folder: Path) -> None:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "Add a network"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - the user's git


def test_git_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any tool that a user may lack."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TargetError, match="git cannot be run"), opened("ref:HEAD"):
        pass


def test_a_side_that_was_imported_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """An empty checkout beside an installed package would compare the package with itself, and pass."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with opened(str(empty)) as side, pytest.raises(TargetError, match=r"'deeplab_spec' was imported from .*, not"):
        side.require_origin(str(PACKAGES / "deeplab_spec" / "__init__.py"))
    with opened(str(empty)) as side, pytest.raises(TargetError, match="from nowhere"):
        side.require_origin("")


def test_the_script_is_part_of_the_package() -> None:
    """It is started by its path."""
    assert PACKAGES.joinpath("deeplab_spec", "measure", "gate_child.py").is_file()


def test_a_checkout_is_measured_by_its_own_code_in_fresh_processes(tmp_path: Path) -> None:
    """A pair of a real network, with a wait of three times its time: what was planted is measured."""
    pytest.importorskip("torch")
    with opened(str(checkout(tmp_path / "base")), "tiny_network:build", {"channels": "8"}) as side:
        measured = run_pair(TINY, side, side, 120.0, plant=Plant(wait=3.0))

    assert measured.log_ratio > 0
    assert min(measured.base_seconds, measured.head_seconds, measured.witness_ratio, measured.seconds) > 0
    assert measured.device == "cpu"


def test_what_builds_a_network_gets_the_case_where_its_signature_names_it(tmp_path: Path) -> None:
    """As for every other command: arguments are literals where they can be, and places are filled in."""
    pytest.importorskip("torch")
    arguments = {"text": "as-is", "number": "{output_stride}{classes}"}
    with opened(str(checkout(tmp_path / "base")), "tiny_network:check", arguments) as side:
        assert compare_counts(TINY, side, side, Settings())[0]


def test_modes_run_and_a_fold_that_changes_the_result_is_refused(tmp_path: Path) -> None:
    """A normalisation that runs before the convolution that is registered before it must not be folded into it."""
    pytest.importorskip("torch")
    wrong = """
        from torch import nn

        class Turned(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 3, padding=1)
                self.norm = nn.BatchNorm2d(3)

            def forward(self, image):
                return {"out": self.conv(self.norm(image))}

        def build():
            return Turned()
    """
    right = checkout(tmp_path / "right")
    folded = replace(TINY, mode="folded")
    with opened(str(right), "tiny_network:build") as side:
        run_pair(folded, side, side, 120.0, plant=Plant(mode="channels_last+bf16"))
    with (
        opened(str(checkout(tmp_path / "wrong", wrong)), "tiny_network:build") as side,
        pytest.raises(TargetError, match=r"base .*the folded network computes something else"),
    ):
        run_pair(folded, side, side, 120.0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def build():\n    raise ValueError('no weights')", "ValueError: no weights"),
        ("def other():\n    pass", "AttributeError"),
    ],
    ids=["import", "build", "attribute"],
)
def test_a_head_that_cannot_be_built_is_named(source: str, reason: str, tmp_path: Path) -> None:
    """And so is the side that it is."""
    pytest.importorskip("torch")
    good, bad = checkout(tmp_path / "good"), checkout(tmp_path / "bad", source)
    with (
        opened(str(good), "tiny_network:build") as base,
        opened(str(bad), "tiny_network:build") as head,
        pytest.raises(TargetError, match=rf"^head \({bad}\): .*{reason}"),
    ):
        run_pair(TINY, base, head, 120.0)


def test_two_networks_that_differ_are_refused_and_counted_where_that_is_allowed(tmp_path: Path) -> None:
    """A smaller network is faster, and says nothing of the code; a larger one fails by its counts alone."""
    pytest.importorskip("torch")
    small = checkout(tmp_path / "small")
    large = checkout(tmp_path / "large", NETWORK.replace("nn.ReLU()", "nn.ReLU(), nn.Conv2d(channels, 4, 1)"))
    with opened(str(small), "tiny_network:build") as base, opened(str(large), "tiny_network:build") as head:
        with pytest.raises(TargetError, match=r"is not the same network as .*--allow-different.*convolution"):
            compare_counts(TINY, base, head, Settings())
        found, reason = compare_counts(TINY, base, head, Settings(allow_different=True))

    assert found
    assert reason == ""
    assert found.verdict is GateVerdict.FAIL
    assert found.base.parameters == 3 * 4 * 9 + 4 + 8
    assert found.head.parameters == found.base.parameters + 4 * 4 + 4
    assert set(found.increases) == {"parameters", "flops", "bytes", "ops"}
    assert found.base.digest != found.head.digest


def test_a_job_says_everything_that_a_process_needs() -> None:
    """A reference's own variant goes before the case's."""
    side = Side(name="x", target="a:b", variant="tf-release", paths=())
    job = job_of(CPU_FORWARD, side, Plant(wait=0.1, mode="folded"))

    assert (job["variant"], job["mode"], job["wait"], job["target"]) == ("tf-release", "folded", 0.1, "a:b")
    assert job_of(CPU_FORWARD, replace(side, variant=None))["variant"] == CPU_FORWARD.variant
