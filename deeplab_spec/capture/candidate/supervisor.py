"""Starts a candidate's process, relays what it prints, and ends it with all its children when its parent ends.

This file stands alone: it needs the standard library only, and its text is the program of a child process. The
descriptors of the pipes for requests and answers are its arguments, and the first request has its settings. Its stdin
is a pipe that nothing is written to: it closes when the parent ends, whatever ends that.
"""

import sys

sys.path[:] = [folder for folder in sys.path if folder]  # nothing in the current folder stands in for a library

import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import warnings  # noqa: E402

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PRINTED = 65536
BEAT = 0.05


def control(option, value):
    """Set an option of this process, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def become_candidate(settings, requests, answers, parent):
    """Turn this process into the candidate's: return the calls that its main program makes."""
    os.setsid()
    control(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if settings["memory"]:
        resource.setrlimit(resource.RLIMIT_DATA, (settings["memory"], settings["memory"]))
    for arguments in (sys.argv, getattr(sys, "orig_argv", [])):
        arguments[:] = [""]
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        for option, value in ((-3, 2**25), (-1, 2**31 - 1)):  # the C library keeps freed memory
            ctypes.CDLL(None).mallopt(option, value)
    if sys.stdout:
        sys.stdout.reconfigure(line_buffering=True)  # what is printed is shown, however this process ends
    main, started = vars(sys.modules["__main__"]), "OMP_WAIT_POLICY" in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin slow down the parent
    program = {"__name__": "__main__"}
    try:
        exec(compile(settings["source"], "<string>", "exec"), program)
    except BaseException as error:  # an environment without torch, or with one that does not start
        text = {"error": f"cannot import torch: {type(error).__name__}: {error}"}
        os.write(answers, f"{json.dumps(text)}\n".encode())
        os._exit(1)
    if not started:
        del os.environ["OMP_WAIT_POLICY"]
    opened = os.fdopen(requests, "r"), os.fdopen(answers, "w")
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    return program["serve"](*opened, settings["folder"], settings["key"].encode(), main)


def relay(output, left):
    """Print what the candidate printed, without control characters and only so much of it.

    Returns how much more may be printed; None if nothing can follow.
    """
    data = os.read(output, 65536)
    if not data:
        return None
    text = data.decode("utf-8", "replace")
    if left >= 0:
        shown = "".join(character for character in text if character.isprintable() or character in "\n\t")[:left]
        try:
            sys.stderr.write(shown)
            if len(text) > left:
                sys.stderr.write("\n(the candidate printed more, which is not shown)\n")
            sys.stderr.flush()
        except OSError:  # its reader has ended
            pass
    return left - len(text)


def supervise(candidate, output):
    """Wait until the candidate or the parent ends; return the candidate's wait status, or None."""
    waiting, left = [0, output], PRINTED
    while True:
        ready = select.select(waiting, [], [], BEAT)[0]
        if 0 in ready:
            relay_rest(output, left)
            return None
        if output in ready:
            left = relay(output, left)
            if left is None:
                waiting.remove(output)
        ended, status = os.waitpid(candidate, os.WNOHANG)
        if ended:
            relay_rest(output, left)
            return status


def relay_rest(output, left):
    """Print the rest of what the candidate printed."""
    while left and left > 0 and select.select([output], [], [], 0)[0]:
        left = relay(output, left)


def end_children():
    """End every process that descends from this one: those whose parent has ended belong to this process."""
    while True:
        for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                if parent == os.getpid():
                    os.kill(int(entry), signal.SIGKILL)
            except (OSError, ValueError, IndexError):
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main():
    """Start the candidate's process and supervise it; in the candidate's process, return the calls to make."""
    requests, answers = int(sys.argv[1]), int(sys.argv[2])
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(requests, 1)
        if not chunk:
            os._exit(1)
        line += chunk
    settings = json.loads(line)
    control(PR_SET_CHILD_SUBREAPER, 1)
    parent = os.getpid()
    output, printing = os.pipe()
    candidate = os.fork()
    if not candidate:
        os.close(output)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(printing, 1)
        os.dup2(printing, 2)
        os.close(nothing)
        os.close(printing)
        return become_candidate(settings, requests, answers, parent)
    for descriptor in (requests, answers, printing):
        os.close(descriptor)
    status = supervise(candidate, output)
    try:
        os.kill(candidate, signal.SIGKILL)
    except ProcessLookupError:
        pass
    end_children()
    shutil.rmtree(settings["folder"], ignore_errors=True)
    if status is not None and os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(0 if status is None else os.WEXITSTATUS(status))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for call in main():  # in the candidate's process: its code is called from here, as its own program would call it
        try:
            output = call()
        except BaseException as error:
            raised = error
    __import__("os")._exit(0)
