"""The judge's limits tell rounding from faults by far, whatever processor rounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_spec.judge.numerics.end_to_end import END_TO_END_LIMIT
from deeplab_spec.judge.numerics.steps import STEP_LIMIT
from deeplab_spec.precision import RATIO_LIMIT
from tests.support.processors import LOWER, PROCESSORS, Errors

pytestmark = pytest.mark.deep
"""Each processor takes half a minute."""

CAST = {"bfloat16", "float16"}
"""The precisions in which every tensor is cast."""


def measured(processor: str) -> dict[str, Errors]:
    """Measure a right network and two wrong ones as a processor, in a process that starts as one."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **PROCESSORS[processor]}
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.processors"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Errors] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("processor", PROCESSORS)
def test_limits_lie_far_above_rounding_and_far_below_faults(processor: str) -> None:
    """A right network uses no thousandth of a limit in float64, and not half of one that is relative to rounding.

    Where every tensor is cast, layers that are written out round after each operation: 1.9 of 3 in float16.
    A result that is a ten-thousandth too large exceeds what float64 allows more than ten-thousandfold, and float32
    fivefold; below that a rate off by one exceeds what is allowed twentyfold.
    """
    found = measured(processor)
    right, scaled, other_rate = found["right"], found["scaled"], found["other rate"]

    assert right["end"] < END_TO_END_LIMIT / 1e3
    assert right["step"] < STEP_LIMIT / 1e3
    used = {name: RATIO_LIMIT * (3 / 4 if name in CAST else 1 / 2) for name in ("float32", *LOWER)}
    assert [name for name, most in used.items() if not right[name] < most] == []
    assert scaled["end"] > 1e4 * END_TO_END_LIMIT
    assert scaled["step"] > 1e4 * STEP_LIMIT
    assert scaled["float32"] > 5 * RATIO_LIMIT
    assert [name for name in LOWER if not other_rate[name] > 20 * RATIO_LIMIT] == []
