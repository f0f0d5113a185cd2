"""Folds normalisations into convolutions, wherever the graph allows it."""

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
    """Return a copy in evaluation, with every normalisation that alone reads a convolution folded into it.

    A normalisation stays where it, or its convolution, is used twice, or is a plain function call, or where its
    class does something else than normalise and then run its children.

    Args:
        module: The network.
        example: An input that the graph is read with; the result takes every size.

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
        rest = _behind_norm(norm_module)
        if rest is not None:
            with torch.no_grad():
                result.set_submodule(conv, fuse_conv_bn_eval(conv_module, norm_module))
            result.set_submodule(norm, rest)
    return result


def _behind_norm(norm: nn.BatchNorm2d) -> nn.Module | None:
    """Return what a normalisation's class does after it normalises: its children in turn, if that is all it does.

    Some libraries have classes that normalise and activate. Whether the children are all is seen by running it.
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
    """Return the module that each operation's tensors belong to, where no other operation uses it."""
    names = {path.rpartition(".")[0]: name.rpartition(".")[0] for path, name in captured.parameters.items()}
    used = Counter(names.values())
    tensors = dict(module.named_parameters(remove_duplicate=False))
    held = Counter(map(id, tensors.values()))
    shared = {name.rpartition(".")[0] for name, tensor in tensors.items() if held[id(tensor)] > 1}
    return {path: owner for path, owner in names.items() if used[owner] == 1 and owner not in shared}
