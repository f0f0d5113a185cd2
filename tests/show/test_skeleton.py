"""``show --format skeleton``: a file that needs PyTorch only, and conforms as it is."""

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import deeplab_spec
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.show.skeleton.source import skeleton
from deeplab_spec.spec.api import Subject, overridden, usual_size
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import TF_RELEASE, VARIANTS, variant

Choices = dict[str, str]
NARROW = {"width": "0.03125"}
USUAL = {"tf-resnet50", "tf-mobilenet-v2"}
QUICK = (Level.INTERFACE, Level.STRUCTURE, Level.TRAINING)
UNUSUAL = (
    ("torchvision-resnet50", {"auxiliary": "fcn"}),  # two results
    ("tf-release", {"skip_reads": "activated_input"}),  # the first layer of a block is a class of its own
    ("tf-resnet50", {"shortcut": "average_pool"}),
)


def written(name: str, output_stride: int, choices: Choices) -> str:
    """Return the file of a variant."""
    published = variant(name)
    chosen = overridden(published.choices, choices)
    size = usual_size(published, output_stride)
    return skeleton(Subject(variant=published, choices=chosen, output_stride=output_stride, size=size))


def loaded(text: str, folder: Path) -> Callable[[], nn.Module]:
    """Return the class of the whole network."""
    file = folder / "port.py"
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("port", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Callable[[], nn.Module] = module.DeepLab
    return build


@pytest.mark.parametrize(
    ("name", "output_stride", "choices", "levels"),
    [
        ("tf-release", 16, {"width": "0.125", "middle_blocks": "4"}, tuple(Level)),
        *(
            pytest.param(
                entry.name,
                entry.output_strides[0],
                NARROW,
                QUICK if entry.name in USUAL else tuple(Level),
                marks=() if entry.name in USUAL else pytest.mark.deep,
            )
            for entry in VARIANTS
        ),
        *(pytest.param(name, 8, NARROW | more, tuple(Level), marks=pytest.mark.deep) for name, more in UNUSUAL),
    ],
)
def test_the_file_conforms_as_it_is(
    name: str, output_stride: int, choices: Choices, levels: tuple[Level, ...], tmp_path: Path
) -> None:
    """In its graph, its values and its initial weights; the modules have the names of the nodes."""
    build = loaded(written(name, output_stride, choices), tmp_path)
    certificate = deeplab_spec.certify(build(), name, choices=choices, output_strides=[output_stride], levels=levels)

    assert [clause.id for clause in certificate.clauses if clause.findings] == []
    assert certificate.verdict is RunVerdict.CONFORMS
    names = {module for module, _ in build().named_modules()}
    paths = {node.path for node in network(overridden(variant(name).choices, choices), output_stride)}
    assert {path for path in paths if path.endswith((".conv", ".norm"))} <= names


@pytest.mark.parametrize(("name", "choices"), [*((entry.name, {}) for entry in VARIANTS), *UNUSUAL], ids=str)
def test_the_file_is_plain_and_short(name: str, choices: Choices) -> None:
    """It imports PyTorch and the standard library; equal blocks are one class, and no line is endless."""
    text = written(name, variant(name).output_strides[-1], choices)
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert imported <= {"math", "collections", "torch", "torch.nn"}
    assert len(text.splitlines()) < 400
    assert max(len(line) for line in text.splitlines() if "deeplab-spec" not in line) <= 120


def test_the_biases_of_a_gate_start_at_zero(tmp_path: Path) -> None:
    """Its convolutions are the only ones of torchvision's backbones with a bias."""
    module = loaded(written("torchvision-mobilenet-v3-large", 16, NARROW), tmp_path)()
    biases = [tensor for name, tensor in module.named_parameters() if ".gate." in name and name.endswith(".bias")]

    assert biases
    assert not any(tensor.any() for tensor in biases)


def test_equal_blocks_are_built_from_one_class() -> None:
    """Sixteen blocks of the middle flow are one line; what differs is an argument."""
    text = written(TF_RELEASE.name, 16, {})

    assert text.count("class EntryFlowBlock(") == 1
    assert 'named(**{f"block{n}": MiddleFlowBlock() for n in range(1, 17)})' in text
    assert "block1 = EntryFlowBlock(64, 128, 128, stride=2)" in text
    assert "EntryFlowBlock(728, 728, 1024)" in text
    assert "trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)" in text
