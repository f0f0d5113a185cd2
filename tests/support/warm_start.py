"""Starts candidates' processes as copies of one that has imported PyTorch, which saves most of what a start takes.

The text of a candidate's process runs as it does after a cold start: with the same arguments, environment, folder and
descriptors, as the main program, and with nothing else on the stack. But PyTorch's exporter is imported already. A
test that is about the start, or about what a process has imported, has the mark ``cold_start``.
"""

import atexit
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from deeplab_spec.child_process import PASSIVE, ChildProcess, own_environment

_SERVER = """
import ctypes, fcntl, os, select, signal, socket, sys, warnings
sys.path[:] = [folder for folder in sys.path if folder]
warnings.simplefilter("ignore")
import torch
torch.export.export(torch.nn.Conv2d(1, 1, 1).eval(), (torch.zeros(1, 1, 2, 2),))
warnings.resetwarnings()
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.write(1, b"ready")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if 0 in select.select([0, listener], [], [])[0]:
        os._exit(0)
    connection = listener.accept()[0]
    text, descriptors, _, _ = socket.recv_fds(connection, 16, 8)
    size = int(text)
    text = b""
    while len(text) < size:
        text += connection.recv(size - len(text))
    if os.fork():
        for descriptor in (connection.fileno(), *descriptors):
            os.close(descriptor)
        connection.detach()
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        for descriptor in (*descriptors, listener.fileno()):
            os.close(descriptor)
        connection.sendall(b"%d" % os.waitpid(child, 0)[1])
        os._exit(0)
    break
os.setsid()
numbers, command, environment, folder = eval(text)
high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 500) for descriptor in descriptors]
connection.close()
listener.close()
for descriptor in descriptors:
    os.close(descriptor)
for descriptor, number in zip(high, numbers):
    os.dup2(descriptor, number)
    os.close(descriptor)
os.environ.clear()
os.environ.update(environment)
os.chdir(folder)
sys.argv[:] = ["-c", *command[3:]]
sys.orig_argv[:] = command
text = command[2]
for name in [name for name in globals() if not name.startswith("__") and name != "text"]:
    del globals()[name]
del name
exec(text)
"""

_CLIENT = """
import os, signal, socket, sys
path, *command = sys.argv[1:]
numbers = [0, 1, 2, *map(int, command[-2:])]
text = repr((numbers, command, dict(os.environ), os.getcwd())).encode()
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
socket.send_fds(connection, [b"%16d" % len(text)], numbers)
connection.sendall(text)
for number in numbers[3:]:
    os.close(number)
status = int(connection.recv(16) or b"256")
if os.WIFSIGNALED(status):
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.WEXITSTATUS(status))
"""

_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MKL_", "KMP_", "TORCH_", "PYTORCH_", "CUDA")
"""Beginnings of the names of variables that an interpreter or its libraries read when they start."""


class WarmProcess(ChildProcess):
    """A child process that is a copy of the prepared one, where a cold start would do the same."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int]) -> None:
        address, read = _prepared()
        if command[0] == sys.executable and _read_at_start(environment) == read:
            command = [sys.executable, "-I", "-S", "-c", _CLIENT, address, *command]
        super().__init__(command, environment, pass_fds=pass_fds)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


@cache
def _prepared() -> tuple[str, dict[str, str]]:
    """Start the process that is copied; return its address, and the variables that it read."""
    environment = own_environment()
    address = str(Path(tempfile.mkdtemp()) / "start")
    server = subprocess.Popen(  # it ends when its stdin is closed
        [sys.executable, "-c", _SERVER, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**PASSIVE, **environment},
        start_new_session=True,
    )
    if server.stdout is None or server.stdout.read(5) != b"ready":
        raise RuntimeError("the prepared process did not start")
    atexit.register(server.communicate)
    return address, _read_at_start(environment)
