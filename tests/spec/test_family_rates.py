"""Strides and rates of the residual networks and of MobileNetV2, against the tables of their sources."""

import itertools

import pytest

from deeplab_spec.errors import SpecError
from deeplab_spec.spec.backbones.mobilenet_v2 import LowLevelTap as UnitTap
from deeplab_spec.spec.backbones.resnet import LowLevelTap, Shortcut
from deeplab_spec.spec.choices import Choices, UnstridedRate, choose
from deeplab_spec.spec.rows import Block, ConvUnit, PoolUnit, SkipKind
from deeplab_spec.spec.variants import (
    HF_MOBILENET_V2,
    SMP_RESNET34,
    SMP_RESNET50,
    TF_MOBILENET_V2,
    TF_RESNET50,
    TF_RESNET101,
    TORCHVISION_RESNET50,
    Variant,
)

# fmt: off
RESNETS = (
    # variant, output stride: stride of stages 1..4; rates of the first, the second and the last unit of stages 2..4
    (TF_RESNET50,          32, (2, 2, 2, 1), ((1, 1, 1), (1, 1, 1), (1, 2, 4))),
    (TF_RESNET50,          16, (2, 2, 1, 1), ((1, 1, 1), (1, 1, 1), (2, 4, 8))),
    (TF_RESNET50,          8,  (2, 1, 1, 1), ((1, 1, 1), (2, 2, 2), (4, 8, 16))),
    (TF_RESNET101,         8,  (2, 1, 1, 1), ((1, 1, 1), (2, 2, 2), (4, 8, 16))),
    (TORCHVISION_RESNET50, 16, (1, 2, 2, 1), ((1, 1, 1), (1, 1, 1), (1, 2, 2))),
    (TORCHVISION_RESNET50, 8,  (1, 2, 1, 1), ((1, 1, 1), (1, 2, 2), (2, 4, 4))),
    (SMP_RESNET50,         16, (1, 2, 2, 1), ((1, 1, 1), (1, 1, 1), (2, 2, 2))),
    (SMP_RESNET50,         8,  (1, 2, 1, 1), ((1, 1, 1), (2, 2, 2), (4, 4, 4))),
    (SMP_RESNET34,         8,  (1, 2, 1, 1), ((1, 1, 1), (2, 2, 2), (4, 4, 4))),
)
MOBILENETS = (
    # output stride: rates of the 17 units
    (32, (1,) * 17),
    (16, (1,) * 14 + (2, 2, 2)),
    (8,  (1,) * 7 + (2,) * 7 + (4, 4, 4)),
)
# fmt: on
STRIDED = {1: 1, 2: 2, 4: 2, 7: 2, 14: 2}
"""Stride of a unit of MobileNetV2 by its number; all others have 1."""


def spatial(block: Block) -> tuple[ConvUnit, ...]:
    """Return the 3x3 convolutions of a block's main path."""
    return tuple(unit for unit in block.units if isinstance(unit, ConvUnit) and unit.kernel == 3)


def stages(choices: Choices, output_stride: int) -> tuple[tuple[Block, ...], ...]:
    """Return the units of a residual network, stage by stage."""
    blocks = choices.backbone_rows(output_stride).blocks
    return tuple(tuple(units) for _, units in itertools.groupby(blocks, lambda block: block.path.split(".")[1]))


def stride(block: Block) -> int:
    """Return the stride of a block's main path."""
    (found,) = {conv.stride for conv in spatial(block)} - ({1} if len(spatial(block)) > 1 else set()) or {1}
    return found


@pytest.mark.parametrize(("variant", "output_stride", "strides", "expected"), RESNETS)
def test_strides_and_rates_of_a_residual_network_are_those_of_its_source(
    variant: Variant, output_stride: int, strides: tuple[int, ...], expected: tuple[tuple[int, ...], ...]
) -> None:
    """The release strides in a stage's last unit, torch's networks in its first; both in a 3x3 convolution."""
    found = stages(variant.choices, output_stride)
    place = -1 if variant.name.startswith("tf-") else 0

    assert tuple(stride(stage[place]) for stage in found) == strides
    others = {stride(block) for stage in found for block in stage if block is not stage[place]}
    assert others == {1}
    rates = tuple(tuple(spatial(stage[unit])[0].rate for unit in (0, 1, -1)) for stage in found[1:])
    assert rates == expected
    assert {spatial(block)[0].rate for block in found[0]} == {1}


@pytest.mark.parametrize("variant", [TF_RESNET50, TORCHVISION_RESNET50, SMP_RESNET34], ids=lambda entry: entry.name)
def test_both_convolutions_of_a_unit_keep_the_map_and_the_skip_has_the_stride(variant: Variant) -> None:
    """Padding is the rate; a skip subsamples by its convolution, or by a window of one pixel."""
    for output_stride in variant.output_strides:
        reached = 4
        for block in variant.choices.backbone_rows(output_stride).blocks:
            assert all(conv.padding == (conv.rate,) * 4 for conv in spatial(block))
            subsampled = block.skip_pool.op.stride[0] if block.skip_pool else 1
            subsampled *= block.skip.stride if block.skip else 1
            assert subsampled == stride(block)
            assert (block.skip_kind is SkipKind.CONV) == (block.channels_in != block.channels_out or _first(block))
            reached *= stride(block)
        assert reached == output_stride


def _first(block: Block) -> bool:
    """Return whether a block's stride is that of a projection: never where the shapes are equal."""
    return block.skip is not None and block.skip.stride > 1


@pytest.mark.parametrize(("output_stride", "expected"), [(32, (1, 2, 4)), (16, (2, 4, 8)), (8, (4, 8, 16))])
def test_the_multi_grid_multiplies_the_rates_of_the_last_stage(output_stride: int, expected: tuple[int, ...]) -> None:
    """The paper's ResNet-101 has 1, 2, 4; without it the units of the stage have one rate."""
    for multi_grid, rates in (((1, 2, 4), expected), ((1, 1, 1), (expected[0],) * 3)):
        last = stages(choose(TF_RESNET101.choices, {"multi_grid": multi_grid}), output_stride)[-1]
        assert tuple(spatial(block)[0].rate for block in last) == rates


@pytest.mark.parametrize("rule", UnstridedRate)
def test_a_unit_that_loses_its_stride_has_the_rate_before_it_or_after_it(rule: UnstridedRate) -> None:
    """One unit of each stage tells the rules apart, where the first unit has the stride."""
    layer3, layer4 = stages(choose(TORCHVISION_RESNET50.choices, {"unstrided_rate": rule}), 8)[2:]
    at_once = rule is UnstridedRate.AT_ONCE

    assert [spatial(block)[0].rate for block in layer3] == [2 if at_once else 1, 2, 2, 2, 2, 2]
    assert [spatial(block)[0].rate for block in layer4] == [4 if at_once else 2, 4, 4]


@pytest.mark.parametrize(
    ("variant", "tap", "expected"),
    [
        (TF_RESNET50, LowLevelTap.BEFORE_SUM, "backbone.layer1.block2.conv3.norm"),
        (TF_RESNET50, LowLevelTap.AFTER_STAGE, "backbone.layer1.block2.activation"),
        (SMP_RESNET50, LowLevelTap.BEFORE_SUM, "backbone.layer1.block3.conv3.norm"),
        (SMP_RESNET50, LowLevelTap.AFTER_STAGE, "backbone.layer1.block3.activation"),
        (SMP_RESNET34, LowLevelTap.AFTER_STAGE, "backbone.layer1.block3.activation"),
    ],
)
def test_the_tap_of_a_residual_network_is_the_last_value_at_stride_4(
    variant: Variant, tap: LowLevelTap, expected: str
) -> None:
    """The release's third unit of the first stage subsamples; it reads the second, before sum and ReLU."""
    table = choose(variant.choices, {"low_level_tap": tap}).backbone_rows(16)
    assert (table.low_level, table.low_level_channels) == (expected, 64 if variant is SMP_RESNET34 else 256)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ((64,), [(3, 64, 7, 2)]),
        ((64, 64, 128), [(3, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 1)]),
        ((32, 32, 64), [(3, 32, 3, 2), (32, 32, 3, 1), (32, 64, 3, 1)]),
    ],
)
def test_a_stem_is_one_wide_convolution_or_three_small_ones(
    stem: tuple[int, ...], expected: list[tuple[int, ...]]
) -> None:
    """The first has the stride, and a max pooling of 3x3 follows with another."""
    *convs, pool = choose(TF_RESNET50.choices, {"stem_channels": stem}).backbone_rows(16).stem
    shown = [(row.channels_in, row.channels_out, row.kernel, row.stride) for row in convs if isinstance(row, ConvUnit)]

    assert shown == expected
    assert isinstance(pool, PoolUnit)
    assert (pool.op.kernel, pool.op.stride) == ((3, 3), (2, 2))


def test_a_projection_subsamples_by_its_stride_or_behind_a_mean() -> None:
    """With a mean before it the 1x1 convolution has stride 1."""
    first = stages(choose(TORCHVISION_RESNET50.choices, {"shortcut": Shortcut.AVERAGE_POOL}), 16)[1][0]
    plain = stages(TORCHVISION_RESNET50.choices, 16)[1][0]

    assert first.skip_pool is not None
    assert (first.skip_pool.op.kernel, first.skip_pool.op.stride) == ((2, 2), (2, 2))
    assert first.skip is not None
    assert first.skip.stride == 1
    assert plain.skip_pool is None
    assert plain.skip is not None
    assert plain.skip.stride == 2


@pytest.mark.parametrize(("output_stride", "expected"), MOBILENETS)
@pytest.mark.parametrize("variant", [TF_MOBILENET_V2, HF_MOBILENET_V2], ids=lambda entry: entry.name)
def test_strides_and_rates_of_mobilenet_v2_are_those_of_the_release(
    variant: Variant, output_stride: int, expected: tuple[int, ...]
) -> None:
    """A rate applies to the units after the one that lost its stride, as in Xception."""
    blocks = variant.choices.backbone_rows(output_stride).blocks
    reached, strides = 2, []
    for number in range(1, 18):
        own = STRIDED.get(number, 1)
        strides.append(own if reached < output_stride else 1)
        reached *= strides[-1]

    assert [stride(block) for block in blocks] == strides
    assert tuple(spatial(block)[0].rate for block in blocks) == expected


def test_an_inverted_residual_unit_widens_six_times_and_adds_where_the_shapes_are_equal() -> None:
    """The first unit has no expansion; ten of seventeen have a sum."""
    table = TF_MOBILENET_V2.choices.backbone_rows(32)
    widths = [block.channels_out for block in table.blocks]

    assert widths == [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
    assert len(table.blocks[0].units) == 2
    for block in table.blocks[1:]:
        assert block.convolutions[0].channels_out == 6 * block.channels_in
    sums = [number for number, block in enumerate(table.blocks, start=1) if block.skip_kind is SkipKind.IDENTITY]
    assert sums == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


@pytest.mark.parametrize(
    ("divisor", "expected"),
    [(8, [8, 16, 32, 48, 80, 160]), (1, [8, 12, 16, 32, 48, 80, 160])],
)
def test_a_depth_multiplier_rounds_to_multiples_of_the_divisor(divisor: int, expected: list[int]) -> None:
    """24 becomes 12, or 16 with a divisor of 8, as 32 does; no count loses more than a tenth."""
    choices = choose(TF_MOBILENET_V2.choices, {"depth_multiplier": 0.5, "channel_divisor": divisor})
    assert list(dict.fromkeys(block.channels_out for block in choices.backbone_rows(16).blocks)) == expected


@pytest.mark.parametrize(
    ("tap", "expected", "channels"),
    [("depthwise", "backbone.block3.depthwise.activation", 144), ("unit", "backbone.block3.add", 24)],
)
def test_the_tap_of_mobilenet_v2_is_inside_its_third_unit_or_behind_it(tap: str, expected: str, channels: int) -> None:
    """The release reads the depthwise convolution after its ReLU6."""
    table = choose(TF_MOBILENET_V2.choices, {"low_level_tap": UnitTap(tap)}).backbone_rows(16)
    assert (table.low_level, table.low_level_channels) == (expected, channels)


@pytest.mark.parametrize("variant", [TF_RESNET50, TF_MOBILENET_V2], ids=lambda entry: entry.name)
def test_other_output_strides_are_refused(variant: Variant) -> None:
    """As for Xception."""
    with pytest.raises(SpecError, match="output_stride: must be 8, 16 or 32, but got 12"):
        variant.choices.backbone_rows(12)
