"""The second head: logits of a value inside the backbone."""

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.forward import DISCARD, Values
from deeplab_spec.spec import rows


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
