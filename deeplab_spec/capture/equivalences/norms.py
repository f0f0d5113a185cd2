"""Recognises normalisations that are written as arithmetic, and moves a crop back to the convolution before it.

``(x - mean) / sqrt(variance + eps) * scale + offset`` has many equivalent forms. All of them compute the
same function: the calls are run with random parameters, and the result is compared with the formula for
every assignment of roles to the parameters.

An element-wise operation may run before or after a map is cropped. An atrous convolution through
space-to-batch is cropped last, and its normalisation may be before the crop.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import Final

import torch
from torch import Tensor, fx

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import CompositeStep, CroppedStep, GraphBuilder
from deeplab_spec.capture.fx.calls import ProgramCall, operator_name
from deeplab_spec.capture.fx.layout import MAP_RANK, Layout, identity_layout
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Conv2d, Margins, Multiply, Opaque, Pad

_ARITHMETIC: Final = frozenset(
    {"add", "sub", "rsub", "mul", "div", "addcmul", "addcdiv", "sqrt", "rsqrt", "pow", "reciprocal", "neg", "square"}
)
_ROLES: Final = ("running_mean", "running_var", "weight", "bias")
_CLOSE: Final = 1e-10
"""Largest relative error of a match in float64; another eps gives an error of 1e-5 or more."""

_Match = tuple[BatchNorm, Mapping[str, str]]
"""A normalisation, and the parameter of each role."""


def merge_norm_arithmetic(captured: Capture) -> Capture:
    """Return the capture with every normalisation that is written as arithmetic as one node."""
    if not any(isinstance(node.op, Opaque) for node in captured.network):
        return captured
    chains = {chain.last.path: chain for chain in _chains(captured)}
    builder = GraphBuilder(captured)
    for node in captured.network:
        chain = chains.get(node.path)
        if chain is None or chain.match is None:
            builder.keep(node)
            continue
        op, roles = chain.match
        builder.add(node, node.path, op, (builder.current(chain.source),), chain.step, captured.shapes[node.path])
        for role, name in roles.items():
            where = f"{node.path}.{role}"
            builder.parameters[where] = name
            if (view := chain.views[name]) and not view.identity:
                builder.views[where] = view
    return builder.build() if chains else captured


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Arithmetic from one value to another, with parameters.

    Attributes:
        source: Path of its input.
        last: The node that gives its result.
        step: Runs the chain.
        views: Layouts of its parameters as vectors, by name.
        match: The equal normalisation; None if there is none.
    """

    source: str
    last: Node
    step: CompositeStep
    views: Mapping[str, Layout]
    match: _Match | None = None


def _chains(captured: Capture) -> Iterator[_Chain]:
    """Yield the chains that are a normalisation, the longest first, without chains inside another."""
    sources: dict[str, str] = {}
    for node in captured.network:
        if _is_arithmetic(captured, node):
            before = {path for path in node.inputs if not _depends_on_parameters_only(captured, path)}
            if len(before) == 1:
                path = before.pop()
                sources[node.path] = sources.get(path, path)
    inside: set[str] = set()
    for node in reversed(captured.network.nodes):
        if node.path in sources and node.path not in inside:
            chain = _chain(captured, sources[node.path], node)
            if chain and chain.match:
                inside |= {one.path for one in chain.step.nodes}
                yield chain


def _is_arithmetic(captured: Capture, node: Node) -> bool:
    step = captured.steps.get(node.path)
    return (
        isinstance(node.op, Opaque | Add | Multiply)  # on a map of one pixel a parameter has the shape of a value
        and isinstance(step, ProgramCall)
        and operator_name(step.node).removesuffix("_") in _ARITHMETIC
    )


def _depends_on_parameters_only(captured: Capture, path: str) -> bool:
    node = captured.network[path]
    return _is_arithmetic(captured, node) and all(
        _depends_on_parameters_only(captured, before) for before in node.inputs
    )


def _chain(captured: Capture, source: str, last: Node) -> _Chain | None:
    """Return the arithmetic between two values, with the equal normalisation."""
    shape = captured.shapes[last.path]
    if captured.shapes[source] != shape or len(shape) != MAP_RANK:
        return None
    nodes = tuple(_between(captured, source, last))
    step = CompositeStep(reads=(source,), nodes=nodes, steps=captured.steps)
    calls = [call for node in nodes if isinstance(call := captured.steps[node.path], ProgramCall)]
    views: dict[str, Layout] = {}
    for call in calls:
        for placeholder, name in _parameters(call):
            sides = tuple(placeholder.meta["val"].shape)
            view = identity_layout(sides).reshaped((shape[1],)) if prod(sides) == shape[1] else None
            if view is None:
                return None
            views[name] = view
    chain = _Chain(source=source, last=last, step=step, views=views)
    return replace(chain, match=_match(chain, shape[1], sorted({eps for call in calls for eps in _numbers(call)})))


def _between(captured: Capture, source: str, last: Node) -> Iterator[Node]:
    """Return the nodes from one value to another, in order."""
    needed = {last.path}
    for node in reversed(captured.network.nodes):
        if node.path in needed and node.path != source:
            needed |= set(node.inputs)
    return (node for node in captured.network if node.path in needed and node.path != source)


def _parameters(call: ProgramCall) -> Iterator[tuple[fx.Node, str]]:
    """Yield the placeholders and names of the parameters that a call reads."""
    waiting = [argument for argument in call.node.all_input_nodes if argument not in call.reads]
    while waiting:
        node = waiting.pop()
        if node in call.state:
            yield node, call.state[node]
        else:
            waiting += node.all_input_nodes


def _numbers(call: ProgramCall) -> Iterator[float]:
    """Yield the constants of a call that may be an eps."""
    yield from (float(number) for number in call.node.args if isinstance(number, float) and 0 <= number < 1)


def _match(chain: _Chain, channels: int, numbers: Sequence[float]) -> _Match | None:
    """Return the normalisation that equals a chain, by trying every assignment of roles and every eps."""
    roles = _ROLES[: len(chain.views)]
    if len(roles) not in {2, 4} or len(chain.views) > len(_ROLES):
        return None
    generator = torch.Generator().manual_seed(0)
    values = {name: 0.5 + torch.rand(channels, generator=generator, dtype=torch.float64) for name in chain.views}
    x = torch.randn(1, channels, 1, 3, generator=generator, dtype=torch.float64)
    try:
        actual = chain.step([x], {name: chain.views[name].back(vector) for name, vector in values.items()})
    except (RuntimeError, KeyError, IndexError):
        return None
    for names in permutations(chain.views):
        assigned = dict(zip(roles, names, strict=True))
        for eps in numbers:
            if _close(actual, _formula(x, {role: values[name] for role, name in assigned.items()}, eps)):
                return BatchNorm(channels=channels, eps=eps, momentum=None, affine=len(roles) > 2), assigned  # noqa: PLR2004 - more than statistics
    return None


def _formula(x: Tensor, tensors: Mapping[str, Tensor], eps: float) -> Tensor:
    shaped = {role: vector[:, None, None] for role, vector in tensors.items()}
    value = (x - shaped["running_mean"]) * (shaped["running_var"] + eps).rsqrt()
    return value * shaped.get("weight", 1.0) + shaped.get("bias", 0.0)


def _close(actual: Tensor, expected: Tensor) -> bool:
    return actual.shape == expected.shape and bool(
        torch.dist(actual, expected) <= _CLOSE * torch.linalg.vector_norm(expected)
    )


def move_crops_earlier(captured: Capture) -> Capture:
    """Return the capture with every crop moved from behind element-wise operations into the convolution."""
    while match := next(filter(None, (_crop_after(captured.network, node) for node in captured.network)), None):
        captured = _moved(captured, *match)
    return captured


def _crop_after(network: Network, crop: Node) -> tuple[Node, tuple[str, ...]] | None:
    """Return a crop, and the paths back to its convolution; None for any other node."""
    if not isinstance(crop.op, Pad) or max(crop.op.margins) > 0:
        return None
    readers = network.readers()
    chain: list[str] = []
    node = network[crop.inputs[0]]
    while len(readers[node.path]) == 1 and isinstance(node.op, BatchNorm | Activation):
        chain.append(node.path)
        node = network[node.inputs[0]]
    stride_one = isinstance(node.op, Conv2d) and node.op.stride == (1, 1) and node.op.padding != "same"
    return (crop, (*chain, node.path)) if stride_one and len(readers[node.path]) == 1 else None


def _moved(captured: Capture, crop: Node, chain: tuple[str, ...]) -> Capture:
    builder = GraphBuilder(captured)
    margins: Margins = crop.op.margins if isinstance(crop.op, Pad) else (0, 0, 0, 0)
    for node in captured.network:
        if node.path == crop.path:
            builder.replaced[crop.path] = builder.current(crop.inputs[0])
            continue
        builder.keep(node)
        if node.path not in chain:
            continue
        conv = node.op if isinstance(node.op, Conv2d) else None
        if conv is not None and conv.padding != "same":
            top, bottom, left, right = (own + more for own, more in zip(conv.padding, margins, strict=True))
            kept = builder.nodes[node.path]
            builder.nodes[node.path] = replace(kept, op=replace(conv, padding=(top, bottom, left, right)))
        builder.steps[node.path] = CroppedStep(step=captured.steps[node.path], margins=margins, within=conv is None)
        builder.shapes[node.path] = captured.shapes[crop.path]
    return builder.build()
