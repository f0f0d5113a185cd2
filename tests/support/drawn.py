"""Draws networks of every operator, with fields and names of every kind: graphs to write down, not to run."""

from typing import get_args

from hypothesis import strategies as st

from deeplab_spec.graph import ops
from deeplab_spec.graph.network import Network, Node

ODD_NAMES = ("[0]", "['out']", "#2", "two words", 'a "quoted" one', "a, b", "a = b", "tap", "<-", "Größe", "\n", "")
names = st.sampled_from(ODD_NAMES) | st.text(max_size=8)
counts = st.integers(1, 4096)
numbers = st.floats(allow_nan=False)
pairs = st.tuples(counts, counts)
margins = st.tuples(*[st.integers(-9, 9)] * 4)

_CONVS = st.builds(
    lambda groups, per_group, **fields: ops.Conv2d(
        channels_in=groups * per_group[0], channels_out=groups * per_group[1], groups=groups, **fields
    ),
    groups=st.integers(1, 9),
    per_group=pairs,
    kernel=pairs,
    stride=pairs,
    rate=pairs,
    padding=margins | st.just("same"),
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
    ops.Concat: st.just(ops.Concat()),
    ops.GlobalAveragePool: st.just(ops.GlobalAveragePool()),
    ops.Pool: st.builds(
        ops.Pool,
        kind=st.sampled_from(ops.PoolKind),
        kernel=pairs,
        stride=pairs,
        padding=margins,
        ceil_mode=st.booleans(),
        count_margin=st.booleans(),
    ),
    ops.Resize: st.builds(
        ops.Resize, mode=st.sampled_from(ops.ResizeMode), align_corners=st.booleans(), size=st.none() | pairs
    ),
    ops.Pad: st.builds(ops.Pad, margins=margins, mode=st.text(), value=numbers),
    ops.Dropout: st.builds(ops.Dropout, probability=numbers),
    ops.Output: st.builds(ops.Output, name=names),
    ops.Opaque: st.builds(ops.Opaque, target=st.text(), detail=st.text()),
}
"""What draws each operator."""


def operator(kind: type) -> st.SearchStrategy[ops.Op]:
    """Return what draws an operator of one kind; without a strategy for it, the tests fail."""
    return BY_OPERATOR[kind]


@st.composite
def any_networks(draw: st.DrawFn) -> Network:
    """Draw a network of some operators of every kind, which read anything before them."""
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
