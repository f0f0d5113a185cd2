"""The commands about the specification run without torch, in a fresh interpreter."""

import json
import subprocess
import sys
from functools import cache

import pytest

COMMANDS = (
    ("--help",),
    ("--version",),
    ("show", "--help"),
    ("show",),
    ("show", "--format", "svg"),
    ("show", "--format", "json"),
    ("show", "--format", "skeleton"),
    ("count",),
    ("count", "--json", "--by", "node"),
    ("clauses", "--variant", "notebook"),
    ("clauses", "--json-schema"),
    ("choices", "--variant", "tf-release", "--choose", "width=0.125"),
    ("choices", "--json-schema"),
    ("port", "--help"),
    ("port", "--json-schema"),
    ("identify", "--help"),
    ("identify", "--json-schema"),
)

WATCH = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("LOADED " + ("torch" if "torch" in sys.modules else "no torch") + "\\n"))
"""
BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy", "jaxtyping", "hypothesis", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Blocker())
"""
ALL = """
import contextlib, io, json, sys
from deeplab_spec.cli.app import main
done = []
for arguments in json.loads(sys.argv[1]):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main(arguments)
        except SystemExit as end:
            done.append([end.code or 0, printed.getvalue(), "torch" in sys.modules])
print(json.dumps(done))
"""
"""Runs commands one after the other, and says what each returned and printed, and whether torch is loaded then."""


def interpreter(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@cache
def ran(before: str) -> dict[tuple[str, ...], tuple[int, str, bool]]:
    """Run every command in one fresh interpreter, after other code."""
    done = interpreter(f"{before}\n{ALL}", json.dumps(COMMANDS))
    assert done.returncode == 0, done.stderr
    return {command: tuple(result) for command, result in zip(COMMANDS, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_neither_loads_torch_nor_needs_it(command: tuple[str, ...]) -> None:
    """Importing torch takes seconds and a gigabyte of memory.

    With the blocker, an import of torch is an error; without it, it is loaded after the command.
    """
    assert ran(BLOCK)[command] == ran("")[command]
    status, printed, torch_is_loaded = ran("")[command]
    assert (status, torch_is_loaded) == (0, False)
    assert printed


def test_an_import_of_torch_is_detected() -> None:
    """The test above can fail: watch and blocker react to code that imports torch."""
    pytest.importorskip("torch")

    assert interpreter(f"{WATCH}\nimport torch").stderr.endswith("LOADED torch\n")
    assert "blocked" in interpreter(f"{BLOCK}\nimport torch").stderr


def test_the_module_is_the_program() -> None:
    """``python -m deeplab_spec`` is ``deeplab-spec``."""
    result = subprocess.run(
        [sys.executable, "-m", "deeplab_spec", "count", "--classes", "0"], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stderr) == (2, "deeplab-spec: classes: must be 1 or more, but got 0\n")


@pytest.mark.parametrize(
    "command", [("count", "--by", "node", "--json"), ("clauses",), ("show", "--format", "json")], ids=" ".join
)
def test_a_pipe_that_is_closed_early_is_not_an_error(command: tuple[str, ...]) -> None:
    """As with ``| head -1``: there is no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplab_spec", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()  # before the first line is written
    errors = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
