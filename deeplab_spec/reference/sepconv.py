"""The atrous separable convolution, and the choice between it and a dense one."""

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.shape import require_map
from deeplab_spec.reference.values import DISCARD, Values
from deeplab_spec.spec import rows


class SeparableUnit(nn.Module):
    """A depthwise convolution for space, then a pointwise one for channels.

    Args:
        row: Both convolutions, and whether a ReLU precedes them.

    Shape:
        ``(n, channels_in, h, w) -> (n, channels_out, h2, w2)``; with the padding that follows
        the rate, ``h2`` is ``ceil(h / stride)``.

    Source:
        arXiv:1802.02611, section 3.1 and section 3.2, changes (2) and (3).

    Clauses:
        SEPCONV-FACTORS, XCEPTION-ACTIVATIONS, XCEPTION-NORMS, XCEPTION-PADDING, XCEPTION-RATES.
    """

    def __init__(self, row: rows.SeparableUnit) -> None:
        super().__init__()
        self.row = row
        self.activation = nn.ReLU() if row.pre_activation else None
        self.depthwise = ConvUnit(row.depthwise)
        self.pointwise = ConvUnit(row.pointwise)

    def forward(self, x: Float[Tensor, "n c_in h w"], values: Values | None = None) -> Float[Tensor, "n c_out h2 w2"]:
        """Apply the layer; ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``x`` is not a batch of maps with ``channels_in`` channels, or the
                kernel does not fit into them.
        """
        values = values or DISCARD
        require_map(x, self.row.depthwise.channels_in, self.row.path)
        if self.activation is not None:
            x = values.keep(f"{self.row.path}.activation", self.activation(x))
        x = self.depthwise(x, values)
        mixed: Tensor = self.pointwise(x, values)
        return mixed


def head_unit(row: rows.HeadUnit) -> ConvUnit | SeparableUnit:
    """Return the module of a row that may be dense or separable."""
    if isinstance(row, rows.ConvUnit):
        return ConvUnit(row)
    return SeparableUnit(row)
