"""Modes: ways to run a network, by its rewrites, its precision and its compiler.

Every function here takes a module and returns a new one; the argument is not changed.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.measure.parts import EAGER, Kind, Part, name_of, read_parts
from deeplab_spec.measure.rewrites import folded, shifted
from deeplab_spec.measure.wrappers import (
    Autocast,
    Cast,
    ChannelsLast,
    Compiled,
    Frozen,
    OnnxRuntime,
    OpenVino,
    Replayed,
    Running,
    Switches,
    switched,
)
from deeplab_spec.precision import BFLOAT16, FLOAT32, TF32, Precision

AUTO: Final = "auto"

Apply = Callable[[nn.Module, Tensor], nn.Module]
"""Makes a new module from a module and an example of its input."""


def _switch(module: nn.Module, _example: Tensor) -> nn.Module:
    return module  # the switches are set while it runs


APPLY: Final[Mapping[str, Apply]] = {
    "folded": folded,
    "shifted": lambda module, _example: shifted(module),
    "channels_last": lambda module, _example: ChannelsLast(module),
    "cudnn_benchmark": _switch,
    "tf32": _switch,
    "bfloat16": lambda module, _example: Cast(module, torch.bfloat16),
    "float16": lambda module, _example: Cast(module, torch.float16),
    "autocast-bfloat16": lambda module, _example: Autocast(module, torch.bfloat16),
    "autocast-float16": lambda module, _example: Autocast(module, torch.float16),
    "compiled": lambda module, _example: Compiled(module),
    "compiled_frozen": lambda module, _example: Frozen(module),
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "cuda_graph": Replayed,
}
"""How every part is applied, by name."""

DEFAULTS: Final = {
    "cpu": (
        EAGER,
        "channels_last",
        "folded",
        "folded+channels_last",
        "compiled",
        "compiled_frozen",
        "folded+channels_last+compiled_frozen",
        "autocast-bfloat16",
        "onnxruntime",
        "openvino",
    ),
    "cuda": (
        EAGER,
        "channels_last",
        "tf32",
        "channels_last+tf32",
        "folded+channels_last+tf32+cuda_graph",
        "autocast-bfloat16",
        "channels_last+autocast-bfloat16",
        "channels_last+cudnn_benchmark+autocast-bfloat16",
        "autocast-float16",
        "folded+channels_last+autocast-float16+cuda_graph",
        "compiled_frozen",
        "channels_last+autocast-float16+compiled_frozen",
        "folded+shifted+channels_last+autocast-float16+compiled_frozen",
    ),
}
"""The default modes of ``bench``, by device."""

AUTOMATIC: Final = {
    "cpu": (
        EAGER,
        "channels_last",
        "folded",
        "folded+channels_last",
        "onnxruntime",
        "openvino",
        "folded+channels_last+compiled_frozen",
    ),
    "cuda": (
        EAGER,
        "channels_last",
        "folded+cuda_graph",
        "folded+channels_last+cuda_graph",
        "channels_last+cudnn_benchmark",
        "compiled_frozen",
        "folded+channels_last+compiled_frozen",
    ),
}
"""The modes that ``optimize`` tries by default: in float32, the quickly prepared ones first."""

GPU_EXAMPLES: Final = ("tf32", "autocast-float16", "cuda_graph")
"""Modes that ``bench`` lists as not run where there is no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to run a network.

    Attributes:
        parts: Its parts, in the order of :data:`~deeplab_spec.measure.parts.PARTS`.
    """

    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """Its parts joined by ``+``; ``eager`` if there are none."""
        return name_of(self.parts)

    @property
    def does(self) -> str:
        """A description in words."""
        return ", ".join(part.does for part in self.parts) or "the module as it is"

    @property
    def precision(self) -> Precision:
        """The precision of products."""
        return next((part.precision for part in self.parts if part.precision), FLOAT32)

    @property
    def switches(self) -> Switches:
        """The settings of the process while it runs."""
        names = {part.name for part in self.parts}
        return Switches(tf32=self.precision is TF32, cudnn_benchmark="cudnn_benchmark" in names)

    @property
    def float32_form(self) -> "Mode":
        """The mode's rewrites alone, whose outputs must equal the module's in float32."""
        return Mode(parts=tuple(part for part in self.parts if part.kind is Kind.REWRITE))

    @property
    def seconds(self) -> int:
        """About how long it takes to prepare a full-size network on two processor cores."""
        return sum(part.seconds for part in self.parts)

    def missing(self, device: str) -> str:
        """Return why the mode cannot run on a device here; empty if it can."""
        if not torch.cuda.is_available() and (
            device == "cuda" or any("cpu" not in part.devices for part in self.parts)
        ):
            return "no CUDA device"
        for part in self.parts:
            if device not in part.devices:
                return f"only for a {'CUDA device' if device == 'cpu' else 'CPU'}"
            if part.missing:
                return part.missing
        if device == "cpu" and self.precision.arithmetic == BFLOAT16.name and not _computes_bfloat16():
            return "this processor computes no bfloat16"
        return ""

    def apply(self, module: nn.Module, example: Tensor) -> nn.Module:
        """Return a new module that computes the same in this mode; it has run once on the example.

        Raises:
            CaptureError: If a rewrite needs the graph and it cannot be read.
        """
        changed = copy.deepcopy(module).eval()
        with switched(self.switches):
            for part in self.parts:
                changed = APPLY[part.name](changed, example)
        running = Running(changed, self.switches)
        running(example)
        return running


def read_mode(text: str) -> Mode:
    """Read a mode: names of parts, joined by ``+`` in any order.

    Raises:
        SpecError: If a part is unknown, occurs twice, or two exclude each other.

    >>> read_mode("channels_last+folded").name
    'folded+channels_last'
    """
    return Mode(parts=read_parts(text))


def reference_mode(precision: Precision) -> Mode:
    """Return the mode that runs the module unchanged in a precision.

    >>> reference_mode(TF32).name, reference_mode(FLOAT32).name
    ('tf32', 'eager')
    """
    return Mode() if precision is FLOAT32 else read_mode(precision.name)


def modes_for(device: str, names: Sequence[str] = ()) -> tuple[Mode, ...]:
    """Return the modes with some names, each once; the device's default modes without names."""
    return tuple(dict.fromkeys(read_mode(name) for name in names or DEFAULTS[device]))


def _computes_bfloat16() -> bool:
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - there is no public way
    return supported
