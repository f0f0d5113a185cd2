"""A pair: its job, the median over its rounds, and the clocks that drop it."""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from deeplab_spec.gate.cases import CPU_FORWARD
from deeplab_spec.gate.document import Plant
from deeplab_spec.gate.pairs import Pair, summarize
from deeplab_spec.gate.sides import Sample, Side, job_of


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
