"""The source document's networks under its own names and constructor arguments.

Each class builds its rows from the arguments; the base class realises them. A part that is built alone has
the framework's default initial weights; ``DeepLab`` initialises all of them.
"""

from dataclasses import replace
from typing import Final

from deeplab_spec.errors import BackboneError
from deeplab_spec.graph.ops import ActivationKind
from deeplab_spec.reference.aspp import Aspp
from deeplab_spec.reference.backbone import Backbone, BackboneModule
from deeplab_spec.reference.block import Block
from deeplab_spec.reference.conv import draw_all
from deeplab_spec.reference.decoder import Decoder
from deeplab_spec.reference.document_layers import (
    NORM,
    Conv2dLayer,
    SeparableConv2d,
    SeparableConv2dLayer,
    SkipBlock,
    separable_row,
)
from deeplab_spec.reference.network import DeepLabV3Plus
from deeplab_spec.spec import rows
from deeplab_spec.spec.choices import FOLLOW, Initialisation
from deeplab_spec.spec.head import aspp_rows, decoder_rows
from deeplab_spec.spec.layer_choices import initial
from deeplab_spec.spec.network import check_output_stride
from deeplab_spec.spec.sources import document
from deeplab_spec.spec.variants import NOTEBOOK

__all__ = [
    "BackboneModule",
    "Conv2dLayer",
    "DeepLab",
    "SeparableConv2d",
    "SeparableConv2dLayer",
    "SkipBlock",
    "Xception",
]

_SINGLE_PART: Final = replace(NOTEBOOK.choices, init=Initialisation.FRAMEWORK_DEFAULT, aspp_rates=FOLLOW)
"""The document's choices for a part that is built by itself: the rates follow its output stride."""

_TABLE: Final = NOTEBOOK.choices.backbone_rows(16)
_MIDDLE: Final = next(block for block in _TABLE.blocks if ".middle_flow." in block.path)
_EXIT: Final = next(block for block in _TABLE.blocks if ".exit_flow." in block.path)
_KERNEL: Final = rows.first_conv(_MIDDLE.units[0]).kernel


class Xception(Backbone):
    """The document's feature extractor.

    It reports output stride 16 for every output stride (an erratum of the document), and its low-level
    features depend on the output stride (another).

    Shape:
        ``(n, 3, h, w) -> (n, 2048, h / output_stride, w / output_stride)`` rounded up, and
        ``(n, 128, h / 4, w / 4)``, or ``(n, 64, h / 2, w / 2)`` at output stride 8.

    Source:
        The document, ``Xception``.

    Clauses:
        EXIT2-RATES, LOW-LEVEL-TAP, XCEPTION-LAYERS, XCEPTION-UNSTRIDED-RATE.

    Raises:
        SpecError: A ValueError, if the output stride is not allowed; the message names the allowed ones.
    """

    def __init__(self, output_stride: int = 16) -> None:
        check_output_stride(NOTEBOOK, output_stride)
        super().__init__(_SINGLE_PART.backbone_rows(output_stride, NOTEBOOK.reported_output_stride))

    class EntryFlowBlock(Block):
        """Three separable layers, the last one strided, and a convolution as the skip.

        If it is atrous, the last layer doubles its dilation instead of its stride.

        Shape:
            ``(n, in_channels, h, w) -> (n, out_channels, ceil(h / 2), ceil(w / 2))``; atrous,
            the map keeps its size.

        Source:
            The document, ``Xception.EntryFlowBlock``.

        Clauses:
            SKIP-UNIT, XCEPTION-LAYERS, XCEPTION-STRIDES, XCEPTION-UNSTRIDED-RATE.
        """

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            dilation: int = 1,
            atrous: bool = False,  # noqa: FBT001, FBT002 - the document's signature
        ) -> None:
            outs = (out_channels, out_channels, out_channels)
            super().__init__(_strided(type(self).__name__, in_channels, outs, dilation, atrous=atrous))

    class MiddleFlowBlock(Block):
        """Three separable layers, and their input added to their output.

        The sum needs as many output channels as of the input.

        Shape:
            ``(n, in_channels, h, w) -> (n, out_channels, h, w)``

        Source:
            The document, ``Xception.MiddleFlowBlock``.

        Clauses:
            SKIP-INPUT, XCEPTION-LAYERS, XCEPTION-RATES.
        """

        def __init__(
            self, in_channels: int = _MIDDLE.channels_in, out_channels: int = _MIDDLE.channels_out, dilation: int = 1
        ) -> None:
            path = type(self).__name__
            outs = (out_channels, out_channels, out_channels)
            units = _units(path, in_channels, outs, (dilation, dilation, dilation), stride=1)
            super().__init__(rows.Block(path=path, units=units, skip_kind=rows.SkipKind.IDENTITY))

    class ExitFlowBlock(Block):
        """Like a block of the entry flow, but the first layer keeps the input's channels.

        If it is atrous, the last layer doubles its dilation instead of its stride.

        Shape:
            ``(n, in_channels, h, w) -> (n, out_channels, ceil(h / 2), ceil(w / 2))``; atrous,
            the map keeps its size.

        Source:
            The document, ``Xception.ExitFlowBlock``.

        Clauses:
            SKIP-UNIT, XCEPTION-LAYERS, XCEPTION-STRIDES, XCEPTION-UNSTRIDED-RATE.
        """

        def __init__(
            self,
            in_channels: int = _EXIT.channels_in,
            out_channels: int = _EXIT.channels_out,
            dilation: int = 1,
            atrous: bool = False,  # noqa: FBT001, FBT002 - the document's signature
        ) -> None:
            outs = (in_channels, out_channels, out_channels)
            super().__init__(_strided(type(self).__name__, in_channels, outs, dilation, atrous=atrous))


class DeepLab(DeepLabV3Plus):
    """The document's network around any feature extractor.

    Every convolution's weight, including the backbone's, is drawn from the Kaiming normal distribution;
    biases keep the framework's default.

    Shape:
        ``(n, 3, h, w) -> (n, num_classes, h, w)``

    Source:
        The document, ``DeepLab``.

    Clauses:
        DATAFLOW, OUTPUT-RESIZE, OUTPUT-SHAPE, SIZES-ACCEPTED.

    Raises:
        BackboneError: A RuntimeError, if the backbone is not a BackboneModule.
        SpecError: A ValueError, if ``num_classes`` is not positive, or the backbone reports an output
            stride that the pyramid does not have.
    """

    def __init__(self, backbone: BackboneModule, num_classes: int) -> None:
        if not isinstance(backbone, BackboneModule):
            raise BackboneError(type(backbone).__name__)
        super().__init__(
            backbone=backbone,
            aspp=DeepLab.ASPP(in_channels=backbone.out_channels, output_stride=backbone.output_stride),
            decoder=DeepLab.Decoder(low_in_channels=backbone.low_out_channels, num_classes=num_classes),
            output_resize=NOTEBOOK.choices.output_resize,
        )
        draw_all(self, initial(NOTEBOOK.choices, None))

    class ASPP(Aspp):
        """The pyramid; its rates follow the output stride.

        Of output stride 16 they are 6, 12, 18; of 8 twice that.

        Shape:
            ``(n, in_channels, h, w) -> (n, 256, h, w)``

        Source:
            The document, ``DeepLab.ASPP``.

        Clauses:
            ASPP-BRANCHES, ASPP-CONVS, ASPP-POOL, ASPP-PROJECTION, ASPP-RATES.

        Raises:
            SpecError: A ValueError, if the output stride is not allowed; the message names the allowed ones.
        """

        def __init__(self, in_channels: int, output_stride: int = 16) -> None:
            check_output_stride(NOTEBOOK, output_stride)
            super().__init__(aspp_rows(_SINGLE_PART, output_stride, in_channels))

    class Decoder(Decoder):
        """The decoder: projected low-level features, concatenated, and one convolution to the logits.

        Shape:
            ``(n, 256, h, w), (n, low_in_channels, h2, w2) -> (n, num_classes, h2, w2)``

        Source:
            The document, ``DeepLab.Decoder``.

        Clauses:
            DECODER-LOW-LEVEL, DECODER-RESIZE, LOGITS-CONV.

        Raises:
            SpecError: A ValueError, if the number of classes or of low-level channels is not positive.
        """

        def __init__(self, low_in_channels: int, num_classes: int) -> None:
            super().__init__(decoder_rows(_SINGLE_PART, low_in_channels, num_classes))


def _strided(path: str, channels_in: int, outs: tuple[int, int, int], rate: int, *, atrous: bool) -> rows.Block:
    """Return the row of a block that subsamples, or doubles its last rate instead."""
    last_rate = 2 * rate if atrous else rate
    stride = 1 if atrous else 2
    skip = rows.ConvUnit(
        path=f"{path}.skip",
        channels_in=channels_in,
        channels_out=outs[-1],
        stride=stride,
        rate=last_rate,
        bias=True,
        norm=NORM,
        activation=ActivationKind.RELU,
        source=document(f"Xception.{path}"),
    )
    units = _units(path, channels_in, outs, (rate, rate, last_rate), stride=stride)
    return rows.Block(path=path, units=units, skip_kind=rows.SkipKind.CONV, skip=skip)


def _units(
    path: str, channels_in: int, outs: tuple[int, int, int], rates: tuple[int, int, int], *, stride: int
) -> tuple[rows.SeparableUnit, ...]:
    """Return the rows of three separable layers; the last has the stride."""
    return tuple(
        separable_row(
            f"{path}.sepconv{number}",
            (unit_in, unit_out),
            _KERNEL,
            stride=unit_stride,
            rate=rate,
            padding=rate,
            bias=True,
            norm=NORM,
        )
        for number, (unit_in, unit_out, unit_stride, rate) in enumerate(
            zip((channels_in, *outs[:-1]), outs, (1, 1, stride), rates, strict=True), start=1
        )
    )
