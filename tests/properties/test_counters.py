"""Any network that the specification describes: the closed form against the tools, run for real."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deeplab_spec.analysis.conventions import FVCORE, TORCH
from deeplab_spec.analysis.costs import total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.capture.counters import count_with_fvcore, count_with_torch, weight_gradients_divided_by_groups
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.reference.network import DeepLabV3Plus, build
from deeplab_spec.spec.choices import NAMES, SizesAccepted, seen_values
from deeplab_spec.spec.public import network
from tests.counted import costs_of, normalisation_unseen, operations, shapes_unchecked
from tests.strategies import NARROW, cases

ON_META = settings(max_examples=max(60, settings().max_examples))
TRAINED = settings(max_examples=max(8, settings().max_examples // 5))
FOR_REAL = settings(max_examples=max(12, settings().max_examples // 2))
"""In the profile ``deep``: 400, 80 and 200."""

UNDIVIDED = not weight_gradients_divided_by_groups()
OPEN = tuple(name for name in NAMES if name != "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A network, and the size of its input."""

    variant: str
    output_stride: int
    classes: int
    choices: dict[str, Any]
    size: Pair

    @property
    def graph(self) -> Network:
        """The specification's graph."""
        return network(self.variant, self.output_stride, self.classes, self.choices)

    def module(self) -> DeepLabV3Plus:
        """Build the reference."""
        return build(self.variant, self.output_stride, self.classes, self.choices)

    def on_meta(self) -> DeepLabV3Plus:
        """Build the reference without storage for its weights."""
        with torch.device("meta"):
            return self.module()


@st.composite
def configurations(draw: st.DrawFn, widths: st.SearchStrategy[float], sides: st.SearchStrategy[int]) -> Configuration:
    """Draw a variant with up to three of its choices decided otherwise; rarely one that fits no size."""
    variant, output_stride = draw(cases(), label="variant and output stride")
    names = draw(st.lists(st.sampled_from(OPEN), max_size=3, unique=True), label="choices")
    choices: dict[str, Any] = {"middle_blocks": 1}
    choices |= {name: draw(st.sampled_from(seen_values(name)), label=name) for name in names}
    choices["width"] = draw(widths, label="width")
    step = output_stride if choices.get("sizes_accepted") is SizesAccepted.MULTIPLES else 1
    height, width = (-(-draw(sides, label=side) // step) * step for side in ("height", "width"))
    drawn = Configuration(
        variant=variant.name,
        output_stride=output_stride,
        classes=draw(st.integers(1, 151), label="classes"),
        choices=choices,
        size=(height, width),
    )
    assume(_fits(drawn))
    return drawn


def _fits(drawn: Configuration) -> bool:
    """Tell whether the values of a graph have sizes; an atrous layer with padding one shrinks its map."""
    try:
        shapes(drawn.graph, drawn.size)
    except GraphError:
        return False
    return True


full = configurations(st.sampled_from((NARROW, 0.3, 0.5, 1.0, 1.25)), st.integers(1, 700))
narrow = configurations(st.sampled_from((NARROW, 1 / 16)), st.integers(1, 49))


@ON_META
@given(drawn=full)
def test_torch_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total and at every convolution, whose name in the reference is its path."""
    with shapes_unchecked(), normalisation_unseen():
        counted = count_with_torch(drawn.on_meta(), (torch.empty(1, 3, *drawn.size, device="meta"),), Mode.FORWARD)

    graph = drawn.graph
    expected = operations(costs_of(graph, drawn.size, TORCH))
    convolutions = {node.path: counted.by_module[node.path] for node in graph if isinstance(node.op, Conv2d)}
    assert convolutions == {path: count for path, count in expected.items() if count}
    assert counted.total == sum(expected.values()) == Evaluator(graph, TORCH)(*drawn.size).operations


@TRAINED
@given(drawn=full)
def test_torch_counts_a_training_step_of_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """A batch of two costs twice one image; the normalisation of a single pixel refuses one."""
    with shapes_unchecked():
        counted = count_with_torch(drawn.on_meta(), (torch.empty(2, 3, *drawn.size, device="meta"),), Mode.TRAIN)

    expected = total_cost(costs_of(drawn.graph, drawn.size, TORCH, Mode.TRAIN, undivided=UNDIVIDED))
    assert counted.total == 2 * expected.operations


@FOR_REAL
@given(drawn=narrow)
def test_fvcore_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total, by operator, and what it skips."""
    with shapes_unchecked():  # a tracer makes every comparison of sizes a part of its graph
        counted = count_with_fvcore(drawn.module(), (torch.zeros(1, 3, *drawn.size),))

    graph = drawn.graph
    expected = total_cost(costs_of(graph, drawn.size, FVCORE))
    assert counted.by_operator == dict(expected.operators)
    assert counted.skipped == dict(expected.skipped)
    assert counted.total == expected.operations == Evaluator(graph, FVCORE)(*drawn.size).operations
