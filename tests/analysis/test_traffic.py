"""Bytes read, written and kept: compared with those that PyTorch moves and saves, and computed by hand."""

from collections.abc import Iterable
from itertools import chain as chained
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_spec.analysis.conventions import MAC
from deeplab_spec.analysis.costs import Cost, total_cost
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.execute import interpreter
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Op,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
    roles,
)
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from tests.support.graphs import chain
from tests.support.members import XCEPTIONS
from tests.support.per_node_module import Layers, costs_of

CASES = [(variant.name, stride) for variant in XCEPTIONS for stride in variant.output_strides]
BY_CASE = pytest.mark.parametrize(("variant", "output_stride"), CASES)
SMALL: dict[str, Any] = {"width": 1 / 16}
SIZE = (65, 50)
SIDES = (4, 5)
FIRST = Conv2d(channels_in=3, channels_out=4, bias=True)
"""Before every operator by hand, so that a gradient flows to it: 4 channels of 4x5 are 320 bytes."""


class Moved(TorchDispatchMode):
    """Adds up the bytes of the input and output tensors of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.read = self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator."""
        del types
        result = func(*args, **(kwargs or {}))
        self.read += _bytes(pytree.tree_leaves((args, kwargs)))
        self.written += _bytes(pytree.tree_leaves(result))
        return result


def _bytes(leaves: Iterable[Any]) -> int:
    distinct = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    return sum(leaf.nbytes for leaf in distinct.values())


def saved_bytes(module: nn.Module, image: Tensor) -> int:
    """Return the bytes of the distinct tensors that autograd saves, without the module's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in chained(module.parameters(), module.buffers())}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            found[place] = tensor  # alive to the end, so that no other tensor gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = module(image)
    assert result.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@BY_CASE
def test_bytes_kept_are_those_that_autograd_saves(variant: str, output_stride: int) -> None:
    """In training; a batch of two keeps its values twice, and its statistics once."""
    graph = network(variant, output_stride, 5, SMALL)

    saved = saved_bytes(build(variant, output_stride, 5, SMALL).train(), torch.zeros(2, 3, *SIZE))

    kept = total_cost(costs_of(graph, SIZE, MAC, Mode.TRAIN)).bytes_kept
    statistics = sum(2 * 4 * node.op.channels for node in graph if isinstance(node.op, BatchNorm))
    assert saved == 2 * (kept - statistics) + statistics


@BY_CASE
def test_bytes_moved_in_evaluation_are_those_of_every_operator_that_runs(variant: str, output_stride: int) -> None:
    """The interpreter runs one operator per node; inputs and outputs of each are added up."""
    graph = network(variant, output_stride, 5, SMALL)
    weights = {f"{node.path}.{role}": torch.zeros(shape) for node in graph for role, shape in roles(node.op).items()}
    image = torch.zeros(1, 3, *SIZE)

    with torch.no_grad(), Moved() as moved:
        interpreter.run(graph, weights, {"input": image}, keep=())

    total = total_cost(costs_of(graph, SIZE, MAC))
    assert (total.bytes_read, total.bytes_written) == (moved.read, moved.written)


POOLED = Pool(kind=PoolKind.MAX, kernel=(2, 2), stride=(2, 2))
KEEPING: list[Op] = [
    *(Activation(kind=kind, slope=0.1) for kind in ActivationKind),
    Conv2d(channels_in=4, channels_out=6, kernel=(3, 3), groups=2, bias=True),
    POOLED,
    Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(1, 2)),
    GlobalAveragePool(),
    Pad(margins=(1, 2, 0, 1)),
    *(Resize(mode=mode, align_corners=mode is ResizeMode.BILINEAR, size=(8, 9)) for mode in ResizeMode),
]


@pytest.mark.parametrize("op", KEEPING, ids=lambda op: getattr(op, "kind", getattr(op, "mode", type(op).__name__)))
def test_bytes_kept_for_one_operator_are_those_that_autograd_saves(op: Op) -> None:
    """Also for operators that no variant has; a pool keeps the result, so that only the input is in question."""
    pool = Pool(kind=PoolKind.AVERAGE, kernel=(1, 1), stride=(1, 1))
    graph = chain(FIRST, op, pool, channels=3)

    saved = saved_bytes(Layers(graph), torch.ones(1, 3, *SIDES))

    assert saved == total_cost(costs_of(graph, SIDES, MAC, Mode.TRAIN)).bytes_kept


NORM = BatchNorm(channels=4, eps=1e-3, momentum=0.1)
BARE_NORM = BatchNorm(channels=4, eps=1e-3, momentum=0.1, affine=False)
GROUPED = Conv2d(channels_in=4, channels_out=6, kernel=(3, 3), padding=(1, 1, 1, 1), groups=2, bias=True)
# fmt: off
BY_HAND: list[tuple[str, Op, tuple[int, int], tuple[int, int]]] = [
    # Bytes read and written in evaluation; and in the two passes of a training step.
    ("conv",    GROUPED, (320 + 456, 480), (320 + 456 + 3 * 480 + 320 + 432, 480 + 320 + 456)),
    ("norm",    NORM, (320 + 64, 320), (2 * 320 + 64 + 4 * 320 + 48, 320 + 64 + 320 + 32)),
    ("bare",    BARE_NORM, (320 + 32, 320), (2 * 320 + 32 + 4 * 320 + 32, 320 + 64 + 320)),
    ("relu",    Activation(), (320, 320), (3 * 320, 2 * 320)),
    ("silu",    Activation(kind=ActivationKind.SILU), (320, 320), (3 * 320, 2 * 320)),
    ("dropout", Dropout(probability=0.5), (0, 0), (320 + 2 * 320, 2 * 320 + 320)),
    ("max",     POOLED, (320, 64), (320 + 64 + 128, 64 + 128 + 320)),
    ("average", Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2)), (320, 64), (320 + 64, 64 + 320)),
    ("global",  GlobalAveragePool(), (320, 16), (320 + 16, 16 + 320)),
    ("resize",  Resize(size=(8, 10)), (320, 1280), (320 + 1280, 1280 + 320)),
    ("pad",     Pad(margins=(0, 0, 1, 0)), (320, 384), (320 + 384, 384 + 320)),
]
# fmt: on


@pytest.mark.parametrize(("op", "forward", "train"), [case[1:] for case in BY_HAND], ids=[case[0] for case in BY_HAND])
def test_bytes_of_one_operator_by_hand(op: Op, forward: tuple[int, int], train: tuple[int, int]) -> None:
    """Values of 320 bytes; a backward pass reads gradients, kept values and weights."""
    graph = chain(FIRST, op, channels=3)

    assert _moved(costs_of(graph, SIDES, MAC), "n2") == forward
    assert _moved(costs_of(graph, SIDES, MAC, Mode.TRAIN), "n2") == train


def test_bytes_of_what_stands_before_every_parameter_by_hand() -> None:
    """No gradient flows to the image: 240 bytes of it, 64 bytes of weights and biases, 320 of the result."""
    costs = costs_of(chain(FIRST, channels=3), SIDES, MAC, Mode.TRAIN)

    assert _moved(costs, "n1") == (240 + 64 + 2 * 320 + 240, 320 + 64)
    assert _moved(costs, "x") == _moved(costs, "y") == (0, 0)
    norm_first = costs_of(chain(NORM), SIDES, MAC, Mode.TRAIN)
    assert _moved(norm_first, "n1") == (2 * 320 + 64 + 2 * 320 + 48, 320 + 64 + 32)
    untrained = costs_of(chain(Activation(), channels=4), SIDES, MAC, Mode.TRAIN)
    assert _moved(untrained, "n1") == (320, 320)
    assert total_cost(untrained).bytes_kept == 0


def test_bytes_of_values_that_several_read_by_hand() -> None:
    """Three readers send three gradients: two sums, each of which reads two and writes one."""
    costs = costs_of(branched(), SIDES, MAC, Mode.TRAIN)

    assert _moved(costs, "n1") == (240 + 64 + 2 * 320 + 240 + 2 * 2 * 320, 320 + 64 + 2 * 320)
    assert _moved(costs, "sum") == (2 * 320, 320)
    assert _moved(costs, "join") == (2 * 320 + 2 * 640, 640 + 640)
    assert _moved(costs, "twice") == (640, 640)
    assert {cost.path: cost.bytes_kept for cost in costs if cost.bytes_kept} == {"x": 240, "relu": 320}


def branched() -> Network:
    """Return a network in which a value has three readers, and a sum reads one value twice."""
    return Network(
        nodes=(
            Node(path="x", op=Input(channels=3)),
            Node(path="n1", op=FIRST, inputs=("x",)),
            Node(path="relu", op=Activation(), inputs=("n1",)),
            Node(path="sum", op=Add(), inputs=("relu", "n1")),
            Node(path="join", op=Concat(), inputs=("n1", "sum")),
            Node(path="twice", op=Add(), inputs=("join", "join")),
            Node(path="y", op=Output(name=""), inputs=("twice",)),
        )
    )


def _moved(costs: tuple[Cost, ...], path: str) -> tuple[int, int]:
    (cost,) = (cost for cost in costs if cost.path == path)
    return cost.bytes_read, cost.bytes_written
