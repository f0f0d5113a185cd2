"""Every rewrite computes what its network computes, and is accepted; with one number changed it is refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Conv2d, GlobalAveragePool
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.judge.numerics.end_to_end import END_TO_END_LIMIT
from deeplab_spec.mutate.rewrites import convolutions as convs
from deeplab_spec.mutate.rewrites import other_operators as values
from deeplab_spec.mutate.rewrites import sites as at
from deeplab_spec.mutate.rewrites.catalogue import BOTH, KINDS, MEMBERS, Rewrite, rewrite, rewrites
from deeplab_spec.mutate.rewrites.original import Original, Replacement
from deeplab_spec.precision import RATIO_LIMIT
from deeplab_spec.spec.api import Override
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import FAMILIES, variant
from deeplab_spec.strength.modules import original_of, small
from deeplab_spec.strength.processes import judge, judged

pytestmark = pytest.mark.usefixtures("without_shape_checks")
"""A compiler traces the checks of shapes too, with tensors that have none."""

SMALL = small("notebook")
WRONG_RATE: dict[str, Override] = {**SMALL, "aspp_rates": "6,12,17"}
GRAPH = (Level.STRUCTURE,)

USUAL = {
    "tf-release/16/folded normalisations/every other",
    "tf-release/16/border/in two steps",
    "notebook/8/1x1 as a product/einsum",
    "tf-release/8/results split/in three",
    "notebook/16/reads split/by what is joined",
    "tf-release/16/merged/convolutions of the pyramid",
    "notebook/8/permuted/branches of the pyramid",
    "tf-release/8/space to batch/cropped after the activation",
    "notebook/16/pooling/sum over the area",
    "tf-release/16/resize/a factor",
    "notebook/16/rectifier/product",
    "notebook/8/activation of what is never negative/a leaky ReLU",
    "tf-release/16/rate of a single tap/4 and 7",
    "tf-release/16/normalisation/a factor and a shift",
    "notebook/16/joins/concatenations one by one",
    "tf-release/8/without effect/there and back",
    "tf-release/16/dropout/absent",
    "notebook/16/names and order/drawn",
    "tf-release/16/call/image by image",
    "notebook/16/state/kernels in channels_last",
    "notebook/16/fx/traced and rewritten",
    "tf-resnet50/16/border/apart",
    "tf-resnet50/16/folded normalisations/all",
}
"""One of every kind but those that other tests judge in the usual run: files, ONNX and compiled networks."""

NUMERIC = {
    "tf-release/16/folded normalisations/every other",
    "tf-release/16/merged/convolutions of the pyramid",
    "tf-mobilenet-v2/16/border/a row and a column apart",
    "tf-mobilenet-v2/16/results split/depthwise",
    "tf-mobilenet-v2/16/reads split/3x3",
    "tf-mobilenet-v2/16/names and order/drawn",
    "tf-mobilenet-v2/16/fx/traced",
}
"""Rewrites whose values the usual run compares too: weights that are folded in part or stored in parts, and margins
that depend on the size of the map."""


def listed(usual: set[str], some: Sequence[Rewrite] | None = None) -> list[object]:
    """Return every rewrite, or some, with those that are not in the usual run marked."""
    names = dict.fromkeys([*sorted(usual), *(one.id for one in some or rewrites())])
    return [name if name in usual else pytest.param(name, marks=pytest.mark.deep) for name in names]


def one_of_each_method(variants: Sequence[str] = MEMBERS) -> list[Rewrite]:
    """Return every method once, for varying networks: a method treats the weights of all networks alike."""
    found = [one for one in rewrites() if one.variant in variants]
    varying = {(one.kind, one.name): one for one in found[::3]}
    return list({**{(one.kind, one.name): one for one in found}, **varying}.values())


def computed(module: nn.Module, image: Tensor) -> Tensor:
    """Return the logits in float64."""
    with torch.no_grad():
        logits: Tensor = module.double()(image)
        return logits


def test_the_catalogue_is_of_many_kinds_for_every_network() -> None:
    """At least a hundred of at least fifteen kinds, each with a name of its own; every kind has a usual one."""
    found = rewrites()

    assert len({one.id for one in found}) == len(found) >= 100
    assert len({one.kind for one in found}) >= 15
    assert {(one.variant, one.output_stride) for one in found} == {
        (name, stride) for name in MEMBERS for stride in {8, 16} & {*variant(name).output_strides}
    }
    assert {variant(name).family for name in MEMBERS} == set(FAMILIES)
    assert {rewrite(name).kind for name in USUAL} == set(KINDS) - {"exported program", "onnx", "compiled"}
    assert all(rewrite(one.id) is one for one in found)
    with pytest.raises(SpecError, match="must be the id of a rewrite"):
        rewrite("notebook/16/border/none")


@pytest.mark.parametrize("name", listed(NUMERIC, one_of_each_method()))
def test_a_rewrite_computes_what_the_network_computes(name: str, tmp_path: Path) -> None:
    """In float64, with its own weights, and without the judge."""
    one = rewrite(name)
    original = original_of(one, tmp_path)
    made = one.method.apply(original)
    image = torch.randn(2, 3, 65, 70, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if isinstance(made, Path) or one.kind == "compiled":
        return  # what others make of the reference itself: the judge runs it
    expected = computed(original.module(), image)

    error = torch.dist(computed(made, image), expected) / torch.linalg.vector_norm(expected)

    assert float(error) < (1e-5 if one.kind.startswith("folded") else 1e-12)  # folded weights are rounded to float32


@pytest.mark.parametrize("name", listed(USUAL))
def test_a_rewrite_is_accepted(name: str, request: pytest.FixtureRequest) -> None:
    """Every clause is passed, but those that folding or a file of one size leaves nothing to decide about."""
    if rewrite(name).method.package:
        pytest.importorskip(rewrite(name).method.package)
    deep = bool(request.config.getoption("--deep"))
    levels = tuple(Level) if deep or name in NUMERIC else GRAPH
    result = judged(name, levels=levels)

    assert result.refused == ""
    if Level.NUMERICS in levels:
        assert result.float32_ratio is not None
        assert result.float64_error is not None
        assert result.float32_ratio < RATIO_LIMIT
        assert result.float64_error < END_TO_END_LIMIT


REFUSED = {"notebook/16/names and order/drawn", "tf-release/8/results split/in three"}


@pytest.mark.parametrize("name", listed(REFUSED, one_of_each_method(BOTH)))
def test_a_rewrite_of_a_network_with_one_number_changed_is_refused(name: str, tmp_path: Path) -> None:
    """One rate of the pyramid is 17: the same rewrite of that network is not the published one."""
    one = rewrite(name)
    if one.method.package:
        pytest.importorskip(one.method.package)
    made = one.method.apply(original_of(one, tmp_path, WRONG_RATE))
    certificate = judge(made, one, SMALL, GRAPH)

    assert certificate.verdict is RunVerdict.DEVIATES
    assert {f.path for clause in certificate.clauses for f in clause.findings} & {
        "aspp.atrous1.conv",
        "aspp.atrous2.conv",
        "aspp.atrous3.conv",
        "aspp.atrous1.depthwise.conv",
        "aspp.atrous2.depthwise.conv",
        "aspp.atrous3.depthwise.conv",
    }


def _shifted(op: Conv2d) -> Conv2d:
    top, bottom, left, right = (1, 1, 1, 1) if op.padding == "same" else op.padding
    return replace(op, padding=(top + 1, bottom - 1, left, right))


def _dealt_wider(original: Original, nodes: list[object], op: Conv2d) -> Replacement:
    rate = op.rate[0] + 1
    return convs.space_to_batch(original, nodes, replace(op, rate=(rate, rate), padding=(rate,) * 4))  # type: ignore[arg-type]


def _scaled(original: Original, node: object, op: Conv2d) -> Replacement:
    replacement = convs.product(original, node, op, convs.PRODUCTS["linear"])  # type: ignore[arg-type]
    return replace(replacement, run=lambda values, tensors: replacement.run(values, tensors) * 1.0001)


def _of(kind: type, function: Callable[[Tensor], Tensor]) -> Callable[[Original], nn.Module]:
    return at.at_nodes(kind, partial(values.unary, function=function))


def _wide_eps(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, offset: Tensor, eps: float) -> Tensor:
    return values.NORMALS["a quotient"](x, mean, variance, scale, offset, 2 * eps)


def _half_pixels(x: Tensor, height: int, width: int) -> Tensor:
    return values.FROM_A_PIXEL["half pixels"](x, height, width)


def _shifted_border(original: Original, node: Node, op: Conv2d) -> Replacement:
    return convs.bordered(original, node, _shifted(op), convs.BORDERS["apart"])


NEAR: dict[str, tuple[Callable[[Original], nn.Module], str]] = {
    "border": (at.at_convs(at.keeping, _shifted_border), "padding"),
    "1x1 as a product": (at.at_convs(at.mixing, _scaled), "node"),
    "space to batch": (at.with_rest(at.atrous, _dealt_wider, 1), "rate"),
    "pooling": (_of(GlobalAveragePool, lambda x: x[:, :, 1:].mean((2, 3), keepdim=True)), "node"),
    "resize": (at.at_paths(partial(values.resized, function=_half_pixels), "output.resize"), "align_corners"),
    "rectifier": (_of(Activation, lambda x: x.clamp(min=0.01)), "node"),
    "normalisation": (at.at_nodes(BatchNorm, partial(values.normalised_by, function=_wide_eps)), "eps"),
    "joins": (at.at_nodes(Add, partial(values.summed, function=lambda x, y: x + 1.0001 * y)), "node"),
    "without effect": (_of(Activation, lambda x: x.relu() * 1.0001), "node"),
    "activation of what is never negative": (_of(Activation, lambda x: nn.functional.leaky_relu(x, 0.3)), "slope"),
}
"""Rewrites with one wrong number, and the attribute that shows it."""


USUAL_NEAR = {"space to batch", "normalisation"}


@pytest.mark.parametrize(
    "kind", [kind if kind in USUAL_NEAR else pytest.param(kind, marks=pytest.mark.deep) for kind in NEAR]
)
def test_a_rewrite_with_one_wrong_number_is_refused(kind: str, tmp_path: Path) -> None:
    """It looks like an equal network, and is not one."""
    one: Rewrite = next(one for one in rewrites() if one.kind == kind and one.output_stride == 8)
    make, attribute = NEAR[kind]
    certificate = judge(make(original_of(one, tmp_path)), one, SMALL, GRAPH)

    assert certificate.verdict is RunVerdict.DEVIATES
    assert attribute in {f.attribute for clause in certificate.clauses for f in clause.findings}
