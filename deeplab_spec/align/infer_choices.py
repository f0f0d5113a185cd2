"""Infers from a candidate the values of choices that are numbers, which have no list of possible values."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.parts import find_head
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Add, BatchNorm, Concat, Conv2d, GlobalAveragePool, Pool
from deeplab_spec.spec.choices import Choices, ChoiceValue, names
from deeplab_spec.spec.layer_choices import scaled_channels

Decision = tuple[str, ChoiceValue]

_STAGES: Final = 4
_MOST_EPS: Final = 4
_PARTS: Final = (10, 100, 8, 16, 32, 64, 128, 10**3, 10**4, 10**5)
"""Round numbers are whole numbers of such parts of one; the first are the roundest."""


def read_width(candidate: Shaped, base: Sequence[int], usual: float = 1.0) -> float:
    """Return the multiplier that explains the channel counts of most nodes.

    ``base`` has the channel counts of a family at width 1; ``usual`` is returned unless another width explains more.
    """
    counts = Counter(
        channels
        for node in candidate.network
        if isinstance(node.op, Conv2d)
        for channels in (node.op.channels_in, node.op.channels_out)
    )
    made = sorted({node.op.channels_out for node in candidate.network if isinstance(node.op, Conv2d)})
    widths = (wide / count for wide in made[:-3:-1] for count in reversed(base) if 0 < wide <= 4 * count)
    covered = {width: _covered(counts, base, width) for width in (usual, *widths)}
    most = max(covered.values())
    best = [width for width, count in covered.items() if count == most]
    if usual in best:
        return usual
    return next((width for width in _rounded(best) if _covered(counts, base, width) >= most), best[0])


def _rounded(widths: Sequence[float]) -> Iterator[float]:
    """Yield numbers near some widths, the roundest first: many widths give the same channels."""
    for parts in _PARTS:
        for exact in (width * parts for width in widths):
            yield from (whole / parts for whole in (round(exact), math.floor(exact), math.ceil(exact)) if whole)


def _covered(counts: Counter[int], base: Sequence[int], width: float) -> int:
    return sum(counts[channels] for channels in scaled_channels(base, width).values())


def infer_choices(candidate: Shaped, known: Shaped, choices: Choices) -> Iterator[Decision]:
    """Return choices with the candidate's own numbers.

    ``known`` is the network of the current choices.
    """
    features = _features(candidate)
    yield from _rates(candidate, features)
    yield from _eps(candidate)
    decided = names(type(choices))
    if "exit2_rates" in decided:
        at_16, at_8 = getattr(choices, "exit2_rates")  # noqa: B009 - only one family has it
        for rate in _last_rates(candidate, features):
            yield "exit2_rates", (rate, at_8)
            yield "exit2_rates", (at_16, rate)
    if "middle_blocks" in decided:
        for blocks in dict.fromkeys(_blocks(candidate, known, getattr(choices, "middle_blocks"))):  # noqa: B009 - as above
            if blocks > 0:
                yield "middle_blocks", blocks
    if "stage_units" in decided:
        yield from _stages(candidate)


def _features(candidate: Shaped) -> str | None:
    """Return the input of the pyramid: else the last value that is averaged over the whole map."""
    head = find_head(candidate.network)
    if head:
        return head.features
    pooled = [node.inputs[0] for node in candidate.network if isinstance(node.op, GlobalAveragePool)]
    return pooled[-1] if pooled else None


def _rates(candidate: Shaped, features: str | None) -> Iterator[Decision]:
    rates = sorted(
        node.op.rate[0]
        for node in candidate.network
        if isinstance(node.op, Conv2d) and node.op.kernel != (1, 1) and features in node.inputs
    )
    if features:
        yield "aspp_rates", tuple(rates)


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


def _stages(candidate: Shaped) -> Iterator[Decision]:
    """Return the units of four stages, each of sums with its own channels, and what surrounds them."""
    sums = Counter(candidate.channels(node.path) for node in candidate.network if isinstance(node.op, Add))
    if len(sums) == _STAGES:
        yield "stage_units", tuple(sums[channels] for channels in sorted(sums))
    yield from _stem(candidate)
    yield from _multi_grid(candidate, sums[max(sums, default=0)])


def _stem(candidate: Shaped) -> Iterator[Decision]:
    """Return the channels of the convolutions before the first pooling."""
    channels: list[int] = []
    for node in candidate.network:
        if isinstance(node.op, Pool):
            yield "stem_channels", tuple(channels)
        if isinstance(node.op, Pool | Add | Concat):
            break
        if isinstance(node.op, Conv2d):
            channels.append(node.op.channels_out)


def _multi_grid(candidate: Shaped, units: int) -> Iterator[Decision]:
    """Return the factors between the rates of the last stage's units."""
    sums = [node for node in candidate.network if isinstance(node.op, Add)][-units:] if units else []
    rates = []
    for node in sums:
        path = node.inputs[0]
        while path and not _spatial(candidate.network[path]):
            inputs = candidate.network[path].inputs
            path = inputs[0] if len(inputs) == 1 else ""
        rates += [op.rate[0] for op in ([candidate.network[path].op] if path else []) if isinstance(op, Conv2d)]
    if rates and len(rates) == units and all(rate % rates[0] == 0 for rate in rates):
        yield "multi_grid", tuple(rate // rates[0] for rate in rates)


def _spatial(node: Node) -> bool:
    return isinstance(node.op, Conv2d) and node.op.kernel != (1, 1)


def _blocks(candidate: Shaped, known: Shaped, blocks: int) -> Iterator[int]:
    """Return possible numbers of middle blocks: each block ends in a sum of the same shape."""
    candidate_sums, known_sums = _sums(candidate), _sums(known)
    yield blocks + max(candidate_sums.values(), default=0) - max(known_sums.values(), default=0)
    more = candidate_sums.total() - known_sums.total()
    yield from (blocks + more + step for step in (0, -2, 2))


def _sums(shaped: Shaped) -> Counter[tuple[int, ...]]:
    return Counter(tuple(shaped.shapes[node.path]) for node in shaped.network if isinstance(node.op, Add))
