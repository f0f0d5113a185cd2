"""Opens a profiler range around every module that belongs to one block."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from torch import fx, nn
from torch.profiler import record_function

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.calls import ProgramCall
from deeplab_spec.capture.fx.operators import operator_name
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call

UNKNOWN: Final = "unknown"
"""How the path of a node that stands in no block begins."""


def ranged_modules(capture: Capture, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the outermost modules all of whose operations are of one block, with the block.

    An operation that stands in no block, such as one whose result nobody reads, decides nothing.

    Args:
        capture: The network.
        paths: Path in the specification of every node.
    """
    blocks: dict[str, set[str]] = defaultdict(set)
    for path, call in _calls(capture):
        block = _block(paths[path])
        for module in _stack(call.node) if block != UNATTRIBUTED else ():
            blocks[module].add(block)
    single = {module: next(iter(found)) for module, found in blocks.items() if len(found) == 1}
    return {module: block for module, block in single.items() if not _ancestors(module) & single.keys()}


def call_order(capture: Capture, paths: Mapping[str, str], ranged: Mapping[str, str]) -> dict[str, Call]:
    """Return the operator call of every node, in the order in which they are made."""
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


@contextmanager
def ranges(module: nn.Module, ranged: Mapping[str, str]) -> Iterator[None]:
    """Give modules profiler ranges of their blocks' names, until the end of the context."""
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


def _stack(node: fx.Node) -> tuple[str, ...]:
    """Return the paths of the modules that a call stands in; a further call of a module is the module's."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return tuple(str(module).partition("@")[0] for module, _ in stack)


def _ancestors(module: str) -> set[str]:
    steps = module.split(".") if module else []
    return {".".join(steps[:length]) for length in range(len(steps))}
