"""Finds the equivalent form of a candidate that is nearest to the expected network.

Some equal networks have no common normal form: whether convolutions are parts of one convolution, or which
normalisations are folded, depends on the other side. Both forms are tried; the one with fewer differences is used.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.equivalences.merged_convolutions import merge_concatenated, merge_summed
from deeplab_spec.capture.equivalences.split_convolutions import split_by_channels
from deeplab_spec.capture.fx.module import map_shapes
from deeplab_spec.graph.folding import foldable, folded, normalises
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.judge.plan import Plan

FORMS: Final[tuple[Callable[[Capture], Capture], ...]] = (merge_concatenated, merge_summed, split_by_channels)
"""Equivalent forms of a capture; each is used if it is nearer."""

_BACKBONE: Final = "backbone."


@dataclass(frozen=True)
class Form:
    """One form of a candidate, aligned with the expected network.

    Attributes:
        capture: The candidate's graph.
        alignment: Both sides in normal form.
        norms: Paths of the expected normalisations that are folded.
        folded: Whether all are folded, because the candidate has no normalisation.
    """

    capture: Capture
    alignment: Alignment
    norms: frozenset[str]
    folded: bool

    @cached_property
    def unlike(self) -> tuple[int, int]:
        """The number of differences, and the price of the alignment."""
        return len(differences(self.alignment)), self.alignment.price


def in_normal_form(captured: Capture) -> Shaped:
    """Return a captured network in normal form."""
    captured = merge_recomputed(captured)
    times = {path: 1 + again for path, again in Counter(captured.again.values()).items()}
    return normal_form(Shaped(network=captured.network.live(), shapes=map_shapes(captured), times=times))


def nearest_form(captured: Capture, plan: Plan, image: Pair) -> Form:
    """Return the form of a candidate, captured at the size of an image, that is nearest to the expected network."""
    best = _aligned(merge_recomputed(captured), plan, image)
    for rewrite in FORMS:
        if best.unlike == (0, 0):
            break
        other = rewrite(best.capture)
        if len(other.network) != len(best.capture.network):
            best = min(best, _aligned(other, plan, image), key=lambda form: form.unlike)
    return best


def _aligned(captured: Capture, plan: Plan, image: Pair) -> Form:
    """Align a candidate, with its missing normalisations folded if its convolutions can include them."""
    candidate = in_normal_form(captured)
    whole = not normalises(candidate.network) and normalises(plan.network)
    norms = frozenset(norm for _, norm in foldable(plan.network)) if whole else frozenset[str]()
    form = _folding(captured, candidate, plan.expected(image), norms, whole=whole)
    missing = frozenset() if whole else _folded_norms(form.alignment)
    if not missing:
        return form
    return min(form, _folding(captured, candidate, plan.expected(image), missing), key=lambda form: form.unlike)


def _folding(
    captured: Capture, candidate: Shaped, expected: Shaped, norms: frozenset[str], *, whole: bool = False
) -> Form:
    network = folded(expected.network, norms) if norms else expected.network
    return Form(capture=captured, alignment=align(expected.with_network(network), candidate), norms=norms, folded=whole)


def _folded_norms(alignment: Alignment) -> frozenset[str]:
    """Return the normalisations that a candidate may have folded: they are missing, and its convolutions have a bias.

    If the expected convolution has no bias, the bias is the evidence. If it has one anyway, a folded normalisation
    looks like a missing one; it counts as folded only if all of them in the backbone, or in the head, are missing.
    """
    partner, missing = alignment.partner, set(alignment.missing)
    expected, candidate = alignment.expected.network, alignment.candidate.network
    shown: set[str] = set()
    doubtful: dict[bool, dict[str, bool]] = {True: {}, False: {}}
    for conv, norm in foldable(expected):
        op = candidate[partner[conv]].op if conv in partner else None
        folded_in = norm in missing and isinstance(op, Conv2d) and op.bias
        mine = expected[conv].op
        if isinstance(mine, Conv2d) and mine.bias:
            doubtful[norm.startswith(_BACKBONE)][norm] = folded_in
        elif folded_in:
            shown.add(norm)
    return frozenset(shown.union(*(part for part in doubtful.values() if all(part.values()))))
