"""Convolutions with their normalisation and ReLU, dense or separable, and the distributions of initial weights."""

import math
from collections.abc import Mapping
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.graph.ops import ActivationKind, PoolKind
from deeplab_spec.reference.forward import DISCARD, Side, Values, require_map, require_sides
from deeplab_spec.spec import rows
from deeplab_spec.spec.rows import Init, InitKind


class ConvUnit(nn.Module):
    """Convolution, then batch normalisation and ReLU if the row has them.

    Shape:
        ``(n, channels_in, h, w) -> (n, channels_out, h2, w2)``; with the padding that follows
        the rate, ``h2`` is ``ceil(h / stride)``.

    Source:
        arXiv:1802.02611, figure 4; each row names its own.

    Clauses:
        BACKBONE-BIAS, BACKBONE-NORM-EPS, HEAD-BIAS, HEAD-NORM-EPS, STEM-CONVS.
    """

    def __init__(self, row: rows.ConvUnit) -> None:
        super().__init__()
        self.row = row
        self.conv = nn.Conv2d(
            row.channels_in,
            row.channels_out,
            kernel_size=row.kernel,
            stride=row.stride,
            padding=_symmetric(row) or 0,
            dilation=row.rates,
            groups=row.groups,
            bias=row.bias,
        )
        self.norm = batch_norm(row.norm, row.channels_out) if row.norm else None
        self.activation = activation(row.activation)
        draw(self.conv, row.init)

    def forward(self, x: Float[Tensor, "n c_in h w"], values: Values | None = None) -> Float[Tensor, "n c_out h2 w2"]:
        """Apply the layer; ``values`` collects intermediate values.

        Raises:
            ShapeError: If ``x`` is not a batch of maps with ``channels_in`` channels, or the
                kernel does not fit into them.
        """
        values = values or DISCARD
        require_map(x, self.row.channels_in, self.row.path)
        x = self._pad(x)
        x = values.keep(f"{self.row.path}.conv", self.conv(x))
        if self.norm is not None:
            x = values.keep(f"{self.row.path}.norm", self.norm(x))
        if self.activation is not None:
            x = values.keep(f"{self.row.path}.activation", self.activation(x))
        return x

    def _pad(self, x: Tensor) -> Tensor:
        """Add the margins that the convolution itself does not add."""
        tall, wide = extents(self.row)
        if self.row.padding == "same":
            top, bottom = same_margins(tall, self.row.stride, x.shape[2])
            left, right = same_margins(wide, self.row.stride, x.shape[3])
        else:
            top, bottom, left, right = self.row.padding
            require_sides(x, max(tall - top - bottom, wide - left - right), self.row.path)
            if _symmetric(self.row) is not None:
                return x
        return functional.pad(x, (left, right, top, bottom))


class PoolUnit(nn.Module):
    """A pooling window.

    Shape:
        ``(n, channels, h, w) -> (n, channels, h2, w2)``; in the stem, ``h2`` is ``ceil(h / stride)``.

    Source:
        arXiv:1512.03385, table 1.

    Clauses:
        BACKBONE-POOLING.
    """

    def __init__(self, row: rows.PoolUnit) -> None:
        super().__init__()
        self.row = row

    def forward(self, x: Float[Tensor, "n c h w"], values: Values | None = None) -> Float[Tensor, "n c h2 w2"]:
        """Apply the window; ``values`` collects intermediate values."""
        op = self.row.op
        if op.padding == "same":
            top, bottom = same_margins(op.kernel[0], op.stride[0], x.shape[2])
            left, right = same_margins(op.kernel[1], op.stride[1], x.shape[3])
            x = functional.pad(x, (left, right, top, bottom), value=-math.inf)
        margins = (0, 0) if op.padding == "same" else (op.padding[0], op.padding[2])
        if op.kind is PoolKind.MAX:
            pooled = functional.max_pool2d(x, op.kernel, op.stride, margins, ceil_mode=op.ceil_mode)
        else:
            pooled = functional.avg_pool2d(
                x, op.kernel, op.stride, margins, ceil_mode=op.ceil_mode, count_include_pad=op.count_margin
            )
        return (values or DISCARD).keep(self.row.path, pooled)


def activation(kind: ActivationKind | None) -> nn.Module | None:
    """Return the module of an activation; None if there is none."""
    return _ACTIVATIONS[kind]() if kind else None


_ACTIVATIONS: Final[Mapping[ActivationKind, type[nn.Module]]] = {
    ActivationKind.RELU: nn.ReLU,
    ActivationKind.RELU6: nn.ReLU6,
    ActivationKind.HARDSWISH: nn.Hardswish,
    ActivationKind.HARDSIGMOID: nn.Hardsigmoid,
}


def batch_norm(norm: rows.Norm, channels: int) -> nn.BatchNorm2d:
    """Return the normalisation of a row."""
    return nn.BatchNorm2d(channels, eps=norm.eps, momentum=norm.momentum)


def extents(row: rows.ConvUnit) -> tuple[int, int]:
    """Return the pixels from the first tap of a kernel to its last, both included, vertically and horizontally."""
    vertical, horizontal = row.rates
    return vertical * (row.kernel - 1) + 1, horizontal * (row.kernel - 1) + 1


def same_margins(extent: int, stride: int, side: Side) -> tuple[Side, Side]:
    """Return the pixels before and after one side under the rule ``same``.

    ``extent`` is the pixels from the first tap of the window to its last, both included.
    """
    positions = (side + stride - 1) // stride  # not -(-side // stride), which the TorchScript exporter rounds towards 0
    total = max((positions - 1) * stride + extent - side, 0)
    return total // 2, total - total // 2


def _symmetric(row: rows.ConvUnit) -> tuple[int, int] | None:
    """Return the padding as an argument of ``nn.Conv2d``; None if it cannot be expressed."""
    if row.padding == "same":
        return None
    top, bottom, left, right = row.padding
    return (top, left) if (top, left) == (bottom, right) else None


TRUNCATED_AT = 2.0
"""Standard deviations at which the release truncates its normal distribution."""

VARIANCE = 1.3
"""Factor with which the release's framework corrects the variance of a truncated normal distribution."""


def draw(conv: nn.Conv2d, init: Init) -> None:
    """Draw the weight of a convolution, in place.

    The framework's own distribution leaves the weight of a new convolution unchanged.
    """
    match init.kind:
        case InitKind.KAIMING_FAN_IN:
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
        case InitKind.KAIMING_FAN_OUT:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        case InitKind.TRUNCATED_NORMAL:
            cut = TRUNCATED_AT * init.std
            nn.init.trunc_normal_(conv.weight, std=init.std, a=-cut, b=cut)
        case InitKind.KAIMING_UNIFORM:
            nn.init.kaiming_uniform_(conv.weight, mode="fan_in", nonlinearity="relu")
        case InitKind.VARIANCE_SCALING:
            fan_in = conv.weight[0].numel()
            std = math.sqrt(VARIANCE * 2 / fan_in)
            nn.init.trunc_normal_(conv.weight, std=std, a=-TRUNCATED_AT * std, b=TRUNCATED_AT * std)
        case InitKind.NORMAL:
            nn.init.normal_(conv.weight, std=init.std)
        case InitKind.XAVIER_UNIFORM:
            nn.init.xavier_uniform_(conv.weight)
        case InitKind.FRAMEWORK:
            pass
    if init.zero_bias and conv.bias is not None:
        nn.init.zeros_(conv.bias)


def draw_all(module: nn.Module, init: Init) -> None:
    """Draw every convolution of a module, and make every normalisation the identity, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            draw(layer, init)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


class SeparableUnit(nn.Module):
    """A depthwise convolution for space, then a pointwise one for channels.

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
