"""Runs pytest as another project does: in another folder and another process."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

import pytest

from deeplab_spec.judge.certificate import Certificate

ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "deeplab_spec.pytest_plugin")
"""Loads the plugin without its entry point, so that slow plugins of other packages are not loaded."""
XDIST = ("-p", "xdist", "-n", "2")
TARGET = ("--deeplab-target", "my_model:build", "--deeplab-variant", "notebook")

_FAKE = """
import pathlib
import deeplab_spec.judge.judge
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.errors import TargetError

HERE = pathlib.Path(__file__).parent

def run(request, progress, process):
    (stride,) = request.output_strides
    with (HERE / "judged").open("a") as log:
        log.write(f"{stride}\\n")
    if not (HERE / f"{stride}.json").exists():
        raise TargetError(request.target, "cannot be built: RuntimeError: no such weights")
    return Certificate.model_validate_json((HERE / f"{stride}.json").read_text())

deeplab_spec.judge.judge.run = run
"""


def fake(folder: Path, **certificates: Certificate) -> None:
    """Replace the judge in a folder by fixed certificates per output stride: ``os16=certificate(...)``."""
    (folder / "conftest.py").write_text(_FAKE, encoding="utf-8")
    for name, certificate in certificates.items():
        (folder / f"{name.removeprefix('os')}.json").write_text(certificate.model_dump_json(), encoding="utf-8")


def judged(folder: Path) -> list[int]:
    """Return the output strides that were judged, in order, with repetitions."""
    log = folder / "judged"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def run(folder: Path, *arguments: str, plugin: tuple[str, ...] = PLUGIN) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, in a copy of this process: what it needs is imported already."""
    line = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", *plugin, *arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other threads do not run in the copy
            child = os.fork()
        if not child:
            _become_pytest(folder, line, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(line, code, out.read(), err.read())


def _become_pytest(folder: Path, line: list[str], out: int, err: int) -> NoReturn:
    """Run pytest in the copy of a process, and end it."""
    code = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        environment = _environment()
        os.environ.clear()
        os.environ.update(environment)
        warnings.resetwarnings()
        code = pytest.main(line)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def run_afresh(folder: Path, *arguments: str, plugin: tuple[str, ...] = PLUGIN) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, in a new interpreter."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments]
    return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONPATH": path, "COLUMNS": "160", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the outcome of each test of a verbose run."""
    lines = (line.split() for line in done.stdout.splitlines() if line.startswith("deeplab_spec/"))
    return {words[0]: words[1] for words in lines}
