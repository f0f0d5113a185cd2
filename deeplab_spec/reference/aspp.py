"""Atrous spatial pyramid pooling."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.reference.block import last_name
from deeplab_spec.reference.conv import ConvUnit, head_unit
from deeplab_spec.reference.forward import DISCARD, Values, require_map, resize
from deeplab_spec.spec import rows


class Aspp(nn.Module):
    """Parallel branches of several rates and a global average, concatenated and projected.

    Shape:
        ``(n, channels_in, h, w) -> (n, channels_out, h, w)``

    Source:
        arXiv:1706.05587, section 3.3.

    Clauses:
        ASPP-BRANCHES, ASPP-CONVS, ASPP-POOL, ASPP-PROJECTION, ASPP-RATES, ASPP-UNITS, VALUES-ASPP.
    """

    def __init__(self, table: rows.AsppRows) -> None:
        super().__init__()
        self.rows = table
        self.conv1x1 = ConvUnit(table.conv1x1) if table.conv1x1 else None
        for row in table.atrous:
            self.add_module(last_name(row.path), head_unit(row))
        self.pool = ConvUnit(table.pool) if table.pool else None
        self.projection = ConvUnit(table.projection)
        self.refinement = head_unit(table.refinement) if table.refinement else None
        self.dropout = nn.Dropout(table.dropout) if table.dropout else None

    def forward(self, x: Float[Tensor, "n c_in h w"], values: Values | None = None) -> Float[Tensor, "n c_out h w"]:
        """Apply the pyramid to the backbone's features; ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``x`` is not a batch of maps with ``channels_in`` channels, or a
                kernel does not fit into them.
        """
        values = values or DISCARD
        require_map(x, self.rows.channels_in, "aspp")
        x = values.keep("aspp.concat", torch.cat(self._branches(x, values), dim=1))
        if self.rows.dropout_first:
            x = self._dropped(x, values)
        x = self.projection(x, values)
        if not self.rows.dropout_first:
            x = self._dropped(x, values)
        return x if self.refinement is None else self.refinement(x, values)

    def _branches(self, x: Tensor, values: Values) -> list[Tensor]:
        local = [] if self.conv1x1 is None else [self.conv1x1(x, values)]
        atrous: list[Tensor] = []
        for row, source in zip(self.rows.atrous, self.rows.inputs, strict=True):
            branch = self.get_submodule(last_name(row.path))
            atrous.append(branch(x if source is None else atrous[source], values))
        pooled = [] if self.pool is None else [self._pooled(self.pool, x, values)]
        return [*pooled, *local, *atrous] if self.rows.pool_first else [*local, *atrous, *pooled]

    def _dropped(self, x: Tensor, values: Values) -> Tensor:
        return x if self.dropout is None else values.keep("aspp.dropout", self.dropout(x))

    def _pooled(self, pool: ConvUnit, x: Tensor, values: Values) -> Tensor:
        pooled = values.keep("aspp.pool.average", functional.adaptive_avg_pool2d(x, 1))
        pooled = pool(pooled, values)
        return values.keep("aspp.pool.resize", resize(pooled, x, self.rows.pool_resize))
