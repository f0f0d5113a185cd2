"""Tells the family of a backbone from its layers alone, before anything is aligned."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Final

from deeplab_spec.align.parts import features_of
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, ActivationKind, Add, Conv2d, Multiply, Op, Pool, PoolKind
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import VARIANTS

_WEIGHTS: Final[Mapping[str, float]] = {
    "depthwise": 1.0,
    "narrowing": 1.0,
    "sums": 1.0,
    "max pooling": 0.3,
    "bounded activations": 0.3,
    "hard swish": 0.4,
    "gates": 0.4,
}
"""How much a difference of each trait counts: layers more than what surrounds them."""

_FARTHEST: Final = 0.6
"""Traits that differ by more are of no known family."""

_NARROWER: Final = 2
"""A 1x1 convolution narrows if it has this many times fewer channels after it."""


def family_of(graph: Network) -> str:
    """Return the name of the family whose backbones are most alike; empty if none is.

    >>> from deeplab_spec.spec.variants import SMP_RESNET34
    >>> family_of(network(SMP_RESNET34.choices))
    'resnet'
    """
    found = _traits(backbone_of(graph))
    if found is None:
        return ""
    distances = {name: min(_distance(found, traits) for traits in members) for name, members in _members().items()}
    nearest = min(distances, key=distances.__getitem__)
    return nearest if distances[nearest] <= _FARTHEST else ""


def backbone_of(graph: Network) -> list[Op]:
    """Return the operations up to the head, else to the last value that is averaged over the whole map, else all."""
    features = features_of(graph)
    inside = graph.upstream([features] if features else (node.path for node in graph.outputs))
    return [node.op for node in graph if node.path in inside]


def described(graph: Network) -> str:
    """Return what tells families apart in a backbone, in words."""
    ops = backbone_of(graph)
    convs = [op for op in ops if isinstance(op, Conv2d)]
    kinds = Counter(op.kind.value for op in ops if isinstance(op, Activation))
    depthwise = sum(conv.depthwise for conv in convs)
    words = [f"{convs[0].kernel[0]}x{convs[0].kernel[1]} stem"] if convs else ["no convolution"]
    words += ["max pooling"] if _pools(ops) else []
    words.append(f"{depthwise} depthwise convolutions" if depthwise else "no depthwise convolution")
    words += ["gates"] if any(isinstance(op, Multiply) for op in ops) else []
    words += [f"usual activation {kinds.most_common(1)[0][0]}"] if kinds else []
    return ", ".join(words)


def _pools(ops: list[Op]) -> bool:
    return any(isinstance(op, Pool) and op.kind is PoolKind.MAX and op.kernel != (1, 1) for op in ops)


def _traits(ops: list[Op]) -> dict[str, float] | None:
    """Return the traits of a backbone, each from 0 to 1; None if it has no convolution of several pixels."""
    convs = [op for op in ops if isinstance(op, Conv2d)]
    spatial = [conv for conv in convs if not conv.pointwise]
    pointwise = [conv for conv in convs if conv.pointwise]
    activations = [op for op in ops if isinstance(op, Activation)]
    if not spatial:
        return None
    narrowing = sum(conv.channels_in >= _NARROWER * conv.channels_out for conv in pointwise)
    return {
        "depthwise": sum(conv.depthwise for conv in spatial) / len(spatial),
        "narrowing": narrowing / max(len(pointwise), 1),
        "sums": float(any(isinstance(op, Add) for op in ops)),
        "max pooling": float(_pools(ops)),
        "bounded activations": _share(activations, ActivationKind.RELU6),
        "hard swish": _share(activations, ActivationKind.HARDSWISH),
        "gates": float(any(isinstance(op, Multiply) for op in ops)),
    }


def _share(activations: list[Activation], kind: ActivationKind) -> float:
    return sum(op.kind is kind for op in activations) / max(len(activations), 1)


@cache
def _members() -> dict[str, list[dict[str, float]]]:
    """Return the traits of the published networks by family."""
    members: dict[str, list[dict[str, float]]] = {}
    for entry in VARIANTS:
        traits = _traits(backbone_of(network(entry.choices, entry.output_strides[-1])))
        if traits:
            members.setdefault(entry.family.family, []).append(traits)
    return members


def _distance(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    return sum(weight * abs(left[name] - right[name]) for name, weight in _WEIGHTS.items())
