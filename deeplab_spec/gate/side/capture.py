"""The process that reads a side's graph: a script that builds with the side's code and reads with ours.

Once the side's module is built, what was imported of ``deeplab_spec`` is forgotten, so that a checkout
of any age is read by this version. The module keeps the code that it was made of.
"""

import importlib
import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

_PACKAGE = "deeplab_spec"


def _builder() -> Any:  # noqa: ANN401 - a module that is found by its path
    name = "build"
    spec = importlib.util.spec_from_file_location(f"side_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(job: dict[str, Any]) -> dict[str, object]:
    """Return the graph of the job's module, and the file that the module came from."""
    builder = _builder()
    module, origin, _ = builder.build(job)
    image = builder.image_of(job)
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    sys.path.insert(0, job["packages"])
    from deeplab_spec.capture.fx.module import capture
    from deeplab_spec.gate.networks import to_json

    captured = capture(module, [image])
    network = captured.network.live()
    batched = 4
    shapes = {
        path: shape[1:] if len(shape) == batched else () for path, shape in captured.shapes.items() if path in network
    }
    return {"event": "network", "origin": origin, "network": to_json(network, shapes)}


def main() -> None:
    """Read the job on stdin; write one event to the file descriptor that is the argument."""
    warnings.simplefilter("ignore")
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as events:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            event = read(json.loads(sys.stdin.readline()))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the side raises is its failure
            lines = str(error).strip().splitlines() or [""]
            event = {"event": "failed", "message": f"{type(error).__name__}: {lines[0]}"}
        events.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    main()
