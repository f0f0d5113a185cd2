"""Memory alive at once: compared with the interpreter's tensors and a brute-force count, and computed by hand."""

import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from deeplab_spec.analysis.conventions import MAC
from deeplab_spec.analysis.costs import total_cost
from deeplab_spec.analysis.memory import live_bytes
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode, Surroundings
from deeplab_spec.execute import interpreter
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, Conv2d, Dropout, Output, Pair, roles
from deeplab_spec.spec.api import network
from deeplab_spec.spec.variants import variant as find
from tests.analysis.test_traffic import branched
from tests.support.graphs import chain
from tests.support.members import CASES
from tests.support.per_node_module import costs_of

BY_CASE = pytest.mark.parametrize(("variant", "output_stride"), CASES)
SIZE = (65, 50)
SIDES = (4, 5)


def small(variant: str, output_stride: int) -> Network:
    """Return a short and narrow network with a dropout behind every convolution of its decoder."""
    short = find(variant).family.short
    return network(variant, output_stride, 5, {**short, "width": 1 / 32, "decoder_dropout": (0.5, 0.1)})


def alive(graph: Network, size: Pair, mode: Mode = Mode.FORWARD) -> dict[str, int]:
    """Return the closed form's bytes."""
    known = shapes(graph, size)
    sizes = {path: 4 * shape[0] * shape[1] * shape[2] for path, shape in known.items()}
    return live_bytes(graph, sizes, Surroundings(graph), mode)


def storages(tensors: Iterable[Tensor | None]) -> int:
    """Return the bytes of the distinct storages of tensors that still exist."""
    found = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors if tensor is not None}
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@BY_CASE
def test_live_bytes_are_those_of_the_interpreters_tensors(
    variant: str, output_stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All computed values that still exist after a node ran; the image is released first."""
    graph = small(variant, output_stride)
    weights = {f"{node.path}.{role}": torch.ones(shape) for node in graph for role, shape in roles(node.op).items()}
    inputs = {"input": torch.zeros(1, 3, *SIZE)}
    seen = [weakref.ref(inputs["input"])]
    measured = {"input": storages(entry() for entry in seen)}
    step = interpreter.step

    def watched(node: Node, arriving: list[Tensor], *rest: Any) -> Tensor:
        inputs.clear()
        result = step(node, arriving, *rest)
        seen.append(weakref.ref(result))
        measured[node.path] = storages(entry() for entry in seen)
        return result

    monkeypatch.setattr(interpreter, "step", watched)
    with torch.no_grad():
        interpreter.run(graph, weights, inputs, keep=())

    assert alive(graph, SIZE) == measured


@BY_CASE
def test_live_bytes_are_those_of_all_values_with_a_reader_to_come(variant: str, output_stride: int) -> None:
    """Brute force: inspect all values at every node."""
    graph = small(variant, output_stride)
    known = shapes(graph, SIZE)
    place = {node.path: number for number, node in enumerate(graph)}

    def names(path: str) -> set[str]:
        aliases = {path}
        for node in graph:
            if isinstance(node.op, Dropout | Output) and node.inputs[0] in aliases:
                aliases.add(node.path)
        return aliases

    def last_use(path: str) -> int:
        uses = [place[path]]
        for name in names(path):
            uses += [place[node.path] for node in graph if name in node.inputs]
            if isinstance(graph[name].op, Output):
                uses.append(len(graph))
        return max(uses)

    made = [node.path for node in graph if not isinstance(node.op, Dropout | Output)]
    until = {path: last_use(path) for path in made}
    expected = {}
    for node in graph:
        now = place[node.path]
        values = (known[path] for path in made if place[path] <= now <= until[path])
        expected[node.path] = sum(4 * c * h * w for c, h, w in values)
    assert alive(graph, SIZE) == expected


FIRST = Conv2d(channels_in=3, channels_out=4, bias=True)
SECOND = Conv2d(channels_in=4, channels_out=4)
IMAGE, VALUE, WEIGHTS = 240, 320, 64
"""Bytes: of the image, of each value of 4 channels, of the gradients of either convolution's weights."""


def test_a_training_step_through_two_convolutions_by_hand() -> None:
    """An input is kept until its reader's gradients are made; the result and gradients of weights stay."""
    graph = chain(FIRST, SECOND, channels=3)
    kept = IMAGE + VALUE

    assert alive(graph, SIDES) == {"x": IMAGE, "n1": IMAGE + VALUE, "n2": 2 * VALUE, "y": VALUE}
    assert alive(graph, SIDES, Mode.TRAIN) == {
        "x": IMAGE,
        "n1": IMAGE + VALUE + VALUE + 2 * WEIGHTS,  # the result and one gradient
        "n2": kept + VALUE + 2 * VALUE + WEIGHTS,  # the result and the gradients of n2 and n1
        "y": kept + VALUE + VALUE,
    }


def test_a_relu_keeps_its_result_in_place_of_its_input_by_hand() -> None:
    """The convolution after it keeps the same value, so nothing is kept twice."""
    lively = alive(chain(FIRST, Activation(), SECOND, channels=3), SIDES, Mode.TRAIN)
    keeping_both = alive(chain(FIRST, Activation(kind=ActivationKind.SILU), SECOND, channels=3), SIDES, Mode.TRAIN)

    assert lively == {
        "x": IMAGE,
        "n1": IMAGE + 2 * VALUE + 2 * WEIGHTS,
        "n2": IMAGE + 4 * VALUE + WEIGHTS,
        "n3": IMAGE + 4 * VALUE + WEIGHTS,
        "y": IMAGE + 3 * VALUE,
    }
    assert keeping_both["n3"] == lively["n3"] + VALUE


def test_gradients_of_a_value_that_several_read_by_hand() -> None:
    """The image and the ReLU's result are kept; the network's result has the size of two values."""
    base = IMAGE + VALUE + 2 * VALUE
    assert alive(branched(), SIDES) == {
        "x": IMAGE,
        "n1": IMAGE + VALUE,
        "relu": 2 * VALUE,
        "sum": 3 * VALUE,
        "join": 4 * VALUE,
        "twice": 4 * VALUE,
        "y": 2 * VALUE,
    }
    assert alive(branched(), SIDES, Mode.TRAIN) == {
        "x": IMAGE,
        "y": base + 2 * VALUE,
        "twice": base + 4 * VALUE,  # one gradient is added to itself: a second
        "join": base + 2 * VALUE,  # its parts are views
        "sum": base + 3 * VALUE,  # its gradient is that of the ReLU, and is added to a view: a new one
        "relu": base + 4 * VALUE,  # made, then added in place
        "n1": base - VALUE + VALUE + WEIGHTS,
    }


def test_live_bytes_of_a_block_are_the_most_of_its_nodes() -> None:
    """Nodes run one after the other, so bytes alive do not add up."""
    costs = costs_of(chain(FIRST, SECOND, channels=3), SIDES, MAC, Mode.TRAIN)

    assert total_cost(costs).bytes_live == max(cost.bytes_live for cost in costs) == IMAGE + 4 * VALUE + WEIGHTS
