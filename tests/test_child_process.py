"""Child processes: whole answers only, a deadline for each, and an end that is named."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplab_spec.child_process import ChildProcess, wait
from deeplab_spec.errors import ChildError
from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.strength.document import JudgedMutant, Lower
from deeplab_spec.strength.processes import ENTRIES

_CHILD = """
import os, subprocess, sys, time
from deeplab_spec.child_process import answers
with answers() as send:
    for line in sys.stdin:
        {action}
"""


def child(action: str) -> ChildProcess:
    """Start a child that does something for every request."""
    return ChildProcess([sys.executable, "-c", _CHILD.format(action=action)])


def test_every_request_is_answered_whatever_the_child_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """Its output goes to this process's stderr, also what a library writes to the descriptor itself."""
    with child("print('{'); os.system('echo shell'); send({'got': line.strip() * 100_000})") as process:
        for request in ("a", "bc"):
            process.send(request)
            assert process.receive(60) == {"got": request * 100_000}

    printed = capfd.readouterr()
    assert (printed.out, "shell" in printed.err) == ("", True)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("os._exit(7)", "the process ended with exit status 7"),
        ("os.kill(os.getpid(), 9)", "the process was ended by SIGKILL"),
        ("os.write(int(sys.argv[-1]), b'{\\n')", "the process sent a line that is no JSON document"),
        ("os.write(int(sys.argv[-1]), b'{'); os._exit(0)", "the process ended with exit status 0"),
    ],
)
def test_an_end_without_an_answer_is_named(action: str, reason: str) -> None:
    """Half an answer is none."""
    with child(action) as process:
        process.send("go")
        with pytest.raises(ChildError, match=f"^{reason}$"):
            process.receive(60)


def test_an_end_is_noticed_although_another_process_holds_the_pipe_open(tmp_path: Path) -> None:
    """What the child started is ended with it."""
    file = tmp_path / "alive"
    code = f"import time, pathlib; time.sleep(1); pathlib.Path({str(file)!r}).touch()"
    start = f"subprocess.Popen([sys.executable, '-c', {code!r}], pass_fds=[int(sys.argv[-1])]); os._exit(3)"
    with child(start) as process:
        process.send("go")
        with pytest.raises(ChildError, match="exit status 3"):
            process.receive(60)
    time.sleep(2)
    assert not file.exists()


def test_an_answer_that_is_late_is_a_timeout_and_others_are_read_meanwhile() -> None:
    """A process that hangs does not delay the others."""
    with child("time.sleep(600)") as hanging, child("send({'line': line})") as ready:
        for process in (hanging, ready):
            process.send("go")
        while ready not in (readable := wait([hanging, ready], 60)):
            pass
        assert hanging not in readable
        assert ready.poll() == {"line": "go\n"}
        with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
            hanging.receive(0.1)
    assert hanging.ended


@pytest.mark.parametrize("own", ["", "/of/the/user"])
def test_foreign_code_gets_the_environment_that_the_user_had(own: str, tmp_path: Path) -> None:
    """PyTorch sets the folder of its compiler's cache while the judge runs; a folder of the user's stays."""
    code = """
import os
from deeplab_spec.child_process import own_environment
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/of/torch")
print(own_environment().get("TORCHINDUCTOR_CACHE_DIR", ""))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": own} if own else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.strip() == own


def test_entries_of_mutants_survive_the_pipe() -> None:
    """Also an error that is infinite."""
    entry = JudgedMutant(
        subject="notebook@16",
        width=0.1,
        kind="k",
        name="n",
        path="p",
        shows=Shows.EVALUATION,
        proof="",
        error=float("inf"),
        lower={"tf32": Lower(ratio=float("inf"), killed=True)},
    )
    sent = json.loads(json.dumps(entry.model_dump(mode="json")))
    assert ENTRIES.validate_python([sent]) == [entry]
