"""Weights of a module as training might leave them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def make_trained(module: nn.Module, seed: int) -> nn.Module:
    """Give a module drawn weights, biases and statistics that differ by channel, in place, in float32."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    ranges: dict[str, Callable[[Tensor], Tensor]] = {
        "weight": lambda like: drawn(like, 0.5, 1.5) if like.ndim == 1 else _kernel(like, generator),
        "bias": lambda like: drawn(like, -0.5, 0.5),
        "running_mean": lambda like: drawn(like, -0.5, 0.5),
        "running_var": lambda like: drawn(like, 0.5, 1.5),
        "num_batches_tracked": lambda like: torch.full_like(like, 7),
    }
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(ranges[name.rpartition(".")[2]](tensor))
    return module.eval()


def _kernel(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
