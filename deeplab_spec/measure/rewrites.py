"""Rewrites of a module that compute the same: folded normalisations, atrous convolutions as sums of shifted maps."""

import copy
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import capture
from deeplab_spec.graph.folding import foldable


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy in evaluation mode, with each normalisation folded into its convolution where that is possible.

    It is possible where the normalisation is the only user of the convolution. It is not where either is used
    twice or is a plain function call, or where the class of the normalisation does something else than normalise
    and then run its children.

    Args:
        module: The network.
        example: An input for reading the graph, (n, channels, h, w); the result takes every size.

    Raises:
        CaptureError: If the graph cannot be read.
    """
    result = copy.deepcopy(module).eval()
    captured = capture(result, (example,))
    owners = _owners(captured, result)
    for conv_path, norm_path in foldable(captured.network):
        conv, norm = owners.get(conv_path, ""), owners.get(norm_path, "")
        conv_module, norm_module = result.get_submodule(conv), result.get_submodule(norm)
        if not isinstance(conv_module, nn.Conv2d) or not isinstance(norm_module, nn.BatchNorm2d):
            continue
        rest = _after_norm(norm_module)
        if rest is not None:
            with torch.no_grad():
                result.set_submodule(conv, fuse_conv_bn_eval(conv_module, norm_module))
            result.set_submodule(norm, rest)
    return result


def _after_norm(norm: nn.BatchNorm2d) -> nn.Module | None:
    """Return the children of a normalisation that run in turn after it; None if its class does anything else.

    Some libraries have classes that normalise and activate. A run shows whether the children are everything.
    """
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    rest = nn.Sequential(*norm.children())
    x = torch.randn(2, norm.num_features, 3, 3, generator=torch.Generator().manual_seed(0))
    x = x.to(next(norm.buffers()))
    with torch.no_grad():
        normal = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return rest if torch.equal(norm(x), rest(normal)) else None


def _owners(captured: Capture, module: nn.Module) -> Mapping[str, str]:
    """Return the module that owns each operation's tensors, by path, where no other operation uses that module."""
    names = {path.rpartition(".")[0]: name.rpartition(".")[0] for path, name in captured.parameters.items()}
    used = Counter(names.values())
    tensors = dict(module.named_parameters(remove_duplicate=False))
    places = Counter(map(id, tensors.values()))
    shared = {name.rpartition(".")[0] for name, tensor in tensors.items() if places[id(tensor)] > 1}
    return {path: owner for path, owner in names.items() if used[owner] == 1 and owner not in shared}


class ShiftedDepthwise(nn.Module):
    """A depthwise convolution as one product per tap; it shares the weights.

    In channels_last the libraries compute a depthwise convolution with a rate by a slow general path. A compiler
    turns the sum of products of shifted maps into one loop over channels. On a CPU the engines are faster than
    either.

    Shape:
        As the convolution's.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride = conv.stride
        self.rate = conv.dilation
        self.margins = conv._reversed_padding_repeated_twice  # noqa: SLF001 - also for padding="same"
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
        if isinstance(layer, nn.Conv2d) and _is_atrous_depthwise(layer):
            result.set_submodule(name, ShiftedDepthwise(layer))
    return result


def _is_atrous_depthwise(conv: nn.Conv2d) -> bool:
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    return depthwise and max(conv.dilation) > 1 and conv.padding_mode == "zeros"
