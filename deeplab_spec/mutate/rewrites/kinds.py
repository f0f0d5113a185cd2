"""The ways to write a network that change nothing, by kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Dropout, GlobalAveragePool
from deeplab_spec.mutate.rewrites import convolutions as convs
from deeplab_spec.mutate.rewrites import graphs
from deeplab_spec.mutate.rewrites import other_operators as values
from deeplab_spec.mutate.rewrites import sites as at
from deeplab_spec.mutate.rewrites import whole_networks as whole
from deeplab_spec.mutate.rewrites.subject import Subject

Make = Callable[[Subject], nn.Module | Path]
"""Returns the rewritten network, or the file that holds it."""

BOTH: Final = ("notebook", "tf-release")

FOLDED: Final = frozenset({"BACKBONE-BIAS", "BACKBONE-NORM-EPS", "XCEPTION-NORMS", "HEAD-BIAS", "HEAD-NORM-EPS"})
"""Clauses that may have nothing to decide once normalisations are folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to write a network.

    Attributes:
        make: Returns the rewritten network.
        variants: The published networks that it applies to.
        not_applicable: Clauses that may have nothing to decide.
        evaluation: Whether it is the same function in evaluation only.
        needs: A package that is not always installed; empty if none.
    """

    make: Make
    variants: tuple[str, ...] = BOTH
    not_applicable: frozenset[str] = frozenset()
    evaluation: bool = False
    needs: str = ""


FIXED: Final = frozenset({"SIZES-ACCEPTED", "BATCHES-ACCEPTED", "BATCH-INDEPENDENCE"})
"""Clauses that have nothing to decide where a file states the shape of its input."""


def _folded(make: Make) -> Way:
    return Way(make=make, not_applicable=FOLDED, evaluation=True)


def _at_convs(wanted: at.Wanted, form: at.OfConv) -> Way:
    return Way(make=at.at_convs(wanted, form))


_FOLDING: Final[Mapping[str, Way]] = {
    "all": _folded(graphs.folding),
    "backbone": _folded(lambda subject: graphs.folding(subject, graphs.norms_below(subject, "backbone."))),
    "head": _folded(lambda subject: graphs.folding(subject, graphs.norms_below(subject, "aspp.", "decoder."))),
    "every other": replace(
        _folded(lambda subject: graphs.folding(subject, graphs.every_other_norm(subject))), variants=("tf-release",)
    ),
}

_BORDERS: Final[Mapping[str, Way]] = {
    "apart": _at_convs(at.spatial, convs.border_apart),
    "in two steps": _at_convs(at.spatial, convs.border_in_two_steps),
    "a row and a column apart": _at_convs(at.spatial, partial(convs.bordered, steps=((1, 0, 0, 1),))),
    "the word same": _at_convs(at.keeping, convs.same),
}

_PRODUCTS: Final[Mapping[str, Way]] = {
    way: _at_convs(at.mixing, partial(convs.product, way=way)) for way in convs.PRODUCTS
}

_SPLIT_RESULTS: Final[Mapping[str, Way]] = {
    "1x1": _at_convs(lambda op: op.groups == 1 and op.pointwise, convs.split_results),
    "3x3": _at_convs(at.dense, convs.split_results),
    "depthwise": _at_convs(lambda op: op.depthwise, convs.split_results),
    "in three": _at_convs(lambda op: op.groups == 1, partial(convs.split_results, parts=3)),
}

_SPLIT_READS: Final[Mapping[str, Way]] = {
    "1x1": _at_convs(at.mixing, convs.split_reads),
    "3x3": _at_convs(at.dense, convs.split_reads),
    "by what is joined": Way(make=at.at_sources),
}

_MERGED: Final[Mapping[str, Way]] = {
    "activations of the pyramid": Way(make=at.ends_together(Activation)),
    "normalisations of the pyramid": Way(make=at.ends_together(BatchNorm, Activation), evaluation=True),
    "convolutions of the pyramid": Way(
        make=at.ends_together(Conv2d, BatchNorm, Activation), variants=("tf-release",), evaluation=True
    ),
}

_PERMUTED: Final[Mapping[str, Way]] = {
    "branches of the pyramid": Way(make=lambda subject: graphs.reordered(subject, "aspp.concat", (3, 0, 4, 2, 1))),
    "what the decoder joins": Way(make=lambda subject: graphs.reordered(subject, "decoder.concat", (1, 0))),
    "channels of a block": Way(
        make=lambda subject: graphs.channels_permuted(subject, "backbone.middle_flow.block1.sepconv1.pointwise.conv")
    ),
}

_SPACE_TO_BATCH: Final[Mapping[str, Way]] = {
    "cropped at once": Way(make=at.with_rest(at.atrous, convs.space_to_batch, 0)),
    "cropped after the normalisation": Way(make=at.with_rest(at.atrous, convs.space_to_batch, 1), evaluation=True),
    "cropped after the activation": Way(make=at.with_rest(at.atrous, convs.space_to_batch, 2), evaluation=True),
}

_POOLINGS: Final[Mapping[str, Way]] = {
    name: Way(make=at.at_nodes(GlobalAveragePool, partial(values.unary, function=function)))
    for name, function in values.POOLINGS.items()
}

_RESIZES: Final[Mapping[str, Way]] = {
    **{
        f"a pixel: {name}": Way(make=at.at_paths(partial(values.resized, function=function), "aspp.pool.resize"))
        for name, function in values.FROM_A_PIXEL.items()
    },
    **{
        name: Way(make=at.at_paths(partial(values.resized, function=function), "decoder.resize", "output.resize"))
        for name, function in values.RESIZES.items()
    },
}

_RECTIFIERS: Final[Mapping[str, Way]] = {
    name: Way(make=at.at_nodes(Activation, partial(values.unary, function=function)))
    for name, function in values.RECTIFIERS.items()
}

_NEVER_NEGATIVE: Final[Mapping[str, Way]] = {
    "a ReLU": Way(make=lambda subject: graphs.with_activations(subject, Activation())),
    "a leaky ReLU": Way(make=lambda subject: graphs.with_activations(subject, graphs.LEAKY)),
}

_NORMALS: Final[Mapping[str, Way]] = {
    name: Way(make=at.at_nodes(BatchNorm, partial(values.normalised, function=function)), evaluation=True)
    for name, function in values.NORMALS.items()
}

_JOINS: Final[Mapping[str, Way]] = {
    **{
        f"a sum, {name}": Way(make=at.at_nodes(Add, partial(values.summed, function=function)))
        for name, function in values.SUMS.items()
    },
    "concatenations one by one": Way(make=at.at_nodes(Concat, values.nested)),
}

_NEUTRAL: Final[Mapping[str, Way]] = {
    name: Way(make=at.at_nodes(Activation, partial(values.followed, function=function)))
    for name, function in values.NEUTRAL.items()
}

_DROPOUT: Final[Mapping[str, Way]] = {
    "absent": Way(make=graphs.without_dropout, variants=("tf-release",), evaluation=True),
    "more": Way(make=lambda subject: graphs.with_dropout(subject, Dropout(probability=0.5)), evaluation=True),
    "of nothing": Way(make=lambda subject: graphs.with_dropout(subject, Dropout(probability=0.0))),
}

_NAMES: Final[Mapping[str, Way]] = {
    "of a graph": Way(make=lambda subject: subject.module()),
    "drawn": Way(make=lambda subject: graphs.Shuffled(subject.network, 1, subject.weights)),
    "drawn again": Way(make=lambda subject: graphs.Shuffled(subject.network, 2, subject.weights)),
    "numbers in one list": Way(make=lambda subject: graphs.Shuffled(subject.network, 3, subject.weights, flat=True)),
}

_CALLS: Final[Mapping[str, Way]] = {
    **{
        way: Way(make=partial(whole.wrapped, way=way), evaluation=way == "image by image")  # a batch has statistics
        for way in whole.RUNNING
    },
    "in a sequence": Way(make=whole.in_a_sequence),
}

_STATES: Final[Mapping[str, Way]] = {
    "kernels in channels_last": Way(make=whole.channels_last),
    "float64 and back": Way(make=whole.through_double),
    "assigned from a state dict": Way(make=whole.reloaded),
}

_FILES: Final[Mapping[str, Way]] = {
    name: Way(make=partial(whole.saved, batches=batches), not_applicable=FIXED, evaluation=True)
    for name, batches in (("pt2 of one image", False), ("pt2 of any number of images", True))
}

_ONNX: Final[Mapping[str, Way]] = {
    name: Way(make=partial(whole.onnx, dynamo=dynamo), not_applicable=FOLDED | FIXED, evaluation=True, needs="onnx")
    for name, dynamo in (("current exporter", True), ("exporter of TorchScript", False))
}

_COMPILED: Final[Mapping[str, Way]] = {
    "eager": Way(make=partial(whole.compiled, backend="eager")),
    "aot_eager": Way(make=partial(whole.compiled, backend="aot_eager")),
    "inductor": Way(make=partial(whole.compiled, backend="inductor")),
}

_FX: Final[Mapping[str, Way]] = {
    "traced": Way(make=whole.traced, evaluation=True),
    "traced and rewritten": Way(make=whole.traced_and_rewritten, evaluation=True),
}

KINDS: Final[Mapping[str, Mapping[str, Way]]] = {
    "folded normalisations": _FOLDING,
    "border": _BORDERS,
    "1x1 as a product": _PRODUCTS,
    "results split": _SPLIT_RESULTS,
    "reads split": _SPLIT_READS,
    "merged": _MERGED,
    "permuted": _PERMUTED,
    "space to batch": _SPACE_TO_BATCH,
    "pooling": _POOLINGS,
    "resize": _RESIZES,
    "rectifier": _RECTIFIERS,
    "activation of what is never negative": _NEVER_NEGATIVE,
    "rate of a single tap": {"4 and 7": Way(make=graphs.rates_of_single_taps)},
    "normalisation": _NORMALS,
    "joins": _JOINS,
    "without effect": _NEUTRAL,
    "dropout": _DROPOUT,
    "names and order": _NAMES,
    "call": _CALLS,
    "state": _STATES,
    "exported program": _FILES,
    "onnx": _ONNX,
    "compiled": _COMPILED,
    "fx": _FX,
}
"""Every way, by kind and name."""
