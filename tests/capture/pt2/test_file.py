"""An exported program, saved to a file, equals the exported network, as a graph and when it runs."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional

from deeplab_spec.align.differences import Aspect, differences
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.fx.module import capture, shared_parameters, state_of
from deeplab_spec.capture.pt2 import file as exported_module
from deeplab_spec.capture.pt2.file import ExportedFile, read_pt2
from deeplab_spec.capture.target import open_file
from deeplab_spec.errors import CaptureError, TargetError
from deeplab_spec.graph.ops import Activation, Add
from deeplab_spec.measure.rewrites import folded
from deeplab_spec.reference.network import build
from tests.support.archives import changed, members_of, torch_saved
from tests.support.assertions import assert_same
from tests.support.modules import CHANNELS, Buffered, DroppedThenOverwritten, Residual, Wrapped
from tests.support.programs import read_exported
from tests.support.weights import make_whole, randomise_norms, whole

NARROW: Mapping[str, float] = {"width": 0.03, "middle_blocks": 1}
SIZE = (33, 35)
OTHER_SIZE = (41, 34)


def image(size: tuple[int, int] = SIZE, channels: int = 3) -> Tensor:
    """Return an image of small whole numbers in float64."""
    return whole((1, channels, *size), 3)


def exported(module: nn.Module, example: Tensor, **options: Any) -> ExportedProgram:
    """Export a module."""
    return torch.export.export(module.eval(), (example.to(next(module.parameters()).dtype),), **options)


def written(program: ExportedProgram, directory: Path) -> Path:
    """Save a program."""
    path = directory / "network.pt2"
    torch.export.save(program, path)
    return path


def file_of(module: nn.Module, directory: Path, example: Tensor) -> Candidate:
    """Export a module, save it and read the file."""
    return read_pt2(written(exported(module, example), directory), "network.pt2")


def shaped(captured: Capture) -> Shaped:
    """Return a captured network in normal form."""
    maps = {path: shape[1:] if len(shape) == 4 else () for path, shape in captured.shapes.items()}
    return normal_form(Shaped(network=captured.network.live(), shapes=maps))


def changes(expected: Capture, actual: Capture) -> tuple[Aspect, ...]:
    """Return the differences of two captured networks."""
    return differences(align(shaped(expected), shaped(actual)))


@pytest.fixture(scope="module")
def networks() -> Mapping[str, nn.Module]:
    """Return narrow networks, in float32."""
    names = ("notebook", "tf-release")
    return {name: randomise_norms(build(name, 16, 4, NARROW), 1).float().eval() for name in names}


@pytest.fixture(scope="module")
def programs(networks: Mapping[str, nn.Module]) -> Mapping[str, ExportedProgram]:
    """Return their programs, of fixed sizes."""
    return {name: exported(network, image()) for name, network in networks.items()}


DEEP = [pytest.param(name, marks=pytest.mark.deep) for name in ("tf-release", "notebook", "notebook, decomposed")]


@pytest.fixture(scope="module", params=["notebook, free sizes", *DEEP])
def case(
    request: pytest.FixtureRequest,
    networks: Mapping[str, nn.Module],
    programs: Mapping[str, ExportedProgram],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Candidate, nn.Module, Capture]:
    """Return a file, the network that was exported to it, and that network's graph."""
    name, _, form = request.param.partition(", ")
    program = programs[name]
    expected = read_exported(program)
    if form == "free sizes":
        free = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
        both = torch.cat([image(), image()]).float()
        program = exported(networks[name], both, dynamic_shapes=[free])
    elif form == "decomposed":
        program = program.run_decompositions()
    path = written(program, tmp_path_factory.mktemp("files"))
    return open_file(path, "network.pt2"), networks[name], expected


@pytest.fixture
def file(case: tuple[Candidate, nn.Module, Capture]) -> Iterator[Candidate]:
    """Return the file in float64; its changes are undone after each test."""
    weights = {name: tensor.clone() for name, tensor in case[0].tensors.items()}
    yield case[0].double()
    case[0].float().tensors = weights


@pytest.fixture
def network(case: tuple[Candidate, nn.Module, Capture]) -> Iterator[nn.Module]:
    """Return the network in float64; its changes are undone after each test."""
    weights = copy.deepcopy(case[1].state_dict())
    yield case[1].double()
    case[1].float().load_state_dict(weights)


def test_a_program_is_the_network(
    file: Candidate, network: nn.Module, case: tuple[Candidate, nn.Module, Capture]
) -> None:
    """Its graph, the names of its weights, and its results, in float64 and float32."""
    expected, actual = case[2], capture(file, [image()])

    assert changes(expected, actual) == ()
    assert dict(actual.parameters) == dict(expected.parameters)
    with torch.no_grad():
        assert_same(file(image()), network(image()), "float64")
        assert_same(file.float()(image().float()), network.float()(image().float()), "float32")


def test_a_program_runs_with_other_weights(file: Candidate, network: nn.Module) -> None:
    """Weights that are copied into its tensors are used."""
    with torch.no_grad():
        before = file(image())
        for name, tensor in state_of(network).items():
            if name.endswith(".bias"):
                tensor.add_(0.5)
            state_of(file)[name].copy_(tensor)
        after = file(image())

        assert_same(after, network(image()), "with other weights")
    assert not torch.equal(before, after)


def test_free_sizes_are_free(file: Candidate, network: nn.Module) -> None:
    """A program accepts the sizes that it was exported for, and rejects others in one line."""
    batch = torch.cat([image(OTHER_SIZE), image(OTHER_SIZE) + 1])
    if file.shapes == ((1, 3, *SIZE),):
        for attempt in (file.read, lambda inputs: file(*inputs)):
            with pytest.raises(CaptureError) as caught:
                attempt([batch])
            line = f"the exported program takes an input of shape (1, 3, {SIZE[0]}, {SIZE[1]}), but got (2, 3, 41, 34)"
            assert str(caught.value) == line
        return
    assert file.shapes == ((None, 3, None, None),)

    assert changes(capture(network, [batch]), capture(file, [batch])) == ()
    with torch.no_grad():
        assert_same(file(batch), network(batch), "two images of another size")
    with pytest.raises(CaptureError, match=r"^the program was exported for a side of image of \d+ or more, but got 2$"):
        file.read([torch.ones(2, 3, 2, 33)])


def test_an_edited_program_differs_at_the_edited_node(programs: Mapping[str, ExportedProgram], tmp_path: Path) -> None:
    """The dilation of one convolution, edited in the graph alone."""
    program = programs["notebook"]
    convs = [node for node in program.graph.nodes if str(node.target) == "aten.conv2d.default"]
    node = next(node for node in convs if len(node.args) > 6 and node.args[6] > 1 and min(node.args[5]) > 1)
    before, (stride, padding, rate, groups) = node.args, node.args[3:]
    expected = read_exported(program)
    node.args = (*before[:3], stride, [side + 1 for side in padding], [side + 1 for side in rate], groups)
    try:
        file = read_pt2(written(program, tmp_path), "network.pt2")
    finally:
        node.args = before

    (change,) = changes(expected, capture(file, [image()]))

    assert change.attribute == "rate"
    assert (change.expected, change.actual) == (rate[0], rate[0] + 1)
    assert f"p_{change.path}_weight".replace(".", "_") == node.args[1].name


def test_wrong_stated_sizes_are_ignored(tmp_path: Path) -> None:
    """Shapes are computed from the graph: an edited stride changes those after it."""
    program = exported(Wrapped(lambda layers, x: layers.a(x).relu(), a=nn.Conv2d(CHANNELS, 2, 1)), small())
    node = next(node for node in program.graph.nodes if str(node.target) == "aten.conv2d.default")
    node.args = (*node.args[:3], [2, 2])

    captured = capture(read_pt2(written(program, tmp_path), "network.pt2"), [small()])

    assert captured.shapes == {
        "input": (1, CHANNELS, 5, 6),
        "a": (1, 2, 3, 3),
        "relu": (1, 2, 3, 3),
        "output": (1, 2, 3, 3),
    }


SMALL = (5, 6)


def small() -> Tensor:
    """Return an image for the small modules."""
    return whole((1, CHANNELS, *SMALL), 0)


def run_graph(file: Candidate) -> Tensor:
    """Run the graph of a file."""
    captured = capture(file, [small()])
    values = captured.run({"input": small()}, state_of(file))
    return values[captured.network.outputs[0].path]


def overwritten_in_part(layers: nn.Module, x: Tensor) -> Tensor:
    """Overwrite a part of a value."""
    x = layers.entry(x)  # type: ignore[operator]
    functional.relu_(x[:, :1])
    return x + x


MODULES = {
    "residual": lambda: Residual(in_place=False),
    "corrupted skip": lambda: Residual(in_place=True),
    "dropped, then overwritten": DroppedThenOverwritten,
    "overwritten in part": lambda: Wrapped(overwritten_in_part, entry=nn.Conv2d(CHANNELS, CHANNELS, 1)),
    "buffers": Buffered,
    "folded": lambda: folded(make_whole(Residual(in_place=False), 2), small()),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_file_computes_what_its_module_computes(name: str, tmp_path: Path) -> None:
    """Also if a value is overwritten, a buffer is not saved, or normalisations are folded."""
    module = make_whole(MODULES[name](), 1)
    file = file_of(module, tmp_path, small())

    assert changes(capture(module, [small()]), capture(file, [small()])) == ()
    with torch.no_grad():
        expected = module(small())
    assert_same(file(small()), expected, "run")
    assert_same(run_graph(file), expected, "the graph, executed")


def test_a_corrupted_skip_is_visible(tmp_path: Path) -> None:
    """The sum of the file reads the ReLU, not the ReLU's input."""
    network = capture(file_of(make_whole(Residual(in_place=True), 1), tmp_path, small()), [small()]).network

    (add,) = [node for node in network if isinstance(node.op, Add)]
    assert isinstance(network[add.inputs[1]].op, Activation)


def test_results_keep_their_structure(tmp_path: Path) -> None:
    """A dict of a tensor and a tuple names the outputs by their places."""

    def forward(layers: nn.Module, x: Tensor) -> dict[str, Any]:
        x = layers.entry(x)  # type: ignore[operator]
        return {"out": x.relu(), "aux": (x, x.relu())}

    module = make_whole(Wrapped(forward, entry=nn.Conv2d(CHANNELS, 2, 1)), 1)
    file = file_of(module, tmp_path, small())

    with torch.no_grad():
        expected, actual = module(small()), file(small())
    assert list(actual) == ["['out']", "['aux'][0]", "['aux'][1]"]
    assert_same(actual["['aux'][1]"], expected["out"], "the last")
    outputs = capture(file, [small()]).network.outputs
    assert [node.path for node in outputs] == ["output['out']", "output['aux'][0]", "output['aux'][1]"]


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    """Two names of one tensor, also in another dtype."""
    module = Wrapped(
        lambda layers, x: layers.b(layers.a(x)),
        a=nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
        b=nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
    )
    module.b.weight = module.a.weight  # type: ignore[union-attr]
    file = file_of(module, tmp_path, small()).double()
    captured = capture(file, [small()])

    assert list(shared_parameters(file, captured)) == ["b"]
    state_of(file)["a.weight"].zero_()
    assert not file(small()).any()


class Builtin(nn.Module):
    """A module whose argument is called as a function of Python, which is no name for a node."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is what is tested
        """Apply the convolution."""
        return self.conv(input)  # type: ignore[no-any-return]


def test_an_argument_may_be_called_as_a_function_of_python(tmp_path: Path) -> None:
    """A copy of a node ``input`` would be called ``input_1``, which the program's signature does not name."""
    file = file_of(Builtin(), tmp_path, image())

    assert len(capture(file, (image(),)).network.inputs) == 1


def test_weights_are_copies(tmp_path: Path) -> None:
    """The framework may store them in the file's bytes, which must not be written to."""
    file = file_of(make_whole(Residual(in_place=False), 1).double(), tmp_path, small().double())
    assert isinstance(file, ExportedFile)
    before = {name: tensor.clone() for name, tensor in file.program.state_dict.items()}

    for tensor in state_of(file.double()).values():
        tensor.zero_()

    for name, tensor in before.items():
        assert_same(file.program.state_dict[name], tensor, name)


def test_a_framework_warning_does_not_refuse_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.11 warns about the bytes of the weights, and a program may turn warnings into errors."""
    load = exported_module.load_pt2

    def warning(copy: object) -> object:
        warnings.warn("The given buffer is not writable, and PyTorch does not support it", stacklevel=2)
        return load(copy)  # type: ignore[arg-type]

    path = written(exported(Residual(in_place=False), small()), tmp_path)
    monkeypatch.setattr(exported_module, "load_pt2", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = read_pt2(path, "network.pt2")

    assert file.kind == "exported program"


def test_two_inputs_of_one_free_side_must_agree(tmp_path: Path) -> None:
    """Sides that the exporter relates must agree."""
    module = Wrapped(lambda layers, *pair: layers.a(pair[0]) + pair[1], a=nn.Conv2d(CHANNELS, CHANNELS, 1))
    side = torch.export.Dim("side", min=2, max=64)
    shapes = (({2: side}, {2: side}),)
    program = torch.export.export(module.eval(), (torch.ones(1, 3, 5, 6),) * 2, dynamic_shapes=shapes)
    file = read_pt2(written(program, tmp_path), "network.pt2")

    assert file.shapes == ((1, 3, None, 6),) * 2
    assert file(torch.ones(1, 3, 9, 6), torch.ones(1, 3, 9, 6)).shape == (1, 3, 9, 6)
    with pytest.raises(CaptureError, match=r"of inputs_1 of 9 here, but got 8$"):
        file(torch.ones(1, 3, 9, 6), torch.ones(1, 3, 8, 6))
    with pytest.raises(CaptureError, match=r"for a side of inputs_0 from 0 to 64, but got 65$"):
        file.read([torch.ones(1, 3, 65, 6), torch.ones(1, 3, 65, 6)])
    with pytest.raises(CaptureError, match=r"^the exported program takes 2 inputs, but got 1$"):
        file(torch.ones(1, 3, 9, 6))


def test_weights_of_an_older_layout_are_read(tmp_path: Path) -> None:
    """One pickle of plain tensors instead of a member each."""
    module = make_whole(Residual(in_place=False), 1)
    content = written(exported(module, small()), tmp_path).read_bytes()
    state = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    old = {"data/weights/model.pt": torch_saved(state), "data/weights/model_weights_config.json": None}
    gone = {name: None for name in members_of(content) if name.startswith("data/weights/weight_")}
    (tmp_path / "old.pt2").write_bytes(changed(content, {**gone, **old}))

    file = read_pt2(tmp_path / "old.pt2", "old.pt2")

    with torch.no_grad():
        assert_same(file(small()), module(small()), "older layout")


def test_a_program_that_torch_cannot_load_is_refused(tmp_path: Path) -> None:
    """The check leaves the validity of a graph to the framework."""
    path = written(exported(Residual(in_place=False), small()), tmp_path)
    text = members_of(path.read_bytes())["models/model.json"].replace(b"aten.relu.default", b"aten.no_such.default")
    path.write_bytes(changed(path.read_bytes(), {"models/model.json": text}))

    with pytest.raises(TargetError) as caught:
        read_pt2(path, "network.pt2")

    assert str(caught.value).startswith(f"network.pt2: torch {torch.__version__} cannot load it: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_program_without_tensors_is_refused(tmp_path: Path) -> None:
    """It has no input."""
    module = Wrapped(lambda layers, *_: layers.a.weight * 2, a=nn.Conv2d(1, 1, 1))
    torch.export.save(torch.export.export(module, ()), tmp_path / "network.pt2")

    with pytest.raises(TargetError, match=r"^network\.pt2: the program takes no tensor$"):
        read_pt2(tmp_path / "network.pt2", "network.pt2")
