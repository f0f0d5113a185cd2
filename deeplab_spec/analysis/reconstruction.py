"""How sharply the published figures determine the constants of the reconstruction ``tfprof``.

Its three constants were chosen after seeing the residuals. Every figure is linear in each of them,
so the values at which all figures are met are an interval: a narrow one is evidence, a wide one
says that the constant is a guess which no figure decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.analysis.conventions import TFPROF, Convention, tfprof_halves
from deeplab_spec.analysis.published import PUBLISHED, TOLERANCE
from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Conv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant of the reconstruction.

    Attributes:
        title: What it is multiplied with.
        value: Multiply-adds for each of them.
        least: Smallest value at which every published figure is met.
        most: Largest such value.
    """

    title: str
    value: float
    least: float
    most: float


def constants() -> Iterator[Constant]:
    """Return every constant, with the interval that the published figures leave it."""
    plain = [row.operations() for row in PUBLISHED]
    for title, value, is_counted in _CONSTANTS:
        least, most = float("-inf"), float("inf")
        for row, operations in zip(PUBLISHED, plain, strict=True):
            figure = float(row.billions or 0) * 1e9
            counted = row.operations(_only(is_counted)) / value
            least = max(least, value + (figure * (1 - TOLERANCE) - operations) / counted)
            most = min(most, value + (figure * (1 + TOLERANCE) - operations) / counted)
        yield Constant(title=title, value=value, least=least, most=most)


def _only(is_counted: Callable[[Node, Term], bool]) -> Convention:
    def formula(node: Node, around: Surroundings, mode: Mode) -> Terms:
        return tuple(term for term in tfprof_halves(node, around, mode) if is_counted(node, term))

    return replace(TFPROF, formula=formula)


def _dense_weight(node: Node, term: Term) -> bool:
    return term.once and not _depthwise(node)


def _depthwise_weight(node: Node, term: Term) -> bool:
    return term.once and _depthwise(node)


def _element(node: Node, term: Term) -> bool:
    products = isinstance(node.op, Conv2d) and term.count != node.op.channels_out  # a bias is one for each channel
    return not term.once and not products


def _depthwise(node: Node) -> bool:
    return isinstance(node.op, Conv2d) and node.op.depthwise


# fmt: off
_CONSTANTS: Final = (
    ("weights of convolutions that are not depthwise, once", 2.5, _dense_weight),
    ("depthwise weights, once", 1.0, _depthwise_weight),
    ("elements of sums, of the pooled map, of biases of the logits, and twice of the image", 0.5, _element),
)
# fmt: on
