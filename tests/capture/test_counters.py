"""The closed form of every foreign convention equals the count of its tool, at every node and for any network."""

import logging
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.analysis.conventions import FVCORE, TORCH
from deeplab_spec.analysis.costs import total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode, Surroundings
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.conformance.strategies import NARROW, Configuration, configurations
from deeplab_spec.errors import MissingExtraError
from deeplab_spec.graph.ops import Activation, ActivationKind, Conv2d, Pad, Pool, PoolKind, Resize, ResizeMode
from deeplab_spec.reference.network import DeepLabV3Plus, build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.variants import Variant
from tests.support.counters import (
    count_with_fvcore,
    count_with_torch,
    weight_gradients_divided_by_groups,
)
from tests.support.graphs import chain
from tests.support.members import OTHERS, XCEPTIONS
from tests.support.per_node_module import (
    Layer,
    Layers,
    Learned,
    by_node,
    costs_of,
    normalisation_unseen,
    operations,
    shapes_unchecked,
)

CASES = [(variant.name, stride) for variant in XCEPTIONS for stride in variant.output_strides]
USUAL = {("notebook", 16), ("tf-release", 8)}
"""Cases of the usual run; the deep run has all."""

BY_CASE = pytest.mark.parametrize(
    ("variant", "output_stride"),
    [case if case in USUAL else pytest.param(*case, marks=pytest.mark.deep) for case in CASES],
)
DOCUMENT = {
    16: {
        "conv": 65_972_773_424,
        "batch_norm": 336_678_352,
        "upsample_bilinear2d": 39_146_580,
        "adaptive_avg_pool2d": 2_230_272,
        "upsample_nearest2d": 278_784,
    },
    8: {
        "conv": 231_015_045_168,
        "batch_norm": 898_676_176,
        "upsample_bilinear2d": 89_740_372,
        "adaptive_avg_pool2d": 8_652_800,
        "upsample_nearest2d": 1_081_600,
    },
}
"""Counts of fvcore 0.1.5 for the document's network at 513x513; 20 sums are skipped."""
SMALL: dict[str, Any] = {"width": 1 / 16}
SIZE = (65, 50)


UNDIVIDED = not weight_gradients_divided_by_groups()


def on_meta(*sides: int) -> torch.Tensor:
    """Return a tensor without values."""
    return torch.empty(*sides, device="meta")


@BY_CASE
def test_torch_counts_every_node_as_the_closed_form(variant: str, output_stride: int) -> None:
    """At full width and size; no value is computed on the meta device."""
    graph = network(variant, output_stride)
    with torch.device("meta"):
        layers, module = Layers(graph), build(variant, output_stride)

    counted = count_with_torch(layers, (on_meta(1, 3, 513, 513),), Mode.FORWARD)

    expected = operations(costs_of(graph, (513, 513), TORCH))
    assert by_node(counted, graph) == expected
    assert counted.total == sum(expected.values()) == Evaluator(graph, TORCH)(513, 513).operations
    assert count_with_torch(module, (on_meta(1, 3, 513, 513),), Mode.FORWARD).total == counted.total
    assert counted.by_operator == {"conv": counted.total}
    assert not counted.skipped


@BY_CASE
def test_torch_counts_every_convolution_of_a_training_step_as_the_closed_form(variant: str, output_stride: int) -> None:
    """Each runs alone: if a value has several consumers, the tool's backward counts by module are wrong."""
    graph = network(variant, output_stride)
    known = shapes(graph, (513, 513))
    around = Surroundings(graph)
    expected = operations(costs_of(graph, (513, 513), TORCH, Mode.TRAIN, undivided=UNDIVIDED))
    counted: dict[object, int] = {}
    convolutions = [node for node in graph if isinstance(node.op, Conv2d)]
    for node in convolutions:
        source = node.inputs[0]
        key = (node.op, known[source], flows := source in around.learning)
        if key not in counted:
            with torch.device("meta"):
                module = Learned(Layer(node)) if flows else Layer(node)
            counted[key] = count_with_torch(module, (on_meta(1, *known[source]),), Mode.TRAIN).total
        assert counted[key] == expected[node.path], node.path
    assert {path for path, count in expected.items() if count} == {node.path for node in convolutions}


@BY_CASE
def test_torch_counts_a_training_step_as_the_closed_form(variant: str, output_stride: int) -> None:
    """Forward and backward of a batch of two; torch's surplus has a closed form of its own."""
    graph = network(variant, output_stride)
    with torch.device("meta"):
        module = build(variant, output_stride)

    counted = count_with_torch(module, (on_meta(2, 3, 513, 513),), Mode.TRAIN)

    expected = total_cost(costs_of(graph, (513, 513), TORCH, Mode.TRAIN, undivided=UNDIVIDED))
    assert counted.total == 2 * expected.operations
    plain = 2 * Evaluator(graph, TORCH, Mode.TRAIN)(513, 513).operations
    assert (counted.total > plain) is UNDIVIDED


@BY_CASE
def test_fvcore_counts_every_node_as_the_closed_form(variant: str, output_stride: int) -> None:
    """A real forward pass at a small width and size; sums are listed as skipped and not counted."""
    graph = network(variant, output_stride, 5, SMALL)
    image = torch.zeros(1, 3, *SIZE)

    counted = count_with_fvcore(Layers(graph), (image,))
    assembled = count_with_fvcore(build(variant, output_stride, 5, SMALL), (image,))

    costs = costs_of(graph, SIZE, FVCORE)
    total = total_cost(costs)
    assert by_node(counted, graph) == operations(costs)
    for result in (counted, assembled):
        assert result.total == total.operations == Evaluator(graph, FVCORE)(*SIZE).operations
        assert result.by_operator == dict(total.operators)
        assert result.skipped == dict(total.skipped) == {"aten::add": 20}
    modules = {path: count for path, count in operations(costs).items() if path in assembled.by_module}
    assert len(modules) > 200
    assert modules == {path: assembled.by_module[path] for path in modules}


@pytest.mark.parametrize("output_stride", sorted(DOCUMENT))
def test_the_closed_form_gives_the_recorded_counts_of_the_documents_network(output_stride: int) -> None:
    """By operator, at full size."""
    total = total_cost(costs_of(network("notebook", output_stride), (513, 513), FVCORE))

    assert dict(total.operators) == DOCUMENT[output_stride]
    assert total.operations == sum(DOCUMENT[output_stride].values())


@pytest.mark.parametrize("output_stride", [16, pytest.param(8, marks=pytest.mark.deep)])
def test_fvcore_counts_the_documents_network_at_full_size_as_the_closed_form(output_stride: int) -> None:
    """The recorded figures, the closed form and the tool agree."""
    counted = count_with_fvcore(build("notebook", output_stride), (torch.zeros(1, 3, 513, 513),))

    total = total_cost(costs_of(network("notebook", output_stride), (513, 513), FVCORE))
    assert counted.by_operator == dict(total.operators) == DOCUMENT[output_stride]
    assert counted.total == total.operations
    assert counted.skipped == dict(total.skipped) == {"aten::add": 20}


@pytest.mark.parametrize("published", OTHERS, ids=lambda published: published.name)
def test_both_tools_count_the_other_members_as_the_closed_forms(published: Variant) -> None:
    """Pooling, ReLU6, sums and padding by a rule; what fvcore does not know, it skips under the same name."""
    choices = {**published.family.short, "width": 1 / 32}
    graph = network(published.name, 16, 5, choices)
    module, image = build(published.name, 16, 5, choices), torch.zeros(1, 3, 64, 96)

    with shapes_unchecked():
        by_fvcore = count_with_fvcore(module, (image,))
        by_torch = count_with_torch(module, (image,), Mode.FORWARD)

    expected = total_cost(costs_of(graph, (64, 96), FVCORE))
    assert by_fvcore.by_operator == dict(expected.operators)
    assert by_fvcore.skipped == dict(expected.skipped)
    assert by_fvcore.total == expected.operations
    assert by_torch.total == Evaluator(graph, TORCH)(64, 96).operations


FOREIGN = [
    *(Activation(kind=kind, slope=0.1) for kind in ActivationKind),
    Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
    Pool(kind=PoolKind.AVERAGE, kernel=(3, 2), stride=(2, 1)),
    Conv2d(channels_in=4, channels_out=6, kernel=(3, 1), groups=2, bias=True),
    Conv2d(channels_in=4, channels_out=6, kernel=(3, 1), padding=(0, 1, 0, 0)),
    Pad(margins=(1, 0, 1, 0)),
    Pad(margins=(1, 1, 1, 1), mode="reflect"),
    *(Resize(mode=mode, align_corners=mode is ResizeMode.BILINEAR, size=(8, 7)) for mode in ResizeMode),
]


@pytest.mark.parametrize("op", FOREIGN, ids=lambda op: getattr(op, "kind", getattr(op, "mode", "conv")))
def test_operators_that_no_variant_has_are_counted_and_skipped_as_fvcore_does(op: Any) -> None:
    """Other networks have them; a skipped operator has fvcore's name."""
    graph = chain(op)
    counted = count_with_fvcore(Layers(graph), (torch.zeros(1, 4, 9, 8),))

    total = total_cost(costs_of(graph, (9, 8), FVCORE))
    assert counted.total == total.operations
    assert counted.by_operator == dict(total.operators)
    assert counted.skipped == dict(total.skipped)


def test_nothing_is_printed_and_the_module_is_unchanged(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool's warnings are part of the result; modes and gradients stay as they were."""
    module = build("notebook", 16, 5, {"width": 1 / 32, "middle_blocks": 1})
    module.aspp.eval()
    modes = [layer.training for layer in module.modules()]
    image = torch.zeros(2, 3, 33, 33)

    with caplog.at_level(logging.DEBUG):
        count_with_fvcore(module, (image,))
        count_with_torch(module, (image,), Mode.TRAIN)

    assert not caplog.records
    assert capsys.readouterr() == ("", "")
    assert [layer.training for layer in module.modules()] == modes
    assert all(parameter.grad is None for parameter in module.parameters())


def test_arithmetic_on_sizes_is_not_among_the_skipped() -> None:
    """A trace shows both arithmetic on sizes and on tensors; a module that pads by a rule has both."""
    choices = {"width": 1 / 32, "middle_blocks": 1, "stride_padding": "same"}

    counted = count_with_fvcore(build("tf-release", 16, 5, choices), (torch.zeros(1, 3, 33, 34),))

    total = total_cost(costs_of(network("tf-release", 16, 5, choices), (33, 34), FVCORE))
    assert counted.skipped == dict(total.skipped) == {"aten::add": 5, "aten::pad": 4}


def test_in_place_sum_is_skipped_under_the_name_of_a_sum() -> None:
    """An implementation may add in place; it is the same operator."""

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + x
            y += x
            return y

    counted = count_with_fvcore(Twice(), (torch.zeros(1, 1, 2, 2),))
    assert (counted.total, counted.skipped) == (0, {"aten::add": 2})


def test_missing_fvcore_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the extra to install."""
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)

    with pytest.raises(MissingExtraError, match=r"counting with fvcore needs the extra 'counters'"):
        count_with_fvcore(torch.nn.Identity(), (torch.zeros(1),))


ON_META = settings(max_examples=max(40, settings().max_examples))
TRAINED = settings(max_examples=max(8, settings().max_examples // 5))
FOR_REAL = settings(max_examples=max(6, settings().max_examples // 6))
"""In the profile ``deep``: 200, 40 and 33."""


def module(drawn: Configuration) -> DeepLabV3Plus:
    """Build the reference."""
    return build(drawn.variant, drawn.output_stride, drawn.classes, drawn.choices)


def meta_module(drawn: Configuration) -> DeepLabV3Plus:
    """Build the reference without storage for its weights."""
    with torch.device("meta"):
        return module(drawn)


full = configurations(st.sampled_from((NARROW, 0.3, 0.5, 1.0, 1.25)), st.integers(1, 700))
narrow = configurations(st.sampled_from((NARROW, 1 / 16)), st.integers(1, 49))


@ON_META
@given(drawn=full)
def test_torch_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total and at every convolution, whose name in the reference is its path."""
    with shapes_unchecked(), normalisation_unseen():
        counted = count_with_torch(meta_module(drawn), (torch.empty(1, 3, *drawn.size, device="meta"),), Mode.FORWARD)

    graph = drawn.graph
    expected = operations(costs_of(graph, drawn.size, TORCH))
    convolutions = {node.path: counted.by_module[node.path] for node in graph if isinstance(node.op, Conv2d)}
    assert convolutions == {path: count for path, count in expected.items() if count}
    assert counted.total == sum(expected.values()) == Evaluator(graph, TORCH)(*drawn.size).operations


@TRAINED
@given(drawn=full)
def test_torch_counts_a_training_step_of_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """A batch of two costs twice one image; a normalisation of a single pixel rejects a batch of one."""
    with shapes_unchecked():
        counted = count_with_torch(meta_module(drawn), (torch.empty(2, 3, *drawn.size, device="meta"),), Mode.TRAIN)

    expected = total_cost(costs_of(drawn.graph, drawn.size, TORCH, Mode.TRAIN, undivided=UNDIVIDED))
    assert counted.total == 2 * expected.operations


@FOR_REAL
@given(drawn=narrow)
def test_fvcore_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total, by operator, and what it skips."""
    with shapes_unchecked():  # a tracer makes every comparison of sizes a part of its graph
        counted = count_with_fvcore(module(drawn), (torch.zeros(1, 3, *drawn.size),))

    graph = drawn.graph
    expected = total_cost(costs_of(graph, drawn.size, FVCORE))
    assert counted.by_operator == dict(expected.operators)
    assert counted.skipped == dict(expected.skipped)
    assert counted.total == expected.operations == Evaluator(graph, FVCORE)(*drawn.size).operations
