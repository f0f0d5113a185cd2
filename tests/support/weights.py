"""Weights for tests: whole numbers, in which every sum is exact, and random weights as after training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def whole(shape: tuple[int, ...], seed: int, low: int = -3, high: int = 3) -> Tensor:
    """Return whole numbers from ``low`` to ``high``, both included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator).double()


def make_whole(module: nn.Module, seed: int) -> nn.Module:
    """Give a small module whole weights of every sign, for evaluation, in place.

    A layer multiplies the largest value by a few hundred: a block stays far below 2**53.
    """
    module.double().eval()
    for number, layer in enumerate(module.modules()):
        if isinstance(layer, nn.Conv2d):
            _set(layer.weight, whole(tuple(layer.weight.shape), seed + number, -2, 2))
            if layer.bias is not None:
                _set(layer.bias, whole(tuple(layer.bias.shape), seed - number, -2, 2))
        elif isinstance(layer, nn.BatchNorm2d):
            _make_norm_whole(layer, seed + number)
    return module


def make_sparse(module: nn.Module, seed: int, taps: int = 1) -> nn.Module:
    """Give a deep module whole weights with few taps per output channel, in place.

    A spatial kernel reads ``taps`` pixels and a 1x1 kernel one channel, each another, three in
    four with a positive sign. So values grow by a factor of ``taps`` for every spatial layer
    and by two where a skip joins, and the signal survives to the end: with three taps, seven
    blocks stay below 2**53; with one, a whole backbone does.
    """
    module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    for number, layer in enumerate(module.modules()):
        if isinstance(layer, nn.Conv2d):
            _set(layer.weight, _few(layer, taps, generator))
            if layer.bias is not None:
                _set(layer.bias, whole(tuple(layer.bias.shape), seed - number, 0, 1))
        elif isinstance(layer, nn.BatchNorm2d):
            _make_norm_whole(layer, seed + number)
            _set(layer.weight, _signs((layer.num_features,), generator))
    return module


def _few(layer: nn.Conv2d, taps: int, generator: torch.Generator) -> Tensor:
    out, width = layer.weight.shape[:2]
    area = layer.weight[0, 0].numel()
    weight = torch.zeros(out, width, area, dtype=torch.float64)
    read = torch.randperm(width, generator=generator)
    for channel in range(out):
        places = torch.randperm(area, generator=generator)[: taps if area > 1 else 1]
        weight[channel, read[channel % width], places] = _signs((len(places),), generator)
    return weight.view_as(layer.weight)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return (torch.randint(4, shape, generator=generator) > 0).double() * 2 - 1


def make_positive(module: nn.Module) -> nn.Module:
    """Make every layer an average, so that all dependencies have a positive gradient, in place."""
    module.double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            _set(layer.weight, torch.full_like(layer.weight, 1 / layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    return module


def randomise_norms(module: nn.Module, seed: int) -> nn.Module:
    """Give a module statistics and offsets that differ by channel, for evaluation, in place."""
    module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 1.5),
            ):
                drawn = torch.rand(layer.num_features, generator=generator, dtype=torch.float64)
                _set(tensor, drawn * (high - low) + low)
    return module


def _make_norm_whole(layer: nn.BatchNorm2d, seed: int) -> None:
    count = layer.num_features
    scale = whole((count,), seed, -1, 2)
    _set(layer.weight, torch.where(scale == 0, 1.0, scale))
    _set(layer.bias, whole((count,), seed + 1, -2, 2))
    _set(layer.running_mean, whole((count,), seed + 2, -2, 2))
    _set(layer.running_var, torch.full((count,), 1 - layer.eps, dtype=torch.float64))


def _set(tensor: Tensor | None, value: Tensor) -> None:
    assert tensor is not None, "a layer without statistics"
    tensor.data.copy_(value)


def randomise_weights(module: nn.Module, seed: int) -> nn.Module:
    """Give a module random weights, biases and statistics that differ by channel, in place, in float32."""
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
