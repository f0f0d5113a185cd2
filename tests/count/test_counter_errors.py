"""Every known error of a counter, executed with the counter; and the conventions of the tools, on whole networks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.analysis.conventions import MAC, Formula
from deeplab_spec.analysis.counters import COUNTERS, convention
from deeplab_spec.analysis.published import PUBLISHED, TOLERANCE
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.count.counter_errors import MISTAKES, Mistake
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    Add,
    BatchNorm,
    Conv2d,
    GlobalAveragePool,
    Input,
    Output,
    Pool,
    PoolKind,
    Resize,
)
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from tests.support.counters import (
    count_with_fvcore,
    count_with_ptflops,
    count_with_thop,
    count_with_torch,
    count_with_torchinfo,
)
from tests.support.graphs import chain
from tests.support.per_node_module import shapes_unchecked

SIDE = 8
CHANNELS = 4
NARROW = 1 / 16
IMAGE = (65, 50)
CONV = Conv2d(channels_in=CHANNELS, channels_out=CHANNELS, bias=True)
KERNEL = Conv2d(channels_in=CHANNELS, channels_out=CHANNELS, kernel=(3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = replace(KERNEL, groups=CHANNELS)
NORM = BatchNorm(channels=CHANNELS, eps=1e-5, momentum=0.1)
RESIZED = Resize(size=(5, 7))


class Written(nn.Module):
    """A convolution, and then a function of its value and the image."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], conv: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv(CHANNELS, CHANNELS, 1)
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        """Return the function's value."""
        return self.function(self.conv(image), image)


def mean_and_resize(value: Tensor, _: Tensor) -> Tensor:
    """Return the mean of a value, resized, by functions."""
    return functional.interpolate(value.mean((2, 3), keepdim=True), RESIZED.size, mode="bilinear")


def sum_by_name(value: Tensor, image: Tensor) -> Tensor:
    """Return a sum by the function of that name, which ptflops replaces while it counts."""
    return torch.add(value, image)


class OwnConv(nn.Conv2d):
    """A convolution under another name."""


def sequence(*layers: nn.Module) -> nn.Module:
    """Return a convolution of one tap and layers after it."""
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), *layers)


def summed() -> Network:
    """Return the graph of a convolution whose value is added to the image."""
    nodes = (
        Node(path="x", op=Input(channels=CHANNELS)),
        Node(path="conv", op=CONV, inputs=("x",)),
        Node(path="sum", op=Add(), inputs=("conv", "x")),
        Node(path="y", op=Output(name=""), inputs=("sum",)),
    )
    return Network(nodes=nodes)


def of_torch(module: nn.Module, image: Tensor) -> int:
    """Return what torch counts in evaluation."""
    return count_with_torch(module, (image,), Mode.FORWARD).total


def of_torch_training(module: nn.Module, image: Tensor) -> int:
    """Return what torch counts in a training step."""
    return count_with_torch(module, (image,), Mode.TRAIN).total


def of_fvcore(module: nn.Module, image: Tensor) -> int:
    """Return what fvcore counts."""
    return count_with_fvcore(module, (image,)).total


def of_thop(module: nn.Module, image: Tensor) -> int:
    """Return what thop counts."""
    return count_with_thop(module, image)[0]


def of_modules(module: nn.Module, image: Tensor) -> int:
    """Return what ptflops counts without functions."""
    return count_with_ptflops(module, image, functions=False)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A network that shows a mistake, and where there is one the same network written so that it does not.

    Attributes:
        graph: The network.
        tool: The counter.
        wrong: A module that the counter gets wrong.
        right: A module that it gets right; None if none does.
    """

    graph: Network
    tool: Callable[[nn.Module, Tensor], int]
    wrong: Callable[[], nn.Module]
    right: Callable[[], nn.Module] | None = None


SHOWN = {
    "torch-convolutions-only": Shown(
        graph=chain(CONV, NORM, Activation()),
        tool=of_torch,
        wrong=lambda: sequence(nn.BatchNorm2d(CHANNELS), nn.ReLU()),
    ),
    "torch-undivided": Shown(
        graph=chain(CONV, DEPTHWISE),
        tool=of_torch_training,
        wrong=lambda: sequence(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)),
    ),
    "fvcore-units": Shown(graph=chain(CONV, NORM), tool=of_fvcore, wrong=lambda: sequence(nn.BatchNorm2d(CHANNELS))),
    "fvcore-sums": Shown(graph=summed(), tool=of_fvcore, wrong=lambda: Written(torch.add)),
    "fvcore-same": Shown(
        graph=chain(KERNEL),
        tool=of_fvcore,
        wrong=lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding="same", bias=False),
        right=lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
    ),
    "thop-norms": Shown(graph=chain(CONV, NORM), tool=of_thop, wrong=lambda: sequence(nn.BatchNorm2d(CHANNELS))),
    "thop-functions": Shown(
        graph=chain(CONV, GlobalAveragePool(), RESIZED),
        tool=of_thop,
        wrong=lambda: Written(mean_and_resize),
        right=lambda: sequence(nn.AdaptiveAvgPool2d(1), nn.Upsample(RESIZED.size, mode="bilinear")),
    ),
    "thop-subclasses": Shown(
        graph=chain(CONV), tool=of_thop, wrong=lambda: nn.Sequential(OwnConv(CHANNELS, CHANNELS, 1)), right=sequence
    ),
    "ptflops-activations": Shown(
        graph=chain(CONV, Activation()),
        tool=count_with_ptflops,
        wrong=lambda: sequence(nn.ReLU()),
        right=lambda: Written(lambda value, _: functional.relu(value)),
    ),
    "ptflops-methods": Shown(
        graph=chain(CONV, Activation()),
        tool=count_with_ptflops,
        wrong=lambda: Written(lambda value, _: value.relu()),
        right=lambda: Written(lambda value, _: functional.relu(value)),
    ),
    "ptflops-sums": Shown(
        graph=summed(),
        tool=count_with_ptflops,
        wrong=lambda: Written(lambda value, image: value + image),
        right=lambda: Written(sum_by_name),
    ),
    "ptflops-sync": Shown(
        graph=chain(CONV, NORM, Activation(), GlobalAveragePool()),
        tool=of_modules,
        wrong=lambda: sequence(nn.SyncBatchNorm(CHANNELS), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        right=lambda: sequence(nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    ),
    "torchinfo-norms": Shown(
        graph=chain(CONV, NORM), tool=count_with_torchinfo, wrong=lambda: sequence(nn.BatchNorm2d(CHANNELS))
    ),
}


def count(graph: Network, formula: Formula, mode: Mode = Mode.FORWARD) -> float:
    """Return the count of a rule at the size of the small networks."""
    return Evaluator(graph, replace(MAC, formula=formula), mode)(SIDE, SIDE).operations


@pytest.mark.parametrize("mistake", [entry for entry in MISTAKES if entry.name in SHOWN], ids=lambda entry: entry.name)
def test_a_counter_counts_as_its_known_error_says(mistake: Mistake) -> None:
    """The counter is run: its count is that of the row's rule, and the rule without the error gives another."""
    shown, image = SHOWN[mistake.name], torch.zeros(1, CHANNELS, SIDE, SIDE)
    counted = count(shown.graph, mistake.counted, mistake.mode)
    meant = count(shown.graph, mistake.meant, mistake.mode)

    assert shown.tool(shown.wrong().eval(), image) == counted != meant
    if shown.right:
        assert shown.tool(shown.right().eval(), image) == meant


def test_every_known_error_is_shown_and_moves_the_counts_of_the_family() -> None:
    """The profiler of TensorFlow is not run: its rule is held against the published figures."""
    assert {entry.name for entry in MISTAKES} - set(SHOWN) == {"tfprof-padding"}
    assert all(entry.excess(network("tf-release")) for entry in MISTAKES)
    (profiler,) = (entry for entry in MISTAKES if entry.name == "tfprof-padding")
    for row in PUBLISHED:
        graph, figure = row.subject().network(), float(row.billions or 0) * 1e9
        counted, meant = (
            Evaluator(graph, replace(MAC, formula=formula))(*row.size).operations / 2
            for formula in (profiler.counted, profiler.meant)
        )
        assert abs(counted / figure - 1) < TOLERANCE < abs(meant / figure - 1)


TOOLS: dict[str, Callable[[nn.Module, Tensor], int]] = {
    "thop": of_thop,
    "ptflops": count_with_ptflops,
    "ptflops-aten": lambda module, image: count_with_ptflops(module, image, backend="aten"),
    "torchinfo": count_with_torchinfo,
}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_the_convention_of_a_tool_is_what_the_tool_counts(name: str, variant: str) -> None:
    """The reference modules under every tool, with difference 0."""
    choices = {"width": NARROW}
    module = build(variant, 16, 5, choices).eval()

    with shapes_unchecked():
        counted = TOOLS[name](module, torch.zeros(1, 3, *IMAGE))

    assert counted == Evaluator(network(variant, 16, 5, choices), convention(name))(*IMAGE).operations


@pytest.mark.parametrize(
    ("name", "tool"), [("thop-modules", of_thop), ("mmcv", of_modules), ("ptflops", count_with_ptflops)]
)
def test_the_convention_of_a_tool_that_sees_modules_is_what_it_counts_of_them(
    name: str, tool: Callable[[nn.Module, Tensor], int]
) -> None:
    """Maximum, mean and resize as modules; ptflops doubles all of them, which the reference calls as functions."""
    pool = Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    graph = chain(CONV, NORM, Activation(), pool)
    layers: list[nn.Module] = [nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    if name != "ptflops":
        graph = chain(CONV, NORM, Activation(), pool, GlobalAveragePool())
        layers.append(nn.AdaptiveAvgPool2d(1))

    counted = tool(sequence(*layers).eval(), torch.zeros(1, CHANNELS, SIDE, SIDE))

    assert counted == Evaluator(graph, convention(name))(SIDE, SIDE).operations


def test_thop_counts_the_parameters_of_layers_that_run_and_that_it_knows() -> None:
    """The parameters of an auxiliary head that evaluation does not run are missing, as are those of a subclass."""
    image = torch.zeros(1, CHANNELS, SIDE, SIDE)
    unrun = Written(lambda value, _: value)
    unrun.add_module("auxiliary", nn.Conv2d(CHANNELS, 7, 1))

    assert count_with_thop(unrun, image)[1] == CHANNELS * CHANNELS + CHANNELS
    assert count_with_thop(nn.Sequential(OwnConv(CHANNELS, CHANNELS, 1)), image)[1] == 0
    twice = sequence()
    twice.append(twice[0])  # type: ignore[operator,index]
    assert count_with_thop(twice, image)[1] == CHANNELS * CHANNELS + CHANNELS


def test_every_convention_of_a_tool_is_executed() -> None:
    """What is counted by hand has no tool, and mmcv is not run: ptflops without functions is."""
    by_hand = {counter.name for counter in COUNTERS if counter.source.work == "this specification"}
    executed = {*TOOLS, "thop-modules", "mmcv", "mmcv-sync"}

    assert {counter.name for counter in COUNTERS} == by_hand | executed


def test_the_page_names_every_error_with_its_counter() -> None:
    """It is written with the cost reports, and compared with the committed one there."""
    page = (Path(__file__).parents[2] / "reports" / "costs" / "counters.md").read_text(encoding="utf-8")

    assert all(entry.what.replace("|", "\\|") in page and entry.counter in page for entry in MISTAKES)
