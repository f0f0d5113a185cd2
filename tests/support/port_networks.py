"""Networks for the tests of ``port``: small graphs, and targets for the command line."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned
from deeplab_spec.capture.fx.module import capture
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Input, Op, Output
from deeplab_spec.mutate.rewrites.graphs import Shuffled
from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import ChoiceValue, choose
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK
from tests.support.graphs import chain
from tests.support.weights import randomise_weights

SIZE = (17, 14)
NARROW: dict[str, ChoiceValue] = {"width": 0.03, "middle_blocks": 8}
FORMS = ("norm", "biased norm", "folded")


def kernel(ins: int, outs: int, *, bias: bool = False, groups: int = 1) -> Conv2d:
    """Return a 3x3 convolution that keeps the size."""
    return Conv2d(channels_in=ins, channels_out=outs, kernel=(3, 3), padding=(1, 1, 1, 1), bias=bias, groups=groups)


def normal(channels: int, eps: float = 1e-3, *, affine: bool = True) -> BatchNorm:
    """Return a normalisation."""
    return BatchNorm(channels=channels, eps=eps, momentum=0.1, affine=affine)


def in_form(form: str, eps: float = 1e-3) -> Network:
    """Return a network whose normalisations are separate, separate with a convolution bias, or folded."""
    bias = form != "norm"
    ops: list[Op] = []
    for conv in (kernel(3, 8, bias=bias), kernel(8, 8, bias=bias, groups=8), kernel(8, 6, bias=bias)):
        ops += [conv, *([] if form == "folded" else [normal(conv.channels_out, eps)]), Activation()]
    return chain(*ops, Conv2d(channels_in=6, channels_out=4, bias=True), channels=3)


def trained(graph: Network, seed: int = 1) -> Shuffled:
    """Return a graph as a module with random weights under random names."""
    module = Shuffled(graph, seed)
    randomise_weights(module, seed)
    return module


def branches(order: Sequence[str], after: Sequence[Op]) -> Network:
    """Return a network of branches ``a``, ``b`` and ``c``, concatenated in an order, with operations after them."""
    nodes = [Node(path="x", op=Input(channels=3))]
    for name, op in (("a", kernel(3, 4)), ("b", Conv2d(channels_in=3, channels_out=4)), ("c", kernel(3, 2))):
        nodes.append(Node(path=f"{name}.conv", op=op, inputs=("x",)))
        nodes.append(Node(path=f"{name}.act", op=Activation(), inputs=(f"{name}.conv",)))
    nodes.append(Node(path="concat", op=Concat(), inputs=tuple(f"{name}.act" for name in order)))
    for number, op in enumerate(after):
        nodes.append(Node(path=f"after{number}", op=op, inputs=(nodes[-1].path,)))
    nodes.append(Node(path="y", op=Output(name=""), inputs=(nodes[-1].path,)))
    return Network(nodes=tuple(nodes))


class File(Candidate):
    """A network that behaves as a file of fixed size: its weights are tensors by name."""

    kind = "file"

    def __init__(self, module: nn.Module) -> None:
        super().__init__("file", ((1, 3, *SIZE),), {k: v.clone() for k, v in module.state_dict().items()})
        self.inside = [module]

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph."""
        return capture(self.inside[0], inputs)

    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:  # noqa: ARG002, B008 - frozen
        """Run it with its tensors."""
        if tuple(inputs[0].shape[2:]) != SIZE:
            return Returned(error=f"must be {SIZE}")
        with torch.no_grad():
            return Returned(kind="Tensor", tensors={"": functional_call(self.inside[0], self.tensors, tuple(inputs))})


def narrow(output_stride: int = 16, num_classes: int = 5) -> nn.Module:
    """Build a narrow reference with random weights."""
    return randomise_weights(build("notebook", output_stride, num_classes, NARROW), 1)


def narrow_shuffled(output_stride: int = 16, num_classes: int = 5) -> nn.Module:
    """Build the same network with random names."""
    return Shuffled(network(choose(NOTEBOOK.choices, NARROW), output_stride, num_classes), 2)


def small() -> nn.Module:
    """Build a small network with random weights."""
    print("a target may print")  # noqa: T201 - tests check where it goes
    return trained(in_form("norm"), 1)


def small_folded() -> nn.Module:
    """Build the small network with folded normalisations."""
    return trained(in_form("folded"), 2)


def small_other_eps() -> nn.Module:
    """Build the small network with another eps."""
    return trained(in_form("norm", 1e-5), 3)


def small_shuffled() -> nn.Module:
    """Build the small network with other names and other weights."""
    return trained(in_form("norm"), 4)


def image(seed: int = 0) -> Tensor:
    """Return a small image."""
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
