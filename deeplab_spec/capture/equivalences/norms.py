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

from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.equivalences.graph_builder import GraphBuilder, composite_step, cropped_step
from deeplab_spec.capture.fx.calls import ProgramCall, operator_name
from deeplab_spec.capture.fx.layout import Layout, identity_layout
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import MAP_RANK, Activation, Add, BatchNorm, Conv2d, Margins, Multiply, Opaque, Pad

_ARITHMETIC: Final = frozenset(
    {"add", "sub", "rsub", "mul", "div", "addcmul", "addcdiv", "sqrt", "rsqrt", "pow", "reciprocal", "neg", "square"}
)
_ROLES: Final = ("running_mean", "running_var", "weight", "bias")
_CLOSE: Final = 1e-10
"""Largest relative error of a match in float64; another eps gives an error of 1e-5 or more."""


def merge_norm_arithmetic(captured: Capture) -> Capture:
    """Return the capture with every normalisation that is written as arithmetic as one node."""
    if not any(isinstance(node.op, Opaque) for node in captured.network):
        return captured
    chains = {chain.nodes[-1].path: chain for chain in _chains(captured)}
    builder = GraphBuilder(captured)
    for node in captured.network:
        chain = chains.get(node.path)
        if chain is None:
            builder.keep(node)
            continue
        builder.add(node, node.path, chain.op, (builder.current(chain.source),), chain.step, captured.shapes[node.path])
        for role, name in chain.roles.items():
            where = f"{node.path}.{role}"
            builder.parameters[where] = name
            if not chain.views[name].identity:
                builder.views[where] = chain.views[name]
    return builder.build() if chains else captured


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Arithmetic from one value to another that is a normalisation."""

    source: str
    nodes: tuple[Node, ...]  # in order; the last one gives the result
    step: Step
    op: BatchNorm
    roles: Mapping[str, str]  # the name of the parameter in each role
    views: Mapping[str, Layout]  # layouts of the parameters as vectors, by name


def _chains(captured: Capture) -> Iterator[_Chain]:
    """Yield the chains, the longest first, without chains inside another."""
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
            if chain:
                inside |= {one.path for one in chain.nodes}
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
    """Return the arithmetic between two values; None if it equals no normalisation."""
    shape = captured.shapes[last.path]
    if captured.shapes[source] != shape or len(shape) != MAP_RANK:
        return None
    nodes = tuple(_between(captured, source, last))
    step = composite_step([source], nodes, captured.steps)
    calls = [call for node in nodes if isinstance(call := captured.steps[node.path], ProgramCall)]
    views: dict[str, Layout] = {}
    for call in calls:
        for placeholder, name in _parameters(call):
            sides = tuple(placeholder.meta["val"].shape)
            view = identity_layout(sides).reshaped((shape[1],)) if prod(sides) == shape[1] else None
            if view is None:
                return None
            views[name] = view
    match = _match(step, views, shape[1], sorted({eps for call in calls for eps in _numbers(call)}))
    return _Chain(source=source, nodes=nodes, step=step, op=match[0], roles=match[1], views=views) if match else None


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


def _match(
    step: Step, views: Mapping[str, Layout], channels: int, numbers: Sequence[float]
) -> tuple[BatchNorm, Mapping[str, str]] | None:
    """Return the normalisation that equals a step, and its roles, by trying every assignment of them and every eps."""
    roles = _ROLES[: len(views)]
    if len(views) not in {2, 4}:
        return None
    generator = torch.Generator().manual_seed(0)
    values = {name: 0.5 + torch.rand(channels, generator=generator, dtype=torch.float64) for name in views}
    x = torch.randn(1, channels, 1, 3, generator=generator, dtype=torch.float64)
    try:
        actual = step([x], {name: views[name].back(vector) for name, vector in values.items()})
    except (RuntimeError, KeyError, IndexError):
        return None
    for names in permutations(views):
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


def _crop_after(network: Network, crop: Node) -> tuple[Node, Margins, tuple[str, ...]] | None:
    """Return a crop, its margins, and the paths back to its convolution; None for any other node."""
    if not isinstance(crop.op, Pad) or max(crop.op.margins) > 0:
        return None
    readers = network.readers()
    chain: list[str] = []
    node = network[crop.inputs[0]]
    while len(readers[node.path]) == 1 and isinstance(node.op, BatchNorm | Activation):
        chain.append(node.path)
        node = network[node.inputs[0]]
    stride_one = isinstance(node.op, Conv2d) and node.op.stride == (1, 1) and node.op.padding != "same"
    return (crop, crop.op.margins, (*chain, node.path)) if stride_one and len(readers[node.path]) == 1 else None


def _moved(captured: Capture, crop: Node, margins: Margins, chain: tuple[str, ...]) -> Capture:
    builder = GraphBuilder(captured)
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
        builder.steps[node.path] = cropped_step(captured.steps[node.path], margins, within=conv is None)
        builder.shapes[node.path] = captured.shapes[crop.path]
    return builder.build()
