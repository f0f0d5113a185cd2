"""Decides whether two networks are of the same family, and says why not in one sentence."""

from collections import Counter
from typing import Final

from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, ActivationKind, Add, Concat, Conv2d, Pool, PoolKind

SAME_FAMILY: Final = 0.5
"""Share of convolutions that must have a partner of their kind in networks of the same family."""


def different_architecture(alignment: Alignment) -> str | None:
    """Say why the candidate has a different architecture; None if it is of the same family.

    Two networks are of the same family if at least half of the convolutions, counted on the side that has more,
    have a partner with the same kernel and the same grouping.
    """
    alike, expected, actual = 0, _convs(alignment.expected.network), _convs(alignment.candidate.network)
    for left, right in alignment.partner.items():
        if left in expected and right in actual:
            first, second = expected[left], actual[right]
            alike += first.kernel == second.kernel and first.depthwise == second.depthwise
    if alike >= SAME_FAMILY * max(len(expected), len(actual), 1):
        return None
    share = f"{alike} of {len(expected)} specified convolutions have a counterpart among its {len(actual)}"
    return f"this is another network: {'; '.join([*_evidence(alignment), share])}"


def _convs(network: Network) -> dict[str, Conv2d]:
    return {node.path: node.op for node in network if isinstance(node.op, Conv2d)}


def _evidence(alignment: Alignment) -> list[str]:
    expected, candidate = alignment.expected, alignment.candidate
    evidence = []
    if _joins_resolutions(expected) and not _joins_resolutions(candidate):
        evidence.append("it has no decoder (nothing joins maps of two resolutions)")
    convs = list(_convs(candidate.network).values())
    depthwise = sum(conv.depthwise for conv in convs)
    sums = sum(isinstance(node.op, Add) for node in candidate.network)
    max_pool = any(isinstance(node.op, Pool) and node.op.kind is PoolKind.MAX for node in candidate.network)
    kinds = Counter(node.op.kind for node in candidate.network if isinstance(node.op, Activation))
    if not convs:
        evidence.append("it has no convolution")
    elif not depthwise and max_pool and sums:
        stem = f"{convs[0].kernel[0]}x{convs[0].kernel[1]} stem"
        evidence.append(f"its backbone is a ResNet ({stem}, max pooling, no depthwise convolution)")
    elif not depthwise:
        evidence.append("its backbone is not an Xception (no depthwise convolution)")
    elif kinds and kinds.most_common(1)[0][0] is not ActivationKind.RELU:
        usual = kinds.most_common(1)[0][0].value
        evidence.append(
            f"its backbone is not an Xception (its usual activation is {usual}; {depthwise} depthwise convolutions)"
        )
    return evidence


def _joins_resolutions(shaped: Shaped) -> bool:
    """Tell whether a concatenation has inputs that come from maps of two sizes."""
    origin: dict[str, frozenset[object]] = {}
    for node in shaped.network:
        if isinstance(node.op, Concat):
            branches = [origin[path] for path in node.inputs]
            if len(set(branches)) > 1 and any(len(branch) > 1 for branch in branches) and _two_scales(branches):
                return True
        origins = frozenset[object]().union(*(origin[path] for path in node.inputs))
        origin[node.path] = origins | {shaped.map_size(node.path)}
    return False


def _two_scales(branches: list[frozenset[object]]) -> bool:
    """Tell whether one branch has a map larger than a pixel, of a size that another branch does not have."""
    seen = [branch - {(1, 1), None} for branch in branches]
    return any(first - second for first in seen for second in seen)
