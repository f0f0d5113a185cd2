"""Real processes: what they build and measure, what they count, and every way in which they give no result."""

import os
import textwrap
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from deeplab_spec.errors import TargetError
from deeplab_spec.gate import pairs as gate_pairs
from deeplab_spec.gate.cases import CPU_FORWARD, Case
from deeplab_spec.gate.counts import compare_counts
from deeplab_spec.gate.document import NO_PLANT, Plant
from deeplab_spec.gate.pairs import Pair, PairProcesses
from deeplab_spec.gate.request import Settings
from deeplab_spec.gate.sides import Side, SideProcess, opened

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


def run_pair(case: Case, base: Side, head: Side, plant: Plant = NO_PLANT) -> Pair:
    """Start a pair of real processes, and measure it."""
    with PairProcesses(case, base, head, 120.0, plant=plant) as pair:
        pair.ready()
        return pair.measure()


def checkout(folder: Path, source: str = NETWORK) -> Path:
    """Write a directory with one module, and return it."""
    folder.mkdir()
    (folder / "tiny_network.py").write_text(textwrap.dedent(source))
    return folder


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
    """A crash, an exit and a hang are never a measurement."""
    file = tmp_path / "child.py"
    file.write_text(script)

    with (
        pytest.raises(TargetError, match=f"^head: {reason}$"),
        SideProcess("head", (), {"threads": 1}, 1.0, file) as process,
    ):
        process.answer("ready")


def test_a_process_is_ended_together_with_its_children(tmp_path: Path) -> None:
    """A process that is left behind would disturb the next pair."""
    file, note = tmp_path / "child.py", tmp_path / "pids"
    file.write_text(
        "import os, subprocess, sys, time\n"
        f"other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        'os.write(int(sys.argv[1]), b\'{"event": "ready"}\\n\')\n'
        "time.sleep(60)\n"
    )
    with SideProcess("head", (), {"threads": 1}, 30.0, file) as process:
        process.answer("ready")
    child, grandchild = map(int, note.read_text().split())

    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert _ends(grandchild)


def _ends(pid: int) -> bool:
    """Return whether a process ends within ten seconds."""
    return any(_gone(pid) or time.sleep(0.1) for _ in range(100))


def _gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] in {"Z", "X"}


def test_a_directory_is_measured_by_its_own_code_in_fresh_processes(tmp_path: Path) -> None:
    """A real pair has all of its numbers."""
    pytest.importorskip("torch")
    with opened(str(checkout(tmp_path / "base")), "tiny_network:build", {"channels": "8"}) as side:
        pair = run_pair(TINY, side, side, Plant(wait=0.1))

    assert min(pair.base_seconds, pair.head_seconds, pair.witness_ratio, pair.seconds) > 0
    assert pair.device == "cpu"
    assert pair.built == ("tiny_network:build(channels=8)", "tiny_network:build(channels=8)")


def test_a_builder_gets_the_arguments_of_the_case_that_are_in_its_signature(tmp_path: Path) -> None:
    """Arguments of the user are read as Python literals if possible, and placeholders are filled in."""
    pytest.importorskip("torch")
    arguments = {"text": "as-is", "number": "{output_stride}{classes}"}
    with opened(str(checkout(tmp_path / "base")), "tiny_network:check", arguments) as side:
        assert compare_counts(TINY, side, side, Settings())[0]


def test_modes_run_and_a_fold_that_changes_the_result_is_refused(tmp_path: Path) -> None:
    """A normalisation that runs before its convolution cannot be folded, whatever the order of registration."""
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
        run_pair(folded, side, side, Plant(mode="channels_last+autocast-bfloat16"))
    with (
        opened(str(checkout(tmp_path / "wrong", wrong)), "tiny_network:build") as side,
        pytest.raises(TargetError, match=r"base .*the folded network computes something else"),
    ):
        run_pair(folded, side, side)


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
    """The message has the role, the side and the error."""
    pytest.importorskip("torch")
    good, bad = checkout(tmp_path / "good"), checkout(tmp_path / "bad", source)
    with (
        opened(str(good), "tiny_network:build") as base,
        opened(str(bad), "tiny_network:build") as head,
        pytest.raises(TargetError, match=rf"^head \({bad}\): .*{reason}"),
    ):
        run_pair(TINY, base, head)


def test_two_different_networks_are_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    """Its speed says nothing about the code. Where it is allowed, a larger network fails by its counts."""
    pytest.importorskip("torch")
    small = checkout(tmp_path / "small")
    large = checkout(tmp_path / "large", NETWORK.replace("nn.ReLU()", "nn.ReLU(), nn.Conv2d(channels, 4, 1)"))
    with opened(str(small), "tiny_network:build") as base, opened(str(large), "tiny_network:build") as head:
        with pytest.raises(TargetError, match=r"is not the same network as .*--allow-different.*convolution"):
            compare_counts(TINY, base, head, Settings())
        verdict, reason = compare_counts(TINY, base, head, Settings(allow_different=True))

    assert verdict
    assert reason == ""
    assert verdict.verdict == "FAIL"
    assert verdict.base.parameters == 3 * 4 * 9 + 4 + 8
    assert verdict.head.parameters == verdict.base.parameters + 4 * 4 + 4
    assert set(verdict.increases) == {"parameters", "flops", "bytes", "ops"}
    assert verdict.base.digest != verdict.head.digest


def test_a_slowdown_is_planted_in_head_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base runs in the mode of the case. The tests of the timers check how long a wait is."""
    jobs: list[Mapping[str, object]] = []

    class Process:
        def __init__(self, _name: str, _paths: tuple[Path, ...], job: Mapping[str, object], _timeout: float) -> None:
            jobs.append(job)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def restrict(self, _cores: frozenset[int]) -> None:
            pass

    monkeypatch.setattr(gate_pairs, "SideProcess", Process)
    side = Side(name="x", target="a:b", paths=())
    with PairProcesses(TINY, side, side, 1.0, plant=Plant(wait=0.1, mode="channels_last")):
        pass

    assert [(job["wait"], job["mode"]) for job in jobs] == [(0.0, "eager"), (0.1, "channels_last")]


def test_a_pair_starts_on_all_its_cores_and_is_sampled_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes use the same core. If the system forbids that, they run where they are."""
    pytest.importorskip("torch")
    placed: list[tuple[int, frozenset[int]]] = []

    def place(pid: int, cores: frozenset[int]) -> None:
        placed.append((pid, cores))
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", place, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    with opened(str(checkout(tmp_path / "base")), "tiny_network:build") as side:
        run_pair(TINY, side, side)

    assert [cores for _, cores in placed] == [frozenset({0, 1})] * 2 + [frozenset({0})] * 2
    assert len({pid for pid, _ in placed}) == 2
