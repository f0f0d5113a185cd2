"""The process that times one mode, so that its switches, threads and memory do not touch those of another mode.

It reads a job and then commands from stdin, and answers each command with a JSON document:

* ``prepare N``: prepare the mode for a batch of N images, and certify it;
* ``run``: time it, after untimed runs;
* ``ceilings PRECISION``: measure the ceilings of the device;
* ``speed``: measure the ceilings in float32, and the speed of the processor.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.bench.request import ADAPTER, Job
from deeplab_spec.child_process import answers
from deeplab_spec.errors import DeepLabSpecError, NotEqualError, TargetError, one_line
from deeplab_spec.measure.agreement import Reference
from deeplab_spec.measure.device import (
    ceilings,
    device_name,
    megahertz,
    peak_bytes,
    reset_peak,
    spin_seconds,
    timed_warm,
)
from deeplab_spec.measure.modes import read_mode
from deeplab_spec.optimize.service import certified, random_images
from deeplab_spec.precision import read_precision

_SEED: Final = 0
_CALIBRATING_IMAGES: Final = 2
"""Enough for a variance where a normalisation has one value per channel and image."""

_SAMPLES: Final = {"cpu": 1, "cuda": 5}
"""Timed runs of a turn; its time is their median."""

_SPEED_SPINS: Final = 9

_PACKAGES: Final = ("deeplab-spec", "torch", "onnxruntime", "openvino")


class Worker:
    """One mode of one network; the network is built when the mode is first prepared."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device(job.request.device)
        self.example = torch.empty(0)
        self.running: nn.Module | None = None

    @cached_property
    def module(self) -> nn.Module:
        """The network, with calibrated normalisations."""
        torch.manual_seed(_SEED)
        module = self.job.build().to(self.device)
        return calibrated(module, random_images(module, self.job.case.size, _CALIBRATING_IMAGES, _SEED + 1))

    def answer(self, command: str) -> dict[str, object]:
        """Execute a command, and return its result."""
        match command.split():
            case ["prepare", images]:
                return self._prepare(int(images))
            case ["ceilings", precision]:
                return ceilings(self.device, read_precision(precision)).model_dump()
            case ["speed"]:
                spins = [spin_seconds() for _ in range(_SPEED_SPINS)]
                return {**ceilings(self.device).model_dump(), "spin_seconds": min(spins)}
            case _:
                return self._run()

    def _prepare(self, images: int) -> dict[str, object]:
        """Prepare the mode for a batch, certify it, and measure the memory of one run of it."""
        begin = time.perf_counter()
        self.running = None  # frees what another batch needed
        self.example = random_images(self.module, self.job.case.size, images)
        self.running, result = certified(Reference(self.module, self.example), read_mode(self.job.mode))
        seconds = time.perf_counter() - begin
        reset_peak(self.device)  # the reference and the copies that certified the mode are freed by now
        self.running(self.example)
        return {
            "error": asdict(result.error),
            "allowed": asdict(result.allowed),
            "prepare_seconds": seconds,
            "peak_memory_bytes": peak_bytes(self.device),
            "device_name": device_name(self.device),
            "threads": torch.get_num_threads(),
            "versions": _versions(),
        }

    def _run(self) -> dict[str, object]:
        """Time one turn, and then read the clock, while the device is still warm."""
        if self.running is None:
            raise TargetError(self.job.mode, "is not prepared")
        seconds = timed_warm(partial(self.running, self.example), self.device, _SAMPLES[self.device.type])
        clock = megahertz(self.device)
        return {"seconds": seconds, "megahertz": clock, "spin_seconds": spin_seconds()}


def calibrated(module: nn.Module, images: Tensor) -> nn.Module:
    """Give every normalisation a random scale and offset, and the statistics of its input.

    A normalisation that changes nothing hides a wrong fold. Random statistics let the values of a hundred layers
    grow beyond float16; the statistics of the data keep every layer's values near 1. With offsets near 1 most
    values pass the next activation; if half of them are cut off, a hundred layers amplify rounding three hundred
    times as much.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.5, 1.5)
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
    return module


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def answer(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Do some work, and return its result as an event; an error is an event too, so that the other modes go on."""
    try:
        return {"event": "done", **work()}
    except NotEqualError as error:
        return {"event": "refused", "reason": error.reason}
    except DeepLabSpecError as error:
        return {"event": "failed", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - any error of a target or a compiler
        return {"event": "failed", "reason": one_line(error)}


def main() -> None:
    """Answer the commands on stdin."""
    with answers() as send:
        worker = Worker(ADAPTER.validate_json(sys.stdin.readline()))
        for command in sys.stdin:
            send(answer(partial(worker.answer, command)))


if __name__ == "__main__":
    main()
