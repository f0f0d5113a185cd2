"""The decoder: computes the logits from the pyramid's output and the low-level features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.errors import ShapeError
from deeplab_spec.reference.block import last_name
from deeplab_spec.reference.conv import ConvUnit, head_unit
from deeplab_spec.reference.forward import DISCARD, Values, require_batch, require_map, resize
from deeplab_spec.spec import rows


class Decoder(nn.Module):
    """Refines the pyramid's output with low-level features, if the rows have them.

    Shape:
        ``(n, channels, h, w), (n, low_channels, h2, w2) -> (n, classes, h2, w2)``; without
        low-level features ``h2, w2`` are ``h, w``. If the logits follow the final resize, the result has
        their input channels.

    Source:
        arXiv:1802.02611, figure 2 and section 3.2.

    Clauses:
        DECODER-CONVS, DECODER-LOW-LEVEL, DECODER-RESIZE, DECODER-UNITS, LOGITS-CONV, VALUES-DECODER.
    """

    def __init__(self, table: rows.DecoderRows) -> None:
        super().__init__()
        self.rows = table
        self.low_level = ConvUnit(table.low_level) if table.low_level else None
        self.dropouts = nn.ModuleDict()
        for row, dropout in zip(table.convs, table.dropouts, strict=True):
            self.add_module(last_name(row.path), head_unit(row))
            if dropout:
                self.dropouts[last_name(row.path)] = nn.Dropout(dropout)
        self.logits = ConvUnit(table.logits)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        low_level: Float[Tensor, "n c_low h2 w2"] | None = None,
        values: Values | None = None,
    ) -> Float[Tensor, "n c_out h3 w3"]:
        """Apply the decoder.

        Low-level features are ignored if the rows have none; ``values`` collects intermediate values.

        Raises:
            ShapeError: If an input is not a batch of maps with the channels of the rows, or the
                batch sizes differ.
        """
        values = values or DISCARD
        require_map(x, channels_in(self.rows), "decoder")
        if self.low_level is not None:
            x = self._concat(self.low_level, x, low_level, values)
        for row in self.rows.convs:
            name = last_name(row.path)
            x = self.get_submodule(name)(x, values)
            if name in self.dropouts:
                x = values.keep(f"{row.path}.dropout", self.dropouts[name](x))
        if not self.rows.logits_after_resize:
            x = self.logits(x, values)
        return x

    def _concat(self, projection: ConvUnit, x: Tensor, low_level: Tensor | None, values: Values) -> Tensor:
        if low_level is None:
            raise ShapeError("decoder.low_level", ("n", projection.row.channels_in, "h", "w"), ())
        require_batch(low_level, x.shape[0], "decoder.low_level")
        low = projection(low_level, values)
        x = values.keep("decoder.resize", resize(x, low, self.rows.resize))
        pair = (low, x) if self.rows.low_first else (x, low)
        return values.keep("decoder.concat", torch.cat(pair, dim=1))


def channels_in(table: rows.DecoderRows) -> int:
    """Return the channels of the pyramid's output that a decoder reads."""
    first = rows.first_conv((*table.convs, table.logits)[0])
    return first.channels_in - (table.low_level.channels_out if table.low_level else 0)
