"""Rewrites of a whole network: wrapped, traced, exported, compiled, run on other threads or image by image."""

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from deeplab_spec.execute.torch_settings import threads
from deeplab_spec.graph.ops import Resize
from deeplab_spec.mutate.rewrites.original import Original, RewrittenNetwork
from deeplab_spec.mutate.rewrites.other_operators import interpolated, resized

Call = Callable[[nn.Module, Tensor], Any]
"""Runs a network on a batch of images."""


class Wrapped(nn.Module):
    """A module that runs a network through a call of its own."""

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, image: Tensor) -> Any:  # noqa: ANN401 - what a network may return
        """Run the network."""
        return self.call(self.network, image)


def _on_threads(count: int) -> Call:
    def run(network: nn.Module, image: Tensor) -> Any:  # noqa: ANN401 - what a network may return
        with threads(count):
            return network(image)

    return run


CALLS: Final[Mapping[str, Call]] = {
    "behind a call": lambda network, image: network(image),
    "on one thread": _on_threads(1),
    "on two threads": _on_threads(2),
    "image by image": lambda network, image: torch.cat([network(image[n : n + 1]) for n in range(image.shape[0])]),
    "images in channels_last": lambda network, image: network(image.contiguous(memory_format=torch.channels_last)),
    "checkpointed": lambda network, image: checkpoint(network, image, use_reentrant=False),
}


def wrapped(original: Original, call: str) -> nn.Module:
    """Return the reference behind one of the calls."""
    return Wrapped(original.reference(), CALLS[call]).eval()


def channels_last(original: Original) -> nn.Module:
    """Return the reference with its kernels in channels_last."""
    return original.reference().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def in_a_sequence(original: Original) -> nn.Module:
    """Return the reference as the only member of sequences in sequences."""
    return nn.Sequential(nn.Identity(), nn.Sequential(original.reference())).eval()


def through_double(original: Original) -> nn.Module:
    """Return the reference converted to float64 and back."""
    return original.reference().double().float()


def reloaded(original: Original) -> nn.Module:
    """Return a deep copy of the reference, to which its own state dict is assigned."""
    module = original.reference()
    other = copy.deepcopy(module)
    other.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()}, assign=True)
    return other


def saved(original: Original, *, batches: bool) -> Path:
    """Write a ``.pt2`` file for one image size, with one image or any number of images."""
    path = original.directory / "network.pt2"
    sides = ({0: torch.export.Dim("images", max=64)},) if batches else None
    images = original.example.repeat(2, 1, 1, 1) if batches else original.example
    with torch.no_grad():
        torch.export.save(torch.export.export(original.reference(), (images,), dynamic_shapes=sides), path)
    return path


def onnx(original: Original, *, dynamo: bool) -> Path:
    """Write an ONNX file with the current exporter, or with that of TorchScript."""
    path = original.directory / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters deprecate themselves
        torch.onnx.export(original.reference(), (original.example,), str(path), dynamo=dynamo, verbose=False)
    return path


def compiled(original: Original, backend: str) -> nn.Module:
    """Return the compiled reference; it is compiled when it first runs, for that size alone.

    After other sizes it would be compiled for every size, which takes minutes where margins depend on the size.
    """
    torch.compiler.reset()
    return torch.compile(original.reference(), backend=backend)  # type: ignore[return-value]


def traced(original: Original) -> fx.GraphModule:
    """Return the graph of ``torch.fx``."""
    resizes = (
        resized(node, interpolated(align_corners=node.op.align_corners))
        for node in original.network
        if isinstance(node.op, Resize)
    )
    return fx.symbolic_trace(Wrapped(RewrittenNetwork(original, *resizes), CALLS["behind a call"])).eval()


def traced_and_rewritten(original: Original) -> nn.Module:
    """Return the graph of ``torch.fx`` with ``clamp_min`` in place of every ReLU."""
    module = traced(original)
    for node in module.graph.nodes:
        if node.op == "call_method" and node.target == "relu":
            with module.graph.inserting_after(node):
                other = module.graph.call_function(torch.clamp_min, (node.args[0], 0))
            node.replace_all_uses_with(other)
            module.graph.erase_node(node)
    module.recompile()
    return module
