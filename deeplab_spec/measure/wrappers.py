"""Modules that wrap another one and run it in some way: with another layout, cast, compiled or recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import SpecError
from deeplab_spec.execute.torch_settings import float32_products

_WARM_UP: Final = 3
"""Runs before a recording; libraries choose their algorithms in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Settings of the process that are on while a network runs.

    Attributes:
        tf32: Whether float32 products are computed in TF32; else in IEEE float32.
        cudnn_benchmark: Whether cuDNN times its algorithms for every new size and takes the fastest.
    """

    tf32: bool = False
    cudnn_benchmark: bool = False


@contextmanager
def switched(switches: Switches) -> Iterator[None]:
    """Set the switches, and restore them at the end."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = switches.cudnn_benchmark
    try:
        with float32_products(tf32=switches.tf32):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


class ChannelsLast(nn.Module):
    """A network whose maps are stored with their channels last."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload that torch's stubs lack

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        return self.module(x.contiguous(memory_format=torch.channels_last))


class Autocast(nn.Module):
    """A network under automatic mixed precision."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        with torch.autocast(x.device.type, self.dtype, cache_enabled=False):
            return self.module(x)


class Cast(nn.Module):
    """A network whose weights and input are cast to another dtype; its outputs have the dtype of the input."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        result = self.module(x.to(self.dtype))
        return pytree.tree_map_only(Tensor, lambda value: value.to(x.dtype), result)


class Compiled(nn.Module):
    """A compiled network; it is compiled again for another size."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.compiled = torch.compile(module, dynamic=False)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        return self.compiled(x)


class Frozen(nn.Module):
    """A network compiled with its weights as constants.

    The switch is one of the process, so it is on only while a new size of input is compiled.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.compiled = torch.compile(module, dynamic=False)
        self.seen: set[torch.Size] = set()

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        if x.shape in self.seen:
            return self.compiled(x)
        import torch._inductor.config as inductor

        with inductor.patch(freezing=True):
            result = self.compiled(x)
        self.seen.add(x.shape)
        return result


class Replayed(nn.Module):
    """A network recorded once as a CUDA graph, for one size of input."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.module = module
        self.images = example.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                module(self.images)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.result = module(self.images)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        if x.shape != self.images.shape:
            raise SpecError("cuda_graph", f"takes the recorded size {tuple(self.images.shape)}", tuple(x.shape))
        self.images.copy_(x)
        self.graph.replay()
        return pytree.tree_map(torch.clone, self.result)


class Running(nn.Module):
    """A network in evaluation: no gradients, and the switches set while it runs.

    Args:
        module: The network.
        switches: The settings of the process while it runs.
    """

    def __init__(self, module: nn.Module, switches: Switches) -> None:
        super().__init__()
        self.module = module
        self.switches = switches

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        with torch.no_grad(), switched(self.switches):
            return self.module(x)
