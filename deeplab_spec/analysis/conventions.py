"""Conventions: what counts as one operation, as records.

``mac`` and ``full`` are this specification's own. The others are those of tools; tests reconcile each with its tool,
node by node. ``tfprof`` is a reconstruction of how the paper's figures were counted, not a fact: its three constants
were fitted to the residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Final

from deeplab_spec.analysis.flops import flops
from deeplab_spec.analysis.terms import UNTILED, Mode, Surroundings, Term, Terms, conv_weights
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Node, Source
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Multiply,
    Opaque,
    Pad,
    Pool,
    Resize,
    ResizeMode,
    kind,
)
from deeplab_spec.spec.network import CLASSIFIER
from deeplab_spec.spec.sources import paper

Formula = Callable[[Node, Surroundings, Mode], Terms]
BOTH: Final = (Mode.FORWARD, Mode.TRAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What counts as one operation.

    Attributes:
        name: Its name on the command line.
        title: What it counts, in a sentence.
        unit: The unit of its counts, in the plural.
        formula: The terms of a node.
        modes: The modes that it can count.
        divisor: Counts per operation; 2 if it counts halves.
        skipped: The operators of a node that the tool skips with a warning, by the tool's names.
        source: Where it is described.
    """

    name: str
    title: str
    unit: str
    formula: Formula
    modes: tuple[Mode, ...] = BOTH
    divisor: int = 1
    skipped: Callable[[Node], tuple[str, ...]]
    source: Source

    def require(self, mode: Mode) -> None:
        """Check that the convention can count a mode.

        Raises:
            SpecError: If it cannot.
        """
        if mode not in self.modes:
            able = ", ".join(entry.name for entry in CONVENTIONS if mode in entry.modes)
            raise SpecError("convention", f"{self.name} counts no backward pass; {mode.value} needs one of {able}", "")


def multiply_adds(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the multiply-adds of convolutions; in training also those of both gradients."""
    if not isinstance(node.op, Conv2d):
        return ()
    passes = 1 if mode is Mode.FORWARD else 2 + (node.inputs[0] in around.learning)
    return (Term(passes * conv_weights(node.op), node.path),)


def torch_flops(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the count of torch's ``FlopCounterMode``: two per multiply-add of a convolution."""
    return tuple(Term(2 * term.count, term.pixels_of) for term in multiply_adds(node, around, mode))


def undivided_weight_gradients(node: Node) -> Terms:
    """Return the excess of versions of ``FlopCounterMode`` that do not divide by the groups.

    These versions count the weight gradient of a grouped convolution like that of one without groups.
    ``tests/capture/test_counters.py`` finds out whether the installed version does.
    """
    if not isinstance(node.op, Conv2d) or node.op.groups == 1:
        return ()
    return (Term(2 * (node.op.groups - 1) * conv_weights(node.op), node.path),)


def fvcore_flops(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the count of fvcore's ``FlopCountAnalysis`` for a module in evaluation."""
    del mode
    match node.op:
        case Conv2d() as op:
            return (Term(conv_weights(op), node.path),)
        case BatchNorm(channels=channels, affine=affine):
            return (Term((1 + affine) * channels, node.path),)
        case Resize(mode=ResizeMode.BILINEAR):
            return (around.elements(node.path, 4),)
        case Resize(mode=ResizeMode.NEAREST):
            return (around.elements(node.path),)
        case GlobalAveragePool():
            return (around.elements(node.inputs[0]),)
        case _:
            return ()


def fvcore_skips(node: Node) -> tuple[str, ...]:
    """Return the operators of a node that fvcore skips with a warning."""
    match node.op:
        case Add():
            return ("aten::add",)
        case Multiply():
            return ("aten::mul",)
        case Pool(padding="same"):
            return ("aten::pad", f"aten::{operator(node)}")
        case Pad() | Conv2d(padding="same"):
            return ("aten::pad",)  # fvcore knows the operator's parts, but not its name in a trace
        case Conv2d(padding=(top, bottom, left, right)) if (top, left) != (bottom, right):
            return ("aten::pad",)
        case Pool() | Resize(mode=ResizeMode.BICUBIC):
            return (f"aten::{operator(node)}",)
        case Activation(kind=kind) if kind is not ActivationKind.RELU:
            return (f"aten::{operator(node)}",)
        case _:
            return opaque(node)


def tfprof_halves(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the reconstructed count of TensorFlow's profiler, in halves.

    An atrous convolution of more than one tap runs on a map that is padded to a multiple of its rate; weights count
    once; sums, the pooled map, the biases of the logits and the two operations that scale the image count one half
    per element, and a pooling window one half per pixel that it reads.
    """
    del mode
    match node.op:
        case Conv2d() as op:
            tile = op.rate if prod(op.kernel) > 1 else UNTILED
            weights = conv_weights(op)
            once = Term((2 if op.depthwise else 5) * weights, once=True)
            computed = (Term(2 * weights, node.path, tile), once)
            bias = node.path == CLASSIFIER and op.bias
            return (*computed, around.elements(node.path)) if bias else computed
        case Add():
            return (around.elements(node.path),)
        case GlobalAveragePool():
            return (around.elements(node.inputs[0]),)
        case Pool(kernel=kernel):
            return (around.elements(node.path, prod(kernel)),)
        case Input():
            return (around.elements(node.path, 2),)
        case _:
            return ()


def opaque(node: Node) -> tuple[str, ...]:
    """Return the name of an opaque operation; none for others."""
    return (node.op.target,) if isinstance(node.op, Opaque) else ()


def operator(node: Node) -> str:
    """Return the name of a node's operator in PyTorch and fvcore.

    >>> operator(Node(path="decoder.resize", op=Resize()))
    'upsample_bilinear2d'
    """
    match node.op:
        case Resize(mode=mode):
            return f"upsample_{mode.value}2d"
        case Pool(kind=pool):
            return {"max": "max_pool2d", "average": "avg_pool2d"}[pool.value]
        case Activation(kind=activation):
            return "hardtanh" if activation is ActivationKind.RELU6 else activation.value
        case Opaque(target=target):
            return target
        case op:
            return _OPERATORS.get(type(op), kind(op).lower())


_OPERATORS: Final[dict[type, str]] = {
    Conv2d: "conv",
    BatchNorm: "batch_norm",
    Concat: "cat",
    GlobalAveragePool: "adaptive_avg_pool2d",
    Pad: "constant_pad_nd",
    Dropout: "dropout",
}

_KIT: Final = Source(work="this specification", place="analysis/flops.py")

MAC: Final = Convention(
    name="mac",
    title="multiply-adds of convolutions; one multiplication with its addition is one, padding counts as data",
    unit="multiply-adds",
    formula=multiply_adds,
    skipped=opaque,
    source=_KIT,
)
FULL: Final = Convention(
    name="full",
    title="every arithmetic operation of every operator, forward and backward",
    unit="operations",
    formula=flops,
    skipped=opaque,
    source=_KIT,
)
FVCORE: Final = Convention(
    name="fvcore",
    title="fvcore's FlopCountAnalysis: a multiply-add is one, a normalisation two per element, a bilinear resize four",
    unit="fvcore flops",
    formula=fvcore_flops,
    modes=(Mode.FORWARD,),
    skipped=fvcore_skips,
    source=Source(work="fvcore 0.1.5", place="nn/flop_count.py and nn/jit_handles.py"),
)
TORCH: Final = Convention(
    name="torch",
    title="torch's FlopCounterMode: a multiply-add of a convolution is two, all else nothing",
    unit="FLOPs",
    formula=torch_flops,
    skipped=opaque,
    source=Source(work="torch 2.13", place="utils/flop_counter.py"),
)
TFPROF: Final = Convention(
    name="tfprof",
    title="the published figures' multiply-adds, reconstructed: atrous convolutions run on padded maps",
    unit="multiply-adds",
    formula=tfprof_halves,
    modes=(Mode.FORWARD,),
    divisor=2,
    skipped=opaque,
    source=paper("table 5"),
)
CONVENTIONS: Final = (MAC, FULL, FVCORE, TORCH, TFPROF)
