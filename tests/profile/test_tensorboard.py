"""TensorBoard with torch-tb-profiler reads what ``profile`` writes: driven through its HTTP API."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.profile.document import TENSORBOARD
from deeplab_spec.profile.request import ProfileRequest
from deeplab_spec.profile.service import profile
from deeplab_spec.profile.trace import for_tensorboard

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch_tb_profiler") is None or importlib.util.find_spec("tensorboard") is None,
    reason="not run: tensorboard and torch-tb-profiler are not installed (extra 'bench')",
)
PLUGIN = "data/plugin/pytorch_profiler"
PATIENCE = 120
"""Seconds until a server must answer."""


class Server:
    """A TensorBoard server."""

    def __init__(self, logs: Path) -> None:
        line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", "0", "--host", "127.0.0.1"]
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stderr
        said = ""
        for text in self.process.stderr:  # it names the free port that it took
            said += text
            if match := re.search(r"http://127\.0\.0\.1:\d+/", text):
                self.address = match[0]
                return
        pytest.fail(f"TensorBoard did not start: {said}")

    def get(self, route: str, **query: str) -> Any:
        """Return the JSON document of a route of the plugin."""
        address = f"{self.address}{PLUGIN}/{route}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(address, headers={"Accept-Encoding": "identity"})  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
            content = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                import gzip

                content = gzip.decompress(content)
        return json.loads(content)

    def runs(self) -> list[str]:
        """Wait until the runs are loaded; return their names."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                answer = self.get("runs")
            except (urllib.error.URLError, ConnectionError):
                answer = {"runs": [], "loading": True}
            if answer["runs"] and not answer["loading"]:
                return list(answer["runs"])
            time.sleep(0.5)
        return []

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile a small network."""
    place = tmp_path_factory.mktemp("logs")
    request = ProfileRequest(target="tests.support.networks:Foreign", size=(33, 33), steps=2, ceilings=False)
    profile(request, place)
    return place


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    """Start TensorBoard on the profile."""
    started = Server(directory)
    yield started
    started.stop()


def test_tensorboard_lists_the_run_and_its_views_are_not_empty(server: Server) -> None:
    """Overview, operators, modules and the trace; a kernel view needs a CUDA trace."""
    runs = server.runs()
    assert runs == ["tensorboard"]

    run = runs[0]
    assert set(server.get("views", run=run)) >= {"Overview", "Operator", "Trace", "Module"}
    worker = server.get("workers", run=run, view="Operator")[0]
    place = {"run": run, "worker": worker, "span": server.get("spans", run=run, worker=worker)[0]}
    table = server.get("operation/table", **place, group_by="Operation")
    names = {row["name"] for row in table["data"]}
    assert {"aten::conv2d", "aten::batch_norm", "aten::relu"} <= names
    modules = server.get("module", **place)["data"]
    assert "Foreign" in json.dumps(modules)
    assert server.get("overview", **place)["steps"]["rows"]


def gpu_trace() -> dict[str, Any]:
    """Return a trace of one operator that launches one kernel, in today's categories."""
    common = {"ph": "X", "pid": 1, "tid": 1}
    kernel = {"device": 0, "stream": 7, "correlation": 5, "External id": 2}
    kernel |= {"grid": [1, 1, 1], "block": [1, 1, 1], "registers per thread": 1, "shared memory": 0}
    kernel |= {"blocks per SM": 1.0, "warps per SM": 1.0, "est. achieved occupancy %": 10}
    launch = {"correlation": 5, "External id": 2}
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "a device", "totalGlobalMem": 1, "numSms": 1}],
        "traceEvents": [
            common | {"cat": "user_annotation", "name": "ProfilerStep#0", "ts": 0, "dur": 100, "args": {}},
            common | {"cat": "cpu_op", "name": "aten::mm", "ts": 10, "dur": 20, "args": {"External id": 2}},
            common | {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 12, "dur": 5, "args": launch},
            {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 40, "dur": 30, "args": kernel},
        ],
    }


@pytest.mark.parametrize(("renamed", "device_time"), [(False, 0), (True, 30)])
def test_the_plugin_finds_the_devices_time_of_an_operator_in_the_copy_only(
    tmp_path: Path, *, renamed: bool, device_time: int
) -> None:
    """Its parser recognises launches by an older category, which the copy has."""
    source, copy = tmp_path / "source.json", tmp_path / TENSORBOARD.name
    source.write_text(json.dumps(gpu_trace()))
    if renamed:
        for_tensorboard(source, copy)
    else:
        copy.write_bytes(source.read_bytes())

    code = """
import sys, tempfile
from torch_tb_profiler.io import Cache
from torch_tb_profiler.profiler.data import RunProfileData
data = RunProfileData.parse("worker", "span", sys.argv[1], tempfile.mkdtemp())
data.process()
print(sum(op.device_duration for op in data.op_list_groupby_name if op.name == "aten::mm"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == device_time
