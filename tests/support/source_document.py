"""The source document's own classes, run unchanged from the file that an environment variable names.

Nothing of the document is kept here: its code cells are found by their form, and run with the
names that its other files would bring.
"""

import os
import re
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

VARIABLE = "DEEPLAB_SPEC_DOCUMENT"
"""The environment variable with the path of the file; without it, tests that need the document are skipped."""

_CELL = re.compile(r"^In \[.*\]:\s*$")
_CODE = re.compile(r"^(\s.*|class .*|def .*|import .*|from .*|@.*|[)\]}].*|# .*|\w+ = .*)?$")


class _Backbone(nn.Module):
    """The base class of the document's backbone, from another file of its repository."""

    def __init__(self, output_stride: int, out_channels: int, low_out_channels: int) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.out_channels = out_channels
        self.low_out_channels = low_out_channels


class _Module(SimpleNamespace):
    """A module whose names are found in the document itself."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(_names=names)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._names[name]
        except KeyError:
            raise AttributeError(name) from None


def cells(text: str) -> list[str]:
    """Return the code cells of a notebook that was saved as text.

    A cell begins after its prompt and ends before the first line that is no code: a heading, an
    image or a link.
    """
    found: list[str] = []
    lines: list[str] | None = None
    for line in [*text.splitlines(), "## end"]:
        if lines is not None and (_CELL.match(line) or not _CODE.match(line)):
            found.append("\n".join(lines))
            lines = None
        if _CELL.match(line):
            lines = []
        elif lines is not None:
            lines.append(line)
    return found


def namespace() -> dict[str, Any]:
    """Return the document's names, or skip the test that needs them.

    Cells are run until none is left; one that needs a name of a later cell waits for it.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        pytest.skip(f"not run: {VARIABLE} is not set")
    names: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "nn_func": nn.functional,
        "OrderedDict": OrderedDict,
        "defaultdict": defaultdict,
        "Identity": nn.Identity,
        "BackboneModule": _Backbone,
    }
    names["nn_ext"] = _Module(names)
    waiting = cells(Path(place).read_text(encoding="utf-8"))
    while waiting:
        later = [cell for cell in waiting if not _ran(cell, names)]
        if len(later) == len(waiting):
            message = f"{place}: {len(later)} cells need names that the document does not define"
            raise ImportError(message)
        waiting = later
    return names


def _ran(cell: str, names: dict[str, Any]) -> bool:
    try:
        exec(compile(cell, VARIABLE, "exec"), names)  # noqa: S102 - the document's own code is what is tested
    except (NameError, AttributeError):
        return False
    return True


def build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Return the document's network."""
    names = namespace()
    return cast("nn.Module", names["DeepLab"](names["Xception"](output_stride), num_classes))


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Load the weights of one module into another that has them in the same order.

    Raises:
        ValueError: If one has more than the other; shapes are checked as they are loaded.
    """
    pairs = zip(target.state_dict(), source.state_dict().values(), strict=True)
    target.load_state_dict(dict(pairs))
