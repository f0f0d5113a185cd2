"""A block of the backbone: a chain of convolutions, a gate in some, and a skip around them."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.reference.conv import ConvUnit, PoolUnit, activation, batch_norm, head_unit
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


class Block(nn.Module):
    """A chain of convolutions, with a skip from the block's input to a sum at its end.

    Shape:
        ``(n, channels_in, h, w) -> (n, channels_out, ceil(h / stride), ceil(w / stride))``,
        where ``stride`` is the last unit's.

    Source:
        arXiv:1802.02611, figure 4; arXiv:1512.03385, figure 5; arXiv:1801.04381, figure 3.

    Clauses:
        SKIP-INPUT, SKIP-UNIT, XCEPTION-LAYERS, XCEPTION-STRIDES, XCEPTION-UNSTRIDED-RATE.
    """

    def __init__(self, row: rows.Block) -> None:
        super().__init__()
        self.row = row
        self.norm = batch_norm(row.norm, row.channels_in) if row.norm else None
        self.activation = nn.ReLU() if row.activation else None
        for unit in row.units:
            module = GateUnit(unit) if isinstance(unit, rows.GateUnit) else head_unit(unit)
            self.add_module(last_name(unit.path), module)
        self.skip_pool = PoolUnit(row.skip_pool) if row.skip_pool else None
        self.skip = ConvUnit(row.skip) if row.skip else None
        self.after = activation(row.after)

    @property
    def units(self) -> Iterator[nn.Module]:
        """The units of the main path, in order."""
        return (self.get_submodule(last_name(unit.path)) for unit in self.row.units)

    def forward(self, x: Float[Tensor, "n c_in h w"], values: Values | None = None) -> Float[Tensor, "n c_out h2 w2"]:
        """Apply the block; ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``x`` is not a batch of maps with ``channels_in`` channels, or a
                kernel does not fit into them.
        """
        values = values or DISCARD
        require_map(x, self.row.channels_in, self.row.path)
        if self.norm is not None:
            x = values.keep(f"{self.row.path}.norm", self.norm(x))
        if self.activation is not None:
            x = values.keep(f"{self.row.path}.activation", self.activation(x))
        activated = f"{self.row.units[0].path}.activation"
        inside = Values(activated, outer=values) if self.row.skip_reads_activation else values
        main = x
        for unit in self.units:
            main = unit(main, inside)
        if self.row.skip_kind is rows.SkipKind.NONE:
            return main
        skip = inside[activated] if self.row.skip_reads_activation else x
        if self.skip_pool is not None:
            skip = self.skip_pool(skip, values)
        if self.skip is not None:
            skip = self.skip(skip, values)
        x = values.keep(f"{self.row.path}.add", main + skip)
        return x if self.after is None else values.keep(f"{self.row.path}.activation", self.after(x))


def last_name(path: str) -> str:
    """Return the last name of a dotted path.

    >>> last_name("backbone.entry_flow.block1")
    'block1'
    """
    return path.rpartition(".")[2]
