"""The measured process: a script that builds one side of the comparison and times it, or reads its graph.

It is started by its path and imports only torch and the standard library of its own, so that
``deeplab_spec`` in this process is the side's version and never that of the gate; ``build.py`` and
``timers.py`` are loaded by their paths. The script reads a job, one line of JSON, from stdin, and
writes events, one line of JSON each, to the file descriptor that is its argument. Whatever the side
prints goes to stderr.
"""

import importlib.util
import json
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

Job = dict[str, Any]

_PACKAGE = "deeplab_spec"


def beside(name: str) -> Any:  # noqa: ANN401 - a module that is loaded by its path
    """Load a module from the folder of this script, under a name that no other module has."""
    spec = importlib.util.spec_from_file_location(f"gate_side_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(job: Job, commands: Iterator[str], send: Callable[[Job], None]) -> None:
    """Build the network, warm it up, then take one sample for every line that arrives."""
    builder, timers = beside("build"), beside("timers")
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    on_gpu = job["device"].startswith("cuda")
    module, origin, built = builder.build(job)
    run = builder.prepare(module, job)
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
    builder = beside("build")
    module, origin, _ = builder.build(job)
    image = builder.image_of(job)
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
