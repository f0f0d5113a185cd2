"""The device that a case runs on: what tells it from others, and its name as a file may have it."""

import os
import platform
import re
from dataclasses import dataclass
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
        name: Everything that tells it from other devices, in one line.
        file: A name for files of it.
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


def processor() -> str:
    """Return what tells this machine's processors from others, in one line."""
    return cpu(_information(), os.cpu_count() or 1).name


def _information() -> str:
    return _CPU.read_text(encoding="utf-8") if _CPU.exists() else ""


def cpu(information: str, cores: int) -> Device:
    r"""Return a processor.

    Many hosts call every processor by one name, so that the family, model and stepping are told, too.

    Args:
        information: What the kernel says, as in ``/proc/cpuinfo``; empty where it says nothing.
        cores: How many there are.

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
