"""Which cores a pair runs on: the same one for both processes, in turn.

Two cores of one machine are seldom equal for long: another program has one of them, or they share a
physical core with different neighbours. Measured side by side on one core, both processes have the
same neighbours. While they start, which takes both cores, they may have every core that is as near to
their memory as that one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from deeplab_spec.gate.cases import Case

_NODES = Path("/sys/devices/system/node")


def sampling_core(case: Case, number: int) -> int | None:
    """Return the core on which the pair of a number is sampled; None where the system decides.

    Two pairs follow each other on one core, so that each side begins once there.
    A run of several threads needs several cores, and one that launches kernels of a GPU waits for that.
    """
    if case.device != "cpu" or case.threads > 1 or not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number // 2 % len(allowed)]


def near(core: int, nodes: Path = _NODES) -> frozenset[int]:
    """Return the cores that this process may have, and that share their memory with a core."""
    allowed = frozenset(os.sched_getaffinity(0))
    for node in nodes.glob("node*/cpulist"):
        together = read_list(node.read_text(encoding="ascii"))
        if core in together:
            return (allowed & together) | {core}
    return allowed


def read_list(text: str) -> frozenset[int]:
    """Read a list of cores as the kernel writes it.

    >>> sorted(read_list("0-2,5"))
    [0, 1, 2, 5]
    """
    return frozenset(core for part in text.strip().split(",") if part for core in _span(part))


def _span(part: str) -> Iterable[int]:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)
