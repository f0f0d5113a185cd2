"""The command ``mutants`` on a few mutants of a short network, in this process."""

from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.strength import processes, service
from deeplab_spec.strength.service import MutantsRequest

MOST = 8


def shrink(patch: pytest.MonkeyPatch, folder: Path, size: int = 2) -> None:
    """Let the command judge at most eight mutants of a short network, in pieces of a size.

    Args:
        patch: Undoes it.
        folder: Where finished pieces are kept.
        size: Mutants of a piece.
    """

    def small(**options: Any) -> MutantsRequest:
        if not options:
            return MutantsRequest()
        given = {**options, "sample": min(options["sample"] or MOST, MOST), "processes": 1}
        few = {"variants": ("notebook",), "output_strides": (16,), "overrides": ("middle_blocks=1",)}
        return MutantsRequest(**{**given, **few, "rewrites": False, "lower_every": 5})

    patch.setattr(service, "MutantsRequest", small)
    patch.setattr(processes, "MUTANTS_PER_UNIT", size)
    patch.setenv("XDG_CACHE_HOME", str(folder))


def run(*arguments: object) -> int:
    """Run a command in this process, and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in arguments])
    return int(ended.value.code or 0)
