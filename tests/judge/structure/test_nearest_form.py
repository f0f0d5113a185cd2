"""A network whose layers are written in equivalent forms is the network; with one number changed it is not."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import deeplab_spec
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.reference.network import build
from tests.judge.test_conforming import open_clauses
from tests.support.candidates import SMALL


class Linear(nn.Module):
    """A 1x1 convolution as a matrix product over the channels of every pixel."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.product = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Bring the channels to the end, and back."""
        return self.product(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class Transposed(nn.Module):
    """A 1x1 convolution as the product of a flat map with a matrix that is kept transposed."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(conv.in_channels, conv.out_channels))
        self.offset = nn.Parameter(torch.zeros(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Flatten the pixels, and part them again; then add the bias."""
        product = torch.matmul(self.matrix.t(), x.flatten(2)).unflatten(2, x.shape[2:])
        return product + self.offset[:, None, None]


class Batched(nn.Module):
    """An atrous convolution as an ordinary one of every ``rate``-th pixel, the others in the batch."""

    def __init__(self, conv: nn.Conv2d, rate: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros_like(conv.weight))
        self.offset = nn.Parameter(torch.zeros(conv.out_channels))
        self.rate = rate or int(conv.dilation[0])
        self.groups = conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """Deal the pixels out, convolve, gather them and crop."""
        (n, c, h, w), r = x.shape, self.rate
        x = functional.pad(x, (0, -w % r, 0, -h % r))
        tall, wide = x.shape[2] // r, x.shape[3] // r
        x = x.reshape(n, c, tall, r, wide, r).permute(3, 5, 0, 1, 2, 4).reshape(r * r * n, c, tall, wide)
        x = functional.conv2d(x, self.weight, self.offset, padding=1, groups=self.groups)
        x = x.reshape(r, r, n, -1, tall, wide).permute(2, 3, 4, 0, 5, 1).reshape(n, -1, tall * r, wide * r)
        return x[:, :, :h, :w]


class Positive(nn.Module):
    """A ReLU as a choice."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep what is positive."""
        return torch.where(x > 0, x, torch.zeros_like(x))


def rewritten(last_rate: int | None = None) -> nn.Module:
    """Build the source document's network, narrow, with layers of every kind written in another way."""
    module = build("notebook", 16, 21, SMALL)

    def put(path: str, make: Callable[[nn.Module], nn.Module]) -> None:
        parent, _, name = path.rpartition(".")
        module.get_submodule(parent)._modules[name] = make(module.get_submodule(path))

    put("backbone.middle_flow.block1.sepconv2.pointwise.conv", Linear)  # type: ignore[arg-type]
    put("backbone.middle_flow.block2.sepconv1.pointwise.conv", Transposed)  # type: ignore[arg-type]
    put("backbone.middle_flow.block2.sepconv1.depthwise.conv", Batched)  # type: ignore[arg-type]
    put("backbone.middle_flow.block2.sepconv1.pointwise.activation", lambda _: Positive())
    put("aspp.pool.conv", Linear)  # type: ignore[arg-type]
    put("aspp.conv1x1.conv", Transposed)  # type: ignore[arg-type]
    put("aspp.atrous1.conv", Batched)  # type: ignore[arg-type]
    put("aspp.atrous3.conv", lambda conv: Batched(conv, last_rate))  # type: ignore[arg-type]
    put("decoder.low_level.conv", Linear)  # type: ignore[arg-type]
    return module


def test_a_network_of_other_forms_conforms() -> None:
    """Every clause is decided, with the specification's weights in the parameters of the other forms."""
    certificate = deeplab_spec.certify(rewritten(), "notebook", choices=SMALL, output_strides=[16])

    assert not open_clauses(certificate)
    assert certificate.verdict is RunVerdict.CONFORMS


def test_another_number_in_another_form_is_found_at_its_node() -> None:
    """The pixels of one branch are dealt out at another rate."""
    certificate = deeplab_spec.certify(
        rewritten(last_rate=17), "notebook", choices=SMALL, output_strides=[16], levels=["structure"]
    )

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.path == "aspp.atrous3.conv"
    assert [clause.id for clause in certificate.clauses if clause.findings] == ["ASPP-RATES"]
