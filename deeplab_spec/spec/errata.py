"""The errata of the source document: deviations from its own intent or source that ``notebook`` keeps verbatim.

An erratum that changes the network is a choice, with the value that corrects it. One that does not is a note
about the document's programming interface. :mod:`deeplab_spec.show.document` computes the effect of an erratum on
parameters and multiply-adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.backbones import xception as x
from deeplab_spec.spec.sources import document, library, paper

Correction = tuple[str, c.ChoiceValue]
"""The name of a choice, and the value that corrects the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erratum:
    """One mistake or oddity of the document that ``notebook`` keeps.

    Attributes:
        id: Stable mnemonic.
        sentence: What the document does, and what it should do instead.
        shown_by: How to recognise it in an implementation.
        corrections: The choices that correct it; empty if it does not change the network.
        api_note: What a user of the document's classes must know; empty if there are corrections.
        source: Its place in the document.

    Raises:
        SpecError: If it has both corrections and a note, or neither, or corrects an unknown choice.
    """

    id: str
    sentence: str
    shown_by: str
    corrections: tuple[Correction, ...] = ()
    api_note: str = ""
    source: Source

    def __post_init__(self) -> None:
        if bool(self.corrections) == bool(self.api_note):
            rule = "an erratum must have corrections, or else a note"
            raise SpecError(self.id, rule, (self.corrections, self.api_note))
        for name, _ in self.corrections:
            c.about(name, x.XceptionChoices)


ERRATA: Final = (
    Erratum(
        id="ERRATUM-ASPP-RATES",
        sentence=(
            "At output stride 8 the pyramid of the assembled network keeps the rates 6, 12, 18 of output "
            "stride 16, where its own class would double them."
        ),
        shown_by="impulse offsets of the atrous branches at output stride 8",
        corrections=(("aspp_rates", c.FOLLOW),),
        source=document("DeepLab.__init__ and Xception.__init__"),
    ),
    Erratum(
        id="ERRATUM-LOW-LEVEL-TAP",
        sentence=(
            "The low-level features move with the output stride: at 8 the decoder reads the stem at stride 2 "
            "with 64 channels, not the first block at stride 4 with 128."
        ),
        shown_by="width of the low-level projection at output stride 8",
        corrections=(("low_level_tap", x.LowLevelTap.BLOCK1),),
        source=document("Xception.__init__, split of the entry flow"),
    ),
    Erratum(
        id="ERRATUM-UNSTRIDED-RATE",
        sentence=(
            "A block that loses its stride doubles the rate of its own last layer, where only the blocks "
            "after it should have a larger rate."
        ),
        shown_by="features at output stride 8, subsampled by 2, differ from those at 16 with the same weights",
        corrections=(("unstrided_rate", x.UnstridedRate.UNCHANGED),),
        source=document("Xception.EntryFlowBlock and ExitFlowBlock"),
    ),
    Erratum(
        id="ERRATUM-DEAD-BIASES",
        sentence="Every convolution in front of a normalisation has a bias, which the normalisation subtracts again.",
        shown_by="parameter count",
        corrections=(("conv_bias", c.ConvBias.NONE),),
        source=document("Conv2dLayer and SeparableConv2d"),
    ),
    Erratum(
        id="ERRATUM-SKIP-ACTIVATION",
        sentence="The skip of a strided block ends in a ReLU, where the authors' release has a normalisation only.",
        shown_by="minimum of the skip",
        corrections=(("skip_unit", x.SkipUnit.NORM),),
        source=document("Xception.EntryFlowBlock and Conv2dLayer"),
    ),
    Erratum(
        id="ERRATUM-ACTIVATION-PLACEMENT",
        sentence=(
            "A ReLU follows every convolution of the backbone, where the authors' release has it in front of "
            "each separable layer, and between the two convolutions in the last block only."
        ),
        shown_by="sign of block outputs; response to negative inputs",
        corrections=(
            ("activation_placement", x.ActivationPlacement.BEFORE),
            ("depthwise_activation", x.DepthwiseActivation.EXIT2),
        ),
        source=document("SeparableConv2dLayer and Conv2dLayer"),
    ),
    Erratum(
        id="ERRATUM-REFINEMENT",
        sentence=(
            "The decoder has no 3x3 convolutions of 256 channels: a single 3x3 convolution makes the logits "
            "from the concatenated features."
        ),
        shown_by="parameter count; receptive field on the low-level features",
        corrections=(("decoder_convs", c.DecoderConvs.DENSE_2), ("logits_conv", c.LogitsConv.K1_BIAS)),
        source=document("DeepLab.Decoder"),
    ),
    Erratum(
        id="ERRATUM-POOL-NORM",
        sentence="The image-pooling branch has a convolution with bias and a ReLU, but no normalisation.",
        shown_by="parameter count; training with a batch of one succeeds",
        corrections=(("pool_norm", c.PoolNorm.NORM),),
        source=document("DeepLab.ASPP"),
    ),
    Erratum(
        id="ERRATUM-HEAD-NORM-EPS",
        sentence=(
            "The normalisations of pyramid and decoder have the backbone's eps of 1e-3, where the authors' "
            "release has 1e-5."
        ),
        shown_by="channels of low variance",
        corrections=(("head_norm_eps", 1e-5),),
        source=document("Conv2dLayer, batchnorm_opts"),
    ),
    Erratum(
        id="ERRATUM-REPORTED-OUTPUT-STRIDE",
        sentence="The backbone always reports output stride 16, also when built with another.",
        shown_by="the attribute output_stride of a backbone built with 8",
        api_note='build("notebook", output_stride=8).backbone.output_stride is 16; ask the rows, not the attribute.',
        source=document("Xception.__init__"),
    ),
    Erratum(
        id="ERRATUM-CHECKPOINT",
        sentence=(
            "A checkpoint of one output stride cannot be loaded at the other: the entry flow is split at "
            "another place and the low-level projection has another shape."
        ),
        shown_by="names and shapes of the state dict at output strides 16 and 8",
        api_note="Move weights between output strides by path, not by the document's state-dict names.",
        source=document("Xception.__init__, split of the entry flow"),
    ),
    Erratum(
        id="ERRATUM-SEPARABLE-BIAS",
        sentence="The argument bias=False of a separable layer reaches its depthwise convolution only.",
        shown_by="biases of a SeparableConv2dLayer built with bias=False",
        api_note="The pointwise convolution has a bias for either value of the argument.",
        source=document("SeparableConv2d.__init__"),
    ),
    Erratum(
        id="ERRATUM-SKIP-AGGREGATOR",
        sentence=(
            "The default aggregator of the skip container is torch.cat, which it calls with two tensors and "
            "so with a TypeError."
        ),
        shown_by="a SkipBlock with its default aggregator, called",
        api_note="Pass aggregator=torch.add, as every block of the document does.",
        source=document("SkipBlock"),
    ),
    Erratum(
        id="ERRATUM-SHARED-IDENTITY",
        sentence="All middle blocks share one identity module, because it is the default of an argument.",
        shown_by="the skip paths of two middle blocks are one object",
        api_note="A hook on one identity skip sees the calls of all middle blocks.",
        source=document("SkipBlock.__init__"),
    ),
)


OTHERS: Final[Mapping[str, tuple[Erratum, ...]]] = {
    "hf-mobilenet-v2": (
        Erratum(
            id="ERRATUM-HF-MOMENTUM",
            sentence=(
                "The library sets momentum 0.997, the release's decay, which PyTorch takes for the weight of the new "
                "value: 0.003 is meant, and running statistics become those of the last batch."
            ),
            shown_by="running mean after one step in training",
            api_note="Set the momentum of every normalisation to 0.003 before training.",
            source=library("transformers", "models/mobilenet_v2/modeling_mobilenet_v2.py, momentum=0.997"),
        ),
        Erratum(
            id="ERRATUM-HF-DROPOUT",
            sentence=(
                "The library drops whole channels with probability 0.8, where the release drops single values with 0.1."
            ),
            shown_by="training mode",
            api_note="Replace the dropout of the segmentation head by Dropout(0.1) before training.",
            source=library("transformers", "models/mobilenet_v2/modeling_mobilenet_v2.py, Dropout2d"),
        ),
    ),
    "tf-resnet101-dense": (
        Erratum(
            id="ERRATUM-PAPER-101",
            sentence=(
                "The paper prints 101.28 B multiply-adds with the decoder at output stride 16; its accounting gives "
                "102.78 B."
            ),
            shown_by="`deeplab-spec count --convention tfprof`",
            api_note="Compare with 102.78 B.",
            source=paper("table 3"),
        ),
    ),
}
"""Errata of the libraries and papers that other variants are from."""


def errata_of(variant: str) -> tuple[Erratum, ...]:
    """Return the errata of a variant, by its name."""
    return ERRATA if variant == "notebook" else OTHERS.get(variant, ())
