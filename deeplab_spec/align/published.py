"""Compares a candidate with the published networks, and decides whether it is of their family."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from deeplab_spec.align.family import described, family_of
from deeplab_spec.align.identify import Identity, identify, nearest_start
from deeplab_spec.align.infer_choices import read_width
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.parts import find_head
from deeplab_spec.align.search import Library
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.folding import folded, normalises, with_bias
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Concat, Conv2d, Pair
from deeplab_spec.spec.choices import Choices, choose
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.network import part, rows
from deeplab_spec.spec.variants import FAMILIES, VARIANTS, Variant, variant

SAME_FAMILY: Final = 0.5
"""Share of convolutions that must have a partner of their kind in networks of the same family."""


_HEAD_CHANNELS: Final = 256
"""Channels of most convolutions of a head at width 1."""


LIKE: Final = 1 / 3
"""Share of the convolutions of the nearest backbone that a network of its family must have."""


def different_architecture(alignment: Alignment) -> str | None:
    """Say why the candidate has a different architecture; None if it is of the same family.

    The backbones of two networks of one family have the same kinds of layers. Beside that, at least half of the
    convolutions, counted on the side that has more, must have a partner with the same kernel and the same grouping.
    """
    expected, actual = alignment.expected.network, alignment.candidate.network
    evidence = _of_backbones(expected, actual) or _of_pyramids(alignment)
    left, right = _convs(expected), _convs(actual)
    pairs = ((left[path], right[other]) for path, other in alignment.partner.items() if path in left and other in right)
    alike = sum(first.kernel == second.kernel and first.depthwise == second.depthwise for first, second in pairs)
    enough = alike >= SAME_FAMILY * max(len(left), len(right), 1)
    if enough and not evidence:
        return None
    if _joins_resolutions(alignment.expected) and not _joins_resolutions(alignment.candidate):
        evidence = ["it has no decoder (nothing joins maps of two resolutions)", *evidence]
    if not enough:
        evidence.append(f"{alike} of {len(left)} specified convolutions have a counterpart among its {len(right)}")
    return f"this is another network: {'; '.join(evidence)}"


def unlike_backbone(alignment: Alignment) -> str | None:
    """Say why a backbone is unlike the nearest one of its family; None if enough of their convolutions are equal.

    What is left between the candidate and the nearest network, with which it is aligned, is explained by no choice.
    """
    equal, total = _equal_convs(alignment, "backbone.")
    if equal >= LIKE * total:
        return None
    found = f"{equal} of the {total} convolutions of the nearest backbone of its kind"
    return f"this is another network: it has {found} ({described(alignment.candidate.network)})"


def _equal_convs(alignment: Alignment, *prefixes: str) -> tuple[int, int]:
    """Count the convolutions of parts of the expected network that differ in rate and padding at most, and all."""
    expected, actual, partner = alignment.expected.network, _convs(alignment.candidate.network), alignment.partner
    mine = {path: op for path, op in _convs(expected).items() if path.startswith(prefixes)}
    sides = ((op, actual[partner[path]]) for path, op in mine.items() if path in partner)
    return sum(
        replace(op, rate=other.rate, padding=other.padding, bias=other.bias) == other for op, other in sides
    ), len(mine)


def _of_backbones(expected: Network, actual: Network) -> list[str]:
    """Say how a backbone is of another family than the expected one; nothing if it is not."""
    if any(node.path.startswith("input.") for node in expected.inputs):
        return []  # a head, of any backbone
    mine, yours = family_of(expected), family_of(actual)
    if not mine or mine == yours:
        return []
    titles = {family.family: family.title for family in FAMILIES}
    found = f"a {titles[yours]}" if yours else "of no known family"
    return [f"its backbone is {found} ({described(actual)}), and must be of the family of {titles[mine]}"]


def _of_pyramids(alignment: Alignment) -> list[str]:
    """Say that a network has no pyramid; nothing if it has one, or most convolutions of the expected head."""
    equal, total = _equal_convs(alignment, "aspp.", "decoder.")
    if 2 * equal >= total or find_head(alignment.candidate.network) or not find_head(alignment.expected.network):
        return []
    return ["it has no pyramid (nothing joins branches of one value, with rates or an average over the map)"]


def _convs(network: Network) -> dict[str, Conv2d]:
    return {node.path: node.op for node in network if isinstance(node.op, Conv2d)}


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


Form = Callable[[Shaped], Shaped]
"""Converts a normal form to that of a candidate."""


def library(output_stride: int, classes: int, size: Pair, form: Form = lambda shaped: shaped) -> Library:
    """Return the networks that choices describe, at one output stride and size.

    ``form`` converts a normal form to that of the candidate.
    """
    return Library(lambda choices: form(normal_form(shaped(specification(choices, output_stride, classes), size))))


def without_norms(form: Shaped) -> Shaped:
    """Return a network with folded normalisations and without biases.

    Where normalisations are folded, a bias is no evidence: one of zeros may be omitted.
    """
    return form.with_network(with_bias(folded(form.network), bias=False))


def nearest_published(
    candidates: Sequence[Shaped], output_strides: Sequence[int], classes: int, size: Pair
) -> tuple[Identity, str | None]:
    """Find the published network, and the choices on top of it, that describe a candidate best.

    The candidate is in normal form, captured at ``size`` once for every output stride. Also return why it has a
    different architecture; None if it is of the family.

    Raises:
        SpecError: If no published network has these output strides.
    """
    known = family_of(candidates[0].network)
    forms, libraries, starts = _compared(
        candidates, output_strides, lambda stride, form: library(stride, classes, size, form), known
    )
    identity = identify(forms, libraries, starts) if known else nearest_start(forms, libraries, starts)
    if identity is None:
        raise _no_network(output_strides)
    return identity, _different(forms[0], libraries[0], identity)


_LOW_LEVEL_STRIDE: Final = 4
"""Input pixels per pixel of the value that a decoder reads beside the pyramid."""


def nearest_head(candidates: Sequence[Shaped], output_strides: Sequence[int], classes: int) -> Identity | None:
    """Find the published network, and the choices on top of it, whose head describes another head best.

    The candidate is the head alone, once for every output stride of its backbone: its inputs are features and low-level
    values. None if no head can be compared with it.

    Raises:
        SpecError: If no published network has these output strides.
    """
    at = dict(zip(output_strides, candidates, strict=True))

    def head(choices: Choices, output_stride: int) -> Shaped:
        candidate = at[output_stride]
        shapes = [candidate.shapes[node.path] for node in candidate.network.inputs]
        features, low_level = ([shape[0] for shape in shapes] + [0, 0])[:2]
        network = part(rows(choices, output_stride, classes, reads=(features, low_level)), "head")
        seen = [(shape[1], shape[2]) for shape in shapes]
        height, width = (side * output_stride // _LOW_LEVEL_STRIDE for side in seen[0])
        lacked = (height, width)  # the low-level value, if only this head has a decoder
        sizes = {node.path: size for node, size in zip(network.inputs, (*seen, lacked), strict=False)}
        return normal_form(shaped(network, sizes))

    def heads(output_stride: int, form: Form) -> Library:
        return Library(lambda choices: form(head(choices, output_stride)))

    return identify(*_compared(candidates, output_strides, heads, read=width_of_head), of_head=True)


def width_of_head(candidate: Shaped, _: Sequence[int] = ()) -> float:
    """Return the multiplier that explains the channels of most convolutions of a head, which are 256 at width 1."""
    ops = (node.op for node in candidate.network)
    counts = Counter(op.channels_out for op in ops if isinstance(op, Conv2d) and not op.depthwise)
    return counts.most_common(1)[0][0] / _HEAD_CHANNELS if counts else 1.0


def _compared(
    candidates: Sequence[Shaped],
    output_strides: Sequence[int],
    make: Callable[[int, Form], Library],
    family: str = "",
    read: Callable[[Shaped, Sequence[int]], float] = read_width,
) -> tuple[list[Shaped], list[Library], dict[str, Choices]]:
    """Return the candidates as they are compared, the networks to compare them with, and those of one family or of all.

    Raises:
        SpecError: If no published network has these output strides.
    """
    starts: dict[str, Choices] = {
        entry.name: choose(entry.choices, {"width": read(candidates[0], entry.choices.base_channels)})
        for entry in VARIANTS
        if set(output_strides) <= set(entry.output_strides)
    }
    if not starts:
        raise _no_network(output_strides)
    starts = {name: choices for name, choices in starts.items() if choices.family == family} or starts
    form: Form = lambda shaped: shaped  # noqa: E731 - one of two forms
    if not any(normalises(candidate.network) for candidate in candidates):
        form = without_norms
    libraries = [make(output_stride, form) for output_stride in output_strides]
    return [form(candidate) for candidate in candidates], libraries, starts


def _no_network(output_strides: Sequence[int]) -> SpecError:
    return SpecError("output_stride", "no published network has it", ", ".join(map(str, output_strides)))


def _different(candidate: Shaped, networks: Library, identity: Identity) -> str | None:
    """Say why a candidate has a different architecture, by comparison with the published network."""
    if not identity.distance:
        return None
    nearest = align(networks.build(identity.choices), candidate)
    if not different_architecture(nearest):
        return unlike_backbone(nearest)
    published = different_architecture(align(networks.build(variant(identity.start).choices), candidate))
    return published or unlike_backbone(nearest)


def network_like(candidate: Shaped, choices: Choices, output_stride: int, classes: int, size: Pair) -> Shaped:
    """Return the network of choices in the form of a candidate: folded if the candidate has no normalisations."""
    form = normal_form(shaped(specification(choices, output_stride, classes), size))
    return form if normalises(candidate.network) else form.with_network(folded(form.network))


def align_published(
    candidate: Shaped, output_stride: int, classes: int, size: Pair, only: Variant | None = None
) -> tuple[Alignment, Variant] | None:
    """Align a candidate with the nearest published network; None for a different architecture.

    The candidate is in normal form, captured at ``size``. A network without the output stride is skipped.
    """
    best: tuple[Alignment, Variant] | None = None
    for entry in (only,) if only else VARIANTS:
        if output_stride not in entry.output_strides:
            continue
        alignment = align(network_like(candidate, entry.choices, output_stride, classes, size), candidate)
        if not different_architecture(alignment) and (best is None or alignment.price < best[0].price):
            best = (alignment, entry)
    return best
