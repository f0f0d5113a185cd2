"""Strategies of the property tests, beside the package's own: rows, and networks of every operator.

Every draw has a label.
"""

from functools import partial
from typing import get_args

from hypothesis import strategies as st

from deeplab_spec.conformance import strategies
from deeplab_spec.conformance.strategies import NARROW, narrow, seeds, sides, sizes
from deeplab_spec.graph import ops
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import ActivationKind, Pair, PoolKind
from deeplab_spec.spec import rows
from deeplab_spec.spec.rows import Norm, same_size
from deeplab_spec.spec.sources import document
from tests.support.members import XCEPTIONS

__all__ = [
    "NARROW",
    "SOURCE",
    "any_networks",
    "block_rows",
    "cases",
    "channels",
    "conv_rows",
    "narrow",
    "norms",
    "operator",
    "pool_rows",
    "rates",
    "seeds",
    "separable_rows",
    "sides",
    "sizes",
    "strides_and_rates",
    "variants",
]

SOURCE = document("a drawn row")
activations = st.sampled_from([None, ActivationKind.RELU, ActivationKind.RELU6])
variants = st.sampled_from(XCEPTIONS)
cases = partial(strategies.cases, variants)
channels = st.integers(1, 5)
rates = st.integers(1, 6)
norms = st.none() | st.builds(Norm, eps=st.sampled_from([1e-3, 1e-5]), momentum=st.sampled_from([3e-4, 0.1]))


@st.composite
def strides_and_rates(draw: st.DrawFn) -> tuple[int, int | Pair]:
    """Draw a stride and a rate, of which one is 1; the rate may differ vertically and horizontally."""
    stride = draw(st.integers(1, 3), label="stride")
    return stride, draw(rates | st.tuples(rates, rates), label="rate") if stride == 1 else 1


@st.composite
def conv_rows(
    draw: st.DrawFn,
    path: str = "drawn",
    *,
    groups: int | None = None,
    channels_in: int | None = None,
    stride_and_rate: tuple[int, int | Pair] | None = None,
) -> rows.ConvUnit:
    """Draw a convolution that keeps the map's size up to its stride."""
    kernel = draw(st.sampled_from([1, 3, 5]), label="kernel")
    stride, rate = stride_and_rate or draw(strides_and_rates(), label="stride and rate")
    count = groups or draw(st.integers(1, 2), label="groups")
    return rows.ConvUnit(
        path=path,
        channels_in=channels_in or count * draw(channels, label="channels in / groups"),
        channels_out=count * draw(channels, label="channels out / groups"),
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=draw(st.sampled_from([same_size(kernel, rate), "same"]), label="padding"),
        groups=count,
        bias=draw(st.booleans(), label="bias"),
        norm=draw(norms, label="norm"),
        activation=draw(activations, label="activation"),
        source=SOURCE,
    )


@st.composite
def separable_rows(
    draw: st.DrawFn,
    path: str = "drawn",
    *,
    channels_in: int | None = None,
    stride_and_rate: tuple[int, int | Pair] | None = None,
) -> rows.SeparableUnit:
    """Draw a separable convolution of 3x3 taps."""
    inner = channels_in or draw(channels, label="channels in")
    stride, rate = stride_and_rate or draw(strides_and_rates(), label="stride and rate")
    depthwise = rows.ConvUnit(
        path=f"{path}.depthwise",
        channels_in=inner,
        channels_out=inner,
        kernel=3,
        stride=stride,
        rate=rate,
        padding=same_size(3, rate),
        groups=inner,
        bias=draw(st.booleans(), label="depthwise bias"),
        norm=draw(norms, label="depthwise norm"),
        activation=draw(activations, label="activation between"),
        source=SOURCE,
    )
    pointwise = rows.ConvUnit(
        path=f"{path}.pointwise",
        channels_in=inner,
        channels_out=draw(channels, label="channels out"),
        bias=draw(st.booleans(), label="pointwise bias"),
        norm=draw(norms, label="pointwise norm"),
        activation=draw(activations, label="activation after"),
        source=SOURCE,
    )
    before = draw(st.booleans(), label="activation before")
    return rows.SeparableUnit(path=path, pre_activation=before, depthwise=depthwise, pointwise=pointwise)


@st.composite
def pool_rows(draw: st.DrawFn, path: str = "drawn") -> rows.PoolUnit:
    """Draw a pooling window that a network of the specification can have."""
    side, stride = draw(st.integers(1, 3), label="window"), draw(st.integers(1, 3), label="stride")
    kind = draw(st.sampled_from(PoolKind), label="kind")
    op = ops.Pool(
        kind=kind,
        kernel=(side, side),
        stride=(stride, stride),
        padding=draw(
            st.sampled_from([same_size(side, 1), "same"][: 2 if kind is PoolKind.MAX else 1]), label="margins"
        ),
        ceil_mode=draw(st.booleans(), label="ceil mode"),
        count_margin=draw(st.booleans(), label="count margin"),
    )
    return rows.PoolUnit(path=path, op=op, source=SOURCE)


def subsampling(kind: PoolKind, stride: int) -> rows.PoolUnit:
    """Return the pooling at the start of a skip path: every other pixel, or the mean of a window."""
    window = (stride, stride)
    if kind is PoolKind.MAX:
        op = ops.Pool(kind=kind, kernel=(1, 1), stride=window)
    else:
        op = ops.Pool(kind=kind, kernel=window, stride=window, ceil_mode=True, count_margin=False)
    return rows.PoolUnit(path="drawn.skip.pool", op=op, source=SOURCE)


def gate_row(path: str, width: int, squeezed: int) -> rows.GateUnit:
    """Return a gate of a map with so many channels."""
    return rows.GateUnit(
        path=path,
        squeeze=rows.ConvUnit(
            path=f"{path}.squeeze",
            channels_in=width,
            channels_out=squeezed,
            activation=ActivationKind.RELU,
            bias=True,
            source=SOURCE,
        ),
        excite=rows.ConvUnit(
            path=f"{path}.excite",
            channels_in=squeezed,
            channels_out=width,
            activation=ActivationKind.HARDSIGMOID,
            bias=True,
            source=SOURCE,
        ),
    )


@st.composite
def block_rows(draw: st.DrawFn) -> rows.Block:
    """Draw a block of one to three units, dense or separable, with any skip that fits."""
    kind = draw(st.sampled_from(rows.SkipKind), label="skip")
    stride = draw(st.integers(1, 2), label="stride") if kind is rows.SkipKind.CONV else 1
    count = draw(st.integers(1, 3), label="units")
    width = first = draw(channels, label="channels in")
    units: list[rows.Unit] = []
    for number in range(1, count + 1):
        geometry = (stride, 1) if number == count and stride > 1 else (1, draw(rates, label="rate"))
        separable = separable_rows(f"drawn.unit{number}", channels_in=width, stride_and_rate=geometry)
        dense = conv_rows(f"drawn.unit{number}", groups=1, channels_in=width, stride_and_rate=geometry)
        units.append(draw(separable | dense, label=f"unit {number}"))
        width = rows.last_conv(units[-1]).channels_out
    if draw(st.booleans(), label="gate"):
        units.append(gate_row("drawn.gate", width, squeezed=draw(channels, label="squeezed")))
    if width != first and kind is rows.SkipKind.IDENTITY:
        kind = rows.SkipKind.CONV
    pooled = draw(st.none() | st.sampled_from(PoolKind), label="pooling of the skip")
    skip = rows.ConvUnit(
        path="drawn.skip",
        channels_in=first,
        channels_out=width,
        stride=1 if pooled else stride,
        norm=draw(norms, label="skip norm"),
        activation=draw(activations, label="skip activation"),
        source=SOURCE,
    )
    return rows.Block(
        path="drawn",
        norm=draw(norms, label="norm before the split"),
        activation=draw(st.booleans(), label="activation before the split"),
        units=tuple(units),
        skip_kind=kind,
        skip_pool=subsampling(pooled, stride) if pooled else None,
        skip=skip if kind is rows.SkipKind.CONV else None,
        after=draw(activations, label="activation after the sum"),
        skip_reads_activation=isinstance(units[0], rows.SeparableUnit)
        and units[0].pre_activation
        and kind is not rows.SkipKind.NONE
        and draw(st.booleans(), label="skip reads the activation"),
    )


ODD_NAMES = ("[0]", "['out']", "#2", "two words", 'a "quoted" one', "a, b", "a = b", "tap", "<-", "Größe", "\n", "")
names = st.sampled_from(ODD_NAMES) | st.text(max_size=8)
counts = st.integers(1, 4096)
numbers = st.floats(allow_nan=False)
pairs = st.tuples(counts, counts)
any_margins = st.tuples(*[st.integers(-9, 9)] * 4)

_CONVS = st.builds(
    lambda groups, per_group, **fields: ops.Conv2d(
        channels_in=groups * per_group[0], channels_out=groups * per_group[1], groups=groups, **fields
    ),
    groups=st.integers(1, 9),
    per_group=pairs,
    kernel=pairs,
    stride=pairs,
    rate=pairs,
    padding=any_margins | st.just("same"),
    bias=st.booleans(),
)
BY_OPERATOR = {
    ops.Input: st.builds(ops.Input, channels=counts),
    ops.Conv2d: _CONVS,
    ops.BatchNorm: st.builds(
        ops.BatchNorm, channels=counts, eps=numbers, momentum=st.none() | numbers, affine=st.booleans()
    ),
    ops.Activation: st.builds(ops.Activation, kind=st.sampled_from(ops.ActivationKind), slope=numbers),
    ops.Add: st.just(ops.Add()),
    ops.Multiply: st.just(ops.Multiply()),
    ops.Concat: st.just(ops.Concat()),
    ops.GlobalAveragePool: st.just(ops.GlobalAveragePool()),
    ops.Pool: st.builds(
        ops.Pool,
        kind=st.sampled_from(ops.PoolKind),
        kernel=pairs,
        stride=pairs,
        padding=any_margins,
        ceil_mode=st.booleans(),
        count_margin=st.booleans(),
    ),
    ops.Resize: st.builds(
        ops.Resize, mode=st.sampled_from(ops.ResizeMode), align_corners=st.booleans(), size=st.none() | pairs
    ),
    ops.Pad: st.builds(ops.Pad, margins=any_margins, mode=st.text(), value=numbers),
    ops.Dropout: st.builds(ops.Dropout, probability=numbers),
    ops.Output: st.builds(ops.Output, name=names),
    ops.Opaque: st.builds(ops.Opaque, target=st.text(), detail=st.text()),
}
"""The strategy of each operator."""


def operator(kind: type) -> st.SearchStrategy[ops.Op]:
    """Return the strategy of one kind of operator.

    Raises:
        KeyError: If there is none.
    """
    return BY_OPERATOR[kind]


@st.composite
def any_networks(draw: st.DrawFn) -> Network:
    """Draw a network of operators of every kind, each with any nodes before it as inputs: to write down, not to run."""
    paths = draw(st.lists(names, min_size=2, max_size=9, unique=True), label="paths")
    nodes = [Node(path=paths[0], op=draw(operator(ops.Input), label="input"))]
    for path in paths[1:-1]:
        op = draw(st.sampled_from(get_args(ops.Op)).flatmap(operator), label="operator")
        most = 0 if isinstance(op, ops.Input) else 3
        reads = st.lists(st.sampled_from([node.path for node in nodes]), max_size=most)
        nodes.append(Node(path=path, op=op, inputs=tuple(draw(reads, label="inputs"))))
    nodes.append(Node(path=paths[-1], op=draw(operator(ops.Output), label="output"), inputs=(nodes[-1].path,)))
    taps = st.lists(st.tuples(names, st.sampled_from(paths)), max_size=3)
    return Network(nodes=tuple(nodes), taps=tuple(draw(taps, label="taps")))
