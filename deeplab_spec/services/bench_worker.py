"""The process in which one mode is timed, so that no mode's switches, threads or memory touch another's.

It reads what to prepare and then commands from stdin, and answers each with one JSON document a line.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

import torch
from torch import Tensor, nn

from deeplab_spec.errors import DeepLabSpecError, NotEqualError, one_line
from deeplab_spec.measure.agreement import Agreement, Standard
from deeplab_spec.measure.memory import forget_peak, peak_bytes
from deeplab_spec.measure.modes import Precision, read_mode
from deeplab_spec.measure.onnx_runtime import NAME, OnnxRuntime
from deeplab_spec.measure.roofline import ceilings
from deeplab_spec.measure.timing import device_name, megahertz, spin_seconds, timed
from deeplab_spec.services.bench_request import ADAPTER, Job
from deeplab_spec.services.optimize import certified, random_images

_SEED = 0


class Worker:
    """One mode of one network, ready to run.

    Raises:
        DeepLabSpecError: If it cannot be made, or is not equal.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device(job.device)
        torch.manual_seed(_SEED)
        module = draw_norms(job.build()).to(self.device)
        self.example = random_images(module, job.size, job.batch)
        begin = time.perf_counter()
        standard = Standard(module, self.example)
        self.run, self.agreement = self._prepared(standard)
        self.seconds = time.perf_counter() - begin
        forget_peak(self.device)
        self.run(self.example)
        self.peak = peak_bytes(self.device)

    def _prepared(self, standard: Standard) -> tuple[Callable[[Tensor], object], Agreement]:
        if self.job.mode != NAME:
            return certified(standard, read_mode(self.job.mode))
        run = OnnxRuntime(standard.module, standard.example)
        found = standard.agreement(run)
        if not found.equal:
            raise NotEqualError(NAME, f"does not compute what the module computes: {found}")
        return run, found

    def ready(self) -> dict[str, object]:
        """Return what is known before anything is timed."""
        return {
            "agreement": asdict(self.agreement),
            "prepare_seconds": self.seconds,
            "peak_memory_bytes": self.peak,
            "device_name": device_name(self.device),
            "threads": torch.get_num_threads(),
            "versions": _versions(),
        }

    def answer(self, command: str) -> dict[str, object]:
        """Run once, or measure the ceilings of a precision."""
        if command != "run":
            return asdict(ceilings(self.device, Precision(command)))
        spin, clock = spin_seconds(), megahertz(self.device)
        return {"seconds": timed(lambda: self.run(self.example), self.device), "spin_seconds": spin, "megahertz": clock}


def draw_norms(module: nn.Module) -> nn.Module:
    """Give every normalisation statistics and a scale of its own: of one that does nothing no fold can go wrong."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
    return module


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("deeplab-spec", "torch", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def work(commands: TextIO, answers: TextIO) -> None:
    """Prepare, and answer commands until there are no more."""

    def say(event: str, facts: dict[str, object]) -> None:
        answers.write(json.dumps({"event": event, **facts}) + "\n")
        answers.flush()

    job = ADAPTER.validate_json(commands.readline())
    try:
        worker = Worker(job)
    except NotEqualError as error:
        say("refused", {"reason": error.reason})
        return
    except DeepLabSpecError as error:
        say("failed", {"reason": str(error)})
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the other modes go on
        say("failed", {"reason": one_line(error)})
        return
    say("ready", worker.ready())
    for line in commands:
        try:
            say("done", worker.answer(line.strip()))
        except Exception as error:  # noqa: BLE001 - as above
            say("failed", {"reason": one_line(error)})
            return


def main() -> None:
    """Read from stdin, and answer where stdout was; what a target prints goes to stderr."""
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers, redirect_stdout(sys.stderr):
        os.dup2(sys.stderr.fileno(), 1)
        work(sys.stdin, answers)


if __name__ == "__main__":
    main()
