"""The assembled network with its second head, and how to build one by name."""

from collections.abc import Mapping
from html import escape

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.aspp import Aspp
from deeplab_spec.reference.backbone import Backbone, BackboneModule
from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.decoder import Decoder
from deeplab_spec.reference.forward import DISCARD, Values, require_multiple, resize
from deeplab_spec.spec import rows
from deeplab_spec.spec.api import Override, table
from deeplab_spec.spec.choices import Interpolation, OutputResize
from deeplab_spec.spec.network import DEFAULT_CLASSES


class Auxiliary(nn.Module):
    """A 3x3 convolution, a dropout, and a convolution to one channel per class.

    ``tap`` is the path of the value that it reads.

    Shape:
        ``(n, channels, h, w) -> (n, classes, h, w)``

    Source:
        torchvision, ``FCNHead``.

    Clauses:
        AUXILIARY-HEAD.
    """

    def __init__(self, table: rows.AuxiliaryRows, tap: str) -> None:
        super().__init__()
        self.tap = tap
        self.conv = ConvUnit(table.conv)
        self.dropout = nn.Dropout(table.dropout)
        self.logits = ConvUnit(table.logits)

    def forward(self, x: Float[Tensor, "n c h w"], values: Values | None = None) -> Float[Tensor, "n classes h w"]:
        """Apply the head; ``values`` collects intermediate values."""
        values = values or DISCARD
        dropped = values.keep("auxiliary.dropout", self.dropout(self.conv(x, values)))
        logits: Tensor = self.logits(dropped, values)
        return logits


class DeepLabV3Plus(nn.Module):
    """Backbone, pyramid and decoder, and the logits at the size of the image.

    Shape:
        ``(n, channels, h, w) -> (n, classes, h, w)``; a dictionary of ``logits`` and ``auxiliary`` if
        results have names; without an output resize the logits have the decoder's size.

    Source:
        arXiv:1802.02611, figure 2.

    Clauses:
        DATAFLOW, OUTPUT-RESIZE, OUTPUT-SHAPE, SIZES-ACCEPTED, VALUES-END-TO-END.
    """

    def __init__(
        self,
        backbone: BackboneModule,
        aspp: Aspp,
        decoder: Decoder,
        output_resize: OutputResize,
        auxiliary: Auxiliary | None = None,
        *,
        named_results: bool = False,
        size_multiple: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = aspp
        self.decoder = decoder
        self.output_resize = output_resize
        self.auxiliary = auxiliary
        self.named_results = named_results
        self.size_multiple = size_multiple

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {type(part).__name__}, {sum(tensor.numel() for tensor in part.parameters()):,} parameters"
            for name, part in self.named_children()
        ]
        return "\n".join(["DeepLabV3Plus(", *lines, ")"])

    def _repr_html_(self) -> str:
        """Return the parts and their parameters for a notebook."""
        return f"<pre>{escape(repr(self))}</pre>"

    @property
    def head(self) -> "Head":
        """Pyramid and decoder, with this network's weights."""
        return Head(self.aspp, self.decoder)

    def forward(
        self, image: Float[Tensor, "n c h w"], values: Values | None = None
    ) -> Float[Tensor, "n classes h2 w2"] | dict[str, Tensor]:
        """Return the logits of every pixel; with a second head, those of both by name.

        ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``image`` is not a batch of images with the channels that the
                backbone reads, or its size is not legal.
        """
        values = values or DISCARD
        third = Values(*([self.auxiliary.tap] if self.auxiliary else []), outer=values)
        features, low_level = self._extract(image, third)
        x = values.keep("aspp", self.aspp(features, values))
        x = values.keep("decoder", self.decoder(x, low_level, values))
        x = self._resized("output.resize", x, image, values)
        if self.decoder.rows.logits_after_resize:
            x = self.decoder.logits(x, values)
        results = {"logits": values.keep("logits", x)}
        if self.auxiliary is not None:
            second = self.auxiliary(third[self.auxiliary.tap], values)
            results["auxiliary"] = self._resized("auxiliary.resize", second, image, values)
        return results if self.named_results or len(results) > 1 else x

    def _resized(self, path: str, x: Tensor, image: Tensor, values: Values) -> Tensor:
        if self.output_resize is OutputResize.NONE:
            return x
        return values.keep(path, resize(x, image, Interpolation(self.output_resize)))

    def intermediate(self, image: Float[Tensor, "n c h w"], *paths: str) -> dict[str, Tensor]:
        """Return values from inside a forward pass.

        Args:
            image: A batch of images.
            paths: Paths of nodes, e.g. ``aspp.concat``, or the public names ``low_level``,
                ``backbone``, ``aspp``, ``decoder`` and ``logits``; without any, every value.

        Returns:
            The values by path, in the order in which they were computed.

        Raises:
            KeyError: If the network computes no value of one of the names.
            ShapeError: As for a forward pass.
        """
        values = Values(*paths) if paths else Values.everything()
        self(image, values)
        for path in paths:
            values[path]
        return values.kept

    def _extract(self, image: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        if self.size_multiple > 1:
            require_multiple(image, self.size_multiple, "network")
        collectors = (values,) if isinstance(self.backbone, Backbone) else ()
        features, low_level = self.backbone(image, *collectors)
        values.keep("low_level", low_level)
        values.keep("backbone", features)
        return features, low_level


class Head(nn.Module):
    """Pyramid and decoder, for the features of any backbone.

    Shape:
        ``(n, channels, h, w), (n, low_channels, h2, w2) -> (n, classes, h2, w2)``

    Source:
        arXiv:1802.02611, figure 2.

    Clauses:
        DATAFLOW.
    """

    def __init__(self, aspp: Aspp, decoder: Decoder) -> None:
        super().__init__()
        self.aspp = aspp
        self.decoder = decoder

    def forward(
        self, features: Float[Tensor, "n c h w"], low_level: Float[Tensor, "n c_low h2 w2"] | None = None
    ) -> Float[Tensor, "n classes h3 w3"]:
        """Return the logits at the decoder's size.

        Raises:
            ShapeError: If an input is not a batch of maps with the channels of the rows, or the batch sizes differ.
        """
        logits: Tensor = self.decoder(self.aspp(features), low_level)
        return logits


def assemble(network: rows.NetworkRows) -> DeepLabV3Plus:
    """Return the module that realises a network's rows."""
    return DeepLabV3Plus(
        backbone=Backbone(network.backbone),
        aspp=Aspp(network.aspp),
        decoder=Decoder(network.decoder),
        output_resize=network.output_resize,
        auxiliary=Auxiliary(network.auxiliary, network.backbone.auxiliary) if network.auxiliary else None,
        named_results=network.named_results,
        size_multiple=network.size_multiple,
    )


def build(
    variant: str,
    output_stride: int = 16,
    num_classes: int = DEFAULT_CLASSES,
    choices: Mapping[str, Override] | None = None,
) -> DeepLabV3Plus:
    """Build a published network.

    Args:
        variant: Its name, e.g. ``notebook`` or ``tf-release``.
        output_stride: Input pixels per pixel of the backbone's features.
        num_classes: Channels of the logits.
        choices: Choices that differ from the variant's, by name; values as on the command line or of the
            choice's own type.

    Raises:
        SpecError: A ValueError, if the variant is unknown or has no such output stride, ``num_classes`` is
            not positive, or a choice cannot have its value.
    """
    return assemble(table(variant, output_stride, num_classes, choices))
