"""Runs a command about somebody's file in a process of its own, so that reading it can end only that."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from deeplab_spec.child_process import python_module
from deeplab_spec.exit_codes import ExitCode

_CHILD: Final = "DEEPLAB_SPEC_APART"
_FILES: Final = (".pt2", ".onnx")


def runs_apart(arguments: Sequence[str]) -> bool:
    """Tell whether a command names a file that another program wrote, and this is not its own process yet."""
    return _CHILD not in os.environ and any(argument.lower().endswith(_FILES) for argument in arguments)


def run_apart(program: str, arguments: Sequence[str]) -> int:
    """Run a command in a child process, and return its exit status.

    A child that is ended by a signal could not read the file: one line says so.
    """
    command = [*python_module("deeplab_spec"), *arguments]
    try:
        code = subprocess.run(command, env={**os.environ, _CHILD: "1"}, check=False).returncode
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if code >= 0:
        return code
    sys.stderr.write(f"{program}: the process that read the file was ended by {signal.Signals(-code).name}\n")
    return ExitCode.COULD_NOT_RUN
