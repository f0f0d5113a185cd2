"""The measured process: a script that builds one side of the comparison and times it, or reads its graph.

It is started by its path and imports only torch and the standard library of its own, so that
``deeplab_spec`` in this process is the side's version and never that of the gate; ``timers.py`` is
loaded by its path. The script reads a job, one line of JSON, from stdin, and
writes events, one line of JSON each, to the file descriptor that is its argument. Whatever the side
prints goes to stderr.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[], Tensor]
Job = dict[str, Any]

_PACKAGE = "deeplab_spec"


def _timers() -> Any:  # noqa: ANN401 - a module that is loaded by its path
    """Load ``timers.py`` from the folder of this script, under a name that no other module has."""
    spec = importlib.util.spec_from_file_location("gate_side_timers", Path(__file__).with_name("timers.py"))
    if spec is None or spec.loader is None:
        raise ImportError("timers")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(job: Job, commands: Iterator[str], send: Callable[[Job], None]) -> None:
    """Build the network, warm it up, then take one sample for every line that arrives."""
    timers = _timers()
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    on_gpu = job["device"].startswith("cuda")
    module, origin, built = build(job)
    run = prepare(module, job)
    for _ in range(job["warm_up"]):
        run()
    timer = (timers.GpuTimer if on_gpu else timers.CpuTimer)(run, job["wait"])
    timer.sample()
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    facts = {"origin": origin, "built": built, "torch": torch.__version__, "device": device, "room": room(on_gpu)}
    send({"event": "ready", **facts})
    for _ in commands:
        send({"event": "sample", **timer.sample()})


def read_graph(job: Job) -> Job:
    """Return the event with the graph of the network, and the file that its module comes from.

    The side's code builds the network, and the gate's version reads it: after building, the side's
    ``deeplab_spec`` is removed from the imported modules. The network keeps the classes it was built from.
    """
    module, origin, _ = build(job)
    image = image_of(job)
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    sys.path.insert(0, job["packages"])
    from deeplab_spec.capture.fx.module import capture

    captured = capture(module, [image])
    network = captured.network.live()
    shapes = {
        path: shape[1:] if len(shape) == image.ndim else ()
        for path, shape in captured.shapes.items()
        if path in network
    }
    nodes = [
        {"path": node.path, "op": type(node.op).__name__, "attributes": asdict(node.op), "inputs": node.inputs}
        for node in network
    ]
    return {"event": "graph", "origin": origin, "nodes": nodes, "shapes": shapes}


def build(job: Job) -> tuple[nn.Module, str, str]:
    """Return the network, the file of its Python module, and a description of the call that built it.

    Raises:
        TypeError: If an option sets an argument that the target does not take.
    """
    module_name, _, attribute = job["target"].partition(":")
    imported = importlib.import_module(module_name)
    target: Any = imported
    for step in attribute.split("."):
        target = getattr(target, step)
    origin = str(getattr(imported, "__file__", ""))
    if isinstance(target, nn.Module):
        if job["required"]:
            raise TypeError(f"{job['target']} is a module instance: no option can set its {job['required'][0]}")
        return target, origin, f"{job['target']}, a module instance"
    arguments = {name: _value(text, job) for name, text in job["arguments"].items()}
    names = inspect.signature(target).parameters
    for name in job["required"]:
        if name not in names:
            raise TypeError(f"{job['target']} takes no argument {name!r}, which an option sets")
    for name in ("variant", "output_stride", "num_classes", "choices"):
        if name in names and job[name]:
            arguments.setdefault(name, job[name])
    written = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return target(**arguments), origin, f"{job['target']}({written})"


def _value(text: str, job: Job) -> object:
    """Return an argument as a Python literal if it is one, else as text."""
    filled = text.replace("{output_stride}", str(job["output_stride"])).replace("{classes}", str(job["num_classes"]))
    try:
        return ast.literal_eval(filled)
    except (ValueError, SyntaxError):
        return filled


def image_of(job: Job) -> Tensor:
    """Return the batch of images, ``(n, 3, h, w)``; both sides get the same values."""
    return torch.rand(job["batch"], 3, *job["size"], generator=torch.Generator().manual_seed(0))


def first_tensor(result: object) -> Tensor:
    """Return the first tensor of a module's result.

    Raises:
        TypeError: If there is none.
    """
    match result:
        case Tensor():
            return result
        case dict() if result:
            return first_tensor(next(iter(result.values())))
        case [first, *_]:
            return first_tensor(first)
        case _:
            raise TypeError(f"the network returns a {type(result).__name__}, not a tensor")


def fold(module: nn.Module, image: Tensor) -> None:
    """Fold every normalisation into the convolution registered before it, and compare the results.

    Raises:
        ValueError: If a normalisation is left, or the folded network computes something else.
    """
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):  # else folding a wrong pair would change nothing
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


def multiply_in(precision: str) -> None:
    """Set how a GPU multiplies float32: ``tf32`` or ``ieee``. This overrides what the side has set.

    The older switches ``allow_tf32`` have no effect once a side has used the newer ones, and setting them may
    fail. They are set as well, because torch refuses to read them while they contradict the newer ones.
    """
    with suppress(RuntimeError):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]


def prepare(module: nn.Module, job: Job) -> Run:
    """Return the function that one sample runs: a forward pass or a training step, in the job's mode."""
    device, modes = torch.device(job["device"]), set(job["mode"].split("+"))
    image = image_of(job)
    training = job["direction"] == "train"
    module.train(training)
    if "folded" in modes:
        fold(module, image)
    multiply_in("tf32" if "tf32" in modes else "ieee")
    module, image = module.to(device), image.to(device)
    if "channels_last" in modes:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last)
    call: Callable[[Tensor], object] = torch.compile(module) if "compiled" in modes else module
    low = {"autocast-bfloat16": torch.bfloat16, "autocast-float16": torch.float16}
    dtype = next((dtype for name, dtype in low.items() if name in modes), None)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return first_tensor(call(image))

    if not training:
        return torch.inference_mode()(forward)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)  # a learning rate of 0 keeps every step the same

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = forward().float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


def room(on_gpu: bool) -> int:  # noqa: FBT001 - the only argument
    """Return how many more processes like this one fit into the free memory."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rooms = [_available_kilobytes() // kilobytes]
    if on_gpu:
        free, total = torch.cuda.mem_get_info()
        rooms.append(free // max(1, torch.cuda.max_memory_reserved() + total // 100))  # 1 % for a CUDA context
    return int(min(rooms))


def _available_kilobytes() -> int:
    """Return how much memory new programs can have; 0 if the system does not report it."""
    memory = Path("/proc/meminfo")
    lines = memory.read_text(encoding="ascii").splitlines() if memory.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)


def main() -> None:
    """Do the job that arrives on stdin: a job with ``packages`` asks for the graph, any other for samples."""
    warnings.simplefilter("ignore")
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as events:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def send(event: Job) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        try:
            job = json.loads(sys.stdin.readline())
            if "packages" in job:
                send(read_graph(job))
            else:
                serve(job, iter(sys.stdin.readline, ""), send)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any error of the side's code is its failure
            lines = str(error).strip().splitlines() or [""]
            send({"event": "failed", "message": f"{type(error).__name__}: {lines[0]}"})


if __name__ == "__main__":
    main()
