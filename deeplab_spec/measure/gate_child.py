"""The process whose speed is measured: a script that imports torch and what it times, nothing else.

It is started by its path, so that the ``deeplab_spec`` that it imports is the side's own and never
the one that measures. It reads a job and then commands from stdin, one a line, and writes one JSON
document a line to the file descriptor that is its argument. What the side prints goes to stderr.
"""

import ast
import importlib
import inspect
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

_SPINS = 20_000
"""Rounds of the arithmetic that witnesses the clock: about a millisecond."""

_CYCLES = 2_000_000
"""Cycles that a GPU spins to witness its clock: about a millisecond."""

Run = Callable[[], Tensor]
Job = dict[str, Any]


def build(job: Job) -> tuple[nn.Module, str]:
    """Return the side's module, and the file that it came from."""
    module_name, _, attribute = job["target"].partition(":")
    home = importlib.import_module(module_name)
    found: Any = home
    for step in attribute.split("."):
        found = getattr(found, step)
    origin = str(getattr(home, "__file__", ""))
    if isinstance(found, nn.Module):
        return found, origin
    arguments = {name: _value(text, job) for name, text in job["arguments"].items()}
    names = inspect.signature(found).parameters
    for name in ("variant", "output_stride", "num_classes", "choices"):
        if name in names and job[name]:
            arguments.setdefault(name, job[name])
    return found(**arguments), origin


def _value(text: str, job: Job) -> object:
    """Read an argument: a Python literal where it is one, else text."""
    filled = text.replace("{output_stride}", str(job["output_stride"])).replace("{classes}", str(job["num_classes"]))
    try:
        return ast.literal_eval(filled)
    except (ValueError, SyntaxError):
        return filled


def image_of(job: Job) -> Tensor:
    """Return the batch of images: the same numbers on both sides."""
    return torch.rand(job["batch"], 3, *job["size"], generator=torch.Generator().manual_seed(0))


def first_tensor(result: object) -> Tensor:
    """Return the first tensor of what a module returns."""
    match result:
        case Tensor():
            return result
        case dict() if result:
            return first_tensor(next(iter(result.values())))
        case [first, *_]:
            return first_tensor(first)
        case _:
            message = f"the network returns a {type(result).__name__}, not a tensor"
            raise TypeError(message)


def fold(module: nn.Module, image: Tensor) -> None:
    """Fold every normalisation into the convolution that is registered before it, and prove the result equal."""
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):  # so that a fold of the wrong pair shows
                norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
                norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        expected = first_tensor(module(image))
        for parent, before, after in list(_pairs(module)):
            fused = nn.utils.fuse_conv_bn_eval(getattr(parent, before), getattr(parent, after))
            setattr(parent, before, fused)
            setattr(parent, after, nn.Identity())
        actual = first_tensor(module(image))
    scale = expected.abs().max()
    if any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        raise ValueError("not every normalisation follows a convolution: the network cannot be folded")
    if not bool((actual - expected).abs().max() <= 1e-3 * scale):
        raise ValueError("the folded network computes something else")


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    for parent in module.modules():
        names = [name for name, _ in parent.named_children()]
        for before, after in pairwise(names):
            conv, norm = getattr(parent, before), getattr(parent, after)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield parent, before, after


def prepare(module: nn.Module, job: Job) -> Run:
    """Return what one sample runs: a forward pass or a training step, in the job's mode."""
    device, modes = torch.device(job["device"]), set(job["mode"].split("+"))
    image = image_of(job)
    training = job["direction"] == "train"
    module.train(training)
    if "folded" in modes:
        fold(module, image)
    tf32 = "tf32" in modes
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    module, image = module.to(device), image.to(device)
    if "channels_last" in modes:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last)
    call: Callable[[Tensor], object] = torch.compile(module) if "compiled" in modes else module
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = next((dtype for name, dtype in low.items() if name in modes), None)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return first_tensor(call(image))

    if not training:
        return torch.inference_mode()(forward)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)  # the same step each time

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = forward().float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


class CpuTimer:
    """Times a run by the wall clock."""

    def __init__(self, run: Run, wait: float) -> None:
        self.run = run
        self.wait = wait

    def seconds(self) -> float:
        """Run once; with a planted wait, that share of the run's own time longer."""
        start = perf_counter()
        self.run()
        end = perf_counter()
        deadline = end + self.wait * (end - start)
        while end < deadline:
            end = perf_counter()
        return end - start

    def witness(self) -> float:
        """Return the seconds that a fixed piece of arithmetic takes."""
        start = perf_counter()
        value = 1
        for _ in range(_SPINS):
            value = value * 1664525 + 1013904223 & 0xFFFFFFFF
        return perf_counter() - start


class GpuTimer:
    """Times a run by events on the device; a planted wait is in cycles of the device's clock."""

    def __init__(self, run: Run, wait: float) -> None:
        self.run = run
        self.cycles = 0
        if wait:
            usual = statistics.median(self.seconds() for _ in range(5))
            self.cycles = round(wait * usual * _CYCLES / self.witness())

    def seconds(self) -> float:
        """Run once."""

        def work() -> None:
            self.run()
            if self.cycles:
                _spin(self.cycles)

        return self._timed(work)

    def witness(self) -> float:
        """Return the seconds that a fixed number of the device's cycles takes."""
        return self._timed(lambda: _spin(_CYCLES))

    def _timed(self, work: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        start, end = _event(), _event()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - the only kernel of known length


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def serve(job: Job, commands: Iterator[str], send: Callable[[Job], None]) -> None:
    """Build, warm up, and then take one sample for every line that arrives."""
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    on_gpu = job["device"].startswith("cuda")
    module, origin = build(job)
    run = prepare(module, job)
    for _ in range(job["warm_up"]):
        run()
    timer = (GpuTimer if on_gpu else CpuTimer)(run, job["wait"])
    timer.seconds()
    timer.witness()
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    send({"event": "ready", "origin": origin, "torch": torch.__version__, "device": device})
    for _ in commands:
        send({"event": "sample", "witness": timer.witness(), "seconds": timer.seconds()})


def main() -> None:
    """Serve the job on stdin; a failure is said in one event."""
    warnings.simplefilter("ignore")
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as events:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def send(event: Job) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        try:
            serve(json.loads(sys.stdin.readline()), iter(sys.stdin.readline, ""), send)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the side raises is its failure
            lines = str(error).strip().splitlines() or [""]
            send({"event": "failed", "message": f"{type(error).__name__}: {lines[0]}"})


if __name__ == "__main__":
    main()
