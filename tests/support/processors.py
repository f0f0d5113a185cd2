"""Other processors, imitated by what chooses the kernels; and how far networks are from the specification on this one.

``python -m tests.support.processors`` prints the errors of a right network and of two wrong ones as JSON.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch
from torch import nn

from deeplab_spec import precision
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.judge.numerics.draws import Draws
from deeplab_spec.judge.numerics.observe import observe, prepare
from deeplab_spec.judge.plan import plan
from deeplab_spec.judge.request import DTYPES, Request
from deeplab_spec.judge.structure.observe import read
from deeplab_spec.reference.network import build
from tests.judge.structure.test_nearest_form import rewritten
from tests.support.candidates import SMALL

PROCESSORS: Final = {
    "plain": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OMP_NUM_THREADS": "1",
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OMP_NUM_THREADS": "2",
    },
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OMP_NUM_THREADS": "4"},
    "this one": {"OMP_NUM_THREADS": "1"},
}
"""What torch, oneDNN and MKL read when they start, and how many threads share a sum; a processor without
some instructions runs those that it has."""

LOWER: Final = tuple(each.name for each in precision.LOWER)
"""The names of the precisions below float32."""

Errors = dict[str, float]
"""The largest error in float64 end to end and of a step, and the largest ratio of each lower precision."""


def right() -> nn.Module:
    """Build the source document's network with layers of every kind written in another way."""
    return rewritten()


class _Scaled(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the framework's name
        return super().forward(input) * 1.0001


def scaled() -> nn.Module:
    """Build it with a result that is a ten-thousandth too large."""
    module = build("notebook", 16, 21, SMALL)
    module.get_submodule("decoder.logits.conv").__class__ = _Scaled
    return module


def other_rate() -> nn.Module:
    """Build it with one rate of the pyramid off by one."""
    return build("notebook", 16, 21, {**SMALL, "aspp_rates": (6, 13, 18)})


NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {"right": right, "scaled": scaled, "other rate": other_rate}


def errors(make: Callable[[], nn.Module]) -> Errors:
    """Measure how far a network is from the specification, by what the judge observes of its values."""
    choices = tuple(f"{name}={value}" for name, value in SMALL.items())
    planned = plan(Request(target="a test", variant="notebook", overrides=choices, dtypes=(*DTYPES, *LOWER)), 16)
    module = local(make().eval())
    loaded = prepare(module, read(module, planned))
    with ThreadPoolExecutor(1) as beside:
        found = observe(loaded, planned, DTYPES, lambda _: None, Draws(planned, beside))
    ratios = [deviation for each in found.lower.values() for deviation in each]
    return {
        "end": found.float64_error or 0.0,
        "step": max(step.error or 0.0 for step in found.steps),
        "float32": found.float32_ratio or 0.0,
        **{name: max(each.error or 0.0 for each in ratios if each.dtype == name) for name in LOWER},
    }


if __name__ == "__main__":
    json.dump({name: errors(make) for name, make in NETWORKS.items()}, sys.stdout)
