"""Modules that run another in some way: they hold it, and compute the same."""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import SpecError
from deeplab_spec.execute.products import products

_WARM_UP: Final = 3
"""Runs before a recording, in which libraries choose their algorithms."""


class ChannelsLast(nn.Module):
    """A network whose maps are stored with their channels last."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload that torch's stubs lack

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the module returns
        """Run the network."""
        return self.module(x.contiguous(memory_format=torch.channels_last))


class Autocast(nn.Module):
    """A network under automatic mixed precision."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the module returns
        """Run the network."""
        with torch.autocast(x.device.type, self.dtype, cache_enabled=False):
            return self.module(x)


class Frozen(nn.Module):
    """A network compiled with its weights as constants.

    The switch is one of the process, so it is on only while a new size of input is compiled.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.compiled = torch.compile(module, dynamic=False)
        self.seen: set[torch.Size] = set()

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the module returns
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

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the module returns
        """Run the network."""
        if x.shape != self.images.shape:
            raise SpecError("cuda_graph", f"takes the recorded size {tuple(self.images.shape)}", tuple(x.shape))
        self.images.copy_(x)
        self.graph.replay()
        return pytree.tree_map(torch.clone, self.result)


class Running(nn.Module):
    """A network in evaluation: no gradients, and float32 is IEEE's unless products shall be TF32.

    Args:
        module: What runs.
        tf32: Whether products are computed in TF32.
    """

    def __init__(self, module: nn.Module, *, tf32: bool) -> None:
        super().__init__()
        self.module = module
        self.tf32 = tf32

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the module returns
        """Run the network."""
        with torch.no_grad(), products(tf32=self.tf32):
            return self.module(x)
