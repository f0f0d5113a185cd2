"""Backbones: a stem, then blocks, as the rows say."""

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.block import Block
from deeplab_spec.reference.conv import ConvUnit, PoolUnit
from deeplab_spec.reference.forward import DISCARD, Values, require_map
from deeplab_spec.spec import rows


class BackboneModule(nn.Module):
    """The interface of a feature extractor; its forward pass returns features and low-level features.

    ``output_stride`` is the number of input pixels per pixel of the features, as reported to the head.
    """

    def __init__(self, output_stride: int, out_channels: int, low_out_channels: int) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.out_channels = out_channels
        self.low_out_channels = low_out_channels


class Backbone(BackboneModule):
    """A stem and a chain of blocks: the modified aligned Xception, a residual or a mobile network.

    The module tree has the paths of the rows. It is the same at every output stride, and so are the names of the
    weights.

    Shape:
        ``(n, channels_in, h, w) -> (n, out_channels, h2, w2), (n, low_out_channels, h3, w3)``;
        ``h2`` is ``ceil(h / output_stride)``.

    Source:
        arXiv:1802.02611, figure 4 and section 3.2; arXiv:1512.03385, table 1; arXiv:1801.04381, table 2.

    Clauses:
        EXIT2-RATES, LOW-LEVEL-TAP, STEM-CONVS, VALUES-BACKBONE, XCEPTION-CHANNELS, XCEPTION-LAYERS.
    """

    def __init__(self, table: rows.BackboneRows) -> None:
        super().__init__(
            output_stride=table.reported_output_stride,
            out_channels=table.channels_out,
            low_out_channels=table.low_level_channels,
        )
        self.rows = table
        self._layers = tuple(row.path.removeprefix("backbone.") for row in (*table.stem, *table.blocks))
        for path, row in zip(self._layers, (*table.stem, *table.blocks), strict=True):
            _add(self, path, _layer(row))

    def forward(
        self, image: Float[Tensor, "n c h w"], values: Values | None = None
    ) -> tuple[Float[Tensor, "n c_out h2 w2"], Float[Tensor, "n c_low h3 w3"]]:
        """Return the features, and the low-level features that the decoder reads.

        Raises:
            ShapeError: If ``image`` is not a batch of images with ``channels_in`` channels.
        """
        values = values or DISCARD
        require_map(image, self.rows.channels_in, "backbone")
        tapped = Values(self.rows.low_level, outer=values)
        x = image
        for path in self._layers:
            x = self.get_submodule(path)(x, tapped)
        return x, tapped[self.rows.low_level]


def _layer(row: rows.ConvUnit | rows.PoolUnit | rows.Block) -> nn.Module:
    if isinstance(row, rows.ConvUnit):
        return ConvUnit(row)
    return PoolUnit(row) if isinstance(row, rows.PoolUnit) else Block(row)


def _add(parent: nn.Module, path: str, layer: nn.Module) -> None:
    """Add a layer at a dotted path."""
    name, dot, rest = path.partition(".")
    if not dot:
        parent.add_module(name, layer)
        return
    if name not in parent._modules:  # noqa: SLF001 - a module dictionary has methods of such names
        parent.add_module(name, nn.ModuleDict())
    _add(parent.get_submodule(name), rest, layer)
