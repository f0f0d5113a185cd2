"""Running the gate: sides, fresh processes, and every way in which nothing was measured."""

import os
import subprocess
import textwrap
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Self

import pytest

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate import pair_processes as gate_processes
from deeplab_spec.gate.cases import CPU_FORWARD, Case
from deeplab_spec.gate.counts import compare_counts
from deeplab_spec.gate.pair_processes import PairProcesses
from deeplab_spec.gate.pairs import NO_PLANT, Pair, Plant, job_of, summarize
from deeplab_spec.gate.process import Sample, SideProcess
from deeplab_spec.gate.request import Settings
from deeplab_spec.gate.sides import PACKAGES, Side, opened

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
    """Start a pair, and measure it."""
    with PairProcesses(case, base, head, 120.0, plant=plant) as pair:
        pair.ready()
        return pair.measure()


def checkout(folder: Path, source: str = NETWORK) -> Path:
    """Write a package-less checkout with one module, and return its directory."""
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
    """None of these may look like a measurement."""
    file = tmp_path / "child.py"
    file.write_text(script)

    with (
        pytest.raises(TargetError, match=f"^head: {reason}$"),
        SideProcess("head", (), {"threads": 1}, 1.0, file) as process,
    ):
        process.answer("ready")


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
    with SideProcess("head", (), {"threads": 1}, 30.0, file) as process:
        process.answer("ready")
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
    assert PACKAGES.joinpath("deeplab_spec", "gate", "side", "process.py").is_file()


def test_a_checkout_is_measured_by_its_own_code_in_fresh_processes(tmp_path: Path) -> None:
    """A pair of a real network, with every number that a pair has."""
    pytest.importorskip("torch")
    with opened(str(checkout(tmp_path / "base")), "tiny_network:build", {"channels": "8"}) as side:
        pair = run_pair(TINY, side, side, Plant(wait=0.1))

    assert min(pair.base_seconds, pair.head_seconds, pair.witness_ratio, pair.seconds) > 0
    assert pair.device == "cpu"
    assert pair.built == ("tiny_network:build(channels=8)", "tiny_network:build(channels=8)")


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
    """And so is the side that it is."""
    pytest.importorskip("torch")
    good, bad = checkout(tmp_path / "good"), checkout(tmp_path / "bad", source)
    with (
        opened(str(good), "tiny_network:build") as base,
        opened(str(bad), "tiny_network:build") as head,
        pytest.raises(TargetError, match=rf"^head \({bad}\): .*{reason}"),
    ):
        run_pair(TINY, base, head)


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
    assert found.verdict == "FAIL"
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


def rounds(
    base: Sequence[float], head: Sequence[float], witnesses: Sequence[tuple[float, float]], **facts: object
) -> Pair:
    """Return the pair of rounds with these times and witnesses; what else is given is of every head."""
    samples = [
        (Sample(seconds=before, witness=one), Sample(seconds=after, witness=two, **facts))  # type: ignore[arg-type]
        for before, after, (one, two) in zip(base, head, witnesses, strict=True)
    ]
    about = {"device": "cpu", "torch": "2.13.0", "built": "m:build()"}
    return summarize(samples, [about, about], 5.0)


def test_a_pair_is_the_median_over_its_rounds() -> None:
    """A round that something disturbed counts as one of many."""
    pair = rounds([1.0, 1.0, 1.0], [1.1, 1.1, 9.0], [(1.0, 1.0)] * 3)

    assert pair.log_ratio == pytest.approx(log(1.1))
    assert (pair.base_seconds, pair.head_seconds, pair.witness_ratio) == (1.0, 1.1, 1.0)
    assert (pair.apart, pair.drift, pair.mhz, pair.disturbed) == (1.0, 1.0, None, "")


@pytest.mark.parametrize(
    ("witnesses", "expected"),
    [
        ([(1.0, 1.0)] * 12, ""),
        ([(1.0, 1.2)] * 12, "the clocks differed"),
        ([(1.0, 1.0)] * 6 + [(1.4, 1.4)] * 6, ""),
        ([(1.0, 1.0)] * 6 + [(1.6, 1.6)] * 6, "a clock moved"),
        ([(1.0, 1.1)] * 6 + [(1.0, 0.9)] * 6, "a clock moved"),
        ([(1.0, 1.0)] * 4 + [(9.0, 1.0)] * 4 + [(1.0, 1.0)] * 4, ""),
        ([(1.0, 1.0), (1.0, 1.6), (1.0, 1.0)], ""),
    ],
    ids=["still", "unequal", "both a little", "both far", "apart", "for a moment", "few rounds"],
)
def test_the_clocks_of_a_pair_must_be_equal_and_hold_still(witnesses: list[tuple[float, float]], expected: str) -> None:
    """What moves both sides alike cancels in each round's ratio, unless it moves far."""
    pair = rounds([1.0] * len(witnesses), [1.0] * len(witnesses), witnesses)

    assert pair.disturbed == expected


def test_what_a_gpu_says_of_its_clock_counts_as_a_witness() -> None:
    """Both sides' readings are compared; one reading of a GPU that was slowed is enough."""

    def pair(*clocks: tuple[int | None, int | None], slowed_by: str = "") -> Pair:
        samples = [
            (Sample(seconds=1.0, witness=1.0, mhz=one), Sample(seconds=1.0, witness=1.0, mhz=two, slowed_by=slowed_by))
            for one, two in clocks
        ]
        about = {"device": "gpu", "torch": "2.13.0", "built": "m:build()"}
        return summarize(samples, [about, about], 5.0)

    assert pair((1980, 1980), (None, 1980)).mhz == (1980, 1980)
    assert pair((1980, 1980)).disturbed == ""
    assert pair((1980, 1410)).disturbed == "the clocks differed"
    assert pair(*[(1980, 1980)] * 6, *[(1200, 1200)] * 6).disturbed == "a clock moved"
    assert pair((1980, 1980), slowed_by="temperature").disturbed == "the device was slowed (temperature)"
    assert (pair((None, None)).mhz, pair((None, None)).disturbed) == (None, "")


def test_a_slowdown_is_planted_in_head_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base runs as the case says. How long a planted wait is, the tests of the timers say."""
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

    monkeypatch.setattr(gate_processes, "SideProcess", Process)
    side = Side(name="x", target="a:b", paths=())
    with PairProcesses(TINY, side, side, 1.0, plant=Plant(wait=0.1, mode="channels_last")):
        pass

    assert [(job["wait"], job["mode"]) for job in jobs] == [(0.0, "eager"), (0.1, "channels_last")]


def test_a_process_is_started_on_the_cores_that_it_may_have_and_sampled_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both processes of a pair on the same one; where the system forbids it they run where they did."""
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


def test_ahead_must_start_a_pair() -> None:
    """None starts none."""
    with pytest.raises(SpecError, match="--ahead: must be 1 or more"):
        Settings(ahead=0)
