"""Atrous depthwise convolutions as sums of shifted maps.

In channels_last the libraries compute a depthwise convolution with a rate by a slow general path. As a
sum of products of shifted maps, one per tap, a compiler makes one loop over channels of it. On a processor
the engines are faster than either; on a GPU it has not been measured.
"""

import copy

from torch import Tensor, nn
from torch.nn import functional


class ShiftedDepthwise(nn.Module):
    """A depthwise convolution, written as one product per tap.

    Args:
        conv: The convolution; its weights are shared.

    Shape:
        As the convolution's.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride = conv.stride
        self.rate = conv.dilation
        self.margins = conv._reversed_padding_repeated_twice  # noqa: SLF001 - also of padding="same"
        self.kernel = conv.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        x = functional.pad(x, self.margins)
        height, width = (
            (side - rate * (taps - 1) - 1) // step + 1
            for side, rate, taps, step in zip(x.shape[2:], self.rate, self.kernel, self.stride, strict=True)
        )
        products = []
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.rate[0], column * self.rate[1]
                part = x[
                    :,
                    :,
                    top : top + (height - 1) * self.stride[0] + 1 : self.stride[0],
                    left : left + (width - 1) * self.stride[1] + 1 : self.stride[1],
                ]
                products.append(part * self.weight[:, 0, row, column].view(1, -1, 1, 1))
        first, *others = products
        return sum(others, first if self.bias is None else first + self.bias.view(1, -1, 1, 1))


def shifted(module: nn.Module) -> nn.Module:
    """Return a copy in which every atrous depthwise convolution is a sum of shifted maps."""
    result = copy.deepcopy(module)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, nn.Conv2d) and _applies(layer):
            result.set_submodule(name, ShiftedDepthwise(layer))
    return result


def _applies(conv: nn.Conv2d) -> bool:
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    return depthwise and max(conv.dilation) > 1 and conv.padding_mode == "zeros"
