"""Runs a module under torch.profiler, with a range around every module that belongs to one block.

The timed run records no stacks, shapes and memory, which cost more time than small operators do. A second,
short run records them, for TensorBoard's views and for peak memory; it is not timed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils import _pytree as pytree

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.profile.trace import STEP

LEAD = 1
"""Steps under the profiler before the first timed one: the profiler sets itself up in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a step.

    Attributes:
        module: The network, on its device.
        images: Its input, (n, channels, h, w), on the same device.
        mode: Whether gradients are computed too.
        ranged: Block, by the path of a module that gets a range.
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


@contextmanager
def ranges(module: nn.Module, ranged: Mapping[str, str]) -> Iterator[None]:
    """Open a profiler range with the block's name around each module, until the end of the context."""
    opened: list[record_function] = []

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        opened.pop().__exit__(None, None, None)

    handles = []
    for path, block in ranged.items():
        inner = module.get_submodule(path)
        handles.append(inner.register_forward_pre_hook(_Opens(block, opened)))
        handles.append(inner.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Opens:
    """A hook that opens a range."""

    def __init__(self, block: str, opened: list[record_function]) -> None:
        self.block = block
        self.opened = opened

    def __call__(self, _module: nn.Module, _inputs: object) -> None:
        entered = record_function(self.block)
        entered.__enter__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.opened.append(entered)


def record(
    work: Work, steps: int, file: Path, *, detailed: bool = False, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Profile some steps, and export the trace.

    Args:
        work: The work of a step.
        steps: Number of steps.
        file: Where the trace goes.
        detailed: Whether stacks, shapes and memory are recorded too.
        progress: Receives the number of steps that are done, after each step.
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
