"""The published networks: each a full set of choices with a name and a source."""

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.backbones import mobilenet_v2 as m
from deeplab_spec.spec.backbones import mobilenet_v3 as v
from deeplab_spec.spec.backbones import resnet as r
from deeplab_spec.spec.backbones import xception as x
from deeplab_spec.spec.sources import document, library, paper, release


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A published network.

    ``reported_output_stride`` is the output stride that the backbone reports, if that is not the one it was built with;
    ``title`` is one line for a list.
    """

    name: str
    choices: c.Choices
    output_strides: tuple[int, ...]
    reported_output_stride: int | None = None
    source: Source
    title: str

    @property
    def family(self) -> type[c.Choices]:
        """The choices of its family of backbones."""
        return type(self.choices)


_NOTEBOOK = x.XceptionChoices(
    activation_placement=x.ActivationPlacement.AFTER,
    depthwise_activation=x.DepthwiseActivation.EVERY,
    depthwise_norm=True,
    conv_bias=c.ConvBias.EVERY,
    skip_unit=x.SkipUnit.NORM_AND_ACTIVATION,
    skip_reads=x.SkipReads.INPUT,
    skip_rate=x.SkipRate.AS_LAST_LAYER,
    exit2_input=x.Exit2Input.SUM,
    unstrided_rate=x.UnstridedRate.DOUBLE_LAST,
    exit2_rates=(2, 4),
    atrous_padding=x.AtrousPadding.RATE,
    stride_padding=c.StridePadding.EXPLICIT,
    entry_blocks=3,
    middle_blocks=16,
    low_level_tap=x.LowLevelTap.BLOCK1_OR_STEM,
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
    output_resize=c.OutputResize.ALIGN_CORNERS,
    backbone_norm_eps=1e-3,
    head_norm_eps=1e-3,
    norm_momentum=3e-4,
    backbone_norm_momentum=c.AS_HEAD,
    init=c.Initialisation.KAIMING_FAN_IN,
    backbone_init=c.AS_HEAD,
    results=c.Results.TENSOR,
    sizes_accepted=c.SizesAccepted.ANY,
    width=1.0,
)

_RELEASE = replace(
    _NOTEBOOK,
    activation_placement=x.ActivationPlacement.BEFORE,
    depthwise_activation=x.DepthwiseActivation.EXIT2,
    conv_bias=c.ConvBias.NONE,
    skip_unit=x.SkipUnit.NORM,
    skip_rate=x.SkipRate.ONE,
    unstrided_rate=x.UnstridedRate.UNCHANGED,
    low_level_tap=x.LowLevelTap.BLOCK2_SEPCONV2,
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

TF_XCEPTION41: Final = Variant(
    name="tf-xception41",
    choices=replace(_RELEASE, middle_blocks=8),
    output_strides=(8, 16, 32),
    source=release("core/xception.py, xception_41"),
    title="the authors' release: xception_41",
)
_XCEPTION71 = replace(_RELEASE, entry_blocks=5)
TF_XCEPTION71: Final = Variant(
    name="tf-xception71",
    choices=_XCEPTION71,
    output_strides=(8, 16, 32),
    source=release("core/xception.py, xception_71"),
    title="the authors' release: xception_71",
)
TF_XCEPTION71_DPC: Final = Variant(
    name="tf-xception71-dpc",
    choices=replace(_XCEPTION71, aspp_convs=c.HeadConvs.DENSE_PREDICTION_CELL),
    output_strides=(8, 16, 32),
    source=release("core/dense_prediction_cell.py, dense_prediction_cell_branch5_top1_cityscapes.json"),
    title="the authors' release: xception_71 with the dense prediction cell",
)


def _head(choices: c.Choices) -> dict[str, Any]:
    """Return the choices that every family has."""
    return {field.name: getattr(choices, field.name) for field in fields(c.Choices)}


_TF_RESNET101 = r.ResNetChoices(
    **_head(_RELEASE)
    | {
        "backbone_norm_eps": 1e-5,
        "backbone_norm_momentum": 0.05,
        "backbone_init": c.Initialisation.VARIANCE_SCALING,
    },
    residual_unit=r.ResidualUnit.BOTTLENECK,
    stage_units=(3, 4, 23, 3),
    stem_channels=(64, 64, 128),
    pool_padding=r.PoolPadding.SAME,
    strided_unit=r.StridedUnit.LAST,
    shortcut=r.Shortcut.CONV,
    unstrided_rate=c.UnstridedRate.UNCHANGED,
    multi_grid=(1, 2, 4),
    low_level_tap=r.LowLevelTap.BEFORE_SUM,
    auxiliary=c.AuxiliaryHead.NONE,
)
TF_RESNET101: Final = Variant(
    name="tf-resnet101",
    choices=_TF_RESNET101,
    output_strides=(8, 16, 32),
    source=release("core/resnet_v1_beta.py, resnet_v1_101_beta"),
    title="the authors' release: resnet_v1_101_beta",
)
TF_RESNET101_DENSE: Final = Variant(
    name="tf-resnet101-dense",
    choices=replace(_TF_RESNET101, aspp_convs=c.HeadConvs.DENSE, decoder_convs=c.DecoderConvs.DENSE_2),
    output_strides=(8, 16, 32),
    source=paper("table 3"),
    title="the paper's ResNet-101, with dense convolutions in pyramid and decoder",
)
_TF_RESNET50 = replace(_TF_RESNET101, stage_units=(3, 4, 6, 3))
TF_RESNET50: Final = Variant(
    name="tf-resnet50",
    choices=_TF_RESNET50,
    output_strides=(8, 16, 32),
    source=release("core/resnet_v1_beta.py, resnet_v1_50_beta"),
    title="the authors' release: resnet_v1_50_beta",
)
TF_RESNET50_DENSE: Final = Variant(
    name="tf-resnet50-dense",
    choices=replace(_TF_RESNET50, aspp_convs=c.HeadConvs.DENSE, decoder_convs=c.DecoderConvs.DENSE_2),
    output_strides=(8, 16, 32),
    source=release("core/resnet_v1_beta.py, resnet_v1_50_beta"),
    title="resnet_v1_50_beta with dense convolutions in pyramid and decoder",
)

_TF_MOBILENET = m.MobileNetV2Choices(
    **_head(_RELEASE)
    | {
        "stride_padding": c.StridePadding.SAME,
        "aspp_rates": (),
        "decoder": c.Decoder.NONE,
        "backbone_norm_momentum": 0.003,
    },
    depth_multiplier=1.0,
    channel_divisor=8,
    unstrided_rate=c.UnstridedRate.UNCHANGED,
    low_level_tap=m.LowLevelTap.DEPTHWISE,
)
TF_MOBILENET_V2: Final = Variant(
    name="tf-mobilenet-v2",
    choices=_TF_MOBILENET,
    output_strides=(8, 16, 32),
    source=release("core/feature_extractor.py, mobilenet_v2"),
    title="the authors' release: mobilenet_v2, without atrous branches and without a decoder",
)
HF_MOBILENET_V2: Final = Variant(
    name="hf-mobilenet-v2",
    choices=replace(
        _TF_MOBILENET,
        output_resize=c.OutputResize.NONE,
        results=c.Results.NAMED,
        init=c.Initialisation.NORMAL,
        norm_momentum=0.003,
        backbone_norm_momentum=c.AS_HEAD,
    ),
    output_strides=(8, 16, 32),
    source=library("transformers", "models/mobilenet_v2/modeling_mobilenet_v2.py"),
    title="transformers: MobileNetV2ForSemanticSegmentation",
)

_TORCHVISION50 = replace(
    _TF_RESNET50,
    stem_channels=(64,),
    pool_padding=r.PoolPadding.EXPLICIT,
    strided_unit=r.StridedUnit.FIRST,
    multi_grid=(1, 1, 1),
    low_level_tap=r.LowLevelTap.AFTER_STAGE,
    aspp_rates=(12, 24, 36),
    aspp_convs=c.HeadConvs.DENSE,
    aspp_order=c.AsppOrder.POOL_LAST,
    aspp_dropout=0.5,
    pool_resize=c.Interpolation.HALF_PIXEL,
    projection=c.Projection.K1_THEN_DENSE,
    decoder=c.Decoder.NONE,
    output_resize=c.OutputResize.HALF_PIXEL,
    results=c.Results.NAMED,
    backbone_norm_eps=1e-5,
    head_norm_eps=1e-5,
    norm_momentum=0.1,
    backbone_norm_momentum=c.AS_HEAD,
    init=c.Initialisation.FRAMEWORK_DEFAULT,
    backbone_init=c.Initialisation.KAIMING_FAN_OUT,
)
TORCHVISION_RESNET50: Final = Variant(
    name="torchvision-resnet50",
    choices=_TORCHVISION50,
    output_strides=(8, 16),
    source=library("torchvision", "models/segmentation/deeplabv3.py"),
    title="torchvision: deeplabv3_resnet50, without its auxiliary head",
)
TORCHVISION_RESNET101: Final = Variant(
    name="torchvision-resnet101",
    choices=replace(_TORCHVISION50, stage_units=(3, 4, 23, 3)),
    output_strides=(8, 16),
    source=library("torchvision", "models/segmentation/deeplabv3.py"),
    title="torchvision: deeplabv3_resnet101, without its auxiliary head",
)

TORCHVISION_MOBILENET_V3_LARGE: Final = Variant(
    name="torchvision-mobilenet-v3-large",
    choices=v.MobileNetV3Choices(
        **_head(_TORCHVISION50) | {"backbone_norm_eps": 1e-3, "backbone_norm_momentum": 0.01},
        unstrided_rate=c.UnstridedRate.AT_ONCE,
        low_level_tap=m.LowLevelTap.UNIT,
        auxiliary=c.AuxiliaryHead.NONE,
    ),
    output_strides=(16,),
    source=library("torchvision", "models/segmentation/deeplabv3.py"),
    title="torchvision: deeplabv3_mobilenet_v3_large, without its auxiliary head",
)

_SMP_HEAD: Final[dict[str, Any]] = {
    "aspp_rates": (12, 24, 36),
    "aspp_convs": c.HeadConvs.SEPARABLE,
    "aspp_depthwise": c.DepthwiseUnit.BARE,
    "aspp_order": c.AsppOrder.POOL_LAST,
    "aspp_dropout": 0.5,
    "pool_resize": c.Interpolation.HALF_PIXEL,
    "projection": c.Projection.K1_THEN_SEPARABLE,
    "decoder": c.Decoder.LOW_LEVEL,
    "decoder_order": c.DecoderOrder.ASPP_FIRST,
    "decoder_convs": c.DecoderConvs.SEPARABLE_1,
    "decoder_depthwise": c.DepthwiseUnit.BARE,
    "decoder_resize": c.Interpolation.ALIGN_CORNERS,
    "output_resize": c.OutputResize.ALIGN_CORNERS,
    "results": c.Results.TENSOR,
    "head_norm_eps": 1e-5,
    "norm_momentum": 0.1,
    "init": c.Initialisation.FRAMEWORK_DEFAULT,
    "backbone_init": c.Initialisation.KAIMING_FAN_OUT,
    "sizes_accepted": c.SizesAccepted.MULTIPLES,
}
_SMP_SOURCE: Final = library("segmentation-models-pytorch", "decoders/deeplabv3")
_SMP50 = replace(_TORCHVISION50, unstrided_rate=c.UnstridedRate.AT_ONCE, **_SMP_HEAD)
SMP_RESNET34: Final = Variant(
    name="smp-resnet34",
    choices=replace(_SMP50, residual_unit=r.ResidualUnit.BASIC),
    output_strides=(8, 16),
    source=_SMP_SOURCE,
    title="segmentation_models_pytorch: DeepLabV3Plus with resnet34",
)
SMP_RESNET50: Final = Variant(
    name="smp-resnet50",
    choices=_SMP50,
    output_strides=(8, 16),
    source=_SMP_SOURCE,
    title="segmentation_models_pytorch: DeepLabV3Plus with resnet50",
)
SMP_RESNET101: Final = Variant(
    name="smp-resnet101",
    choices=replace(_SMP50, stage_units=(3, 4, 23, 3)),
    output_strides=(8, 16),
    source=_SMP_SOURCE,
    title="segmentation_models_pytorch: DeepLabV3Plus with resnet101",
)
SMP_XCEPTION65: Final = Variant(
    name="smp-xception65",
    choices=replace(
        _RELEASE,
        low_level_tap=x.LowLevelTap.BLOCK2_SEPCONV2_ACTIVATED,
        **{**_SMP_HEAD, "backbone_init": c.Initialisation.FRAMEWORK_DEFAULT},
    ),
    output_strides=(8, 16),
    source=_SMP_SOURCE,
    title="segmentation_models_pytorch: DeepLabV3Plus with tu-xception65",
)
KERAS_HUB_RESNET50: Final = Variant(
    name="keras-hub-resnet50",
    choices=replace(
        _TORCHVISION50,
        aspp_rates=(6, 12, 18),
        aspp_dropout=0.0,
        projection=c.Projection.K1,
        decoder=c.Decoder.LOW_LEVEL,
        decoder_order=c.DecoderOrder.ASPP_FIRST,
        decoder_convs=c.DecoderConvs.POINTWISE_1,
        decoder_resize=c.Interpolation.HALF_PIXEL,
        logits_conv=c.LogitsConv.K1_AFTER_RESIZE,
        results=c.Results.TENSOR,
        backbone_norm_eps=1e-3,
        head_norm_eps=1e-3,
        norm_momentum=0.01,
        init=c.Initialisation.XAVIER_UNIFORM,
        backbone_init=c.AS_HEAD,
    ),
    output_strides=(32,),
    source=library("keras-hub", "deeplab_v3_plus_resnet50_pascalvoc"),
    title="Keras-Hub: deeplab_v3_plus_resnet50_pascalvoc",
)

VARIANTS: Final = (
    NOTEBOOK,
    TF_RELEASE,
    TF_RELEASE_DENSE,
    TF_XCEPTION41,
    TF_XCEPTION71,
    TF_XCEPTION71_DPC,
    TF_RESNET50,
    TF_RESNET50_DENSE,
    TF_RESNET101,
    TF_RESNET101_DENSE,
    TF_MOBILENET_V2,
    TORCHVISION_RESNET50,
    TORCHVISION_RESNET101,
    TORCHVISION_MOBILENET_V3_LARGE,
    SMP_RESNET34,
    SMP_RESNET50,
    SMP_RESNET101,
    SMP_XCEPTION65,
    HF_MOBILENET_V2,
    KERAS_HUB_RESNET50,
)

FAMILIES: Final = tuple(dict.fromkeys(entry.family for entry in VARIANTS))
"""The families of backbones, each by its choices."""


REFERENCE: Final = "reference"
"""The module of the targets that this package builds itself, ``reference:VARIANT``."""


def family_of(target: str) -> type[c.Choices]:
    """Return the family of a target ``reference:VARIANT``; that of the first variant for every other target.

    Raises:
        SpecError: If there is no such variant.
    """
    kind, _, name = target.partition(":")
    return variant(name).family if kind == REFERENCE and name else VARIANTS[0].family


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
