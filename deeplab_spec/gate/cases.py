"""The cases that can be timed, what each of them shows that the others do not, and the device that a case runs on."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.measure.parts import DEVICES, EAGER, OLD_PARTS
from deeplab_spec.precision import AUTOCAST_BFLOAT16, AUTOCAST_FLOAT16, TF32, renamed
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE

PASSES: Final = ("forward", "train")
Pass = Literal["forward", "train"]

CHANNELS_LAST: Final = "channels_last"
FOLDED: Final = "folded"

MODES: Final = (EAGER, CHANNELS_LAST, FOLDED, "compiled", TF32.name, AUTOCAST_BFLOAT16.name, AUTOCAST_FLOAT16.name)
"""The parts that a mode consists of, joined by ``+``."""

_MODES_RULE: Final = f"must be one or more of {', '.join(MODES)}, joined by +"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, its input, and how it runs.

    ``variant``, ``choices`` and ``output_stride`` are passed to the function that builds the network if it
    has arguments of these names.

    Attributes:
        name: Its name on the command line.
        reason: What it shows.
        device: ``cpu`` or ``cuda``.
        variant: The variant of the network.
        choices: Choices that override those of the variant.
        output_stride: Input pixels per pixel of the backbone's output.
        size: Height and width of the images, in pixels.
        batch: The number of images.
        direction: A forward pass, or a training step.
        mode: Parts of :data:`MODES`, joined by ``+``.
        rounds: Samples of each process.
        threads: Threads of each process.
        required: Those of ``variant``, ``choices`` and ``output_stride`` that the user has set: a builder without
            such an argument is refused.

    Raises:
        SpecError: If the device, mode or direction does not exist, or a number is not positive.
    """

    name: str
    reason: str
    device: Literal["cpu", "cuda"]
    variant: str = NOTEBOOK.name
    choices: Mapping[str, str | float] = field(default_factory=dict)
    output_stride: int = 16
    size: Pair
    batch: int = 1
    direction: Pass = "forward"
    mode: str = EAGER
    rounds: int
    threads: int = 1
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.mode.split("+")) - set(MODES):
            raise SpecError("mode", _MODES_RULE, self.mode)
        for name, value, known in (("direction", self.direction, PASSES), ("device", self.device, DEVICES)):
            if value not in known:
                raise SpecError(name, f"must be one of {', '.join(known)}", value)
        numbers = (*self.size, self.batch, self.rounds, self.threads, self.output_stride)
        if min(numbers) < 1:
            raise SpecError(self.name, "size, batch, rounds, threads and output stride must be 1 or more", numbers)
        if self.direction == "train" and FOLDED in self.mode.split("+"):
            raise SpecError(self.name, "a folded network cannot be trained", self.mode)

    @property
    def title(self) -> str:
        """Images, direction, mode and device: what does not depend on the network that is built."""
        height, width = self.size
        return f"{self.batch}x3x{height}x{width}, {self.direction}, {self.mode}, {self.device}"


_cpu: Final = partial(Case, device="cpu", choices={"width": 0.25})
_gpu: Final = partial(Case, device="cuda", size=(513, 513))
_SERVED: Final = f"{CHANNELS_LAST}+{AUTOCAST_BFLOAT16.name}"

CPU_FORWARD: Final = _cpu(
    name="cpu-forward",
    reason="every operator of the network once: a lost fusion, an extra copy, a slower operator shows here",
    size=(97, 97),
    rounds=60,
)

CASES: Final = (
    CPU_FORWARD,
    _cpu(
        name="cpu-channels-last",
        reason="the memory format that fast convolutions want: a copy back to the other format shows here",
        size=(97, 97),
        mode=CHANNELS_LAST,
        rounds=60,
    ),
    _cpu(
        name="cpu-os8",
        reason="larger maps and doubled rates: what is bound by memory, and atrous convolutions, weigh most here",
        variant=TF_RELEASE.name,
        output_stride=8,
        size=(97, 97),
        rounds=40,
    ),
    _cpu(
        name="cpu-train",
        reason="the backward pass: a gradient that is computed twice, or kept for nothing, shows here",
        size=(65, 65),
        batch=2,
        direction="train",
        rounds=30,
    ),
    _gpu(
        name="gpu-latency",
        reason="one image: the time to launch kernels, so that one more kernel shows",
        rounds=60,
    ),
    _gpu(
        name="gpu-throughput",
        reason="a batch in the mode that people serve: matrix units and memory are busy",
        batch=8,
        mode=_SERVED,
        rounds=60,
    ),
    _gpu(
        name="gpu-os8",
        reason="atrous depthwise convolutions on large maps, where the choice of kernel decides",
        variant=TF_RELEASE.name,
        output_stride=8,
        batch=8,
        mode=_SERVED,
        rounds=40,
    ),
    _gpu(
        name="gpu-train",
        reason="the training step in mixed precision: backward kernels and their memory",
        batch=8,
        direction="train",
        mode=_SERVED,
        rounds=30,
    ),
)
_FIRST_OF: Final = {"cpu": CPU_FORWARD.name, "cuda": "gpu-latency"}


def case(name: str) -> Case:
    """Return the case of a name.

    Raises:
        SpecError: If there is no such case.
    """
    for candidate in CASES:
        if candidate.name == name:
            return candidate
    raise SpecError("--case", f"must be one of {', '.join(entry.name for entry in CASES)}", name)


def case_for(device: str) -> Case:
    """Return the default case of a device.

    Raises:
        SpecError: If the device does not exist.
    """
    if device not in _FIRST_OF:
        raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", device)
    return case(_FIRST_OF[device])


def changed(entry: Case, changes: Mapping[str, Any]) -> Case:
    """Return a case with other values of some fields, and ``-changed`` added to its name; unchanged if there are none.

    Choices are added to those of the case.

    Raises:
        SpecError: If the changed case cannot be run.

    >>> changed(CPU_FORWARD, {"batch": 2}).name
    'cpu-forward-changed'
    """
    if not changes:
        return entry
    values = dict(changes)
    if "choices" in values:
        values["choices"] = {**entry.choices, **values["choices"]}
    required = tuple(name for name in ("variant", "choices", "output_stride") if name in changes)
    reason = "what the options of the command say"
    return replace(entry, **values, name=f"{entry.name}-changed", reason=reason, required=required)


def read_mode(text: str, where: str = "--mode") -> str:
    """Return a mode with today's names; a name of an earlier release is accepted with a warning.

    Raises:
        SpecError: If a part does not exist.

    >>> read_mode("channels_last+tf32")
    'channels_last+tf32'
    """
    parts = [renamed(part, OLD_PARTS) for part in text.split("+")]
    if set(parts) - set(MODES):
        raise SpecError(where, _MODES_RULE, text)
    return "+".join(parts)


_CPU: Final = Path("/proc/cpuinfo")
_NUMBERS: Final = ("cpu family", "model", "stepping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a case runs: its model, precise enough to tell devices apart, also as part of a file name."""

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
    r"""Describe a processor from ``/proc/cpuinfo``, with its numbers: many hosts report the same name for all models.

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
