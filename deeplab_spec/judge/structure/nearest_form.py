"""The form of a candidate that is nearest to what it is held against.

Some equal networks have no common normal form of their own: whether convolutions are the parts of one,
or which normalisations were folded, only the other side tells. So both are tried, and what leaves fewer
differences is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.merged_convolutions import merge_concatenated, merge_summed
from deeplab_spec.capture.equivalences.split_convolutions import split_by_channels
from deeplab_spec.capture.fx.module import map_shapes
from deeplab_spec.graph.folding import foldable, folded, normalises
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.judge.plan import Plan

FORMS: Final[tuple[Callable[[Capture], Capture], ...]] = (merge_concatenated, merge_summed, split_by_channels)
"""Other ways to write a capture, each taken where it is nearer."""


_BACKBONE: Final = "backbone."


@dataclass(frozen=True)
class Form:
    """One form of a candidate beside what it is held against.

    Attributes:
        capture: The candidate's graph.
        alignment: Both sides in normal form.
        norms: Paths of the expected normalisations that are folded.
        folded: Whether that is because the candidate has none.
    """

    capture: Capture
    alignment: Alignment
    norms: frozenset[str]
    folded: bool

    @cached_property
    def unlike(self) -> tuple[int, int]:
        """How unlike the two sides are."""
        return len(differences(self.alignment)), self.alignment.price


def in_normal_form(captured: Capture) -> Shaped:
    """Return a captured network in normal form."""
    return normal_form(Shaped(network=captured.network.live(), shapes=map_shapes(captured)))


def nearest_form(captured: Capture, plan: Plan, image: Pair) -> Form:
    """Return the form of a candidate that is nearest to what it is held against.

    Args:
        captured: The candidate's graph as it was captured.
        plan: What it is held against.
        image: The size of the image that it was captured at.
    """
    best = _held_against(captured, plan, image)
    for rewrite in FORMS:
        if best.unlike == (0, 0):
            break
        other = rewrite(best.capture)
        if len(other.network) != len(best.capture.network):
            best = min(best, _held_against(other, plan, image), key=lambda form: form.unlike)
    return best


def _held_against(captured: Capture, plan: Plan, image: Pair) -> Form:
    """Align a candidate; with the normalisations folded that it lacks, where its convolutions can hold them."""
    candidate = in_normal_form(captured)
    whole = not normalises(candidate.network) and normalises(plan.network)
    norms = frozenset(norm for _, norm in foldable(plan.network)) if whole else frozenset[str]()
    form = _folding(captured, candidate, plan.expected(image), norms, whole=whole)
    lacking = frozenset() if whole else _lacking(form.alignment)
    if not lacking:
        return form
    return min(form, _folding(captured, candidate, plan.expected(image), lacking), key=lambda form: form.unlike)


def _folding(
    captured: Capture, candidate: Shaped, expected: Shaped, norms: frozenset[str], *, whole: bool = False
) -> Form:
    network = folded(expected.network, norms) if norms else expected.network
    return Form(capture=captured, alignment=align(expected.with_network(network), candidate), norms=norms, folded=whole)


def _lacking(alignment: Alignment) -> frozenset[str]:
    """Return the normalisations that a candidate may have folded: it lacks them, and its convolutions have a bias.

    Where the expected convolution has none, the bias shows it. Where it has one anyway, a folded normalisation and
    a missing one look alike; who folds by hand folds the backbone, or the head, and who forgets one does not.
    """
    partner, missing = alignment.partner, set(alignment.missing)
    expected, candidate = alignment.expected.network, alignment.candidate.network
    shown: set[str] = set()
    doubtful: dict[bool, dict[str, bool]] = {True: {}, False: {}}
    for conv, norm in foldable(expected):
        op = candidate[partner[conv]].op if conv in partner else None
        lacks = norm in missing and isinstance(op, Conv2d) and op.bias
        mine = expected[conv].op
        if isinstance(mine, Conv2d) and mine.bias:
            doubtful[norm.startswith(_BACKBONE)][norm] = lacks
        elif lacks:
            shown.add(norm)
    return frozenset(shown.union(*(part for part in doubtful.values() if all(part.values()))))
