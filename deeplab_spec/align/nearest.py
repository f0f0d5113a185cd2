"""Which published network a candidate is most like."""

from deeplab_spec.align.family import stranger
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.graph.folding import folded, normalises
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import VARIANTS, Variant


def nearest(
    candidate: Shaped, output_stride: int, classes: int, size: Pair, only: Variant | None = None
) -> tuple[Alignment, Variant] | None:
    """Align with the published network that is most alike; None if it is another network.

    Args:
        candidate: The candidate, in normal form.
        output_stride: Of the published networks; one that lacks it is left out.
        classes: Channels of the logits.
        size: Height and width of the image that the candidate was read with.
        only: The one published network to align with.
    """
    best: tuple[Alignment, Variant] | None = None
    for entry in (only,) if only else VARIANTS:
        if output_stride not in entry.output_strides:
            continue
        published = specification(entry.choices, output_stride, classes)
        if not normalises(candidate.network):
            published = folded(published)
        alignment = align(normal_form(shaped(published, size)), candidate)
        if not stranger(alignment) and (best is None or alignment.price < best[0].price):
            best = (alignment, entry)
    return best
