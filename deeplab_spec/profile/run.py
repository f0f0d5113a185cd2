"""Runs a module under torch.profiler.

What is timed runs without stacks, shapes and memory, which cost more than small operators do. A
second, short run records them, for TensorBoard's views and for peak memory; nothing is timed there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils import _pytree as pytree

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.profile.ranges import ranges
from deeplab_spec.profile.trace import STEP

LEAD = 1
"""Steps under the profiler before the first that counts: it sets itself up in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step is.

    Attributes:
        module: The network, on its device.
        images: Its input, on the same device.
        mode: Whether gradients are computed too.
        ranged: Block by the path of a module that gets a range.
    """

    module: nn.Module
    images: Tensor
    mode: Mode
    ranged: Mapping[str, str]

    def step(self) -> None:
        """Run once, and wait for the device.

        In training the loss is the mean square of the result, and there is no optimizer.
        """
        if self.mode is Mode.FORWARD:
            with torch.no_grad():
                self.module(self.images)
        else:
            self.module.zero_grad(set_to_none=True)
            values = [value for value in pytree.tree_leaves(self.module(self.images)) if isinstance(value, Tensor)]
            torch.autograd.backward([value.square().mean() for value in values])
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)


def record(
    work: Work, steps: int, file: Path, *, detailed: bool = False, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Profile some steps, and export the trace.

    Args:
        work: What a step is.
        steps: Steps that count.
        file: Where the trace goes.
        detailed: Whether stacks, shapes and memory are recorded too.
        progress: Told after each step how many are done.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if work.images.is_cuda else [])]
    work.module.train(work.mode is Mode.TRAIN)
    with (
        ranges(work.module, work.ranged),
        profile(
            activities=activities,
            with_stack=detailed,
            record_shapes=detailed,
            profile_memory=detailed,
            acc_events=True,
        ) as profiler,
    ):
        for _ in range(LEAD):
            work.step()
        for number in range(steps):
            with record_function(f"{STEP}{number}"):
                work.step()
            progress(number + 1)
    profiler.export_chrome_trace(str(file))
