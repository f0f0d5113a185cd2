"""The catalogue of rewrites: published networks written differently, all of which must be accepted.

A rewrite has an id that says what it is: ``tf-release/8/border/apart``. It starts from the specification's graph or
from the reference module, with random weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Dropout, GlobalAveragePool
from deeplab_spec.mutate.rewrites import convolutions as convs
from deeplab_spec.mutate.rewrites import graphs
from deeplab_spec.mutate.rewrites import other_operators as values
from deeplab_spec.mutate.rewrites import sites as at
from deeplab_spec.mutate.rewrites import whole_networks as whole
from deeplab_spec.mutate.rewrites.original import Original
from deeplab_spec.spec.variants import variant as published

Apply = Callable[[Original], nn.Module | Path]
"""Returns the rewritten network, or the file with it."""

OUTPUT_STRIDES: Final = (16, 8)
BOTH: Final = ("notebook", "tf-release")
MEMBERS: Final = (*BOTH, "tf-resnet50", "tf-mobilenet-v2", "torchvision-mobilenet-v3-large")
"""The main networks, and one of every other family of backbones."""

WITH_RELU: Final = (*BOTH, "tf-resnet50")
"""Those of them with no other activation."""

ALIGNED: Final = (*WITH_RELU, "tf-mobilenet-v2")
"""Those of them whose resizes align the corners."""

WITH_DECODER: Final = (*BOTH, "tf-resnet50")
"""Those of them that have every branch of the pyramid, and a decoder."""

FOLDED: Final = frozenset(
    {"BACKBONE-BIAS", "BACKBONE-NORM-EPS", "BACKBONE-NORMS", "XCEPTION-NORMS", "HEAD-BIAS", "HEAD-NORM-EPS"}
)
"""Clauses that may have nothing to decide once normalisations are folded."""

FIXED: Final = frozenset({"SIZES-ACCEPTED", "BATCHES-ACCEPTED", "BATCH-INDEPENDENCE"})
"""Clauses that have nothing to decide for a file with a fixed input shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of writing a network differently.

    Attributes:
        apply: Returns the rewritten network.
        variants: The published networks that it applies to.
        not_applicable: Clauses that may have nothing to decide.
        evaluation_only: Whether the rewritten network is the same function in evaluation only.
        package: An optional package that it needs; empty if none.
    """

    apply: Apply
    variants: tuple[str, ...] = MEMBERS
    not_applicable: frozenset[str] = frozenset()
    evaluation_only: bool = False
    package: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A published network written differently.

    Attributes:
        kind: What is written differently.
        name: How.
        variant: The published network.
        output_stride: Input pixels per pixel of the backbone's features.
        method: What rewrites the network.
    """

    kind: str
    name: str
    variant: str
    output_stride: int
    method: Method

    @property
    def id(self) -> str:
        """The rewrite's name in reports and between processes."""
        return f"{self.variant}/{self.output_stride}/{self.kind}/{self.name}"


@cache
def rewrites() -> tuple[Rewrite, ...]:
    """Return every rewrite: each method for each published network that it applies to, at each output stride."""
    return tuple(
        Rewrite(kind=kind, name=name, variant=variant, output_stride=output_stride, method=method)
        for kind, methods in KINDS.items()
        for name, method in methods.items()
        for variant in method.variants
        for output_stride in OUTPUT_STRIDES
        if output_stride in published(variant).output_strides
    )


def rewrite(name: str) -> Rewrite:
    """Return a rewrite by its id.

    Raises:
        SpecError: If there is none.
    """
    for each in rewrites():
        if each.id == name:
            return each
    raise SpecError("rewrite", "must be the id of a rewrite, as variant/output stride/kind/name", name)


def _folded(apply: Apply) -> Method:
    return Method(apply=apply, not_applicable=FOLDED, evaluation_only=True)


def _at_convs(condition: at.Condition, replace_conv: at.ReplaceConv) -> Method:
    return Method(apply=at.at_convs(condition, replace_conv))


KINDS: Final[Mapping[str, Mapping[str, Method]]] = {
    "folded normalisations": {
        "all": _folded(graphs.folding),
        "backbone": _folded(lambda original: graphs.folding(original, graphs.norms_below(original, "backbone."))),
        "head": _folded(lambda original: graphs.folding(original, graphs.norms_below(original, "aspp.", "decoder."))),
        "every other": replace(
            _folded(lambda original: graphs.folding(original, graphs.every_other_norm(original))),
            variants=("tf-release",),
        ),
    },
    "border": {
        **{name: _at_convs(at.spatial, partial(convs.bordered, steps=steps)) for name, steps in convs.BORDERS.items()},
        "the word same": _at_convs(at.keeping, convs.same),
    },
    "1x1 as a product": {
        name: _at_convs(at.mixing, partial(convs.product, function=function))
        for name, function in convs.PRODUCTS.items()
    },
    "results split": {
        "1x1": _at_convs(lambda op: op.groups == 1 and op.pointwise, convs.split_results),
        "3x3": _at_convs(at.dense, convs.split_results),
        "depthwise": _at_convs(lambda op: op.depthwise, convs.split_results),
        "in three": _at_convs(lambda op: op.groups == 1, partial(convs.split_results, parts=3)),
    },
    "reads split": {
        "1x1": _at_convs(at.mixing, convs.split_reads),
        "3x3": _at_convs(at.dense, convs.split_reads),
        "by what is joined": Method(apply=at.at_sources),
    },
    "merged": {
        "activations of the pyramid": Method(apply=at.ends_together(Activation), variants=WITH_DECODER),
        "normalisations of the pyramid": Method(
            apply=at.ends_together(BatchNorm, Activation), variants=WITH_DECODER, evaluation_only=True
        ),
        "convolutions of the pyramid": Method(
            apply=at.ends_together(Conv2d, BatchNorm, Activation), variants=("tf-release",), evaluation_only=True
        ),
    },
    "permuted": {
        "branches of the pyramid": Method(
            apply=partial(graphs.reordered, path="aspp.concat", order=(3, 0, 4, 2, 1)), variants=WITH_DECODER
        ),
        "what the decoder joins": Method(
            apply=partial(graphs.reordered, path="decoder.concat", order=(1, 0)), variants=WITH_DECODER
        ),
        "channels of a block": Method(
            apply=partial(graphs.channels_permuted, path="backbone.middle_flow.block1.sepconv1.pointwise.conv"),
            variants=BOTH,
        ),
    },
    "space to batch": {
        "cropped at once": Method(apply=at.with_rest(at.atrous, convs.space_to_batch, 0)),
        "cropped after the normalisation": Method(
            apply=at.with_rest(at.atrous, convs.space_to_batch, 1), evaluation_only=True
        ),
        "cropped after the activation": Method(
            apply=at.with_rest(at.atrous, convs.space_to_batch, 2), variants=WITH_RELU, evaluation_only=True
        ),
    },
    "pooling": {
        name: Method(apply=at.at_nodes(GlobalAveragePool, partial(values.unary, function=function)))
        for name, function in values.POOLINGS.items()
    },
    "resize": {
        **{
            f"a pixel: {name}": Method(
                apply=at.at_paths(partial(values.resized, function=function), "aspp.pool.resize")
            )
            for name, function in values.FROM_A_PIXEL.items()
        },
        **{
            name: Method(
                apply=at.at_paths(partial(values.resized, function=function), "decoder.resize", "output.resize"),
                variants=ALIGNED,
            )
            for name, function in values.RESIZES.items()
        },
    },
    "rectifier": {
        name: Method(apply=at.at_relus(partial(values.unary, function=function)))
        for name, function in values.RECTIFIERS.items()
    },
    "activation of what is never negative": {
        "a ReLU": Method(apply=partial(graphs.with_activations, op=Activation())),
        "a leaky ReLU": Method(apply=partial(graphs.with_activations, op=graphs.LEAKY)),
    },
    "rate of a single tap": {"4 and 7": Method(apply=graphs.rates_of_single_taps)},
    "normalisation": {
        name: Method(
            apply=at.at_nodes(BatchNorm, partial(values.normalised_by, function=function)), evaluation_only=True
        )
        for name, function in values.NORMALS.items()
    },
    "joins": {
        **{
            f"a sum, {name}": Method(apply=at.at_nodes(Add, partial(values.summed, function=function)))
            for name, function in values.SUMS.items()
        },
        "concatenations one by one": Method(apply=at.at_nodes(Concat, values.nested)),
    },
    "without effect": {
        name: Method(apply=at.at_relus(partial(values.followed, function=function)))
        for name, function in values.NEUTRAL.items()
    },
    "dropout": {
        "absent": Method(apply=graphs.without_dropout, variants=("tf-release",), evaluation_only=True),
        "more": Method(apply=partial(graphs.with_dropout, op=Dropout(probability=0.5)), evaluation_only=True),
        "of nothing": Method(apply=partial(graphs.with_dropout, op=Dropout(probability=0.0))),
    },
    "names and order": {
        "of a graph": Method(apply=Original.module),
        "drawn": Method(apply=lambda original: graphs.Shuffled(original.network, 1, original.weights)),
        "drawn again": Method(apply=lambda original: graphs.Shuffled(original.network, 2, original.weights)),
        "numbers in one list": Method(
            apply=lambda original: graphs.Shuffled(original.network, 3, original.weights, flat=True)
        ),
    },
    "call": {
        **{
            name: Method(
                apply=partial(whole.wrapped, call=name), evaluation_only=name == "image by image"
            )  # batch statistics
            for name in whole.CALLS
        },
        "in a sequence": Method(apply=whole.in_a_sequence),
    },
    "state": {
        "kernels in channels_last": Method(apply=whole.channels_last),
        "float64 and back": Method(apply=whole.through_double),
        "assigned from a state dict": Method(apply=whole.reloaded),
    },
    "exported program": {
        name: Method(apply=partial(whole.saved, batches=batches), not_applicable=FIXED, evaluation_only=True)
        for name, batches in (("pt2 of one image", False), ("pt2 of any number of images", True))
    },
    "onnx": {
        name: Method(
            apply=partial(whole.onnx, dynamo=dynamo),
            not_applicable=FOLDED | FIXED,
            evaluation_only=True,
            package="onnx",
        )
        for name, dynamo in (("current exporter", True), ("exporter of TorchScript", False))
    },
    "compiled": {
        "eager": Method(apply=partial(whole.compiled, backend="eager")),
        "aot_eager": Method(apply=partial(whole.compiled, backend="aot_eager")),
        "inductor": Method(apply=partial(whole.compiled, backend="inductor")),
    },
    "fx": {
        "traced": Method(apply=whole.traced, evaluation_only=True),
        "traced and rewritten": Method(apply=whole.traced_and_rewritten, evaluation_only=True),
    },
}
"""Every method by kind and name."""
