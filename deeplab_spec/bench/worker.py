"""The process in which one mode is timed, so that no mode's switches, threads or memory touch another's.

It reads a job and then commands from stdin, and answers each with one JSON document a line:

* ``prepare N``: make the mode for a batch of N images, and certify it;
* ``run``: time it, after untimed runs;
* ``ceilings PRECISION``: measure what the device can do at most.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final, TextIO

import torch
from torch import Tensor, nn

from deeplab_spec.bench.request import ADAPTER, Job
from deeplab_spec.errors import DeepLabSpecError, NotEqualError, TargetError, one_line
from deeplab_spec.measure.agreement import Reference
from deeplab_spec.measure.memory import forget_peak, peak_bytes
from deeplab_spec.measure.modes import read_mode
from deeplab_spec.measure.roofline import ceilings
from deeplab_spec.measure.timing import device_name, megahertz, spin_seconds, timed_warm
from deeplab_spec.optimize.service import certified, random_images
from deeplab_spec.precision import read_precision

_SEED: Final = 0
_CALIBRATING_IMAGES: Final = 2
"""Enough that a normalisation of one value a channel and image has a variance."""

_SAMPLES: Final = {"cpu": 1, "cuda": 5}
"""Timed runs of a turn; its time is their median."""

_PACKAGES: Final = ("deeplab-spec", "torch", "onnxruntime", "openvino")


class Worker:
    """One mode of one network, which is built when the mode is first prepared."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device(job.device)
        self.example = torch.empty(0)
        self.running: nn.Module | None = None

    @cached_property
    def module(self) -> nn.Module:
        """The network, with statistics of its own."""
        torch.manual_seed(_SEED)
        module = self.job.build().to(self.device)
        return calibrated(module, random_images(module, self.job.size, _CALIBRATING_IMAGES, _SEED + 1))

    def answer(self, command: str) -> dict[str, object]:
        """Do what a command says, and return what it found."""
        match command.split():
            case ["prepare", images]:
                return self._prepare(int(images))
            case ["ceilings", precision]:
                return asdict(ceilings(self.device, read_precision(precision)))
            case _:
                return self._run()

    def _prepare(self, images: int) -> dict[str, object]:
        """Make the mode for a batch, certify it, and measure the memory of one run of it.

        Raises:
            NotEqualError: If it is not equal.
            TargetError: If it cannot be made.
        """
        begin = time.perf_counter()
        self.running = None  # what was made for another batch goes
        self.example = random_images(self.module, self.job.size, images)
        self.running, found = certified(Reference(self.module, self.example), read_mode(self.job.mode))
        seconds = time.perf_counter() - begin
        forget_peak(self.device)  # the oracle and the copies that certified the mode are gone by now
        self.running(self.example)
        return {
            "agreement": asdict(found),
            "prepare_seconds": seconds,
            "peak_memory_bytes": peak_bytes(self.device),
            "device_name": device_name(self.device),
            "threads": torch.get_num_threads(),
            "versions": _versions(),
        }

    def _run(self) -> dict[str, object]:
        """Time one turn; the clock is read afterwards, when the device has been busy."""
        if self.running is None:
            raise TargetError(self.job.mode, "is not prepared")
        seconds = timed_warm(partial(self.running, self.example), self.device, _SAMPLES[self.device.type])
        clock = megahertz(self.device)
        return {"seconds": seconds, "megahertz": clock, "spin_seconds": spin_seconds()}


def calibrated(module: nn.Module, images: Tensor) -> nn.Module:
    """Give every normalisation a scale and an offset of its own, and the statistics that its input has.

    Of a normalisation that does nothing no fold can go wrong. With statistics that are drawn too, the values of
    a hundred layers grow until float16 has no number for them: those of the data keep every layer's values near 1.
    Offsets near 1 let most values pass the next activation: where half of them are cut off, a hundred layers
    magnify rounding three hundred times as much.
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
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def work(commands: TextIO, answers: TextIO) -> None:
    """Answer commands until there are no more; what fails is an answer too."""

    def say(event: str, facts: dict[str, object]) -> None:
        answers.write(json.dumps({"event": event, **facts}) + "\n")
        answers.flush()

    def told(work: Callable[[], dict[str, object]]) -> None:
        try:
            say("done", work())
        except NotEqualError as error:
            say("refused", {"reason": error.reason})
        except DeepLabSpecError as error:
            say("failed", {"reason": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the other modes go on
            say("failed", {"reason": one_line(error)})

    worker = Worker(ADAPTER.validate_json(commands.readline()))
    for line in commands:
        told(partial(worker.answer, line))


def main() -> None:
    """Read from stdin, and answer where stdout was; what a target prints goes to stderr."""
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers, redirect_stdout(sys.stderr):
        os.dup2(sys.stderr.fileno(), 1)
        work(sys.stdin, answers)


if __name__ == "__main__":
    main()
