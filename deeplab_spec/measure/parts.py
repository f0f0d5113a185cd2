"""The parts of modes: their names and properties, without a framework.

A mode is a set of parts, joined by ``+``: ``folded+channels_last``. ``eager`` is the module unchanged.
``bench``, ``optimize``, ``profile`` and ``gate`` accept these names, and reports print them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.precision import (
    AUTOCAST_BFLOAT16,
    AUTOCAST_FLOAT16,
    BFLOAT16,
    FLOAT16,
    OLD_NAMES,
    TF32,
    Precision,
    renamed,
)

EAGER: Final = "eager"
DEVICES: Final = ("cpu", "cuda")
CPU: Final = ("cpu",)
GPU: Final = ("cuda",)


class Kind(StrEnum):
    """The kind of a part; a mode has at most one part of each of the last four kinds."""

    REWRITE = "rewrite"
    SWITCH = "switch"
    PRECISION = "precision"
    COMPILER = "compiler"
    ENGINE = "engine"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a mode.

    Attributes:
        name: Its name in a mode.
        does: A description in a few words.
        kind: Its kind.
        devices: The devices that it can run on.
        precision: The precision of products, for a part that decides it.
        seconds: About how long it takes to prepare a full-size network on two processor cores.
        packages: The packages that it needs beside torch.
        extra: The extra of this package that installs them.
    """

    name: str
    does: str
    kind: Kind
    devices: tuple[str, ...] = DEVICES
    precision: Precision | None = None
    seconds: int = 0
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def missing(self) -> str:
        """Why the part cannot run on any device; empty if its packages are installed."""
        if all(find_spec(package) for package in self.packages):
            return ""
        return f"it needs the extra '{self.extra}': pip install 'deeplab-spec[{self.extra}]'"


def _precision(precision: Precision, devices: tuple[str, ...] = DEVICES) -> Part:
    return Part(name=precision.name, does=precision.does, kind=Kind.PRECISION, devices=devices, precision=precision)


PARTS: Final = (
    Part(name="folded", does="normalisations folded into convolutions", kind=Kind.REWRITE, seconds=8),
    Part(name="shifted", does="atrous depthwise convolutions as sums of shifted maps", kind=Kind.REWRITE),
    Part(name="channels_last", does="maps stored with their channels last", kind=Kind.REWRITE),
    Part(
        name="cudnn_benchmark",
        does="cuDNN times its algorithms and takes the fastest",
        kind=Kind.SWITCH,
        devices=GPU,
        seconds=5,
    ),
    _precision(TF32, GPU),
    _precision(BFLOAT16),
    _precision(FLOAT16),
    _precision(AUTOCAST_BFLOAT16),
    _precision(AUTOCAST_FLOAT16),
    Part(name="compiled", does="torch.compile", kind=Kind.COMPILER, seconds=60),
    Part(name="compiled_frozen", does="torch.compile with the weights as constants", kind=Kind.COMPILER, seconds=50),
    Part(
        name="onnxruntime",
        does="exported to ONNX and run by onnxruntime",
        kind=Kind.ENGINE,
        devices=CPU,
        seconds=15,
        packages=("onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
    ),
    Part(
        name="openvino",
        does="exported to ONNX and run by OpenVINO",
        kind=Kind.ENGINE,
        devices=CPU,
        seconds=15,
        packages=("onnx", "onnxscript", "openvino"),
        extra="openvino",
    ),
    Part(name="cuda_graph", does="recorded once, replayed as a CUDA graph", kind=Kind.GRAPH, devices=GPU, seconds=3),
)
"""Every part, in the order in which they are applied."""

OLD_PARTS: Final[Mapping[str, str]] = {
    **OLD_NAMES,
    "bn_folded": "folded",
    "inductor": "compiled",
    "inductor_freezing": "compiled_frozen",
}
"""Today's names by those of earlier releases."""

_EXCLUSIVE: Final = (Kind.PRECISION, Kind.COMPILER, Kind.ENGINE, Kind.GRAPH)
_BESIDE_ENGINES: Final = frozenset({"folded"})
"""The parts that can be combined with an engine, which reads a graph in float32 and chooses its own layout."""


def read_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of a mode in the order in which they are applied; old names warn.

    Raises:
        SpecError: If a part is unknown, occurs twice, or two exclude each other.

    >>> [part.name for part in read_parts("channels_last+folded")]
    ['folded', 'channels_last']
    """
    names = [renamed(name, OLD_PARTS) for name in text.split("+")] if text != EAGER else []
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known or names.count(name) > 1:
            rule = f"must be {EAGER}, or some of {', '.join(known)}, each once, joined by +"
            raise SpecError("mode", rule, text)
    parts = tuple(part for part in PARTS if part.name in names)
    for kind in _EXCLUSIVE:
        if sum(part.kind is kind for part in parts) > 1:
            raise SpecError("mode", f"must have at most one part of the kind {kind.value}", text)
    engine = next((part for part in parts if part.kind is Kind.ENGINE), None)
    others = {part.name for part in parts} - _BESIDE_ENGINES
    if engine and others != {engine.name}:
        raise SpecError("mode", f"can combine {engine.name} with {', '.join(_BESIDE_ENGINES)} only", text)
    return parts


def name_of(parts: Sequence[Part]) -> str:
    """Return the name of a mode: its parts joined by ``+``, or ``eager``."""
    return "+".join(part.name for part in parts) or EAGER
