"""A whole network handed on in another way: wrapped, traced, exported, compiled, on threads or image by image."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from deeplab_spec.graph.ops import Resize
from deeplab_spec.mutate.rewrites.other_operators import RESIZES, resized
from deeplab_spec.mutate.rewrites.subject import Rewritten, Subject

Running = Callable[[nn.Module, Tensor], Any]
"""Runs a network on a batch of images."""


class Wrapped(nn.Module):
    """A network behind a call that runs it in its own way.

    Args:
        network: The network.
        running: Runs it.
    """

    def __init__(self, network: nn.Module, running: Running) -> None:
        super().__init__()
        self.network = network
        self.running = running

    def forward(self, image: Tensor) -> Any:  # noqa: ANN401 - what a network may return
        """Run the network."""
        return self.running(self.network, image)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_threads(count: int) -> Running:
    def run(network: nn.Module, image: Tensor) -> Any:  # noqa: ANN401 - what a network may return
        with _threads(count):
            return network(image)

    return run


def _one_by_one(network: nn.Module, image: Tensor) -> Tensor:
    return torch.cat([network(image[number : number + 1]) for number in range(image.shape[0])])


def _twice_as_many(network: nn.Module, image: Tensor) -> Tensor:
    result: Tensor = network(image.repeat(2, 1, 1, 1))
    return result[: image.shape[0]]


def _last_channels(network: nn.Module, image: Tensor) -> Any:  # noqa: ANN401 - what a network may return
    return network(image.contiguous(memory_format=torch.channels_last))


RUNNING: Final[Mapping[str, Running]] = {
    "behind a call": lambda network, image: network(image),
    "on one thread": _on_threads(1),
    "on two threads": _on_threads(2),
    "image by image": _one_by_one,
    "images in channels_last": _last_channels,
    "checkpointed": lambda network, image: checkpoint(network, image, use_reentrant=False),
}


def wrapped(subject: Subject, way: str) -> nn.Module:
    """Return the reference behind a call that runs it in its own way."""
    return Wrapped(subject.reference(), RUNNING[way]).eval()


def channels_last(subject: Subject) -> nn.Module:
    """Return the reference with its kernels in channels_last."""
    return subject.reference().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def in_a_sequence(subject: Subject) -> nn.Module:
    """Return the reference as the only member of sequences in sequences."""
    return nn.Sequential(nn.Identity(), nn.Sequential(subject.reference())).eval()


def through_double(subject: Subject) -> nn.Module:
    """Return the reference turned to float64 and back."""
    return subject.reference().double().float()


def reloaded(subject: Subject) -> nn.Module:
    """Return a deep copy, with the weights of its own state dict assigned."""
    module = subject.reference()
    other = copy.deepcopy(module)
    other.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()}, assign=True)
    return other


def saved(subject: Subject, *, batches: bool) -> Path:
    """Write a ``.pt2`` file of one size: for one image, or for any number of images."""
    path = subject.directory / "network.pt2"
    sides = ({0: torch.export.Dim("images", max=64)},) if batches else None
    images = subject.example.repeat(2, 1, 1, 1) if batches else subject.example
    with torch.no_grad():
        torch.export.save(torch.export.export(subject.reference(), (images,), dynamic_shapes=sides), path)
    return path


def onnx(subject: Subject, *, dynamo: bool) -> Path:
    """Write an ONNX file by the current exporter, or by that of TorchScript."""
    path = subject.directory / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters deprecate themselves
        torch.onnx.export(subject.reference(), (subject.example,), str(path), dynamo=dynamo, verbose=False)
    return path


def compiled(subject: Subject, backend: str) -> nn.Module:
    """Return the compiled reference; it is compiled when it first runs."""
    return torch.compile(subject.reference(), backend=backend)  # type: ignore[return-value]


def traced(subject: Subject) -> fx.GraphModule:
    """Return the graph of ``torch.fx``."""
    resizes = (resized(node, RESIZES["a function"]) for node in subject.network if isinstance(node.op, Resize))
    return fx.symbolic_trace(Wrapped(Rewritten(subject, *resizes), RUNNING["behind a call"])).eval()


def traced_and_rewritten(subject: Subject) -> nn.Module:
    """Return the graph of ``torch.fx`` with another rectifier in the place of every activation."""
    module = traced(subject)
    for node in module.graph.nodes:
        if node.op == "call_method" and node.target == "relu":
            with module.graph.inserting_after(node):
                other = module.graph.call_function(torch.clamp_min, (node.args[0], 0))
            node.replace_all_uses_with(other)
            module.graph.erase_node(node)
    module.recompile()
    return module
