"""Parameters and multiply-adds, compared with every published or measured figure."""

import pytest

from deeplab_spec.analysis.costs import Cost, block_costs, block_of, node_costs
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Sizes, stored
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Input, Output
from deeplab_spec.spec.choices import ChoiceValue, ConvBias, Decoder, choose
from deeplab_spec.spec.network import network, part, rows
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, TF_RELEASE_DENSE, Variant
from tests.support.members import KINDS

BACKBONES = ((NOTEBOOK, 37_959_912), (TF_RELEASE, 37_867_312), (TF_RELEASE_DENSE, 37_867_312))
PARAMETERS = (
    (NOTEBOOK, 16, 21, 53_559_805),
    (NOTEBOOK, 8, 21, 53_556_733),
    (NOTEBOOK, 16, 20, 53_557_068),
    (NOTEBOOK, 8, 20, 53_553_996),
    (NOTEBOOK, 16, 19, 53_554_331),
    (NOTEBOOK, 8, 19, 53_551_259),
    (TF_RELEASE, 16, 21, 41_055_413),
    (TF_RELEASE, 8, 21, 41_055_413),
    (TF_RELEASE, 16, 19, 41_054_899),
    (TF_RELEASE_DENSE, 16, 21, 54_711_461),
)
MACS = (
    (NOTEBOOK, 16, 513, 65_972_773_424),
    (NOTEBOOK, 8, 513, 231_015_045_168),
    (TF_RELEASE, 16, 513, 54_035_303_024),
    (TF_RELEASE, 8, 513, 176_851_524_720),
    (TF_RELEASE, 16, 512, 51_284_320_256),
    (TF_RELEASE, 8, 512, 171_594_088_448),
    (TF_RELEASE_DENSE, 16, 513, 86_679_236_288),
    (TF_RELEASE_DENSE, 8, 513, 248_782_061_760),
    (TF_RELEASE_DENSE, 16, 512, 82_820_505_600),
    (TF_RELEASE_DENSE, 8, 512, 241_615_110_144),
)
WITHOUT_DECODER = (("decoder", Decoder.NONE),)
TABLE_5 = (
    (TF_RELEASE_DENSE, WITHOUT_DECODER, 16, "64.92"),
    (TF_RELEASE_DENSE, WITHOUT_DECODER, 8, "227.04"),
    (TF_RELEASE_DENSE, (), 16, "86.68"),
    (TF_RELEASE_DENSE, (), 8, "248.78"),
    (TF_RELEASE, (), 16, "54.04"),
    (TF_RELEASE, (), 8, "176.85"),
)


def counted(variant: Variant, output_stride: int = 16, size: int = 513, classes: int = 21) -> tuple[Cost, ...]:
    """Return the cost of every node."""
    graph = network(variant.choices, output_stride, classes)
    return node_costs(graph, shapes(graph, (size, size)))


def total(costs: tuple[Cost, ...]) -> Sizes:
    """Return the sum of their sizes."""
    return sum((cost.sizes for cost in costs), Sizes())


@pytest.mark.parametrize(("variant", "output_stride", "classes", "expected"), PARAMETERS)
def test_parameters_are_the_published_ones(variant: Variant, output_stride: int, classes: int, expected: int) -> None:
    """The figures come from executed networks and published tables, not from this arithmetic."""
    assert total(counted(variant, output_stride, classes=classes)).parameters == expected


@pytest.mark.parametrize(("variant", "output_stride", "size", "expected"), MACS)
def test_macs_are_the_published_ones(variant: Variant, output_stride: int, size: int, expected: int) -> None:
    """The figures were counted on executed networks."""
    assert sum(cost.operations for cost in counted(variant, output_stride, size)) == expected


@pytest.mark.parametrize(("variant", "expected"), BACKBONES)
def test_backbone_parameters_are_the_published_ones(variant: Variant, expected: int) -> None:
    """The backbone alone has its own graph; its nodes cost the same as in the whole network."""
    backbone = part(rows(variant.choices, 16, 21), "backbone")
    of_part = node_costs(backbone, shapes(backbone, (513, 513)))
    of_whole = tuple(cost for cost in counted(variant) if cost.path.startswith("backbone."))

    assert total(of_part).parameters == total(of_whole).parameters == expected


def test_running_statistics_and_folding_give_the_figures_of_the_independent_readme() -> None:
    """Two buffers per channel; folding removes scale and offset and leaves one bias."""
    sizes = total(counted(TF_RELEASE))

    assert sizes.parameters + sizes.buffers == 41_258_213
    assert sizes.folded_parameters == 40_954_013
    assert sizes.dead_biases == 0


def test_dead_biases_of_the_document_are_the_parameters_that_removing_them_saves() -> None:
    """A bias in front of a normalisation is subtracted with the mean."""
    without = Evaluator(network(choose(NOTEBOOK.choices, {"conv_bias": ConvBias.NONE})))(513, 513).sizes
    sizes = total(counted(NOTEBOOK))

    assert sizes.dead_biases == sizes.parameters - without.parameters == 93_928
    assert sizes.folded_parameters == without.folded_parameters


@pytest.mark.parametrize(("variant", "overrides", "output_stride", "billions"), TABLE_5)
def test_table_5_has_the_plain_multiply_adds(
    variant: Variant, overrides: tuple[tuple[str, ChoiceValue], ...], output_stride: int, billions: str
) -> None:
    """Plain convolution multiply-adds of every configuration of the paper's table 5."""
    graph = network(choose(variant.choices, dict(overrides)), output_stride)

    assert f"{Evaluator(graph)(513, 513).operations / 1e9:.2f}" == billions


@pytest.mark.parametrize("variant", KINDS)
def test_blocks_add_up_to_the_network(variant: Variant) -> None:
    """Every node belongs to one block, so nothing is lost or counted twice."""
    nodes = counted(variant)
    blocks = block_costs(nodes)

    assert total(blocks) == total(nodes)
    assert sum(block.operations for block in blocks) == sum(node.operations for node in nodes)
    assert len({block.path for block in blocks}) == len(blocks)


def test_blocks_are_the_paths_of_the_design() -> None:
    """The blocks are those of reports and of the paper's figure."""
    paths = [block.path for block in block_costs(counted(TF_RELEASE))]
    middle = [f"backbone.middle_flow.block{number}" for number in range(1, 17)]
    entry = ["stem.conv1", "stem.conv2", "block1", "block2", "block3"]

    assert paths[:6] == ["input", *(f"backbone.entry_flow.{name}" for name in entry)]
    assert paths[6:24] == [*middle, "backbone.exit_flow.block1", "backbone.exit_flow.block2"]
    aspp = {f"aspp.{name}" for name in ("conv1x1", "atrous1", "atrous2", "atrous3", "pool", "concat", "projection")}
    assert aspp < set(paths)
    assert {f"decoder.{name}" for name in ("low_level", "resize", "conv1", "conv2", "logits")} < set(paths)


def test_block_of_a_path_outside_the_design_is_its_first_two_steps() -> None:
    """A captured network has its own paths; they are grouped too."""
    assert block_of("features.denseblock1.layer2.conv") == "features.denseblock1"


def test_block_output_is_that_of_its_last_node() -> None:
    """A block's output shape is the next block's input shape."""
    outputs = {block.path: block.output for block in block_costs(counted(NOTEBOOK))}

    assert outputs["backbone.exit_flow.block2"] == (2048, 33, 33)
    assert outputs["backbone.entry_flow.block1"] == (128, 129, 129)
    assert outputs["output"] == (21, 513, 513)


def test_normalisation_that_shares_its_convolution_is_not_folded() -> None:
    """Folding would change the input of the other reader."""
    conv = Conv2d(channels_in=3, channels_out=4, kernel=(1, 1))
    norm = BatchNorm(channels=4, eps=1e-3, momentum=0.1)
    nodes = (
        Node(path="x", op=Input(channels=3)),
        Node(path="conv", op=conv, inputs=("x",)),
        Node(path="norm", op=norm, inputs=("conv",)),
        Node(path="other", op=Activation(), inputs=("conv",)),
        Node(path="y", op=Output(name="y"), inputs=("norm",)),
    )
    alone = tuple(node for node in nodes if node.path != "other")

    assert Evaluator(Network(nodes=nodes))(5, 5).sizes == Sizes(parameters=12 + 8, buffers=8)
    assert Evaluator(Network(nodes=alone))(5, 5).sizes == Sizes(parameters=12 + 8, buffers=8, folded=-8 + 4)


def test_normalisation_without_scale_has_no_parameters() -> None:
    """Only trained numbers are parameters."""
    assert stored(BatchNorm(channels=7, eps=1e-3, momentum=0.1, affine=False)) == Sizes(parameters=0, buffers=14)
