"""Wrong convolutions: every field of the record, one neighbouring value at a time."""

import re
from collections.abc import Iterator
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import NO_MARGINS, Conv2d, Margins, Pair
from deeplab_spec.mutate.faults.channel_counts import with_channels
from deeplab_spec.mutate.faults.graph_edits import edited
from deeplab_spec.mutate.mutant import Mutant

_BOTH = (1, 1)
_ATROUS = re.compile(r"aspp\.atrous\d\.(.*)")
"""Branches that are told apart by their rates alone."""


def of_convolution(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one convolution with explicit padding."""
    if not isinstance(node.op, Conv2d) or node.op.padding == "same":
        return
    for kind, attribute, op in _neighbours(node.op, node.op.padding):
        yield _mutant(graph, node, kind, attribute, op)
    wider = None if node.op.depthwise else with_channels(graph, {node.path: max(1, node.op.channels_out // 91)})
    if wider is not None:
        yield Mutant(kind="more channels", path=node.path, attribute="channels_out", network=wider)


def _neighbours(op: Conv2d, padding: Margins) -> Iterator[tuple[str, str, Conv2d]]:
    yield "bias", "bias", replace(op, bias=not op.bias)
    if op.pointwise:
        yield "3x3 kernel", "kernel", replace(op, kernel=(3, 3), padding=_plus(padding, op.rate))
        yield "rate of a 1x1 kernel", "rate", replace(op, rate=(op.rate[0] + 1, op.rate[1] + 1))
        yield "padding added", "padding", replace(op, padding=_plus(padding, _BOTH))
    else:
        yield from _of_kernel(op, padding)
        yield from _of_rate(op, padding)
        yield from _of_padding(op, padding)
    other = (2, 2) if op.stride == _BOTH else _BOTH
    yield "stride", "stride", replace(op, stride=other)
    yield "stride down only", "stride", replace(op, stride=(other[0], op.stride[1]))
    yield from _of_groups(op)


def _of_kernel(op: Conv2d, padding: Margins) -> Iterator[tuple[str, str, Conv2d]]:
    less, more = (-op.rate[0], -op.rate[1]), op.rate
    yield "1x1 kernel", "kernel", replace(op, kernel=_BOTH, padding=_plus(padding, less))
    yield "5x5 kernel", "kernel", replace(op, kernel=(5, 5), padding=_plus(padding, more))
    yield "1x3 kernel", "kernel", replace(op, kernel=(1, 3), padding=_plus(padding, (less[0], 0)))


def _of_rate(op: Conv2d, padding: Margins) -> Iterator[tuple[str, str, Conv2d]]:
    down, right = op.rate
    rates = {
        "rate doubled": (2 * down, 2 * right),
        "rate one more": (down + 1, right + 1),
        "rate one less": (down - 1, right - 1),
        "rate lost": _BOTH,
        "rate down only": (down + 1, right),
    }
    tried = {op.rate}
    for kind, rate in rates.items():
        if rate in tried or min(rate) < 1:
            continue
        tried.add(rate)
        grown = (rate[0] - down, rate[1] - right)
        yield kind, "rate", replace(op, rate=rate, padding=_plus(padding, grown))
        if kind in {"rate doubled", "rate lost"}:
            yield f"{kind}, padding kept", "rate", replace(op, rate=rate)


def _of_padding(op: Conv2d, padding: Margins) -> Iterator[tuple[str, str, Conv2d]]:
    top, bottom, left, right = padding
    yield "no padding", "padding", replace(op, padding=NO_MARGINS)
    yield "padding one more", "padding", replace(op, padding=_plus(padding, _BOTH))
    yield "padding shifted", "padding", replace(op, padding=(top - 1, bottom + 1, left - 1, right + 1))
    yield "padding of the rule SAME", "padding", replace(op, padding="same")


def _of_groups(op: Conv2d) -> Iterator[tuple[str, str, Conv2d]]:
    if op.depthwise:
        yield "dense", "groups", replace(op, groups=1)
        if op.groups % 2 == 0:
            yield "half the groups", "groups", replace(op, groups=op.groups // 2)
    elif op.channels_in % 2 == op.channels_out % 2 == 0:
        yield "two groups", "groups", replace(op, groups=2 * op.groups)


def _plus(padding: Margins, more: Pair) -> Margins:
    top, bottom, left, right = padding
    return (top + more[0], bottom + more[0], left + more[1], right + more[1])


def _mutant(graph: Network, node: Node, kind: str, attribute: str, op: Conv2d) -> Mutant:
    network = edited(graph, node.path, lambda node: [replace(node, op=op)])
    alike = _alike(graph, node.path) if attribute == "rate" else ()
    return Mutant(kind=kind, path=node.path, attribute=attribute, network=network, places=alike)


def _alike(graph: Network, path: str) -> tuple[str, ...]:
    """Return the same convolution of every atrous branch."""
    own = _ATROUS.match(path)
    others = ((found[1], node.path) for node in graph if (found := _ATROUS.match(node.path)))
    return tuple(other for place, other in others if own and place == own[1])
