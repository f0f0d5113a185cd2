"""Equivalent forms of an operation give the same network; with one number changed it differs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.graph.ops import Activation, Conv2d, GlobalAveragePool, Op, Pad, Resize, ResizeMode
from tests.support.modules import Wrapped, assert_capture_runs
from tests.support.weights import whole

C, OUT, HEIGHT, WIDTH = 4, 6, 8, 16
IMAGE = whole((1, C, HEIGHT, WIDTH), 0)


class Tensors(nn.Module):
    """A function of an image, with parameters of its own."""

    def __init__(self, function: Callable[..., Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for number, (name, shape) in enumerate(shapes.items()):
            self.register_parameter(name, nn.Parameter(whole(shape, number + 1, -2, 2)))

    def forward(self, image: Tensor) -> Tensor:
        """Call the function with the parameters, by name."""
        return self.function(image, **dict(self.named_parameters()))


def captured_ops(module: nn.Module, image: Tensor) -> tuple[Capture, list[tuple[Op, tuple[int, ...]]]]:
    """Return the operations of a module in normal form, with the shapes of their values."""
    captured = capture(module, [image])
    shapes = {path: shape[1:] if len(shape) == 4 else () for path, shape in captured.shapes.items()}
    normal = normal_form(Shaped(network=captured.network.live(), shapes=shapes)).network
    return captured, [(node.op, captured.shapes[node.path]) for node in normal]


W, B, K = (OUT, C), (OUT,), (OUT, C, 1, 1)
POINTWISE: dict[str, tuple[Callable[..., Tensor], dict[str, tuple[int, ...]]]] = {
    "linear": (lambda x, w, b: functional.linear(x.permute(0, 2, 3, 1), w, b).permute(0, 3, 1, 2), {"w": W, "b": B}),
    "linear, no bias": (lambda x, w: functional.linear(x.movedim(1, -1), w).movedim(-1, 1), {"w": W}),
    "kernel as a matrix": (
        lambda x, w, b: functional.linear(x.transpose(1, 3), w[:, :, 0, 0], b).transpose(1, 3).contiguous(),
        {"w": K, "b": B},
    ),
    "matrix as a kernel": (lambda x, w: functional.conv2d(x, w[:, :, None, None]), {"w": W}),
    "transposed weight": (lambda x, w: (x.permute(0, 2, 3, 1) @ w).permute(0, 3, 1, 2), {"w": (C, OUT)}),
    "bias added": (
        lambda x, w, b: (x.permute(0, 2, 3, 1) @ w.t() + b).permute(0, 3, 1, 2),
        {"w": W, "b": B},
    ),
    "bias of four axes added": (lambda x, w, b: b + functional.conv2d(x, w), {"w": K, "b": (1, OUT, 1, 1)}),
    "bias added in place": (
        lambda x, w, b: functional.conv2d(x, w).add_(b.view(1, -1, 1, 1)),
        {"w": K, "b": B},
    ),
    "einsum": (lambda x, w: torch.einsum("nchw,oc->nohw", x, w), {"w": W}),
    "einsum, the other way round": (
        lambda x, w, b: torch.einsum("ab,zbhw->zhaw", w, x).transpose(1, 2) + b[:, None, None],
        {"w": W, "b": B},
    ),
    "matmul": (lambda x, w: (w @ x.flatten(2)).view(1, OUT, HEIGHT, WIDTH), {"w": W}),
    "bmm": (
        lambda x, w: torch.bmm(w.flatten(1).unsqueeze(0).expand(len(x), -1, -1), x.flatten(2)).unflatten(
            2, x.shape[2:]
        ),
        {"w": K},
    ),
    "mm of pixels": (
        lambda x, w: (
            torch.mm(x.permute(0, 2, 3, 1).reshape(-1, C), w.t()).view(1, HEIGHT, WIDTH, OUT).permute(0, 3, 1, 2)
        ),
        {"w": W},
    ),
    "addmm": (
        lambda x, w, b: torch.addmm(b, x.squeeze(0).flatten(1).t(), w.t()).t().reshape(1, OUT, HEIGHT, WIDTH),
        {"w": W, "b": B},
    ),
    "conv1d": (
        lambda x, w, b: functional.conv1d(x.flatten(2), w, b).view(1, OUT, HEIGHT, WIDTH),
        {"w": (OUT, C, 1), "b": B},
    ),
    "tensordot": (lambda x, w: torch.tensordot(x, w, dims=([1], [1])).permute(0, 3, 1, 2), {"w": W}),
}


@pytest.mark.parametrize("way", POINTWISE)
def test_a_product_over_channels_is_a_pointwise_convolution(way: str) -> None:
    """In any order of the pixels; the parameter is the kernel, up to a view."""
    function, shapes = POINTWISE[way]
    module = Tensors(function, **shapes)
    captured, ops = captured_ops(module, IMAGE)

    expected = Conv2d(channels_in=C, channels_out=OUT, bias="b" in shapes)
    assert [entry for entry in ops if isinstance(entry[0], Conv2d)] == [(expected, (1, OUT, HEIGHT, WIDTH))]
    assert len(ops) == 3, "an input, the convolution, and an output"
    assert_capture_runs(module, captured, IMAGE)
    path = captured.network.nodes[1].path
    kernel = captured.tensor(f"{path}.weight", state_of(module))
    assert kernel.shape == (OUT, C, 1, 1)
    kernel.zero_()
    assert not module.get_parameter("w").any(), "the kernel is the parameter itself"


NOT_POINTWISE: dict[str, tuple[Callable[..., Tensor], dict[str, tuple[int, ...]]]] = {
    "over columns": (functional.linear, {"weight": (WIDTH, WIDTH)}),
    "over rows": (lambda x, w: functional.linear(x.transpose(2, 3), w).transpose(2, 3), {"w": (HEIGHT, HEIGHT)}),
    "over channels and pixels": (
        lambda x, w: functional.linear(x.flatten(1), w).view(1, OUT, 1, 1),
        {"w": (OUT, C * HEIGHT * WIDTH)},
    ),
    "pixels in another order": (lambda x, w: functional.linear(x.permute(0, 2, 3, 1), w).permute(0, 3, 2, 1), {"w": W}),
    "pixels reshaped": (lambda x, w: (w @ x.flatten(2)).view(1, OUT, WIDTH, HEIGHT), {"w": W}),
    "channels and pixels mixed": (
        lambda x, w: functional.linear(x.reshape(1, HEIGHT, WIDTH, C), w).permute(0, 3, 1, 2),
        {"w": W},
    ),
    "another power": (lambda x, w: torch.einsum("nchw,oc->nohw", x * 2, w), {"w": W}),
    "bias along columns": (lambda x, w, b: functional.conv2d(x, w) + b, {"w": K, "b": (WIDTH,)}),
}


@pytest.mark.parametrize("way", NOT_POINTWISE)
def test_other_products_are_not_translated(way: str) -> None:
    """Other operations remain beside the convolution, and they run."""
    function, shapes = NOT_POINTWISE[way]
    module = Tensors(function, **shapes)
    captured, ops = captured_ops(module, IMAGE)

    assert len(ops) > 3 or not any(isinstance(op, Conv2d) for op, _ in ops)
    assert_capture_runs(module, captured, IMAGE)


def dealt_out(x: Tensor, rate: int) -> Tensor:
    """Gather every ``rate``-th row and column, with the others in the batch."""
    n, c, h, w = x.shape
    x = x.view(n, c, h // rate, rate, w // rate, rate)
    return x.permute(3, 5, 0, 1, 2, 4).reshape(rate * rate * n, c, h // rate, w // rate)


def gathered(x: Tensor, rate: int) -> Tensor:
    """Undo it."""
    n, c, h, w = x.shape
    x = x.view(rate, rate, n // rate**2, c, h, w)
    return x.permute(2, 3, 4, 0, 5, 1).reshape(n // rate**2, c, h * rate, w * rate)


def through_batch(
    rate: int, *, groups: int = 1, valid: bool = False, crop: int = 0, norm: bool = False
) -> Callable[..., Tensor]:
    """Return an atrous convolution that is written as an ordinary convolution of every ``rate``-th pixel."""

    def forward(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        h, width = x.shape[2:]
        more = (-h % rate, -width % rate)
        margin = rate if valid else 0
        x = functional.pad(x, (margin, margin + more[1], margin, margin + more[0]))
        x = functional.conv2d(dealt_out(x, rate), w, b, padding=0 if valid else 1, groups=groups)
        x = gathered(x.relu() if norm else x, rate)
        return x[:, :, : h - crop, :width]

    return forward


BATCHED = {
    "rate 2": (through_batch(2), 2, (HEIGHT, WIDTH), 1),
    "rate 3, odd": (through_batch(3), 3, (7, 11), 1),
    "rate 5, padded": (through_batch(5, valid=True), 5, (7, 11), 1),
    "depthwise": (through_batch(3, groups=C), 3, (7, 11), C),
    "with a map as small as the rate": (through_batch(7), 7, (7, 7), 1),
    "rate 1": (through_batch(1), 1, (7, 11), 1),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("way", BATCHED)
def test_a_convolution_of_every_rth_pixel_is_one_of_rate_r(way: str, *, bias: bool) -> None:
    """Padding to a multiple, space-to-batch, batch-to-space and a crop equal a dilation."""
    function, rate, size, groups = BATCHED[way]
    out = C if groups > 1 else OUT
    module = Tensors(function, w=(out, C // groups, 3, 3), **({"b": (out,)} if bias else {}))
    image = whole((1, C, *size), 3)
    captured, ops = captured_ops(module, image)
    conv = nn.Conv2d(C, out, 3, padding=rate, dilation=rate, groups=groups, bias=bias)

    assert ops == captured_ops(conv.double(), image)[1]
    assert_capture_runs(module, captured, image)


def test_a_convolution_of_every_rth_pixel_with_another_number_is_another() -> None:
    """Another rate, or one row less."""
    right = captured_ops(Tensors(through_batch(3), w=(OUT, C, 3, 3)), IMAGE)[1]

    for wrong in (through_batch(2), through_batch(3, crop=1)):
        module = Tensors(wrong, w=(OUT, C, 3, 3))
        captured, ops = captured_ops(module, IMAGE)
        assert ops != right
        assert_capture_runs(module, captured, IMAGE)


def test_another_order_of_space_to_batch_is_kept() -> None:
    """Blocks of neighbouring pixels in the batch are not a rate."""

    def forward(x: Tensor, w: Tensor) -> Tensor:
        x = x.view(1, C, 2, HEIGHT // 2, 2, WIDTH // 2).permute(2, 4, 0, 1, 3, 5).reshape(4, C, HEIGHT // 2, WIDTH // 2)
        x = functional.conv2d(x, w, padding=1)
        return x.view(2, 2, 1, C, HEIGHT // 2, WIDTH // 2).permute(2, 3, 0, 4, 1, 5).reshape(1, C, HEIGHT, WIDTH)

    module = Tensors(forward, w=(C, C, 3, 3))
    captured, ops = captured_ops(module, IMAGE)

    assert not any(isinstance(op, Conv2d) and op.rate != (1, 1) for op, _ in ops)
    assert len(ops) > 3
    assert_capture_runs(module, captured, IMAGE)


POOL = (GlobalAveragePool(), (1, C, 1, 1))
BROADCAST = (
    Resize(mode=ResizeMode.NEAREST, align_corners=False, size=(HEIGHT, WIDTH)),
    (1, C, HEIGHT, WIDTH),
)
RELU = (Activation(), (1, C, HEIGHT, WIDTH))
SAME: dict[str, tuple[Callable[[Tensor], Tensor], list[tuple[Op, tuple[int, ...]]]]] = {
    "no-ops": (lambda x: torch.cat([(x * 1.0 + 0 - 0) / 1], 1), []),
    "channels last": (lambda x: x.to(memory_format=torch.channels_last), []),
    "there and back": (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), []),
    "reshaped to its shape": (lambda x: x.view(x.shape).flatten(2).unflatten(2, x.shape[2:]), []),
    "shuffled and back": (lambda x: functional.pixel_shuffle(functional.pixel_unshuffle(x, 2), 2), []),
    "a slice of all": (lambda x: x[:, :, :HEIGHT, 0:], []),
    "expanded to its size": (lambda x: x.expand(1, -1, -1, -1).repeat(1, 1, 1, 1), []),
    "relu of pixels": (lambda x: x.flatten(2).relu().view(x.shape), [RELU]),
    "maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), [RELU]),
    "where": (lambda x: torch.where(x > 0, x, 0), [RELU]),
    "where not": (lambda x: torch.where(x <= 0, torch.zeros_like(x), x), [RELU]),
    "product": (lambda x: x * (x > 0), [RELU]),
    "product with numbers": (lambda x: (x > 0).to(x.dtype) * x, [RELU]),
    "threshold": (lambda x: functional.threshold(x, 0, 0), [RELU]),
    "mean": (lambda x: x.mean((2, 3))[:, :, None, None], [POOL]),
    "mean of pixels": (lambda x: x.flatten(2).mean(-1).view(1, C, 1, 1), [POOL]),
    "mean of columns, then of rows": (lambda x: x.mean(-1).mean(-1)[:, :, None, None], [POOL]),
    "mean of rows, then of columns": (lambda x: x.mean(2, keepdim=True).mean(3, keepdim=True), [POOL]),
    "adaptive": (lambda x: functional.adaptive_avg_pool2d(x, (1, 1)), [POOL]),
    "window": (lambda x: functional.avg_pool2d(x, (HEIGHT, WIDTH)), [POOL]),
    "expand": (lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, HEIGHT, WIDTH), [POOL, BROADCAST]),
    "expand_as": (lambda x: x.mean((2, 3), keepdim=True).expand_as(x), [POOL, BROADCAST]),
    "repeat": (lambda x: x.mean((2, 3), keepdim=True).repeat(1, 1, HEIGHT, WIDTH), [POOL, BROADCAST]),
    "tile": (lambda x: x.mean((2, 3), keepdim=True).tile(1, 1, HEIGHT, WIDTH), [POOL, BROADCAST]),
    "factor": (
        lambda x: functional.interpolate(x, scale_factor=(2, 0.5), mode="bilinear"),
        [(Resize(align_corners=False, size=(2 * HEIGHT, WIDTH // 2)), (1, C, 2 * HEIGHT, WIDTH // 2))],
    ),
    "crop": (lambda x: x[..., 1:-2, 3:], [(Pad(margins=(-1, -2, -3, 0)), (1, C, HEIGHT - 3, WIDTH - 3))]),
}


@pytest.mark.parametrize("way", SAME)
def test_other_forms_are_translated(way: str) -> None:
    """The operations equal those of the plain form."""
    function, expected = SAME[way]
    module = Wrapped(lambda _, x: function(x))
    captured, ops = captured_ops(module, IMAGE)

    assert ops[1:-1] == expected
    assert_capture_runs(module, captured, IMAGE)


DIFFERENT: dict[str, Callable[[Tensor], Tensor]] = {
    "a factor": lambda x: x * 2,
    "an offset": lambda x: x + 1,
    "two values concatenated": lambda x: torch.cat([x, x], 1),
    "half of it added": lambda x: torch.add(x, x, alpha=0.5),
    "taken from zero": lambda x: 0 - x,
    "over": lambda x: 2 / (x + 10),
    "there and not back": lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 2, 1),
    "reshaped otherwise": lambda x: x.reshape(1, C, WIDTH, HEIGHT),
    "maximum with one": lambda x: torch.maximum(x, torch.ones_like(x)),
    "where it is above one": lambda x: torch.where(x > 1, x, 0),
    "where another is above zero": lambda x: torch.where(-x > 0, x, 0),
    "the negative part": lambda x: x * (x < 0),
    "threshold at one": lambda x: functional.threshold(x, 1, 0),
    "mean of columns": lambda x: x.mean(3, keepdim=True).expand_as(x),
    "mean of channels": lambda x: x.mean((1, 2), keepdim=True).expand_as(x),
    "mean of columns twice": lambda x: x.mean(3, keepdim=True).mean(3, keepdim=True).expand_as(x),
    "mean of everything": lambda x: x * x.mean(),
    "mean of pixels, then of everything": lambda x: x * x.mean((2, 3)).mean(),
    "over the sum of everything": lambda x: x / x.sum(),
    "sum of everything over the number of pixels": lambda x: x * (x.sum() / (HEIGHT * WIDTH)),
    "repeated twice": lambda x: x.repeat(1, 1, 2, 2),
    "a factor that is not that of the sizes": lambda x: functional.interpolate(x, scale_factor=1.3, mode="bilinear"),
    "every second row": lambda x: x[:, :, ::2],
}


@pytest.mark.parametrize("way", DIFFERENT)
def test_other_computations_are_kept(way: str) -> None:
    """A different computation is not read as the plain form."""
    function = DIFFERENT[way]
    module = Wrapped(lambda _, x: function(x))
    captured, ops = captured_ops(module, IMAGE)

    assert ops[1:-1]
    assert ops[1:-1] not in [expected for _, expected in SAME.values()]
    assert_capture_runs(module, captured, IMAGE)
