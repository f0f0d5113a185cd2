"""The published networks: each a full set of choices with a name and a source."""

from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.sources import document, paper, release


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A published network.

    Attributes:
        name: Its name.
        choices: A value for every choice.
        output_strides: Output strides that the publication supports.
        reported_output_stride: The output stride that the backbone reports, if that is not the one it was built with.
        source: Where it is published.
        title: One line for a list.
    """

    name: str
    choices: c.Choices
    output_strides: tuple[int, ...]
    reported_output_stride: int | None = None
    source: Source
    title: str


_NOTEBOOK = c.Choices(
    activation_placement=c.ActivationPlacement.AFTER,
    depthwise_activation=c.DepthwiseActivation.EVERY,
    depthwise_norm=True,
    conv_bias=c.ConvBias.EVERY,
    skip_unit=c.SkipUnit.NORM_AND_ACTIVATION,
    skip_reads=c.SkipReads.INPUT,
    skip_rate=c.SkipRate.AS_LAST_LAYER,
    exit2_input=c.Exit2Input.SUM,
    unstrided_rate=c.UnstridedRate.DOUBLE_LAST,
    exit2_rates=(2, 4),
    atrous_padding=c.AtrousPadding.RATE,
    stride_padding=c.StridePadding.EXPLICIT,
    entry_blocks=3,
    middle_blocks=16,
    low_level_tap=c.LowLevelTap.BLOCK1_OR_STEM,
    aspp_rates=(6, 12, 18),
    aspp_convs=c.HeadConvs.DENSE,
    aspp_depthwise=c.DepthwiseUnit.NORM_AND_ACTIVATION,
    aspp_order=c.AsppOrder.POOL_LAST,
    aspp_dropout=0.0,
    pool_norm=c.PoolNorm.BIAS,
    pool_resize=c.Interpolation.NEAREST,
    projection=c.Projection.K1,
    decoder=c.Decoder.LOW_LEVEL,
    decoder_order=c.DecoderOrder.ASPP_FIRST,
    decoder_convs=c.DecoderConvs.NONE,
    decoder_depthwise=c.DepthwiseUnit.NORM_AND_ACTIVATION,
    decoder_dropout=(),
    decoder_resize=c.Interpolation.ALIGN_CORNERS,
    logits_conv=c.LogitsConv.K3_BIAS,
    output_resize=c.Interpolation.ALIGN_CORNERS,
    backbone_norm_eps=1e-3,
    head_norm_eps=1e-3,
    norm_momentum=3e-4,
    init=c.Initialisation.KAIMING_FAN_IN,
    sizes_accepted=c.SizesAccepted.ANY,
    width=1.0,
)

_RELEASE = replace(
    _NOTEBOOK,
    activation_placement=c.ActivationPlacement.BEFORE,
    depthwise_activation=c.DepthwiseActivation.EXIT2,
    conv_bias=c.ConvBias.NONE,
    skip_unit=c.SkipUnit.NORM,
    skip_rate=c.SkipRate.ONE,
    unstrided_rate=c.UnstridedRate.UNCHANGED,
    low_level_tap=c.LowLevelTap.BLOCK2_SEPCONV2,
    aspp_rates=c.FOLLOW,
    aspp_convs=c.HeadConvs.SEPARABLE,
    aspp_order=c.AsppOrder.POOL_FIRST,
    aspp_dropout=0.1,
    pool_norm=c.PoolNorm.NORM,
    pool_resize=c.Interpolation.ALIGN_CORNERS,
    decoder_convs=c.DecoderConvs.SEPARABLE_2,
    logits_conv=c.LogitsConv.K1_BIAS,
    head_norm_eps=1e-5,
    init=c.Initialisation.TRUNCATED_NORMAL,
)

NOTEBOOK: Final = Variant(
    name="notebook",
    choices=_NOTEBOOK,
    output_strides=(8, 16),
    reported_output_stride=16,
    source=document("model"),
    title="the source document's network, verbatim",
)
TF_RELEASE: Final = Variant(
    name="tf-release",
    choices=_RELEASE,
    output_strides=(8, 16, 32),
    source=release("core/xception.py, model.py"),
    title="the authors' release: xception_65, separable pyramid and decoder",
)
TF_RELEASE_DENSE: Final = Variant(
    name="tf-release-dense",
    choices=replace(_RELEASE, aspp_convs=c.HeadConvs.DENSE, decoder_convs=c.DecoderConvs.DENSE_2),
    output_strides=(8, 16, 32),
    source=paper("table 5, rows without SC"),
    title="the authors' release with dense convolutions in pyramid and decoder",
)

VARIANTS: Final = (NOTEBOOK, TF_RELEASE, TF_RELEASE_DENSE)


def variant(name: str) -> Variant:
    """Return the variant with a name.

    Raises:
        SpecError: If there is none; the message lists them.
    """
    for candidate in VARIANTS:
        if candidate.name == name:
            return candidate
    names = ", ".join(candidate.name for candidate in VARIANTS)
    raise SpecError("variant", f"must be one of {names}", name)
