"""Compares a candidate with the published networks, and decides whether it is of their family."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from deeplab_spec.align.identify import Identity, identify
from deeplab_spec.align.infer_choices import read_width
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.search import Library
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.folding import folded, normalises
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, Add, Concat, Conv2d, Pair, Pool, PoolKind
from deeplab_spec.spec.choices import Choices, choose
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import VARIANTS, Variant, variant

SAME_FAMILY: Final = 0.5
"""Share of convolutions that must have a partner of their kind in networks of the same family."""


def different_architecture(alignment: Alignment) -> str | None:
    """Say why the candidate has a different architecture; None if it is of the same family.

    Two networks are of the same family if at least half of the convolutions, counted on the side that has more,
    have a partner with the same kernel and the same grouping.
    """
    alike, expected, actual = 0, _convs(alignment.expected.network), _convs(alignment.candidate.network)
    for left, right in alignment.partner.items():
        if left in expected and right in actual:
            first, second = expected[left], actual[right]
            alike += first.kernel == second.kernel and first.depthwise == second.depthwise
    if alike >= SAME_FAMILY * max(len(expected), len(actual), 1):
        return None
    share = f"{alike} of {len(expected)} specified convolutions have a counterpart among its {len(actual)}"
    return f"this is another network: {'; '.join([*_evidence(alignment), share])}"


def _convs(network: Network) -> dict[str, Conv2d]:
    return {node.path: node.op for node in network if isinstance(node.op, Conv2d)}


def _evidence(alignment: Alignment) -> list[str]:
    expected, candidate = alignment.expected, alignment.candidate
    evidence = []
    if _joins_resolutions(expected) and not _joins_resolutions(candidate):
        evidence.append("it has no decoder (nothing joins maps of two resolutions)")
    convs = list(_convs(candidate.network).values())
    depthwise = sum(conv.depthwise for conv in convs)
    sums = sum(isinstance(node.op, Add) for node in candidate.network)
    max_pool = any(isinstance(node.op, Pool) and node.op.kind is PoolKind.MAX for node in candidate.network)
    kinds = Counter(node.op.kind for node in candidate.network if isinstance(node.op, Activation))
    if not convs:
        evidence.append("it has no convolution")
    elif not depthwise and max_pool and sums:
        stem = f"{convs[0].kernel[0]}x{convs[0].kernel[1]} stem"
        evidence.append(f"its backbone is a ResNet ({stem}, max pooling, no depthwise convolution)")
    elif not depthwise:
        evidence.append("its backbone is not an Xception (no depthwise convolution)")
    elif kinds and kinds.most_common(1)[0][0] is not ActivationKind.RELU:
        usual = kinds.most_common(1)[0][0].value
        evidence.append(
            f"its backbone is not an Xception (its usual activation is {usual}; {depthwise} depthwise convolutions)"
        )
    return evidence


def _joins_resolutions(shaped: Shaped) -> bool:
    """Tell whether a concatenation has inputs that come from maps of two sizes."""
    origin: dict[str, frozenset[object]] = {}
    for node in shaped.network:
        if isinstance(node.op, Concat):
            branches = [origin[path] for path in node.inputs]
            if len(set(branches)) > 1 and any(len(branch) > 1 for branch in branches) and _two_scales(branches):
                return True
        origins = frozenset[object]().union(*(origin[path] for path in node.inputs))
        origin[node.path] = origins | {shaped.map_size(node.path)}
    return False


def _two_scales(branches: list[frozenset[object]]) -> bool:
    """Tell whether one branch has a map larger than a pixel, of a size that another branch does not have."""
    seen = [branch - {(1, 1), None} for branch in branches]
    return any(first - second for first in seen for second in seen)


def library(
    output_stride: int, classes: int, size: Pair, form: Callable[[Shaped], Shaped] = lambda shaped: shaped
) -> Library:
    """Return the networks that choices describe, at one output stride and size.

    Args:
        output_stride: Input pixels per pixel of the backbone's result.
        classes: Channels of the logits.
        size: Height and width of the image.
        form: Converts a normal form to the candidate's form.
    """
    return Library(lambda choices: form(normal_form(shaped(specification(choices, output_stride, classes), size))))


def without_norms(form: Shaped) -> Shaped:
    """Return a network with folded normalisations and without biases.

    Where normalisations are folded, a bias is no evidence: one of zeros may be omitted.
    """

    def bare(node: Node) -> Node:
        return replace(node, op=replace(node.op, bias=False)) if isinstance(node.op, Conv2d) else node

    network = folded(form.network)
    return form.with_network(network.with_nodes(map(bare, network)))


def nearest_published(
    candidates: Sequence[Shaped], output_strides: Sequence[int], classes: int, size: Pair
) -> tuple[Identity, str | None]:
    """Find the published network, and the choices on top of it, that describe a candidate best.

    Args:
        candidates: The candidate in normal form, once for every output stride.
        output_strides: The candidates' output strides.
        classes: Channels of the logits.
        size: Height and width of the image at which the candidate was captured.

    Returns:
        The nearest network, and why the candidate has a different architecture; None if it is of the family.

    Raises:
        SpecError: If no published network has these output strides.
    """
    starts: dict[str, Choices] = {
        entry.name: choose(entry.choices, {"width": read_width(candidates[0], entry.choices.base_channels)})
        for entry in VARIANTS
        if set(output_strides) <= set(entry.output_strides)
    }
    form: Callable[[Shaped], Shaped] = lambda shaped: shaped  # noqa: E731 - one of two forms
    if not any(normalises(candidate.network) for candidate in candidates):
        form = without_norms
    libraries = [library(output_stride, classes, size, form) for output_stride in output_strides]
    forms = [form(candidate) for candidate in candidates]
    identity = identify(forms, libraries, starts)
    if identity is None:
        raise SpecError("output_stride", "no published network has it", ", ".join(map(str, output_strides)))
    return identity, _different(forms[0], libraries[0], identity)


def _different(candidate: Shaped, networks: Library, identity: Identity) -> str | None:
    """Say why a candidate has a different architecture, by comparison with the published network."""
    if not identity.distance or not different_architecture(align(networks.build(identity.choices), candidate)):
        return None
    return different_architecture(align(networks.build(variant(identity.start).choices), candidate))


def network_like(candidate: Shaped, choices: Choices, output_stride: int, classes: int, size: Pair) -> Shaped:
    """Return the network of choices in the form of a candidate: folded if the candidate has no normalisations."""
    form = normal_form(shaped(specification(choices, output_stride, classes), size))
    return form if normalises(candidate.network) else form.with_network(folded(form.network))


def align_published(
    candidate: Shaped, output_stride: int, classes: int, size: Pair, only: Variant | None = None
) -> tuple[Alignment, Variant] | None:
    """Align a candidate with the nearest published network; None for a different architecture.

    Args:
        candidate: The candidate, in normal form.
        output_stride: Output stride of the published networks; one that does not support it is skipped.
        classes: Channels of the logits.
        size: Height and width of the image at which the candidate was captured.
        only: The only published network to align with; all by default.
    """
    best: tuple[Alignment, Variant] | None = None
    for entry in (only,) if only else VARIANTS:
        if output_stride not in entry.output_strides:
            continue
        alignment = align(network_like(candidate, entry.choices, output_stride, classes, size), candidate)
        if not different_architecture(alignment) and (best is None or alignment.price < best[0].price):
            best = (alignment, entry)
    return best
