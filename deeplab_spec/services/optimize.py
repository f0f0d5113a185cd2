"""``deeplab_spec.optimize``: a module that computes the same, faster."""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import DeepLabSpecError, NotEqualError, SpecError, TargetError, one_line
from deeplab_spec.measure.agreement import Agreement, Standard, agreement
from deeplab_spec.measure.modes import AUTO, Mode, Precision, modes_for, read_mode
from deeplab_spec.measure.timing import timed

RUNS: Final = 5
SIZE: Final = 513
_KERNEL_RANK: Final = 4


class Optimized(nn.Module):
    """A network in a mode that was certified equal on an example.

    It takes what the original takes, in evaluation and without gradients; a compiled one is compiled
    again for another size, and a CUDA graph takes the example's size only.

    Attributes:
        mode: Name of the mode.
        agreement: What certified it: its error, and what is allowed.
        seconds: Median time of each mode that was tried, where several were.
        refused: Why a mode was not chosen from, where one could not run or was not equal.
    """

    def __init__(
        self,
        module: nn.Module,
        found: Agreement,
        mode: str,
        seconds: Mapping[str, float] | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.mode = mode
        self.agreement = found
        self.seconds = dict(seconds or {})
        self.refused = dict(refused or {})

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the original returns
        """Run the network."""
        return self.module(x)


def optimize(
    module: nn.Module,
    mode: str = AUTO,
    *,
    example: Tensor | None = None,
    candidates: Sequence[str] = (),
    runs: int = RUNS,
) -> Optimized:
    """Return a module that computes what another does in evaluation, in a faster way.

    Every mode is run on the example and held against the module in float64 before it is returned or
    timed: it may err three times as much as the module itself in the same precision.

    Args:
        module: The network; it is not changed. It runs where its parameters are.
        mode: Parts joined by ``+``, as ``bn_folded+channels_last``; or ``auto``, which times the
            candidates in turn on the example and takes the fastest. With compilers among them that
            takes minutes.
        example: A batch of images; by default one of 513x513, drawn at random.
        candidates: The modes that ``auto`` tries; by default those usual on the device, of float32.
        runs: How often ``auto`` runs each.

    Raises:
        SpecError: A ValueError, if a mode is unknown or cannot run on the device, or the module's
            values are not finite.
        NotEqualError: If the mode does not compute what the module computes.
        TargetError: If it cannot be made.
    """
    images = random_images(module) if example is None else example
    standard = Standard(module, images)
    if mode != AUTO:
        wanted = read_mode(mode)
        _require(wanted, images.device.type)
        return Optimized(*certified(standard, wanted), wanted.name)
    if runs < 1:
        raise SpecError("runs", "must be 1 or more", runs)
    return _fastest(standard, _candidates(images.device.type, candidates), runs)


def random_images(module: nn.Module, size: tuple[int, int] = (SIZE, SIZE), batch: int = 1, seed: int = 0) -> Tensor:
    """Return images for a module, with the channels that its first kernel reads, where it is."""
    kernels = (weight for weight in module.parameters() if weight.ndim == _KERNEL_RANK)
    kernel = next(kernels, None)
    if kernel is None:
        raise SpecError("example", "must be given for a module without a convolution", None)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, kernel.shape[1], *size, generator=generator).to(kernel.device)


def certified(standard: Standard, mode: Mode) -> tuple[nn.Module, Agreement]:
    """Make a module in a mode, and hold it against the original.

    Raises:
        NotEqualError: If it does not compute the same.
        TargetError: If it cannot be made.
    """
    try:
        running = mode.apply(standard.module, standard.example)
        found = agreement(standard, running, mode)
    except DeepLabSpecError as error:
        raise TargetError(mode.name, f"cannot be made: {error}") from error
    except Exception as error:
        raise TargetError(mode.name, f"cannot be made: {one_line(error)}") from error
    if not found.equal:
        raise NotEqualError(mode.name, f"does not compute what the module computes: {found}")
    return running, found


def _require(mode: Mode, device: str) -> None:
    missing = mode.missing(device)
    if missing:
        raise SpecError("mode", f"must be able to run here ({missing})", mode.name)


def _candidates(device: str, names: Sequence[str]) -> tuple[Mode, ...]:
    modes = modes_for(device, names)
    if names:
        for mode in modes:
            _require(mode, device)
        return modes
    return tuple(mode for mode in modes if mode.precision is Precision.FLOAT32 and not mode.missing(device))


def _fastest(standard: Standard, modes: Sequence[Mode], runs: int) -> Optimized:
    """Make every mode, run them in turn, and keep the one with the shortest median."""
    ready: dict[str, tuple[nn.Module, Agreement]] = {}
    refused: dict[str, str] = {}
    for mode in modes:
        try:
            ready[mode.name] = certified(standard, mode)
        except TargetError as error:
            refused[mode.name] = error.reason
    if not ready:
        name, reason = next(iter(refused.items()))
        raise TargetError(name, reason)
    times: dict[str, list[float]] = {name: [] for name in ready}
    example = standard.example
    for turn in range(runs):
        for name in ready if turn % 2 == 0 else reversed(ready):
            times[name].append(timed(partial(ready[name][0], example), example.device))
    seconds = {name: statistics.median(each) for name, each in times.items()}
    best = min(seconds, key=seconds.__getitem__)
    return Optimized(*ready[best], best, seconds, refused)
