"""An in-place operation changes what later readers see, and the captured graph says so."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.execute.interpreter import run
from deeplab_spec.graph.ops import Activation, Add, Op
from deeplab_spec.judge.load_weights import by_role
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_whole, whole
from tests.support.modules import CHANNELS, DroppedThenOverwritten, Residual, Wrapped


def seen(module: nn.Module, image: Tensor) -> tuple[Capture, Tensor]:
    """Capture a module, and run the captured graph on an image; the image is not changed."""
    captured = capture(module, [image.clone()])
    weights = by_role(captured, state_of(module))

    def unknown(node: object, inputs: list[Tensor]) -> Tensor:
        return captured.step(node.path, inputs, state_of(module))  # type: ignore[attr-defined]

    values = run(captured.network, weights, {"input": image.clone()}, opaque=unknown)
    return captured, values[captured.network.outputs[0].path]


def inputs_of(captured: Capture, op: type[Op]) -> list[list[type]]:
    """Return the kinds of what every operation of a kind reads."""
    network = captured.network
    return [[type(network[path].op) for path in node.inputs] for node in network if isinstance(node.op, op)]


def test_a_skip_that_a_relu_overwrites_reads_the_relu() -> None:
    """The real bug of a widely copied port: the sum adds relu(x), not x."""
    image = whole((1, CHANNELS, 5, 6), 0)
    results = {}
    for in_place in (False, True):
        module = make_whole(Residual(in_place=in_place), 1)
        captured, value = seen(module, image)
        skip = captured.network[next(node.inputs[1] for node in captured.network if isinstance(node.op, Add))]
        assert isinstance(skip.op, Activation) is in_place
        with torch.no_grad():
            results[in_place] = module(image.clone())
        assert_same(value, results[in_place], f"captured, in place: {in_place}")
    assert not torch.equal(results[False], results[True])


def test_dropout_gives_back_its_argument_in_evaluation() -> None:
    """So an in-place operation on its result overwrites the argument too."""
    image = whole((1, CHANNELS, 5, 6), 0)
    module = make_whole(DroppedThenOverwritten(), 1)

    captured, value = seen(module, image)

    assert inputs_of(captured, Add) == [[Activation, Activation]]
    with torch.no_grad():
        assert_same(value, module(image), "sum of the overwritten value with itself")


def test_readers_before_an_overwrite_keep_what_they_read() -> None:
    """Order counts: the first sum adds x, the second relu(x)."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        before = x + x
        functional.relu_(x)
        return before + x

    image = whole((1, CHANNELS, 5, 6), 0)
    module = make_whole(Wrapped(forward, entry=nn.Conv2d(CHANNELS, CHANNELS, 1)), 1)

    captured, value = seen(module, image)

    assert [reads.count(Activation) for reads in inputs_of(captured, Add)] == [0, 1]
    with torch.no_grad():
        assert_same(value, module(image), "second sum")


def test_an_overwritten_input_is_seen() -> None:
    """The very image that the caller passed."""
    image = whole((1, CHANNELS, 5, 6), 0)
    module = Wrapped(lambda _, x: functional.relu_(x) + x)

    captured, value = seen(module, image)

    assert inputs_of(captured, Add) == [[Activation, Activation]]
    assert_same(value, image.relu() * 2, "twice the positive part")


def test_an_overwrite_through_a_view_is_resolved() -> None:
    """A part of a value is overwritten: the exporter's own decompositions make it explicit."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        functional.relu_(x[:, :1])
        return layers.last(x)  # type: ignore[operator]

    image = whole((1, CHANNELS, 5, 6), 0)
    layers = {"entry": nn.Conv2d(CHANNELS, CHANNELS, 1), "last": nn.Conv2d(CHANNELS, CHANNELS, 1)}
    module = make_whole(Wrapped(forward, **layers), 1)

    _, value = seen(module, image)

    with torch.no_grad():
        assert_same(value, module(image), "overwritten in part")


def test_an_overwrite_of_a_whole_through_a_view_is_resolved() -> None:
    """A value is overwritten after a view of it was taken: the view changes too."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        flat = x.view(1, CHANNELS, -1)
        functional.relu_(x)
        return flat.sum((1, 2)).view(1, 1, 1, 1) + x

    image = whole((1, CHANNELS, 5, 6), 0)
    module = make_whole(Wrapped(forward, entry=nn.Conv2d(CHANNELS, CHANNELS, 1)), 1)

    _, value = seen(module, image)

    with torch.no_grad():
        assert_same(value, module(image), "the view sees the overwrite")
