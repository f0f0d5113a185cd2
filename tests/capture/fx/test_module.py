"""A captured module: results of every structure, shared layers, state, aliasing, devices, and errors in one line."""

import inspect
import sys
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from deeplab_spec.capture.candidate.module import local
from deeplab_spec.capture.candidate.process import Program
from deeplab_spec.capture.capture import CallSettings, Capture
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.capture.pt2.file import ExportedFile, read_pt2
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.interpreter import run
from deeplab_spec.graph.ops import Activation, Add, Conv2d, Op, Opaque, Output
from tests.support.assertions import assert_same
from tests.support.modules import CHANNELS, Buffered, DroppedThenOverwritten, Residual, Result, Shared, Wrapped
from tests.support.weights import make_whole, whole

IMAGE = whole((1, CHANNELS, 4, 5), 0)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda _, x: x.relu(), [""]),
        (lambda _, x: (x.relu(), x), ["[0]", "[1]"]),
        (lambda _, x: [x.relu(), (x, x.sin())], ["[0]", "[1][0]", "[1][1]"]),
        (lambda _, x: {"out": x.relu(), "aux": x}, ["['out']", "['aux']"]),
        (lambda _, x: Result(out=x.relu(), aux=x), [".out", ".aux"]),
        (lambda _, x: (x.relu(), None, 3), ["[0]"]),
    ],
    ids=["tensor", "tuple", "nested", "dict", "namedtuple", "with others"],
)
def test_every_tensor_that_is_returned_is_an_output(function: Any, names: list[str]) -> None:
    """An output is named by its position in the result."""
    captured = capture(Wrapped(function), [IMAGE])
    outputs = captured.network.outputs

    assert [node.op for node in outputs] == [Output(name=name) for name in names]
    values = run(captured.network, {}, {"input": IMAGE}, opaque=lambda _, inputs: inputs[0].sin())
    assert_same(values[outputs[0].path], IMAGE.relu(), names[0])


def test_a_layer_that_is_called_twice_has_two_nodes_and_one_weight() -> None:
    """Paths are unique; the second call has the same parameters."""
    module = make_whole(Shared(), 0)
    captured = capture(module, [IMAGE])
    convs = [node.path for node in captured.network if isinstance(node.op, Conv2d)]

    assert convs == ["conv", "conv#2"]
    assert {captured.parameters[f"{path}.weight"] for path in convs} == {"conv.weight"}


def test_state_has_the_buffers_that_are_not_saved() -> None:
    """The module's results depend on them."""
    module = Buffered()
    state = state_of(module)

    assert set(state) == {"offset", "scale", "conv.weight", "conv.bias"}
    assert set(state) - set(module.state_dict()) == {"offset"}
    state["offset"].zero_()
    assert not module.get_buffer("offset").any(), "the state is the module's own, not a copy"


def test_buffers_that_are_not_saved_are_read_when_a_step_runs() -> None:
    """Opaque calls find them by name in the state."""
    module = make_whole(Buffered(), 0)
    captured = capture(module, [IMAGE])
    state = state_of(module)
    value = IMAGE
    for node in captured.network:
        if isinstance(node.op, Opaque | Conv2d):
            value = captured.step(node.path, [value], state)

    with torch.no_grad():
        assert_same(value, module(IMAGE), "scaled, moved and convolved")


def test_several_inputs_are_captured_in_order() -> None:
    """In the order of the arguments."""
    module = Wrapped(lambda _, x, y: torch.cat([x, y], 1))
    captured = capture(module, [IMAGE, IMAGE[:, :1]])

    assert [(node.path, node.op.channels) for node in captured.network.inputs] == [("input", 3), ("input#2", 1)]  # type: ignore[union-attr]


def branching(_: nn.Module, x: Tensor) -> Tensor:
    """Depend on the data."""
    return x.relu() if x.sum() > 0 else x


def failing(_: nn.Module, __: Tensor) -> Tensor:
    """Raise an error of many lines."""
    message = "first line\nsecond line"
    raise ValueError(message)


@pytest.mark.parametrize(
    ("function", "line"),
    [(branching, "return x.relu() if x.sum() > 0 else x"), (failing, "raise ValueError(message)")],
    ids=["depends on the data", "raises"],
)
def test_a_module_that_cannot_be_exported_is_refused_in_one_line(
    function: Any, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The reason is the exporter's first line and the module's own line; PyTorch prints nothing beside it."""
    with pytest.raises(CaptureError, match="refused the module: ") as caught:
        capture(Wrapped(function), [IMAGE])

    number = inspect.getsource(sys.modules[__name__]).splitlines().index(f"    {line}") + 1
    assert str(caught.value).endswith(f"(at test_module.py:{number}: {line})")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_traced_module_that_raises_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """``torch.fx`` prints what it raises too; after the call it prints to its user again, and others never notice."""
    traced = fx.symbolic_trace(lambda x: x.reshape(7))

    returned = local(Wrapped(lambda layers, x: layers.traced(x), traced=traced)).remote.call([IMAGE], CallSettings())

    assert returned.error.startswith("RuntimeError: ")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RuntimeError):
        traced(IMAGE)
    assert "Call using an FX-traced Module" in capfd.readouterr().err


@pytest.mark.parametrize(("module", "replaced"), [(nn.ReLU(), False), (fx.symbolic_trace(nn.ReLU()), True)])
def test_only_a_traced_module_is_called_without_what_torch_fx_prints(module: nn.Module, *, replaced: bool) -> None:
    """Any other finds PyTorch as it is; what stands for ``print`` leads to nothing of the program that calls."""
    seen: list[object] = []
    module.register_forward_hook(lambda *_: seen.append(vars(fx.graph_module).get("print")))

    assert not local(module).remote.call([IMAGE], CallSettings()).error
    assert [isinstance(found, BuiltinFunctionType) for found in seen] == [replaced]


def test_the_digest_of_weights_is_of_names_dtypes_shapes_and_numbers() -> None:
    """The order in which a module lists them changes nothing."""
    weights = {"first": torch.ones(2, 3), "second": torch.zeros(4)}

    def digest(tensors: dict[str, Tensor]) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return local(module).weights_digest()

    changes = (
        {"third": torch.zeros(4)},
        {"first": torch.ones(3, 2)},
        {"first": -weights["first"]},
        {"second": weights["second"].int()},
    )
    found = [digest({**weights, **change}) for change in ({}, *changes)]

    assert digest(dict(reversed(weights.items()))) == found[0]
    assert len(set(found)) == len(found)


def test_capture_reads_evaluation() -> None:
    """Dropout and batch statistics belong to training."""
    module = Wrapped(
        lambda layers, x: layers.drop(layers.norm(x)), norm=nn.BatchNorm2d(CHANNELS), drop=nn.Dropout(0.5)
    ).train()
    captured = capture(module.double(), [IMAGE])

    assert not any(isinstance(node.op, Opaque) for node in captured.network)


def capture_and_run(module: nn.Module, image: Tensor) -> tuple[Capture, Tensor]:
    """Capture a module, and run the captured graph on an image; the image is not changed."""
    captured = capture(module, [image.clone()])
    values = captured.run({"input": image.clone()}, state_of(module))
    return captured, values[captured.network.outputs[0].path]


def inputs_of(captured: Capture, op: type[Op]) -> list[list[type]]:
    """Return the kinds of the inputs of every operation of one kind."""
    network = captured.network
    return [[type(network[path].op) for path in node.inputs] for node in network if isinstance(node.op, op)]


def test_a_skip_that_a_relu_overwrites_reads_the_relu() -> None:
    """The real bug of a widely copied port: the sum adds relu(x), not x."""
    image = whole((1, CHANNELS, 5, 6), 0)
    results = {}
    for in_place in (False, True):
        module = make_whole(Residual(in_place=in_place), 1)
        captured, value = capture_and_run(module, image)
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

    captured, value = capture_and_run(module, image)

    assert inputs_of(captured, Add) == [[Activation, Activation]]
    with torch.no_grad():
        assert_same(value, module(image), "sum of the overwritten value with itself")


def test_consumers_before_an_overwrite_keep_their_value() -> None:
    """The order decides: the first sum adds x, the second relu(x)."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        before = x + x
        functional.relu_(x)
        return before + x

    image = whole((1, CHANNELS, 5, 6), 0)
    module = make_whole(Wrapped(forward, entry=nn.Conv2d(CHANNELS, CHANNELS, 1)), 1)

    captured, value = capture_and_run(module, image)

    assert [reads.count(Activation) for reads in inputs_of(captured, Add)] == [0, 1]
    with torch.no_grad():
        assert_same(value, module(image), "second sum")


def test_an_overwritten_input_is_captured() -> None:
    """The caller's own image is overwritten."""
    image = whole((1, CHANNELS, 5, 6), 0)
    module = Wrapped(lambda _, x: functional.relu_(x) + x)

    captured, value = capture_and_run(module, image)

    assert inputs_of(captured, Add) == [[Activation, Activation]]
    assert_same(value, image.relu() * 2, "twice the positive part")


def test_an_overwrite_through_a_view_is_resolved() -> None:
    """A part of a value is overwritten; the exporter's decompositions make it explicit."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        functional.relu_(x[:, :1])
        return layers.last(x)  # type: ignore[operator]

    image = whole((1, CHANNELS, 5, 6), 0)
    layers = {"entry": nn.Conv2d(CHANNELS, CHANNELS, 1), "last": nn.Conv2d(CHANNELS, CHANNELS, 1)}
    module = make_whole(Wrapped(forward, **layers), 1)

    _, value = capture_and_run(module, image)

    with torch.no_grad():
        assert_same(value, module(image), "overwritten in part")


def test_an_overwrite_of_a_whole_through_a_view_is_resolved() -> None:
    """A value is overwritten after a view of it was taken; the view changes too."""

    def forward(layers: nn.Module, x: Tensor) -> Tensor:
        x = layers.entry(x)  # type: ignore[operator]
        flat = x.view(1, CHANNELS, -1)
        functional.relu_(x)
        return flat.sum((1, 2)).view(1, 1, 1, 1) + x

    image = whole((1, CHANNELS, 5, 6), 0)
    module = make_whole(Wrapped(forward, entry=nn.Conv2d(CHANNELS, CHANNELS, 1)), 1)

    _, value = capture_and_run(module, image)

    with torch.no_grad():
        assert_same(value, module(image), "the view sees the overwrite")


SAMPLE = torch.randn(1, CHANNELS, 8, 6, generator=torch.Generator().manual_seed(0))


def _ramp(layers: nn.Module, x: Tensor) -> Tensor:
    """Add the row number of each pixel: numbers that the call creates."""
    return layers.conv(x + torch.arange(x.shape[2], dtype=x.dtype, device=x.device)[:, None])


def _margin(layers: nn.Module, x: Tensor) -> Tensor:
    """Prepend a row of zeros."""
    return layers.conv(torch.cat([torch.zeros(1, CHANNELS, 1, x.shape[3], device=x.device), x], dim=2))


def _full(layers: nn.Module, x: Tensor) -> Tensor:
    """Choose between the value and a constant."""
    return functional.relu(layers.conv(x)) + torch.full((1, CHANNELS, 1, 1), 0.5, device=x.device)


def _moved(layers: nn.Module, x: Tensor) -> Tensor:
    """Copy a constant to the device of the value."""
    return layers.conv(x) * torch.ones(1, 1, 1, 1, dtype=torch.float64, device=x.device).to(x.device, x.dtype)


CREATING = {"ramp": _ramp, "margin": _margin, "constant": _full, "copy": _moved}


def _module(name: str) -> nn.Module:
    torch.manual_seed(1)
    return Wrapped(CREATING[name], conv=nn.Conv2d(CHANNELS, CHANNELS, 1)).eval()


@pytest.mark.parametrize("name", CREATING)
def test_a_captured_call_is_made_on_the_device_of_its_values(name: str) -> None:
    """A capture records its own device, which is always the CPU."""
    module = _module(name)
    captured = capture(module, [SAMPLE])
    state = {key: tensor.to("meta") for key, tensor in {**captured.constants, **state_of(module)}.items()}
    values = {"input": SAMPLE.to("meta")}
    for node in captured.network:
        if node.path in captured.steps:
            values[node.path] = captured.step(node.path, [values[before] for before in node.inputs], state)
        elif node.inputs:
            values[node.path] = values[node.inputs[0]]

    assert {value.device.type for value in values.values()} == {"meta"}


@pytest.mark.parametrize("name", CREATING)
def test_an_exported_file_runs_on_the_device_of_its_weights(name: str, tmp_path: Path) -> None:
    """Its program names the CPU at every call that creates a tensor."""
    path = tmp_path / "network.pt2"
    torch.export.save(torch.export.export(_module(name), (SAMPLE,)), path)
    file = read_pt2(path, "network.pt2")
    assert isinstance(file, ExportedFile)
    program = Program(file.document, {name: tensor.to("meta") for name, tensor in file.tensors.items()})
    with torch.no_grad():
        here = file(SAMPLE)
        there = program(SAMPLE.to("meta"))

    assert torch.allclose(here, _module(name)(SAMPLE))
    assert (there.device.type, there.shape) == ("meta", here.shape)
