"""Folds normalisations into convolutions, wherever the graph allows it."""

import copy
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplab_spec.capture.module import capture
from deeplab_spec.capture.record import Capture
from deeplab_spec.graph.folding import foldable


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy in evaluation, with every normalisation that alone reads a convolution folded into it.

    A normalisation stays where it, or its convolution, is used twice, or is a plain function call, or where its
    class may do more than normalise.

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
        if isinstance(conv_module, nn.Conv2d) and type(norm_module) is nn.BatchNorm2d:
            with torch.no_grad():
                result.set_submodule(conv, fuse_conv_bn_eval(conv_module, norm_module))
            result.set_submodule(norm, nn.Identity())
    return result


def _owners(captured: Capture, module: nn.Module) -> Mapping[str, str]:
    """Return the module that each operation's tensors belong to, where no other operation uses it."""
    names = {path.rpartition(".")[0]: name.rpartition(".")[0] for path, name in captured.parameters.items()}
    used = Counter(names.values())
    tensors = dict(module.named_parameters(remove_duplicate=False))
    held = Counter(map(id, tensors.values()))
    shared = {name.rpartition(".")[0] for name, tensor in tensors.items() if held[id(tensor)] > 1}
    return {path: owner for path, owner in names.items() if used[owner] == 1 and owner not in shared}
