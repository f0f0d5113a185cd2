"""The picture of a clause: a block of a network with the nodes that it decides outlined, or how its level decides."""

from collections import Counter
from collections.abc import Iterator
from functools import cache

from deeplab_spec.align.differences import describe
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge.expected import facts
from deeplab_spec.judge.plan import plan
from deeplab_spec.judge.request import Request
from deeplab_spec.show.drawing import FILLS, LINE, MARGIN
from deeplab_spec.show.shapes import Box, Drawing, Wire
from deeplab_spec.spec.api import usual_size
from deeplab_spec.spec.clauses import Clause, Level
from deeplab_spec.spec.variants import variant
from deeplab_spec.views.template import render

_WIDTH, _LEFT, _STEP, _TOP = 300, 40, 22, 66
_EXAMPLES = (("tf-release", ()), ("tf-resnet50", ()), ("torchvision-resnet50", ("auxiliary=fcn",)))
"""The variants, with overridden choices, of which the first with such nodes is drawn."""


@cache
def networks() -> tuple[tuple[str, Network, frozenset[str]], ...]:
    """Return the examples in the form in which they are judged, with the blocks that lose their stride."""
    found = []
    for name, overrides in _EXAMPLES:
        entry = variant(name)
        stride = min(16, entry.output_strides[-1])
        planned = plan(Request(target="a picture", variant=name, overrides=overrides), stride)
        title = " ".join((name, *overrides))
        found.append((title, planned.expected(usual_size(entry, stride)).network, planned.unstrided))
    return tuple(found)


def decided(clause: Clause, network: Network, unstrided: frozenset[str]) -> frozenset[str]:
    """Return the paths of the nodes that a clause decides."""
    if clause.id in {"GRAPH-KNOWN", "BLOCK-COUNTS"}:
        return frozenset(node.path for node in network)
    if clause.id == "SAME-FAMILY":
        return frozenset(node.path for node in network if isinstance(node.op, Conv2d))
    return frozenset(fact.node.path for fact in facts(network, unstrided).get(clause.id, ()))


def example(clause: Clause) -> tuple[str, tuple[Node, ...], frozenset[str]]:
    """Return a network's name, its first block with the most decided nodes, and all that the clause decides there."""
    for name, network, unstrided in networks():
        paths = decided(clause, network, unstrided)
        if paths:
            block = Counter(block_of(node.path) for node in network if node.path in paths).most_common(1)[0][0]
            return name, tuple(node for node in network if block_of(node.path) == block), paths
    raise LookupError(clause.id)


def picture(clause: Clause) -> str:
    """Return the picture with its words: of nodes, or of what is called for a clause that is not about the graph."""
    if clause.level is not Level.STRUCTURE:
        svg = render("network.svg.j2", d=lay_out_steps(clause.level))
        return f'<div class="picture">\n{svg}\n</div>'
    name, nodes, paths = example(clause)
    block = block_of(nodes[0].path)
    here = [node.path.removeprefix(f"{block}.") for node in nodes if node.path in paths]
    outside = [
        f"`{node.path.removeprefix(f'{block}.')}` reads `{path}`"
        for node in nodes
        for path in node.inputs
        if block_of(path) != block
    ]
    blocks = len({block_of(path) for path in paths})
    svg = render("network.svg.j2", d=lay_out(nodes, paths, block))
    return (
        f'<div class="picture">\n{svg}\n</div>\n\n'
        f"Of `{name}`, the block `{block}`. Outlined twice is what the clause decides here: "
        f"{', '.join(f'`{path}`' for path in here)}; in the whole network, nodes: {len(paths)}, blocks: {blocks}."
        + (f" From outside, {', '.join(outside)}." if outside else "")
    )


def lay_out(nodes: tuple[Node, ...], paths: frozenset[str], block: str) -> Drawing:
    """Place the nodes of a block from top to bottom; a value that skips nodes passes them on the left."""
    drawing = Drawing(title=block, captions=("outlined twice: decided by the clause",))
    y: float = _TOP + _STEP
    for node in nodes:
        lines = (node.path.removeprefix(f"{block}."), describe(node.op))
        height = LINE * len(lines) + MARGIN
        fill = FILLS.get(node.path.split(".")[0], "#eee")
        drawing.boxes.append(
            Box(x=_LEFT, y=y, width=_WIDTH, height=height, lines=lines, fill=fill, emphasised=node.path in paths)
        )
        y += height + _STEP
    placed = dict(zip((node.path for node in nodes), drawing.boxes, strict=True))
    for node in nodes:
        drawing.wires.extend(_wires(node, placed))
    drawing.width, drawing.height = _LEFT + _WIDTH + 20, y
    return drawing


_STEPS = {
    Level.INTERFACE: (
        ("an image", "of many sizes, batches, layouts and ranges"),
        ("the candidate", "called as its users call it"),
        ("its results", "type, shape, dtype and values"),
        ("the specification", "its values with the same weights"),
    ),
    Level.NUMERICS: (
        ("weights", "drawn, and loaded into the candidate"),
        ("every operation of the candidate", "on the specification's values"),
        ("whole runs", "in float64 and in lower precisions"),
        ("the specification", "relative errors within the limits"),
    ),
    Level.TRAINING: (
        ("two builds", "their initial weights as samples"),
        ("calls in training mode", "dropout and running statistics"),
        ("a step of gradient descent", "gradients and new weights"),
        ("the specification", "its distributions and its numbers"),
    ),
}
"""What a level does with a candidate, from the first step to what the last one is compared with."""


def lay_out_steps(level: Level) -> Drawing:
    """Place the steps by which a level decides, from top to bottom."""
    drawing = Drawing(title=level.value, captions=("what is done, and what it is compared with",))
    y: float = _TOP + _STEP
    for lines in _STEPS[level]:
        last = lines == _STEPS[level][-1]
        fill = FILLS["decoder"] if last else FILLS["backbone"]
        box = Box(x=_LEFT, y=y, width=_WIDTH, height=LINE * 2 + MARGIN, lines=lines, fill=fill, emphasised=last)
        if drawing.boxes:
            above = drawing.boxes[-1]
            drawing.wires.append(Wire(points=((above.middle, above.bottom), (box.middle, y - 5 * last))))
        drawing.boxes.append(box)
        y = box.bottom + _STEP
    drawing.width, drawing.height = _LEFT + _WIDTH + 20, y
    return drawing


def _wires(node: Node, placed: dict[str, Box]) -> Iterator[Wire]:
    """Yield the lines to a node: straight from the one above it, past others on the left, short from outside."""
    end = placed[node.path]
    for path in node.inputs:
        start = placed.get(path)
        if start is None:
            yield Wire(points=((end.x + 40, end.y - _STEP + 8), (end.x + 40, end.y - 5)))
        elif end.y - start.bottom <= _STEP:
            yield Wire(points=((start.middle, start.bottom), (end.middle, end.y)))
        else:
            bend = end.x - 20
            yield Wire(points=((start.x, start.centre), (bend, start.centre), (bend, end.centre), (end.x, end.centre)))
