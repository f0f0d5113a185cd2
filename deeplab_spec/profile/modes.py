"""Runs a network in a mode, and finds its modules in what runs, so that their blocks can be told apart.

A rewrite and a lower precision run a copy of the network whose modules are where they were. A compiler or
a recorded graph runs what it made of all of them, in which operators belong to no module.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from deeplab_spec.errors import SpecError
from deeplab_spec.measure import wrappers as running
from deeplab_spec.measure.modes import Mode, read_mode
from deeplab_spec.measure.parts import EAGER, Kind

_SEPARABLE: Final = frozenset({Kind.REWRITE, Kind.SWITCH, Kind.PRECISION})
"""Kinds of parts that run the network's own modules."""


def profile_mode(name: str, device: str) -> Mode:
    """Read a mode in which blocks can be told apart on a device.

    Raises:
        SpecError: If there is no such mode, it cannot run on the device, or it merges the blocks.
    """
    mode = read_mode(name)
    merged = ", ".join(part.name for part in mode.parts if part.kind not in _SEPARABLE)
    if merged:
        rule = f"must run the network's own modules; {merged} makes one program of them, in which time has no block"
        raise SpecError("--mode", rule, name)
    missing = mode.missing(device)
    if missing:
        raise SpecError("--mode", f"must be able to run here ({missing})", name)
    return mode


def in_mode(
    module: nn.Module, mode: Mode, example: Tensor, ranged: Mapping[str, str]
) -> tuple[nn.Module, dict[str, str]]:
    """Return what runs in a mode, and the paths in it of some modules of the network.

    Args:
        module: The network; it is not changed.
        mode: A mode that :func:`profile_mode` has read.
        example: An input.
        ranged: Block by the path of a module.
    """
    if mode.name == EAGER:
        return module, dict(ranged)
    made = mode.apply(module, example)
    steps, inner = [], made
    while type(inner).__module__ == running.__name__:
        steps.append("module")
        inner = inner.get_submodule("module")
    return made, {".".join([*steps, *([path] if path else [])]): block for path, block in ranged.items()}
