"""The device that a case runs on, and the description of the machine in the documents."""

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import Case

_CPU: Final = Path("/proc/cpuinfo")
_NUMBERS: Final = ("cpu family", "model", "stepping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a case runs.

    Attributes:
        name: The model in one line, precise enough to tell devices apart.
        file: The same as part of a file name.
    """

    name: str
    file: str


def device_of(case: Case) -> Device:
    """Return the device that runs a case.

    Raises:
        TargetError: If the case needs a CUDA device, and there is none.
    """
    if case.device == "cpu":
        return cpu(_information(), os.cpu_count() or 1)
    import torch

    if not torch.cuda.is_available():
        raise TargetError(case.name, "needs a CUDA device, and there is none")
    name = torch.cuda.get_device_name()
    return Device(name=name, file=_slug(name))


def machine() -> dict[str, str | int]:
    """Return the processor, the system and the versions that a document records."""
    return {
        "processor": platform.machine(),
        "model": cpu(_information(), os.cpu_count() or 1).name,
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _information() -> str:
    return _CPU.read_text(encoding="utf-8") if _CPU.exists() else ""


def cpu(information: str, cores: int) -> Device:
    r"""Describe a processor, with family, model and stepping: many hosts report the same name for all models.

    Args:
        information: The content of ``/proc/cpuinfo``; empty if there is none.
        cores: The number of cores.

    >>> cpu("model name : Xeon(R) Processor\ncpu family : 6\nmodel : 207\nstepping : 2", 2).file
    'cpu-xeon-processor-6-207-2-2-cores'
    """
    facts: dict[str, str] = {}
    for line in information.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or platform.machine()
    known = [key for key in _NUMBERS if key in facts]
    about = [f"{key} {facts[key]}" for key in known]
    plain = re.sub(r"\((r|tm)\)", "", model, flags=re.IGNORECASE)
    parts = ["cpu", plain, *(facts[key] for key in known), f"{cores} cores"]
    return Device(name=", ".join([model, *about, f"{cores} cores"]), file=_slug(" ".join(parts)))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
