"""Tests whether initial values are drawn independently: of each other, of other tensors, and of another build.

The distribution function of a tensor maps its values to standard normal ones. Every test bounds the probability that
correctly drawn values look as dependent as the given ones, for any number of values: exactly for the correlation of
two slices; with Chernoff's bound for sums of squares and for counts; with that of Laurent and Massart for the sum of
all correlations; with Hoeffding's, given the magnitudes, for serial products.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from deeplab_spec.judge.training.evidence import Joint
from deeplab_spec.spec.distributions import CUT, Distribution, Shape

AXES: Final = ("output channels", "input channels", "kernel taps")

WIDEST: Final = 2**16
"""The number of values of all slices along an axis from which correlations are computed; at least 128 per slice."""

SERIAL: Final = 2**16
"""The number of values whose serial products are summed."""

HEAD: Final = 4096
"""The number of values that are compared with those of other tensors."""

EXTREMES: Final = 256
"""The expected number of values of a tensor whose magnitudes are compared with each other."""

STEPS: Final = 2**22
"""A generator has at least so many values of equal probability; correct draws repeat values of a coarse one."""

_NEAR: Final = 0.02
"""Distance of two magnitudes that are equal but for rounding, over the mean distance."""

_EVEN: Final = 0.25
"""Of independent magnitudes, 22 % are nearer to the next than this part of the mean distance."""

_MEDIAN: Final = 0.6744897501960817
"""Half of the magnitudes of standard normal values are larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a joint test.

    Attributes:
        test: The test.
        actual: What was observed, in words.
        log_chance: Logarithm of a bound on the probability of such values, if they are drawn correctly.
    """

    test: Joint
    actual: str
    log_chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is kept of the values of a tensor, to be compared with other tensors.

    Attributes:
        count: The number of values.
        head: The first of them, then zeros.
        tail: The last of them in reversed order, then zeros.
        extremes: The largest magnitudes, each as the expected number of larger ones; sorted.
    """

    count: int
    head: Tensor
    tail: Tensor
    extremes: Tensor

    @property
    def part(self) -> float:
        """The probability of a magnitude among the largest."""
        return min(EXTREMES / self.count, 0.5)

    @property
    def near(self) -> float:
        """The distance of two equal magnitudes, with rounding and the steps of the generator, over the mean one."""
        return _NEAR + self.count / STEPS

    def chance_within(self, distance: float) -> float:
        """Return the probability that a magnitude is followed by another within a distance."""
        return 1 - max(1 - distance / (self.part * self.count), 0.0) ** len(self.extremes)


def standard(values: Tensor, among: Distribution) -> Tensor:
    """Map values to standard normal ones, by their distribution function."""
    scaled = values / among.scale
    if among.shape is Shape.NORMAL:
        return scaled
    if among.shape is Shape.TRUNCATED:
        scaled = scaled.div_(math.sqrt(2)).erf_().div_(math.erf(CUT / math.sqrt(2)))
    edge = 1 - 2**-23
    return scaled.clamp_(-edge, edge).erfinv_().mul_(math.sqrt(2))


def trace(values: Tensor, *, coarse: bool = False) -> Trace:
    """Keep what is compared with other tensors, of standard normal values.

    Coarse values are rounded to a precision below float32, in which independent values are often equal.
    """
    flat = values.flatten()
    count = len(flat)
    cut = NormalDist().inv_cdf(1 - min(EXTREMES / count, 0.5) / 2)
    extremes = flat[: 0 if coarse else count].abs()
    extremes = extremes[extremes > cut].double()
    ends = [part.nan_to_num(0.0, 0.0, 0.0) for part in (flat[:HEAD], flat[-HEAD:].flip(0))]
    padded = [functional.pad(part, (0, HEAD - len(part))) for part in ends]
    larger = torch.erfc(extremes / math.sqrt(2)) * count
    return Trace(count=count, head=padded[0], tail=padded[1], extremes=larger.sort().values)


def tests_of(values: Tensor) -> Iterator[Result]:
    """Test the values of one tensor, but for repeated ones.

    They are standard normal; those of a convolution by output channel, input channel and kernel tap.
    """
    shape = (*values.shape, 1, 1)
    shaped = values.reshape(shape[0], shape[1], -1)
    squares = shaped.square()
    for axis, name in enumerate(AXES):
        others = [other for other in range(3) if other != axis]
        count, each = shaped.shape[axis], shaped.numel() // shaped.shape[axis]
        if min(count, each) > 1:
            sums, sizes = shaped.sum(others).double(), squares.sum(others).double()
            yield _variation(Joint.SUMS, name, sums / math.sqrt(each))
            yield _variation(Joint.SIZES, name, _scores(sizes, each))
            yield from _correlations(_slices(shaped, axis), name)
    yield from _serial(shaped)


def _variation(test: Joint, name: str, scores: Tensor) -> Result:
    """Test the sum of squares of standard normal values."""
    count, ratio = len(scores), max(float(scores.square().mean()), 1e-300)
    return Result(
        test=test,
        actual=f"{test} of {name} whose deviation is {math.sqrt(ratio):.3g} times that of independent values",
        log_chance=math.log(2) - count / 2 * (ratio - 1 - math.log(ratio)),
    )


def _scores(squares: Tensor, each: int) -> Tensor:
    """Map sums of squares of standard normal values to standard normal values, but for their sign."""
    half = torch.full_like(squares, each / 2)
    tail = torch.minimum(torch.special.gammainc(half, squares / 2), torch.special.gammaincc(half, squares / 2))
    scores: Tensor = torch.special.ndtri(tail.clamp_min(1e-300))
    return scores


def _slices(values: Tensor, axis: int) -> Tensor:
    """Return the slices along an axis as rows; of long ones a random part, always the same."""
    rows = values.movedim(axis, 0)
    count, first, second = rows.shape
    width = max(WIDEST // count, 128)
    if first * second <= width:
        return rows.reshape(count, -1)
    picked = torch.randperm(first * second, generator=torch.Generator().manual_seed(0))[:width]
    return rows[:, picked // second, picked % second]


def _correlations(rows: Tensor, name: str) -> Iterator[Result]:
    """Test the correlation of every two rows; then of all together, between two halves of their values."""
    count, each = rows.shape
    left, right = rows[:, : each // 2], rows[:, each // 2 :]
    first, second = left @ left.T, right @ right.T
    both = first + second
    scales = both.diagonal().clamp_min(1e-30).rsqrt()
    least, most = both.mul_(scales).mul_(scales[:, None]).fill_diagonal_(0).aminmax()
    greatest = max(-float(least), float(most))
    yield Result(
        test=Joint.PAIR,
        actual=f"{name} of which two correlate by {greatest:.3g}",
        log_chance=math.log(count * (count - 1) / 2) + _of_correlation(greatest, each),
    )
    first.fill_diagonal_(0)
    inner, spread = float(first.flatten() @ second.flatten()) / 2, math.sqrt(right.shape[1]) * float(first.norm()) / 2
    norm = max(float(first.abs_().sum(1).max()) / 2, 1e-30)
    root = (math.sqrt(spread**2 + 2 * norm * abs(inner)) - spread) / (2 * norm)
    yield Result(
        test=Joint.TOGETHER,
        actual=f"{name} whose correlations are {inner / max(spread * math.sqrt(2), 1e-30):.3g} deviations from chance",
        log_chance=math.log(2) - root**2,
    )


def _of_correlation(correlation: float, each: int) -> float:
    """Return the logarithm of a bound on the probability that two normal vectors correlate at least so much."""
    return (each - 1) / 2 * math.log(max(1 - correlation**2, 1e-12))


def _serial(values: Tensor) -> Iterator[Result]:
    """Test products of values, and of the signs of magnitudes less their median, some steps apart."""
    taps, outputs = values.shape[2], values.shape[1] * values.shape[2]
    part = values.flatten()[:SERIAL]
    steps = {1, 2, 3, 4, math.isqrt(taps), taps, 2 * taps, outputs, 2 * outputs}
    signs = (part.abs() > _MEDIAN).to(part.dtype) * 2 - 1
    for test, each in ((Joint.SERIAL, part), (Joint.SERIAL_MAGNITUDES, signs)):
        squares = each.square()
        found = [
            (float(each[:-step] @ each[step:]) / math.sqrt(max(float(squares[:-step] @ squares[step:]), 1e-30)), step)
            for step in sorted(steps)
            if step < len(part)
        ]
        if found:
            score, step = max(found, key=lambda entry: abs(entry[0]))
            yield Result(
                test=test,
                actual=f"{test} {step} apart whose products are {score:.3g} deviations from chance",
                log_chance=math.log(2 * len(found)) - score**2 / 2,
            )


def tests_of_magnitudes(own: Trace) -> Iterator[Result]:
    """Test how near the largest magnitudes of a tensor are to each other: copied values are equal, sorted ones even."""
    gaps = own.extremes.diff()
    if not len(gaps):
        return
    near, even = (float((gaps < limit).double().mean()) for limit in (own.near, _EVEN))
    yield Result(
        test=Joint.REPEATED,
        actual=f"values of which {near:.0%} are repeated",
        log_chance=_of_count(near, own.chance_within(own.near), len(gaps)),
    )
    yield Result(
        test=Joint.EVEN,
        actual="values that are spaced too evenly",
        log_chance=_of_count(1 - even, 1 - own.chance_within(_EVEN), len(gaps)),
    )


def _of_count(part: float, chance: float, count: int) -> float:
    """Return the logarithm of a bound on the probability that at least a part of events happens.

    A chance that is too small for a float is not zero.

    >>> round(_of_count(0.5, 0.0, 2), 1)
    -34.7
    """
    chance = max(chance, sys.float_info.epsilon)
    if part <= chance:
        return 0.0
    rest = (1 - part) * math.log((1 - part) / (1 - chance)) if part < 1 else 0.0
    return -count * (part * math.log(part / chance) + rest)


def test_of_builds(first: Tensor, second: Tensor) -> Result:
    """Test whether standard normal values of a tensor correlate with those at the same places in another build."""
    found = float(first @ second / (first.norm() * second.norm()).clamp_min(1e-30))
    actual = f"values that correlate by {found:.3g} with those of another build"
    return Result(test=Joint.BUILDS, actual=actual, log_chance=_of_correlation(found, len(first)))


def tests_of_others(traces: Sequence[Trace], names: Sequence[str]) -> Iterator[tuple[int, Result]]:
    """Test each tensor against those before it, in the same, reversed and any order; yield its number and a result."""
    yield from _in_order(traces, names)
    groups: dict[int, list[int]] = {}
    for number, own in enumerate(traces):
        others = groups.setdefault(own.count, [])
        if others and len(own.extremes):
            yield number, _in_any_order(own, [traces[other] for other in others], [names[other] for other in others])
        others.append(number)


def _in_order(traces: Sequence[Trace], names: Sequence[str]) -> Iterator[tuple[int, Result]]:
    """Correlate the first values of tensors with the first, and with the last in reversed order, of others."""
    heads, tails = (torch.stack(parts) for parts in ([own.head for own in traces], [own.tail for own in traces]))
    lengths = torch.tensor([min(own.count, HEAD) for own in traces])
    inside = (torch.arange(HEAD) < lengths[:, None]).to(heads.dtype)
    each = torch.minimum(lengths, lengths[:, None])
    found = []
    for others in (heads, tails):
        sizes = (heads.square() @ inside.T) * (inside @ others.square().T)
        found.append((heads @ others.T / sizes.clamp_min(1e-30).sqrt()).tril(-1))
    related = torch.cat(found, 1).double()
    chances = (torch.cat([each, each], 1) - 1) / 2 * (1 - related.square()).clamp_min(1e-12).log()
    for number in range(1, len(traces)):
        chance, other = chances[number].min(0)
        order = " in reversed order" * (int(other) >= len(traces))
        correlation, name = float(related[number, other]), names[int(other) % len(traces)]
        actual = f"values that correlate by {correlation:.3g} with those of {name}{order}"
        yield number, Result(test=Joint.OTHER, actual=actual, log_chance=math.log(2 * number) + float(chance))


def _in_any_order(own: Trace, others: Sequence[Trace], names: Sequence[str]) -> Result:
    """Count the largest magnitudes of a tensor that another of its size has too."""
    framed = [functional.pad(other.extremes, (1, 1), value=math.inf) for other in others]
    padded = pad_sequence(framed, batch_first=True, padding_value=math.inf)
    padded[:, 0] = -math.inf
    mine = own.extremes.expand(len(others), -1).contiguous()
    after = torch.searchsorted(padded, mine)
    near = torch.minimum(padded.gather(1, after) - mine, mine - padded.gather(1, after - 1))
    parts = (near < own.near).double().mean(1).tolist()
    chances = [
        _of_count(part, other.chance_within(2 * own.near), len(own.extremes))
        for part, other in zip(parts, others, strict=True)
    ]
    best = min(range(len(others)), key=chances.__getitem__)
    return Result(
        test=Joint.OTHER_ORDER,
        actual=f"values of which {parts[best]:.0%} are those of {names[best]} in another order",
        log_chance=math.log(len(others)) + chances[best],
    )
