"""Ways to run a network: what is rewritten, in which precision, and what compiles it.

A mode is a set of parts, joined by ``+``: ``bn_folded+channels_last``. ``eager`` is the module as it is.
Every function here takes a module and gives a new one; the argument stays as it was.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import SpecError
from deeplab_spec.execute.products import products
from deeplab_spec.measure.folding import folded
from deeplab_spec.measure.running import Autocast, ChannelsLast, Frozen, Replayed, Running
from deeplab_spec.measure.shifted import shifted

BOTH: Final = ("cpu", "cuda")
GPU: Final = ("cuda",)
EAGER: Final = "eager"
AUTO: Final = "auto"


class Precision(StrEnum):
    """What products are computed in. A float32 form must equal the module; the others may err as it does."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


class Kind(StrEnum):
    """What a part does; a mode has at most one part of the last three kinds each."""

    REWRITE = "rewrite"
    PRECISION = "precision"
    COMPILER = "compiler"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a mode does.

    Attributes:
        name: Its name in a mode.
        does: What it does, in a few words.
        kind: What it changes.
        apply: Makes a new module of one and an example of its input.
        devices: Where it can run.
        precision: What products are computed in.
        seconds: About how long it takes to prepare a full-size network on a CPU.
    """

    name: str
    does: str
    kind: Kind
    apply: Callable[[nn.Module, Tensor], nn.Module]
    devices: tuple[str, ...] = BOTH
    precision: Precision = Precision.FLOAT32
    seconds: int = 0


def _channels_last(module: nn.Module, _example: Tensor) -> nn.Module:
    return ChannelsLast(module)


def _shifted(module: nn.Module, _example: Tensor) -> nn.Module:
    return shifted(module)


def _same(module: nn.Module, _example: Tensor) -> nn.Module:
    return module  # the precision is switched while it runs


def _bf16(module: nn.Module, _example: Tensor) -> nn.Module:
    return Autocast(module, torch.bfloat16)


def _fp16(module: nn.Module, _example: Tensor) -> nn.Module:
    return Autocast(module, torch.float16)


def _compiled(module: nn.Module, _example: Tensor) -> nn.Module:
    compiled: nn.Module = torch.compile(module, dynamic=False)  # type: ignore[assignment]  # of a module it is one
    return compiled


def _frozen(module: nn.Module, _example: Tensor) -> nn.Module:
    return Frozen(module)


PARTS: Final = (
    Part(
        name="bn_folded",
        does="normalisations folded into convolutions",
        kind=Kind.REWRITE,
        apply=folded,
        seconds=15,
    ),
    Part(
        name="shifted",
        does="atrous depthwise convolutions as sums of shifted maps",
        kind=Kind.REWRITE,
        apply=_shifted,
    ),
    Part(
        name="channels_last",
        does="maps stored with their channels last",
        kind=Kind.REWRITE,
        apply=_channels_last,
    ),
    Part(
        name="tf32",
        does="products in TF32",
        kind=Kind.PRECISION,
        apply=_same,
        devices=GPU,
        precision=Precision.TF32,
    ),
    Part(
        name="amp_bf16",
        does="mixed precision with bfloat16",
        kind=Kind.PRECISION,
        apply=_bf16,
        precision=Precision.BF16,
    ),
    Part(
        name="amp_fp16",
        does="mixed precision with float16",
        kind=Kind.PRECISION,
        apply=_fp16,
        devices=GPU,
        precision=Precision.FP16,
    ),
    Part(
        name="inductor",
        does="torch.compile",
        kind=Kind.COMPILER,
        apply=_compiled,
        seconds=90,
    ),
    Part(
        name="inductor_freezing",
        does="torch.compile with the weights as constants",
        kind=Kind.COMPILER,
        apply=_frozen,
        seconds=60,
    ),
    Part(
        name="cuda_graph",
        does="recorded once, replayed as a CUDA graph",
        kind=Kind.GRAPH,
        apply=Replayed,
        devices=GPU,
    ),
)
"""Every part, in the order in which they are applied."""

DEFAULTS: Final = {
    "cpu": (
        EAGER,
        "channels_last",
        "bn_folded",
        "bn_folded+channels_last",
        "inductor",
        "inductor_freezing",
        "bn_folded+channels_last+inductor_freezing",
        "bn_folded+shifted+channels_last+inductor_freezing",
        "amp_bf16",
    ),
    "cuda": (
        EAGER,
        "channels_last",
        "tf32",
        "bn_folded+channels_last+tf32+cuda_graph",
        "amp_bf16",
        "bn_folded+channels_last+amp_bf16",
        "amp_fp16",
        "bn_folded+channels_last+amp_fp16+cuda_graph",
        "inductor_freezing",
        "channels_last+amp_fp16+inductor_freezing",
    ),
}
"""What is tried on a device where nothing is named."""

GPU_EXAMPLES: Final = ("tf32", "amp_fp16", "cuda_graph")
"""What is listed as not run where there is no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to run a network.

    Attributes:
        parts: What it does, in the order of :data:`PARTS`.
    """

    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """Its name: its parts in order, or ``eager``."""
        return "+".join(part.name for part in self.parts) or EAGER

    @property
    def does(self) -> str:
        """What it does."""
        return ", ".join(part.does for part in self.parts) or "the module as it is"

    @property
    def precision(self) -> Precision:
        """What products are computed in."""
        return next((part.precision for part in self.parts if part.kind is Kind.PRECISION), Precision.FLOAT32)

    @property
    def tf32(self) -> bool:
        """Whether products are computed in TF32."""
        return self.precision is Precision.TF32

    @property
    def float32_form(self) -> "Mode":
        """The mode's rewrites alone, whose results must equal the module's in float32."""
        return Mode(parts=tuple(part for part in self.parts if part.kind is Kind.REWRITE))

    @property
    def reference_form(self) -> "Mode":
        """The mode's precision alone: the module as it is, in it."""
        return Mode(parts=tuple(part for part in self.parts if part.kind is Kind.PRECISION))

    @property
    def seconds(self) -> int:
        """About how long it takes to prepare a full-size network."""
        return sum(part.seconds for part in self.parts)

    def missing(self, device: str) -> str:
        """Say why the mode cannot run on a device here; empty if it can."""
        gpu = device == "cuda" or any(device not in part.devices for part in self.parts)
        if gpu and not torch.cuda.is_available():
            return "no CUDA device"
        if gpu and device != "cuda":
            return "only for a CUDA device"
        if device == "cpu" and self.precision is Precision.BF16 and not _computes_bf16():
            return "this processor computes no bfloat16"
        return ""

    def apply(self, module: nn.Module, example: Tensor) -> nn.Module:
        """Return a new module that computes the same in this mode, run once on the example.

        Raises:
            CaptureError: If the graph cannot be read where it must be.
        """
        changed = copy.deepcopy(module).eval()
        with products(tf32=self.tf32):
            for part in self.parts:
                changed = part.apply(changed, example)
        running = Running(changed, tf32=self.tf32)
        running(example)
        return running


def read_mode(text: str) -> Mode:
    """Read a mode: names of parts, joined by ``+`` in any order.

    Raises:
        SpecError: If a part is unknown, occurs twice, or two of one kind exclude each other.

    >>> read_mode("channels_last+bn_folded").name
    'bn_folded+channels_last'
    """
    names = text.split("+") if text != EAGER else []
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known or names.count(name) > 1:
            rule = f"must be {EAGER}, or some of {', '.join(known)}, each once, joined by +"
            raise SpecError("mode", rule, text)
    parts = tuple(part for part in PARTS if part.name in names)
    for kind in (Kind.PRECISION, Kind.COMPILER, Kind.GRAPH):
        if sum(part.kind is kind for part in parts) > 1:
            raise SpecError("mode", f"must have at most one part of the kind {kind.value}", text)
    return Mode(parts=parts)


def modes_for(device: str, names: Sequence[str] = ()) -> tuple[Mode, ...]:
    """Return the modes of some names, each once; those usual on a device where none is named."""
    return tuple(dict.fromkeys(read_mode(name) for name in names or DEFAULTS[device]))


def _computes_bf16() -> bool:
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - it is asked nowhere else
    return supported
