"""The layers of the source document under its own names and constructor arguments.

Each class builds its row from the arguments; the base class realises it. Initial weights have the framework's
default distribution.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplab_spec.graph.ops import ActivationKind, margins
from deeplab_spec.reference.conv import ConvUnit, SeparableUnit
from deeplab_spec.spec import rows
from deeplab_spec.spec.layer_choices import backbone_norm
from deeplab_spec.spec.sources import document
from deeplab_spec.spec.variants import NOTEBOOK

NORM: Final = backbone_norm(NOTEBOOK.choices)
"""The normalisation of every layer of the document."""

_BATCHNORM_OPTS: Final = MappingProxyType({"eps": NORM.eps, "momentum": NORM.momentum})
_IDENTITY: Final = nn.Identity()


def separable_row(
    path: str,
    channels: tuple[int, int],
    kernel: int,
    *,
    stride: int,
    rate: int,
    padding: int,
    bias: bool,
    norm: rows.Norm | None,
) -> rows.SeparableUnit:
    """Return the row of a separable convolution of the document.

    ``channels`` are those of input and output. The pointwise convolution always has a bias; ``norm`` is the
    normalisation of both convolutions, each followed by a ReLU, or None for neither.
    """
    channels_in, channels_out = channels
    depthwise = rows.ConvUnit(
        path=f"{path}.depthwise",
        channels_in=channels_in,
        channels_out=channels_in,
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=margins(padding),
        groups=channels_in,
        bias=bias,
        norm=norm,
        activation=ActivationKind.RELU if norm else None,
        source=document("SeparableConv2d"),
    )
    pointwise = rows.ConvUnit(
        path=f"{path}.pointwise",
        channels_in=channels_in,
        channels_out=channels_out,
        bias=True,
        norm=norm,
        activation=ActivationKind.RELU if norm else None,
        source=document("SeparableConv2d"),
    )
    return rows.SeparableUnit(path=path, depthwise=depthwise, pointwise=pointwise)


class Conv2dLayer(ConvUnit):
    """Convolution, batch normalisation and ReLU.

    ``batchnorm_opts`` are ``eps`` and ``momentum`` of the normalisation, which cancels the bias.

    Shape:
        ``(n, in_channels, h, w) -> (n, out_channels, h2, w2)``

    Source:
        The document, ``Conv2dLayer``.

    Clauses:
        BACKBONE-BIAS, BACKBONE-NORM-EPS, XCEPTION-ACTIVATIONS, XCEPTION-NORMS.

    Raises:
        SpecError: If a number is not positive, or stride and dilation both exceed 1 on a
            kernel of more than one tap.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        groups: int = 1,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002 - the document's signature
        batchnorm_opts: Mapping[str, float] = _BATCHNORM_OPTS,
    ) -> None:
        row = rows.ConvUnit(
            path=type(self).__name__,
            channels_in=in_channels,
            channels_out=out_channels,
            kernel=kernel_size,
            stride=stride,
            rate=dilation,
            padding=margins(padding),
            groups=groups,
            bias=bias,
            norm=rows.Norm(**batchnorm_opts),
            activation=ActivationKind.RELU,
            source=document("Conv2dLayer"),
        )
        super().__init__(row)


class SeparableConv2d(SeparableUnit):
    """A depthwise, then a pointwise convolution, without layers between or after them.

    ``bias`` is that of the depthwise convolution; the pointwise one always has one (an erratum of the document).

    Shape:
        ``(n, in_channels, h, w) -> (n, out_channels, h2, w2)``

    Source:
        The document, ``SeparableConv2d``.

    Clauses:
        SEPCONV-FACTORS.

    Raises:
        SpecError: If a number is not positive, or stride and dilation both exceed 1 on a
            kernel of more than one tap.
    """

    _norm: ClassVar[rows.Norm | None] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002 - the document's signature
    ) -> None:
        row = separable_row(
            type(self).__name__,
            (in_channels, out_channels),
            kernel_size,
            stride=stride,
            rate=dilation,
            padding=padding,
            bias=bias,
            norm=self._norm,
        )
        super().__init__(row)


class SeparableConv2dLayer(SeparableConv2d):
    """A depthwise, then a pointwise convolution, each with batch normalisation and ReLU.

    Shape:
        ``(n, in_channels, h, w) -> (n, out_channels, h2, w2)``

    Source:
        The document, ``SeparableConv2dLayer``.

    Clauses:
        SEPCONV-FACTORS, XCEPTION-ACTIVATIONS, XCEPTION-NORMS.

    Raises:
        SpecError: If a number is not positive, or stride and dilation both exceed 1 on a
            kernel of more than one tap.
    """

    _norm: ClassVar[rows.Norm | None] = NORM


class SkipBlock(nn.Module):
    """Two paths from one input, combined by a function.

    The skip is by default the identity, one object for all blocks. The document's default of the function is
    ``torch.cat``, which rejects two tensors (an erratum): pass another function.

    Shape:
        As the paths and the function return.

    Source:
        The document, ``SkipBlock``.

    Clauses:
        SKIP-INPUT.
    """

    def __init__(
        self, main_path: nn.Module, skip_path: nn.Module = _IDENTITY, aggregator: Callable[..., Tensor] = torch.cat
    ) -> None:
        super().__init__()
        self.main_path = main_path
        self.skip_path = skip_path
        self.aggregator = aggregator

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply both paths.

        Raises:
            TypeError: If the function does not accept two tensors; the default does not.
        """
        main = self.main_path(x)
        skip = self.skip_path(x)
        return self.aggregator(main, skip)
