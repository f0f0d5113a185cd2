"""A gate: every channel times a factor that is computed from the means of all channels."""

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.forward import DISCARD, Values, require_map
from deeplab_spec.spec import rows


class GateUnit(nn.Module):
    """Squeeze and excitation: the mean of every channel, two 1x1 convolutions, and the product with the map.

    Shape:
        ``(n, channels, h, w) -> (n, channels, h, w)``.

    Source:
        arXiv:1709.01507, section 3; arXiv:1905.02244, section 5.3.

    Clauses:
        BACKBONE-LAYERS, BACKBONE-ACTIVATIONS.
    """

    def __init__(self, row: rows.GateUnit) -> None:
        super().__init__()
        self.row = row
        self.average = nn.AdaptiveAvgPool2d(1)
        self.squeeze = ConvUnit(row.squeeze)
        self.excite = ConvUnit(row.excite)

    def forward(self, x: Float[Tensor, "n c h w"], values: Values | None = None) -> Float[Tensor, "n c h w"]:
        """Apply the gate; ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``x`` is not a batch of maps with the row's channels.
        """
        values = values or DISCARD
        require_map(x, self.row.squeeze.channels_in, self.row.path)
        means = values.keep(f"{self.row.path}.average", self.average(x))
        factor = self.excite(self.squeeze(means, values), values)
        return values.keep(f"{self.row.path}.multiply", x * factor)
