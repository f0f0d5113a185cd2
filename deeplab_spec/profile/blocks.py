"""Finds the modules and operator calls of every block, in the network and in a mode of it.

A rewrite or a lower precision runs a copy of the network with its modules at the same paths. A compiler or a
recorded graph merges all modules into one program, whose operators belong to no block.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor, fx, nn

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.calls import ProgramCall
from deeplab_spec.capture.fx.operators import operator_name
from deeplab_spec.errors import SpecError
from deeplab_spec.measure import wrappers
from deeplab_spec.measure.modes import Mode, read_mode
from deeplab_spec.measure.parts import EAGER, Kind
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call

UNKNOWN: Final = "unknown"
"""The first name in the path of a node that belongs to no block."""

_SEPARABLE: Final = frozenset({Kind.REWRITE, Kind.SWITCH, Kind.PRECISION})
"""Kinds of parts that run the network's own modules."""


def profile_mode(name: str, device: str) -> Mode:
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
    module: nn.Module, mode: Mode, example: Tensor, ranged: Mapping[str, str]
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

    Args:
        capture: The network.
        paths: Path in the specification, by node.
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
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return tuple(str(module).partition("@")[0] for module, _ in stack)


def _ancestors(module: str) -> set[str]:
    steps = module.split(".") if module else []
    return {".".join(steps[:length]) for length in range(len(steps))}
