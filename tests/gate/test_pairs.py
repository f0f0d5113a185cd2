"""A pair: the median over its rounds, the clocks that drop it, and the queue in which pairs start together."""

import os
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from deeplab_spec.errors import TargetError
from deeplab_spec.gate import pairs as gate_pairs
from deeplab_spec.gate.cases import CPU_FORWARD, case, changed
from deeplab_spec.gate.document import Plant
from deeplab_spec.gate.pairs import Pair, PairQueue, default_ahead, near, read_list, sampling_core, summarize
from deeplab_spec.gate.sides import Sample, Side, job_of
from tests.support.gate_pairs import FakeProcesses, make_pair


def test_a_job_has_the_variant_of_the_side_before_that_of_the_case() -> None:
    """``reference:VARIANT`` decides the variant. A plant decides the mode and the wait."""
    side = Side(name="x", target="a:b", variant="tf-release", paths=())
    job = job_of(CPU_FORWARD, side, Plant(wait=0.1, mode="folded"))

    assert (job["variant"], job["mode"], job["wait"], job["target"]) == ("tf-release", "folded", 0.1, "a:b")
    assert job_of(CPU_FORWARD, replace(side, variant=None))["variant"] == CPU_FORWARD.variant


def rounds(
    base: Sequence[float], head: Sequence[float], witnesses: Sequence[tuple[float, float]], **facts: object
) -> Pair:
    """Return the pair of rounds with these times and witnesses; ``facts`` are other fields of head's samples."""
    samples = [
        (Sample(seconds=before, witness=one), Sample(seconds=after, witness=two, **facts))  # type: ignore[arg-type]
        for before, after, (one, two) in zip(base, head, witnesses, strict=True)
    ]
    about = {"device": "cpu", "torch": "2.13.0", "built": "m:build()"}
    return summarize(samples, [about, about], 5.0)


def test_a_pair_is_the_median_over_its_rounds() -> None:
    """A disturbed round is one of many."""
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
    ids=["constant", "unequal", "common, small", "common, large", "apart", "for a moment", "few rounds"],
)
def test_a_pair_whose_clocks_differ_or_change_is_dropped(witnesses: list[tuple[float, float]], expected: str) -> None:
    """A common change cancels in the ratio of each round, unless it is large."""
    pair = rounds([1.0] * len(witnesses), [1.0] * len(witnesses), witnesses)

    assert pair.disturbed == expected


def test_the_clock_that_a_gpu_reports_is_checked_too() -> None:
    """The readings of both sides are compared; one reading of a slowed GPU drops the pair."""

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


def queue_of(most: int, log: list[str], room: int = 9) -> PairQueue:
    """Return a queue of fake pairs that logs every call."""
    return PairQueue(
        lambda number: FakeProcesses(make_pair(), log, number, room), most, lambda built: log.append(built[0])
    )  # type: ignore[arg-type,return-value]


def test_a_queue_of_one_ends_each_pair_before_the_next_one_starts() -> None:
    """Two cores are busy with one pair."""
    log: list[str] = []
    with queue_of(1, log) as pairs:
        for _ in range(2):
            pairs.measure(6)

    assert log[:5] == ["start 0", "ready 0", "m:build()", "measure 0", "end 0"]
    assert log[5:] == ["start 1", "ready 1", "measure 1", "end 1"]


def test_the_pairs_until_the_next_look_start_together_and_are_sampled_when_all_are_ready() -> None:
    """The first pair reports the free memory, then the others start."""
    log: list[str] = []
    with queue_of(6, log) as pairs:
        for coming in (3, 2, 1):
            pairs.measure(coming)
        first = list(log)
        pairs.measure(2)

    assert first[:7] == ["start 0", "ready 0", "m:build()", "start 1", "start 2", "ready 1", "ready 2"]
    assert first[7:] == ["measure 0", "end 0", "measure 1", "end 1", "measure 2", "end 2"]
    assert log[len(first) :] == ["start 3", "start 4", "ready 3", "ready 4", "measure 3", "end 3", "end 4"]


@pytest.mark.parametrize(("room", "together"), [(0, 1), (1, 2), (9, 4)])
def test_no_more_pairs_start_than_fit_into_memory(room: int, together: int) -> None:
    """Six training steps of a large batch need more memory than one GPU has."""
    log: list[str] = []
    with queue_of(4, log, room) as pairs:
        for _ in range(8):
            pairs.measure(6)
    starts = [entry for entry in log if entry.startswith(("start", "measure"))]
    waiting, most = 0, 0
    for entry in starts:
        waiting += 1 if entry.startswith("start") else -1
        most = max(most, waiting)

    assert most == together
    assert sum(entry.startswith("measure") for entry in starts) == 8


def test_the_time_to_start_is_shared_by_the_pairs_that_start_together() -> None:
    """Otherwise the time would count once for each of them."""
    kept = []

    def start(number: int) -> FakeProcesses:
        kept.append(FakeProcesses(make_pair(), [], number))
        return kept[-1]

    with PairQueue(start, 3) as pairs:  # type: ignore[arg-type]
        pairs.measure(3)

    assert len(kept) == 3
    assert kept[0].seconds == kept[1].seconds == kept[2].seconds > 0


def test_an_error_ends_all_waiting_pairs() -> None:
    """No process is left behind."""
    log: list[str] = []

    class Failing(FakeProcesses):
        def ready(self) -> int:
            if self.number == 2:
                raise TargetError("head", "the process was ended by SIGKILL")
            return super().ready()

    with pytest.raises(TargetError), PairQueue(lambda number: Failing(make_pair(), log, number), 4) as pairs:  # type: ignore[arg-type,return-value]
        pairs.measure(4)

    assert sorted(entry for entry in log if entry.startswith("end")) == ["end 0", "end 1", "end 2", "end 3"]


def test_many_cores_and_a_gpu_start_six_pairs_and_two_cores_one() -> None:
    """Each pair starts two processes, with the threads of the case."""
    assert [default_ahead(CPU_FORWARD, cores) for cores in (1, 2, 4, 8, 64)] == [1, 1, 2, 4, 6]
    assert default_ahead(changed(CPU_FORWARD, {"threads": 4}), 16) == 2
    assert default_ahead(case("gpu-latency"), 2) == 6


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system places no process")
def test_pairs_are_sampled_on_all_allowed_cores_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two pairs follow each other on a core. While they start, they may use all cores of the same memory node."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3, 5})
    for node, cores in (("node0", "0-2"), ("node1", "3-5\n")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(cores)

    assert [sampling_core(CPU_FORWARD, number) for number in range(9)] == [0, 0, 2, 2, 3, 3, 5, 5, 0]
    assert sampling_core(changed(CPU_FORWARD, {"threads": 2}), 0) is None
    assert sampling_core(case("gpu-latency"), 0) is None
    assert (near(0, tmp_path), near(5, tmp_path)) == ({0, 2}, {3, 5})
    assert near(3, tmp_path / "nothing") == {0, 2, 3, 5}
    assert read_list("") == frozenset()
    monkeypatch.delattr(os, "sched_setaffinity")
    assert gate_pairs.sampling_core(CPU_FORWARD, 0) is None
