"""The graph of the specification has the paths and taps of its contract."""

import pytest

from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Conv2d, Input, Output, Resize
from deeplab_spec.spec.choices import Decoder, choose
from deeplab_spec.spec.network import CLASSIFIER, PARTS, network, part, rows
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from tests.support.members import KINDS, XCEPTIONS

LAYERS = tuple(
    f"{block}.sepconv{layer}.{half}.conv"
    for block in (
        *(f"backbone.entry_flow.block{number}" for number in (1, 2, 3)),
        *(f"backbone.middle_flow.block{number}" for number in range(1, 17)),
        *(f"backbone.exit_flow.block{number}" for number in (1, 2)),
    )
    for layer in (1, 2, 3)
    for half in ("depthwise", "pointwise")
)
UNITS = (
    "backbone.entry_flow.stem.conv1",
    "backbone.entry_flow.stem.conv2",
    "backbone.entry_flow.block1.skip",
    "backbone.entry_flow.block2.skip",
    "backbone.entry_flow.block3.skip",
    "backbone.exit_flow.block1.skip",
    "aspp.conv1x1",
    "aspp.pool",
    "aspp.projection",
    "decoder.low_level",
    "decoder.logits",
)
RESIZES = {"aspp.pool.resize", "decoder.resize", "output.resize"}


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_paths_of_the_contract_exist_and_no_other_convolution_does(variant: Variant) -> None:
    """Messages and other programs' files address nodes by path."""
    graph = network(variant.choices)
    convs = {node.path for node in graph if isinstance(node.op, Conv2d)}
    head = {path for path in convs if path.startswith(("aspp.atrous", "decoder.conv"))}

    assert convs - head == {*LAYERS, *(f"{unit}.conv" for unit in UNITS)}
    assert {path.split(".")[1] for path in head if path.startswith("aspp.")} == {"atrous1", "atrous2", "atrous3"}
    assert {node.path for node in graph if isinstance(node.op, Resize)} == RESIZES
    assert {node.path.rpartition(".")[2] for node in graph} <= {
        *("conv", "norm", "activation", "add", "average", "resize", "concat", "dropout", "input", "output")
    }


@pytest.mark.parametrize("variant", KINDS, ids=lambda variant: variant.name)
def test_taps_have_their_public_names(variant: Variant) -> None:
    """Other programs refer to values by these names."""
    graph = network(variant.choices)

    assert [name for name, _ in graph.taps] == ["low_level", "backbone", "aspp", "decoder", "logits"]
    with pytest.raises(GraphError, match="stem: must be a tap"):
        graph.tap("stem")


@pytest.mark.parametrize(
    ("variant", "output_stride", "path"),
    [
        (NOTEBOOK, 16, "backbone.entry_flow.block1.add"),
        (NOTEBOOK, 8, "backbone.entry_flow.stem.conv2.activation"),
        (TF_RELEASE, 16, "backbone.entry_flow.block2.sepconv2.pointwise.norm"),
        (TF_RELEASE, 8, "backbone.entry_flow.block2.sepconv2.pointwise.norm"),
    ],
)
def test_low_level_tap_is_where_it_is_published(variant: Variant, output_stride: int, path: str) -> None:
    """The document's tap moves with the output stride; the release's does not."""
    assert network(variant.choices, output_stride).tap("low_level") == path


@pytest.mark.parametrize("variant", KINDS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_the_nodes_of_the_whole(variant: Variant, name: str) -> None:
    """A part judged alone is judged by the same rows."""
    whole = network(variant.choices)
    alone = part(rows(variant.choices, 16, 21), name)
    inner = [node for node in alone if not isinstance(node.op, Input | Output)]

    names = ("aspp", "decoder") if name == "head" else (name,)
    assert [node.path for node in inner] == [node.path for node in whole if node.path.split(".")[0] in names]
    assert all(node.op == whole[node.path].op for node in inner)
    with pytest.raises(SpecError, match="part: must be one of backbone, aspp, decoder, head, but got 'neck'"):
        part(rows(variant.choices, 16, 21), "neck")


def test_without_decoder_the_logits_read_the_pyramid() -> None:
    """Table 5's rows without a decoder: a 1x1 convolution on the pyramid's output."""
    graph = network(choose(NOTEBOOK.choices, {"decoder": Decoder.NONE}))
    classifier = graph[CLASSIFIER]

    assert classifier.inputs == (graph.tap("aspp"),)
    assert isinstance(classifier.op, Conv2d)
    assert classifier.op.kernel == (1, 1)
    assert not any(node.path.startswith("decoder.low_level") for node in graph)


X = Node(path="x", op=Input(channels=3))
Y = Node(path="y", op=Output(name="y"), inputs=("x",))


@pytest.mark.parametrize(
    ("nodes", "taps", "message"),
    [
        ((X, X, Y), (), "x: a path must be unique, but got 'a second node'"),
        ((X, Node(path="r", op=Activation(), inputs=("z",)), Y), (), "r: an input must stand before its reader"),
        ((X, Y), (("t", "z"),), "t: a tap must name a node, but got 'z'"),
        ((Node(path="y", op=Output(name="y")),), (), "network: there must be an Input"),
        ((X,), (), "network: there must be an Output"),
    ],
    ids=["twice", "order", "tap", "no input", "no output"],
)
def test_a_graph_that_is_none_is_refused(
    nodes: tuple[Node, ...], taps: tuple[tuple[str, str], ...], message: str
) -> None:
    """Users of a network may rely on its order and its names."""
    with pytest.raises(GraphError, match=message):
        Network(nodes=nodes, taps=taps)


def test_dead_nodes_are_removed_and_the_rest_kept() -> None:
    """Every value contributes to an output."""
    dead = Node(path="dead", op=Activation(), inputs=("x",))
    graph = Network(nodes=(X, dead, Y), taps=(("t", "dead"),))

    assert [node.path for node in graph.live()] == ["x", "y"]
    assert graph.live().taps == ()
    assert graph.readers() == {"x": ("dead", "y"), "dead": (), "y": ()}
