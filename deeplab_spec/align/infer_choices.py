"""Infers from a candidate the values of choices that are numbers, which have no list of possible values."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.ops import Add, BatchNorm, Conv2d, GlobalAveragePool
from deeplab_spec.spec.choices import Choices, ChoiceValue
from deeplab_spec.spec.layer_choices import BASE_CHANNELS, scaled_channels

Decision = tuple[str, ChoiceValue]

_BRANCHES: Final = 3
_MOST_EPS: Final = 4
_DIGITS: Final = 6


def read_width(candidate: Shaped, usual: float = 1.0) -> float:
    """Return the multiplier that explains the channel counts of most nodes.

    Args:
        candidate: A network in normal form.
        usual: The default, returned unless another width explains more.
    """
    counts = Counter(
        channels
        for node in candidate.network
        if isinstance(node.op, Conv2d)
        for channels in (node.op.channels_in, node.op.channels_out)
    )
    widest = max(counts, default=0)
    widths = (widest / base for base in reversed(BASE_CHANNELS) if 0 < widest <= 4 * base)
    best, most = usual, _covered(counts, usual)
    for width in widths:
        covered = _covered(counts, width)
        if covered > most:
            best, most = width, covered
    short = (round(best, digits) for digits in range(1, _DIGITS) if round(best, digits) > 0)
    return next((width for width in short if scaled_channels(width) == scaled_channels(best)), best)


def _covered(counts: Counter[int], width: float) -> int:
    return sum(counts[channels] for channels in scaled_channels(width).values())


def infer_choices(candidate: Shaped, known: Shaped, choices: Choices) -> Iterator[Decision]:
    """Return choices with the candidate's own numbers.

    Args:
        candidate: A network in normal form.
        known: The network of the current choices, in normal form.
        choices: The current choices.
    """
    features = _features(candidate)
    yield from _rates(candidate, features)
    for rate in _last_rates(candidate, features):
        yield "exit2_rates", (rate, choices.exit2_rates[1])
        yield "exit2_rates", (choices.exit2_rates[0], rate)
    yield from _eps(candidate)
    for blocks in dict.fromkeys(_blocks(candidate, known, choices.middle_blocks)):
        if blocks > 0:
            yield "middle_blocks", blocks


def _features(candidate: Shaped) -> str | None:
    """Return the input of the pyramid: the value that is averaged over the whole map."""
    pooled = [node.inputs[0] for node in candidate.network if isinstance(node.op, GlobalAveragePool)]
    return pooled[-1] if pooled else None


def _rates(candidate: Shaped, features: str | None) -> Iterator[Decision]:
    rates = sorted(
        node.op.rate[0]
        for node in candidate.network
        if isinstance(node.op, Conv2d) and node.op.kernel != (1, 1) and features in node.inputs
    )
    if len(rates) == _BRANCHES:
        yield "aspp_rates", (rates[0], rates[1], rates[2])


def _last_rates(candidate: Shaped, features: str | None) -> Iterator[int]:
    """Return the rate of the last depthwise convolution before the features, or before an output."""
    ends = [features] if features else [node.path for node in candidate.network.outputs]
    for end in ends:
        path = end
        while path:
            node = candidate.network[path]
            if isinstance(node.op, Conv2d) and node.op.depthwise:
                yield node.op.rate[0]
                break
            path = node.inputs[0] if len(node.inputs) == 1 else ""


def _eps(candidate: Shaped) -> Iterator[Decision]:
    counts = Counter(node.op.eps for node in candidate.network if isinstance(node.op, BatchNorm))
    for eps, _ in counts.most_common(_MOST_EPS):
        yield "backbone_norm_eps", eps
        yield "head_norm_eps", eps


def _blocks(candidate: Shaped, known: Shaped, blocks: int) -> Iterator[int]:
    """Return possible numbers of middle blocks: each block ends in a sum of the same shape."""
    candidate_sums, known_sums = _sums(candidate), _sums(known)
    yield blocks + max(candidate_sums.values(), default=0) - max(known_sums.values(), default=0)
    more = candidate_sums.total() - known_sums.total()
    yield from (blocks + more + step for step in (0, -2, 2))


def _sums(shaped: Shaped) -> Counter[tuple[int, ...]]:
    return Counter(tuple(shaped.shapes[node.path]) for node in shaped.network if isinstance(node.op, Add))
