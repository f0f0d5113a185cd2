"""The queue of pairs: how many start together, on which cores, and that none starts while one is sampled."""

import os
from pathlib import Path

import pytest

from deeplab_spec.errors import TargetError
from deeplab_spec.gate import pairs as gate_processes
from deeplab_spec.gate.cases import CPU_FORWARD, case, changed
from deeplab_spec.gate.pairs import PairQueue, default_ahead, near, read_list, sampling_core
from tests.support.gate_pairs import FakeProcesses, make_pair


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
    assert gate_processes.sampling_core(CPU_FORWARD, 0) is None
