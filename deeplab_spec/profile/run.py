"""Runs a network in a mode under torch.profiler, with a range around every module that belongs to one block.

A rewrite or a lower precision runs a copy of the network with its modules at the same paths. A compiler or a
recorded graph merges all modules into one program, whose operators belong to no block.

The timed run records no stacks, shapes and memory, which cost more time than small operators do. A second,
short run records them, for TensorBoard's views and for peak memory; it is not timed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, fx, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils import _pytree as pytree

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.calls import ProgramCall, operator_name
from deeplab_spec.errors import SpecError
from deeplab_spec.measure import wrappers
from deeplab_spec.measure.modes import Mode as ExecutionMode
from deeplab_spec.measure.modes import read_mode
from deeplab_spec.measure.parts import EAGER, Kind
from deeplab_spec.profile.trace import STEP
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call

LEAD: Final = 1
"""Steps under the profiler before the first timed one: the profiler sets itself up in them."""

UNKNOWN: Final = "unknown"
"""The first name in the path of a node that belongs to no block."""

_SEPARABLE: Final = frozenset({Kind.REWRITE, Kind.SWITCH, Kind.PRECISION})
"""Kinds of parts that run the network's own modules."""


def profile_mode(name: str, device: str) -> ExecutionMode:
    """Read a mode that keeps the blocks apart on a device.

    Raises:
        SpecError: If there is no such mode, it cannot run on the device, or it merges the blocks.
    """
    mode = read_mode(name)
    merged = ", ".join(part.name for part in mode.parts if part.kind not in _SEPARABLE)
    if merged:
        rule = f"must run the network's own modules; {merged} merges them into one program without blocks"
        raise SpecError("--mode", rule, name)
    missing = mode.missing(device)
    if missing:
        raise SpecError("--mode", f"must be able to run here ({missing})", name)
    return mode


def in_mode(
    module: nn.Module, mode: ExecutionMode, example: Tensor, ranged: Mapping[str, str]
) -> tuple[nn.Module, dict[str, str]]:
    """Return the network in a mode, and the paths of the modules with a range in that.

    Args:
        module: The network; it is not changed.
        mode: A mode that :func:`profile_mode` has read.
        example: An input, (n, channels, h, w).
        ranged: Block by the path of a module.
    """
    if mode.name == EAGER:
        return module, dict(ranged)
    running = mode.apply(module, example)
    steps, inner = [], running
    while type(inner).__module__ == wrappers.__name__:
        steps.append("module")
        inner = inner.get_submodule("module")
    return running, {".".join([*steps, *([path] if path else [])]): block for path, block in ranged.items()}


def ranged_modules(capture: Capture, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the outermost modules whose operations all belong to one block, with the block.

    An operation outside all blocks, such as one whose result is not used, does not count.
    """
    blocks: dict[str, set[str]] = defaultdict(set)
    for path, call in _calls(capture):
        block = _block(paths[path])
        for module in _stack(call.node) if block != UNATTRIBUTED else ():
            blocks[module].add(block)
    single = {module: next(iter(inside)) for module, inside in blocks.items() if len(inside) == 1}
    return {module: block for module, block in single.items() if not _ancestors(module) & single.keys()}


def call_order(capture: Capture, paths: Mapping[str, str], ranged: Mapping[str, str]) -> dict[str, Call]:
    """Return the operator call of every node, in the order of execution."""
    calls = {}
    for path, call in _calls(capture):
        within = next((ranged[module] for module in _stack(call.node) if module in ranged), None)
        block = within or _block(paths[path])
        calls[path] = Call(operator=operator_name(call.node), block=block, ranged=within is not None)
    return calls


def _calls(capture: Capture) -> Iterator[tuple[str, ProgramCall]]:
    """Return the framework calls of a module; a file of another framework has none."""
    return ((path, step) for path, step in capture.steps.items() if isinstance(step, ProgramCall))


def _block(path: str) -> str:
    return UNATTRIBUTED if path.startswith(f"{UNKNOWN}.") else block_of(path)


def _stack(node: fx.Node) -> tuple[str, ...]:
    """Return the paths of the modules that enclose a call; repeated calls of a module have the module's path."""
    return tuple(module.partition("@")[0] for module in node.meta.get("within", ()))


def _ancestors(module: str) -> set[str]:
    steps = module.split(".") if module else []
    return {".".join(steps[:length]) for length in range(len(steps))}


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
        handles.append(inner.register_forward_pre_hook(partial(_open, block, opened)))
        handles.append(inner.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _open(block: str, opened: list[record_function], _module: nn.Module, _inputs: object) -> None:
    opened.append(record_function(block))
    opened[-1].__enter__()  # type: ignore[no-untyped-call]  # torch does not annotate it


def record(
    work: Work, steps: int, file: Path, *, detailed: bool = False, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Profile some steps, and export the trace; a detailed one has stacks, shapes and memory too."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if work.images.is_cuda else [])]
    work.module.train(work.mode is Mode.TRAIN)
    with (
        ranges(work.module, work.ranged),
        profile(
            activities=activities, with_stack=detailed, record_shapes=detailed, profile_memory=detailed, acc_events=True
        ) as profiler,
    ):
        for _ in range(LEAD):
            work.step()
        for number in range(steps):
            with record_function(f"{STEP}{number}"):
                work.step()
            progress(number + 1)
    profiler.export_chrome_trace(str(file))
