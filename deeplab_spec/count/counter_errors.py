"""What the common counters get wrong on this family, as data, and the page that says by how much.

Every row has two rules: what the counter counts, and what it would count if it did as it says. Their difference is the
error, computed for the published networks. ``tests/count/test_counter_errors.py`` executes each row with the counter.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.analysis.conventions import FVCORE, MAC, TFPROF, TORCH, Formula, undivided_weight_gradients
from deeplab_spec.analysis.counters import COUNTERS, Prices
from deeplab_spec.analysis.flops import flops
from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms, conv_weights
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.count.network_report import COMMAND
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, Conv2d
from deeplab_spec.spec.api import network
from deeplab_spec.spec.variants import TF_RELEASE
from deeplab_spec.views.table import Grid, integer, markdown

_SIZE: Final = (513, 513)
_STRIDES: Final = (16, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """An error of a counter.

    Attributes:
        name: A short name.
        counter: The counter and its version.
        what: What it gets wrong, in a sentence.
        counted: What it counts.
        meant: What it would count without the error.
        mode: Whether an evaluation or a training step is counted.
        divisor: Counts per operation of both rules.
    """

    name: str
    counter: str
    what: str
    counted: Formula
    meant: Formula
    mode: Mode = Mode.FORWARD
    divisor: int = 1

    def excess(self, graph: Network) -> float:
        """Return how much more the counter counts than without the error; negative if it counts less."""
        counted, meant = (
            Evaluator(graph, replace(MAC, formula=formula), self.mode)(*_SIZE).operations
            for formula in (self.counted, self.meant)
        )
        return (counted - meant) / self.divisor

    def share(self, graph: Network) -> float:
        """Return the excess relative to what it would count without the error."""
        meant = Evaluator(graph, replace(MAC, formula=self.meant), self.mode)(*_SIZE).operations
        return self.excess(graph) / (meant / self.divisor)


def _with(first: Formula, *others: Callable[[Node, Surroundings], Terms]) -> Formula:
    """Return a rule with further terms."""
    return lambda node, around, mode: (
        *first(node, around, mode),
        *(term for other in others for term in other(node, around)),
    )


def _sums(node: Node, around: Surroundings) -> Terms:
    return (around.elements(node.path, len(node.inputs) - 1),) if isinstance(node.op, Add) else ()


def _without_3x3(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return fvcore's count of a network whose convolutions of several taps have ``padding="same"``."""
    several = isinstance(node.op, Conv2d) and max(node.op.kernel) > 1
    return () if several else FVCORE.formula(node, around, mode)


def _twice_multiply_adds(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return fvcore's count in one unit: two operations for a multiply-add, as two for a normalised element."""
    terms = FVCORE.formula(node, around, mode)
    return (*terms, Term(conv_weights(node.op), node.path)) if isinstance(node.op, Conv2d) else terms


_PRICES: Final[dict[str, Prices]] = {
    counter.name: counter.formula for counter in COUNTERS if isinstance(counter.formula, Prices)
}
_THOP, _THOP_MODULES, _PTFLOPS = _PRICES["thop"], _PRICES["thop-modules"], _PRICES["ptflops"]
_FVCORE: Final = "fvcore 0.1.5"
_TORCH: Final = "torch 2.13, FlopCounterMode"
_THOP_NAME: Final = "thop 0.1.1"
_PTFLOPS_NAME: Final = "ptflops 0.7.5"

MISTAKES: Final = (
    Mistake(
        name="torch-convolutions-only",
        counter=_TORCH,
        counted=TORCH.formula,
        meant=flops,
        what="Counts convolutions only: biases, normalisations, activations, sums, means and resizes are nothing.",
    ),
    Mistake(
        name="torch-undivided",
        counter=_TORCH,
        mode=Mode.TRAIN,
        counted=_with(TORCH.formula, lambda node, _: undivided_weight_gradients(node)),
        meant=TORCH.formula,
        what="In training it does not divide the weight gradients of grouped convolutions by their groups.",
    ),
    Mistake(
        name="fvcore-units",
        counter=_FVCORE,
        counted=FVCORE.formula,
        meant=_twice_multiply_adds,
        what="Adds two operations for every normalised element to one for a multiply-add: two units in one sum.",
    ),
    Mistake(
        name="fvcore-sums",
        counter=_FVCORE,
        counted=FVCORE.formula,
        meant=_with(FVCORE.formula, _sums),
        what="Skips sums of tensors, with a warning.",
    ),
    Mistake(
        name="fvcore-same",
        counter=_FVCORE,
        counted=_without_3x3,
        meant=FVCORE.formula,
        what='A convolution with `padding="same"` counts nothing; here, if all of several taps are written so.',
    ),
    Mistake(
        name="thop-norms",
        counter=_THOP_NAME,
        counted=_THOP,
        meant=replace(_THOP, norm=2),
        what="A normalisation counts four for an element in evaluation: its two are doubled for scale and offset.",
    ),
    Mistake(
        name="thop-functions",
        counter=_THOP_NAME,
        counted=_THOP,
        meant=_THOP_MODULES,
        what="Sees modules only: a mean or a resize that is called as a function counts nothing.",
    ),
    Mistake(
        name="thop-subclasses",
        counter=_THOP_NAME,
        counted=lambda *_: (),
        meant=_THOP,
        what="A subclass of a module counts nothing, operations and parameters; here, if every layer is one.",
    ),
    Mistake(
        name="ptflops-activations",
        counter=_PTFLOPS_NAME,
        counted=_PTFLOPS,
        meant=replace(_PTFLOPS, activation=1),
        what="An activation that is a module counts twice: as the module, and as the function that it calls.",
    ),
    Mistake(
        name="ptflops-methods",
        counter=_PTFLOPS_NAME,
        counted=replace(_PTFLOPS, activation=0),
        meant=replace(_PTFLOPS, activation=1),
        what="An activation that is a method, `x.relu()`, counts nothing; here, if all are written so.",
    ),
    Mistake(
        name="ptflops-sums",
        counter=_PTFLOPS_NAME,
        counted=_PTFLOPS,
        meant=_with(_PTFLOPS, _sums),
        what="`x + y` counts nothing, `torch.add(x, y)` one for every element.",
    ),
    Mistake(
        name="ptflops-sync",
        counter=f"{_PTFLOPS_NAME}, as mmcv 2.2.0",
        counted=_PRICES["mmcv-sync"],
        meant=_PRICES["mmcv"],
        what="`SyncBatchNorm` counts nothing, `BatchNorm2d` two for every element; functions are not counted.",
    ),
    Mistake(
        name="torchinfo-norms",
        counter="torchinfo 1.8.0",
        counted=_PRICES["torchinfo"],
        meant=Prices(bias=1, norm=2),
        what="A normalisation counts its scale and offset once, whatever the size of the map.",
    ),
    Mistake(
        name="tfprof-padding",
        counter="TensorFlow's profiler, reconstructed",
        counted=TFPROF.formula,
        meant=lambda node, around, mode: tuple(
            Term(2 * term.count, term.pixels_of) for term in MAC.formula(node, around, mode)
        ),
        divisor=2,
        what="An atrous convolution counts the map padded to a multiple of its rate; weights count again.",
    ),
)


def counters_page() -> str:
    """Return the page on counters."""
    return "\n\n".join(
        (
            "# What counters get wrong on this family",
            (
                f"`{TF_RELEASE.name}` at {_SIZE[0]}x{_SIZE[1]} pixels, 21 classes, one image. A negative error is too "
                "little. The percentage is relative to what the counter would count without the error. Each row "
                f"was executed with the counter, and a test executes it again. Made by `{COMMAND}`."
            ),
            markdown(_mistakes()),
            "## Parameters",
            (
                f"{_THOP_NAME} counts the parameters of layers that run and that it knows: those of an auxiliary head "
                "that evaluation does not run are missing, as are those of subclasses. The others count them all. A "
                "layer in two places is stored once and counted once by all of them."
            ),
            "## The same network under every counter",
            "Operations of an evaluation, as the counter prints them; the ratio is to multiply-adds.",
            markdown(_totals()),
        )
    )


def _mistakes() -> Grid:
    graphs = [network(TF_RELEASE.name, stride) for stride in _STRIDES]
    return Grid(
        headers=("counter", "what it does", *(f"error, output stride {stride}" for stride in _STRIDES)),
        rows=tuple(
            (
                mistake.counter,
                mistake.what,
                *(f"{mistake.excess(graph):+,.0f} ({100 * mistake.share(graph):+.2f} %)" for graph in graphs),
            )
            for mistake in MISTAKES
        ),
        right=frozenset({2, 3}),
    )


def _totals() -> Grid:
    graphs = [network(TF_RELEASE.name, stride) for stride in _STRIDES]
    macs = [Evaluator(graph)(*_SIZE).operations for graph in graphs]
    rows = []
    for counter in (MAC, TORCH, FVCORE, TFPROF, *COUNTERS):
        totals = [Evaluator(graph, counter)(*_SIZE).operations for graph in graphs]
        cells = (f"{integer(round(total))} ({total / own:.4f})" for total, own in zip(totals, macs, strict=True))
        rows.append((f"`{counter.name}`", counter.title, *cells))
    return Grid(
        headers=("convention", "counts", *(f"output stride {stride}" for stride in _STRIDES)),
        rows=tuple(rows),
        right=frozenset({2, 3}),
    )
