"""The process whose speed is measured: a script that imports torch and what it times, nothing else.

It is started by its path, so that the ``deeplab_spec`` that it imports is the side's own and never
the one that measures; its own parts, the files ``side_*.py``, are found beside it. It reads a job
and then commands from stdin, one a line, and writes one JSON document a line to the file descriptor
that is its argument. What the side prints goes to stderr.
"""

import importlib.util
import json
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Job = dict[str, Any]


def beside(name: str) -> Any:  # noqa: ANN401 - a module that is found by its path
    """Load a part of this program."""
    spec = importlib.util.spec_from_file_location(f"side_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(job: Job, commands: Iterator[str], send: Callable[[Job], None]) -> None:
    """Build, warm up, and then take one sample for every line that arrives."""
    builder, clocks, timers = beside("build"), beside("clocks"), beside("timers")
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    on_gpu = job["device"].startswith("cuda")
    module, origin, built = builder.build(job)
    run = builder.prepare(module, job)
    for _ in range(job["warm_up"]):
        run()
    timer = (timers.GpuTimer if on_gpu else timers.CpuTimer)(run, job["wait"], clocks)
    timer.sample()
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    facts = {"origin": origin, "built": built, "torch": torch.__version__, "device": device, "room": room(on_gpu)}
    send({"event": "ready", **facts})
    for _ in commands:
        send({"event": "sample", **timer.sample()})


def room(on_gpu: bool) -> int:  # noqa: FBT001 - the one question
    """Return how many more processes like this one have room in the memory that is free."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rooms = [_available_kilobytes() // kilobytes]
    if on_gpu:
        free, whole = torch.cuda.mem_get_info()
        rooms.append(free // max(1, torch.cuda.max_memory_reserved() + whole // 100))  # a context takes some, too
    return int(min(rooms))


def _available_kilobytes() -> int:
    """Return how much memory programs can still have; nothing where no kernel says."""
    memory = Path("/proc/meminfo")
    lines = memory.read_text(encoding="ascii").splitlines() if memory.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)


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
