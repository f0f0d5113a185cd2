"""The published networks, as a search of choices looks at them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from deeplab_spec.align.family import stranger
from deeplab_spec.align.identify import Identity, identify
from deeplab_spec.align.infer_choices import read_width
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.search import Library
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.folding import folded, normalises
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.spec.choices import Choices, choose
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import VARIANTS, Variant, variant


def library(
    output_stride: int, classes: int, size: Pair, form: Callable[[Shaped], Shaped] = lambda found: found
) -> Library:
    """Return the networks that choices describe, at one output stride and size.

    Args:
        output_stride: Of every network.
        classes: Channels of the logits.
        size: Height and width of the image.
        form: Brings them into the form of a candidate.
    """
    return Library(lambda choices: form(normal_form(shaped(specification(choices, output_stride, classes), size))))


def without_norms(found: Shaped) -> Shaped:
    """Return a network with folded normalisations, and without biases.

    Where normalisations are folded a bias tells nothing, as one of zeros may be left out.
    """

    def bare(node: Node) -> Node:
        return replace(node, op=replace(node.op, bias=False)) if isinstance(node.op, Conv2d) else node

    network = folded(found.network)
    return found.with_network(network.with_nodes(map(bare, network)))


def known(
    candidates: Sequence[Shaped], output_strides: Sequence[int], classes: int, size: Pair
) -> tuple[Identity, str | None]:
    """Search the published network, and the choices on top of it, that a candidate is.

    Args:
        candidates: It in normal form, once for every output stride.
        output_strides: Of the candidates.
        classes: Channels of the logits.
        size: Height and width of the image that it was read with.

    Returns:
        What was found, and why the candidate is another network altogether; None if it is not.

    Raises:
        SpecError: If no published network has these output strides.
    """
    width = read_width(candidates[0])
    starts: dict[str, Choices] = {
        entry.name: choose(entry.choices, {"width": width})
        for entry in VARIANTS
        if set(output_strides) <= set(entry.output_strides)
    }
    form: Callable[[Shaped], Shaped] = lambda found: found  # noqa: E731 - one of two forms
    if not any(normalises(found.network) for found in candidates):
        form = without_norms
    libraries = [library(output_stride, classes, size, form) for output_stride in output_strides]
    forms = [form(found) for found in candidates]
    found = identify(forms, libraries, starts)
    if found is None:
        raise SpecError("output_stride", "no published network has it", ", ".join(map(str, output_strides)))
    return found, _stranger(forms[0], libraries[0], found)


def like(candidate: Shaped, choices: Choices, output_stride: int, classes: int, size: Pair) -> Shaped:
    """Return the network of choices in the form of a candidate: folded, if that has no normalisations."""
    found = normal_form(shaped(specification(choices, output_stride, classes), size))
    return found if normalises(candidate.network) else found.with_network(folded(found.network))


def _stranger(candidate: Shaped, networks: Library, found: Identity) -> str | None:
    """Say why a network is another one; the evidence is what it lacks of the published network."""
    if not found.distance or not stranger(align(networks.build(found.choices), candidate)):
        return None
    return stranger(align(networks.build(variant(found.start).choices), candidate))


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
