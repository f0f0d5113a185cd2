"""``deeplab_spec.optimize``: returns a module that computes the same, faster."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import DeepLabSpecError, NotEqualError, NotFiniteError, SpecError, TargetError, one_line
from deeplab_spec.measure.agreement import Agreement, Reference, agreement
from deeplab_spec.measure.device import timed_warm
from deeplab_spec.measure.modes import AUTO, AUTOMATIC, Mode, modes_for
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.result import Result
from deeplab_spec.views.progress import Progress
from deeplab_spec.views.progress import progress as bar

RUNS: Final = 3
SIZE: Final = 513
_KERNEL_RANK: Final = 4

_NEAR: Final = 1.25
"""A mode whose median is at most this many times the shortest is timed again before one is chosen."""

_FINAL_RUNS: Final = 2
"""Runs of the second timing over runs of the first."""


class Optimized(Result, nn.Module):
    """A network in a mode, certified equal to the original on an example.

    It takes the same inputs as the original, in evaluation mode and without gradients. A compiled or exported
    network is prepared again for another size; a CUDA graph takes the example's size only.

    Attributes:
        mode: Name of the mode.
        agreement: Its error, and the allowed one.
        seconds: Median time of each timed mode, ``eager`` among them.
        refused: Reason by mode, for the modes that could not run or were not equal.
        not_installed: What must be installed to try further modes, by mode.
    """

    def __init__(
        self,
        module: nn.Module,
        agreement: Agreement,
        mode: str,
        seconds: Mapping[str, float] | None = None,
        refused: Mapping[str, str] | None = None,
        not_installed: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.mode = mode
        self.agreement = agreement
        self.seconds = dict(seconds or {})
        self.refused = dict(refused or {})
        self.not_installed = dict(not_installed or {})

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the original's
        """Run the network."""
        return self.module(x)

    @property
    def speedup(self) -> float | None:
        """How many times as fast as eager it is; None if either was not timed."""
        if not {EAGER, self.mode} <= self.seconds.keys():
            return None
        return self.seconds[EAGER] / self.seconds[self.mode]

    @property
    def summary(self) -> str:
        """The mode, and how many times as fast as eager it is."""
        return self.mode if self.speedup is None else f"{self.mode}, {self.speedup:.2f} times as fast as eager"

    @property
    def text(self) -> str:
        """The mode, its error, its time, and the modes that were not chosen."""
        return repr(self)

    def __repr__(self) -> str:
        error, allowed = self.agreement.error.mean, self.agreement.allowed.mean
        lines = [f"mode {self.mode}", f"error {error:.2g} (at most {allowed:.2g} is allowed)"]
        if self.speedup is not None:
            ours, eager = (f"{1000 * self.seconds[name]:.3g} ms" for name in (self.mode, EAGER))
            lines.append(f"{ours} a run, {self.speedup:.2f} times as fast as eager ({eager})")
        lines += [f"not equal or not runnable: {name} ({reason})" for name, reason in self.refused.items()]
        lines += [f"may be faster: {name}, {reason}" for name, reason in self.not_installed.items()]
        return "Optimized(\n  " + "\n  ".join(lines) + "\n)"


def optimize(
    module: nn.Module,
    mode: str = AUTO,
    *,
    example: Tensor | None = None,
    candidates: Sequence[str] = (),
    runs: int = RUNS,
    progress: Progress | None = None,
) -> Optimized:
    """Return a module that computes the same as another one in evaluation mode, faster.

    Before a mode is timed or returned, its output on the example is compared with that of the module in float64:
    its error may be at most three times that of the module itself in the same precision.

    Args:
        module: The network; it is not changed. It runs on the device of its parameters.
        mode: Parts joined by ``+``, as ``folded+channels_last``; or ``auto``, which times the
            candidates in turn on the example and takes the fastest. With compilers among them that
            takes minutes.
        example: A batch of images, (n, channels, h, w); by default one random image of 513x513.
        candidates: The modes that ``auto`` tries; by default the modes in float32 that can run on the device,
            with the installed engines.
        runs: The least number of timed runs of each mode, in turn with the others.
        progress: Receives the stage, how many are done, and how many there are; by default a bar on stderr, if
            that is a terminal.

    Raises:
        SpecError: A ValueError, if a mode is unknown or cannot run on the device, or the module's
            outputs are not finite.
        NotEqualError: If the mode does not compute what the module computes.
        TargetError: If the mode cannot be prepared.
    """
    if runs < 1:
        raise SpecError("runs", "must be 1 or more", runs)
    images = random_images(module) if example is None else example
    device = images.device.type
    modes = _candidates(device, candidates if mode == AUTO else (mode,))
    with bar() if progress is None else nullcontext(progress) as report:
        ready, refused = _prepared(module, images, modes, report, strict=mode != AUTO)
        report("timing", len(modes), len(modes) + 1)
        running = {EAGER: Mode().apply(module, images)} | {name: run for name, (run, _) in ready.items()}
        seconds = _medians(running, images, runs)
    fastest = min(ready, key=seconds.__getitem__)
    not_installed = _not_installed(device) if mode == AUTO and not candidates else {}
    return Optimized(*ready[fastest], fastest, seconds, refused, not_installed)


def _prepared(
    module: nn.Module, images: Tensor, modes: Sequence[Mode], progress: Progress, *, strict: bool
) -> tuple[dict[str, tuple[nn.Module, Agreement]], dict[str, str]]:
    """Prepare and certify every mode; return the equal ones, and for each other one the reason.

    Raises:
        TargetError: If no mode is equal; in a strict run, if any is not.
    """
    progress("float64 reference", 0, len(modes) + 1)
    reference = Reference(module, images)
    ready: dict[str, tuple[nn.Module, Agreement]] = {}
    refused: dict[str, str] = {}
    for number, mode in enumerate(modes):
        progress(f"preparing {mode.name}, about {mode.seconds} s", number, len(modes) + 1)
        try:
            ready[mode.name] = certified(reference, mode)
        except TargetError as error:
            if strict or (number == len(modes) - 1 and not ready):
                raise
            refused[mode.name] = error.reason
    return ready, refused


def random_images(module: nn.Module, size: tuple[int, int] = (SIZE, SIZE), batch: int = 1, seed: int = 0) -> Tensor:
    """Return random images, (batch, channels, h, w), with the channels and on the device of a module's first kernel.

    Raises:
        SpecError: If the module has no convolution.
    """
    kernels = (weight for weight in module.parameters() if weight.ndim == _KERNEL_RANK)
    kernel = next(kernels, None)
    if kernel is None:
        raise SpecError("example", "must be given for a module without a convolution", None)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, kernel.shape[1], *size, generator=generator).to(kernel.device)


def certified(reference: Reference, mode: Mode) -> tuple[nn.Module, Agreement]:
    """Prepare a module in a mode, and compare it with the original.

    Raises:
        NotEqualError: If it does not compute the same, or the original is not finite in its precision.
        TargetError: If it cannot be prepared.
    """
    try:
        running = mode.apply(reference.module, reference.example)
        result = agreement(reference, running, mode)
    except NotFiniteError as error:
        raise NotEqualError(mode.name, f"cannot be certified: {error.reason}") from error
    except DeepLabSpecError as error:
        raise TargetError(mode.name, f"cannot be prepared: {error}") from error
    except Exception as error:
        raise TargetError(mode.name, f"cannot be prepared: {one_line(error)}") from error
    if not result.equal:
        raise NotEqualError(mode.name, f"does not compute what the module computes: {result}")
    return running, result


def _candidates(device: str, names: Sequence[str]) -> tuple[Mode, ...]:
    """Return the named modes; without names, the default ones that can run here.

    Raises:
        SpecError: If a named mode cannot run here.
    """
    modes = modes_for(device, names or AUTOMATIC[device])
    for mode in modes if names else ():
        missing = mode.missing(device)
        if missing:
            raise SpecError("mode", f"must be able to run here ({missing})", mode.name)
    return tuple(mode for mode in modes if not mode.missing(device))


def _not_installed(device: str) -> dict[str, str]:
    """Return what must be installed, by mode, for the default modes that lack only that."""
    return {
        mode.name: part.missing
        for mode in modes_for(device, AUTOMATIC[device])
        for part in mode.parts
        if device in part.devices and part.missing
    }


def _medians(running: Mapping[str, nn.Module], example: Tensor, runs: int) -> dict[str, float]:
    """Time every mode in turn, then those near the fastest again; return the medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in running}
    _take_turns(running, example, times, runs)
    medians = {name: statistics.median(each) for name, each in times.items()}
    least = min(medians.values())
    near = {name: run for name, run in running.items() if medians[name] <= _NEAR * least}
    if len(near) > 1:
        _take_turns(near, example, times, _FINAL_RUNS * runs)
    return {name: statistics.median(each) for name, each in times.items()}


def _take_turns(running: Mapping[str, nn.Module], example: Tensor, times: dict[str, list[float]], runs: int) -> None:
    for turn in range(runs):
        for name in list(running)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(timed_warm(partial(running[name], example), example.device))
