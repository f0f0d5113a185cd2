"""Receptive fields, compared with the sets of pixels that each position depends on."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.receptive_field import AxisField, ReceptiveField, receptive_fields
from deeplab_spec.analysis.sizes import explicit_padding, shapes
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Add,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Op,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from deeplab_spec.spec.choices import Interpolation, choose
from deeplab_spec.spec.network import network, part, rows
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE

Reads = list[frozenset[int]]
"""For every position of a value, the image pixels that it depends on along the height."""


def pixels_read(graph: Network, side: int) -> dict[str, Reads]:
    """Follow every operator position by position, along the height."""
    known = shapes(graph, (side, side))
    found: dict[str, Reads] = {}
    for node in graph:
        values = [found[path] for path in node.inputs]
        found[node.path] = [
            frozenset().union(*(source[index] for source, index in taken if 0 <= index < len(source)))
            for taken in _taken(node.op, values, known[node.path][1])
        ]
        if isinstance(node.op, Input):
            found[node.path] = [frozenset({pixel}) for pixel in range(side)]
    return found


def _taken(op: Op, values: list[Reads], positions: int) -> list[list[tuple[Reads, int]]]:
    places = range(positions)
    match op:
        case Input():
            return [[] for _ in places]
        case Conv2d() | Pool():
            rate = op.rate[0] if isinstance(op, Conv2d) else 1
            size = (len(values[0]), len(values[0]))
            first = explicit_padding(op.padding, size, op.kernel, op.stride, (rate, rate))[0]
            taps = [rate * tap - first for tap in range(op.kernel[0])]
            return [[(values[0], place * op.stride[0] + tap) for tap in taps] for place in places]
        case Pad():
            return [[(values[0], place - op.margins[0])] for place in places]
        case GlobalAveragePool():
            return [[(values[0], index) for index in range(len(values[0]))]]
        case Resize():
            return [[(values[0], index) for index in _neighbours(op, len(values[0]), positions, p)] for p in places]
        case _:
            return [[(value, place) for value in values] for place in places]


def _neighbours(op: Resize, before: int, after: int, position: int) -> list[int]:
    """Return the samples with a weight, of the samples that an interpolation reads."""
    if op.mode is ResizeMode.NEAREST:
        return [position * before // after]
    if op.align_corners:
        at = Fraction(position * (before - 1), after - 1) if after > 1 else Fraction(0)
    else:
        at = min(
            max(Fraction((2 * position + 1) * before, 2 * after) - Fraction(1, 2), Fraction(0)), Fraction(before - 1)
        )
    if op.mode is ResizeMode.BICUBIC and at.denominator > 1:
        return [min(max(math.floor(at) + tap, 0), before - 1) for tap in (-1, 0, 1, 2)]
    return [math.floor(at), math.ceil(at)]


def clipped(field: AxisField, position: int, side: int) -> tuple[Fraction, Fraction]:
    """Return first and last pixel of a field inside the image."""
    first = field.step * position + field.offset
    return max(first, Fraction(0)), min(first + field.extent - 1, Fraction(side - 1))


def disagreement(graph: Network, side: int, wrong: dict[str, ReceptiveField] | None = None) -> str:
    """Return the first value whose field differs from the pixels of its positions; empty if all agree."""
    fields = receptive_fields(graph, (side, side)) | (wrong or {})
    for path, reads in pixels_read(graph, side).items():
        field = fields[path].vertical
        for position, pixels in enumerate(reads):
            if not pixels:
                continue
            first, last = clipped(field, position, side)
            whole = field.whole and field.exact and (min(pixels), max(pixels)) != (0, side - 1)
            if min(pixels) < first or max(pixels) > last or whole:
                return f"{path}[{position}] reads {min(pixels)}..{max(pixels)}, but its field is {first}..{last}"
            interior = field.offset + field.step * position >= 0 and last == first + field.extent - 1
            if field.exact and interior and (min(pixels), max(pixels)) != (first, last):
                return f"{path}[{position}] reads {min(pixels)}..{max(pixels)}, but its exact field is {first}..{last}"
    return ""


def chain(*ops: Op) -> Network:
    """Return a network of one operator after the other; a resize without size goes back to the image's."""
    nodes = [Node(path="x", op=Input(channels=3))]
    for number, op in enumerate(ops):
        like = ("x",) if isinstance(op, Resize) and op.size is None else ()
        nodes.append(Node(path=f"op{number}", op=op, inputs=(nodes[-1].path, *like)))
    return Network(nodes=(*nodes, Node(path="y", op=Output(name="y"), inputs=(nodes[-1].path,))))


@st.composite
def window_operators(draw: st.DrawFn) -> Op:
    """Draw an operator with a sliding window."""
    kernel = draw(st.integers(1, 4), label="kernel")
    stride = draw(st.integers(1, min(kernel, 3)), label="stride")
    margin = (draw(st.integers(0, kernel // 2), label="before"), draw(st.integers(0, kernel // 2), label="after"))
    kind = draw(st.sampled_from(["conv", "same", "pool", "pad"]), label="kind")
    if kind == "pad":
        return Pad(margins=(*margin, *margin))
    if kind == "pool":
        pair, step = (kernel, kernel), (stride, stride)
        return Pool(kind=PoolKind.MAX, kernel=pair, stride=step, padding=(*margin, *margin))
    rate = draw(st.integers(1, 3), label="rate")
    return Conv2d(
        channels_in=3,
        channels_out=3,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        rate=(rate, rate),
        padding="same" if kind == "same" else (*margin, *margin),
    )


@given(st.lists(window_operators(), min_size=1, max_size=4), st.integers(40, 70))
def test_field_of_windows_is_the_hull_of_the_pixels_read(ops: list[Op], side: int) -> None:
    """Enumerating the taps is slow and obvious; the arithmetic must agree at every position."""
    graph = chain(*ops)
    if min(map(min, _sizes(graph, side))) < 1:
        return

    assert not disagreement(graph, side)


def _sizes(graph: Network, side: int) -> list[tuple[int, ...]]:
    try:
        return list(shapes(graph, (side, side)).values())
    except GraphError:
        return [(0,)]


RESIZES = [
    Resize(mode=mode, align_corners=align_corners)
    for mode in ResizeMode
    for align_corners in (False, True)
    if not (mode is ResizeMode.NEAREST and align_corners)
]


@given(st.sampled_from(RESIZES), st.lists(window_operators(), max_size=2), st.integers(1, 60), st.integers(40, 70))
def test_field_through_a_resize_holds_the_pixels_read(resize: Resize, ops: list[Op], target: int, side: int) -> None:
    """Distances between neighbours vary; the bound must hold at every position."""
    graph = chain(*ops, Resize(mode=resize.mode, align_corners=resize.align_corners, size=(target, target)), resize)
    if min(map(min, _sizes(graph, side))) < 1:
        return

    assert not disagreement(graph, side)


@pytest.mark.parametrize(
    "change",
    [{"extent": Fraction(2)}, {"extent": Fraction(4)}, {"offset": Fraction(0)}, {"step": Fraction(2)}],
    ids=str,
)
def test_disagreement_is_seen(change: dict[str, Fraction]) -> None:
    """The comparison itself can fail: here the field is wrong by one number."""
    graph = chain(Conv2d(channels_in=3, channels_out=3, kernel=(3, 3), padding=(1, 1, 1, 1)))
    right = receptive_fields(graph, (9, 9))["op0"]
    wrong = ReceptiveField(vertical=replace(right.vertical, **change), horizontal=right.horizontal)  # type: ignore[arg-type]

    assert not disagreement(graph, 9)
    assert disagreement(graph, 9, {"op0": wrong}).startswith("op0[")


@pytest.mark.parametrize("variant", [NOTEBOOK, TF_RELEASE], ids=lambda variant: variant.name)
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("side", [64, 97])
def test_fields_of_the_network_are_what_its_positions_read(variant: object, output_stride: int, side: int) -> None:
    """Both variants at even and odd sizes, with one middle block so that fields fit the image."""
    chosen = NOTEBOOK if variant is NOTEBOOK else TF_RELEASE
    graph = network(
        choose(chosen.choices, {"middle_blocks": 1, "decoder_resize": Interpolation.HALF_PIXEL}), output_stride
    )

    assert not disagreement(graph, side)


def test_published_geometry_of_the_stem() -> None:
    """A 3x3 convolution with stride 2, then one with stride 1: 3 + 2 * 2 pixels at steps of 2."""
    fields = receptive_fields(network(NOTEBOOK.choices), (513, 512))

    expected = AxisField(extent=Fraction(7), step=Fraction(2), offset=Fraction(-3))
    assert fields["backbone.entry_flow.stem.conv2.conv"] == (expected, expected)


def test_image_pooling_sees_the_whole_image_and_so_does_all_after_it() -> None:
    """The global average reads every position of a map that covers the image."""
    fields = receptive_fields(network(NOTEBOOK.choices), (513, 300))

    for path in ("aspp.pool.average", "aspp.pool.resize", "aspp.projection.conv", "decoder.logits.conv", "output"):
        assert [axis.whole for axis in fields[path]] == [True, True]
        assert [axis.extent for axis in fields[path]] == [513, 300]
    assert not fields["aspp.atrous3.conv"].vertical.whole


def test_sum_of_values_with_other_steps_has_a_bound() -> None:
    """Positions drift apart; the field grows to contain both and is not exact."""
    one = Conv2d(channels_in=3, channels_out=3, kernel=(1, 1), stride=(4, 4))
    nodes = (
        Node(path="x", op=Input(channels=3)),
        Node(path="a", op=one, inputs=("x",)),
        Node(path="b", op=Resize(mode=ResizeMode.NEAREST, size=(9, 9)), inputs=("x",)),
        Node(path="sum", op=Add(), inputs=("a", "b")),
        Node(path="join", op=Concat(), inputs=("b", "a")),
        Node(path="y", op=Output(name="y"), inputs=("sum",)),
    )
    graph = Network(nodes=nodes)

    assert not disagreement(graph, 34)
    assert not receptive_fields(graph, (34, 34))["sum"].vertical.exact
    assert not receptive_fields(graph, (34, 34))["join"].vertical.exact


def test_a_resize_reads_only_the_size_of_its_second_input() -> None:
    """A value resized to the size of a map that sees the whole image sees no more than before."""
    nodes = (
        Node(path="x", op=Input(channels=3)),
        Node(path="mean", op=GlobalAveragePool(), inputs=("x",)),
        Node(path="corner", op=Resize(), inputs=("x", "mean")),
        Node(path="y", op=Output(name="y"), inputs=("corner",)),
    )
    field = receptive_fields(Network(nodes=nodes), (9, 9))["corner"].vertical

    assert (field.whole, field.extent, field.offset) == (False, 1, 0)


def test_several_inputs_are_refused() -> None:
    """Pixels of two images would be added."""
    with pytest.raises(GraphError, match="must have one input for a receptive field"):
        receptive_fields(part(rows(NOTEBOOK.choices, 16, 21), "decoder"), (33, 33))
