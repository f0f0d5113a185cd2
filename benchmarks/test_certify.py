"""How long it takes to read and align a network of full size, and to certify one."""

import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import network_like
from deeplab_spec.capture.fx.module import capture_at
from deeplab_spec.capture.target import open_file
from deeplab_spec.graph.ops import Output
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.measure.rewrites import folded
from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import TF_RELEASE

SIZE = (513, 513)
SECONDS = 10
"""To read and align a file, on two cores."""

EVALUATION = ("interface", "structure", "numerics")
CERTIFY_SECONDS = {(16, EVALUATION): 45, (8, EVALUATION): 150, (16, ()): 60, (8, ()): 180}
"""Target by output stride and levels, on two cores; an empty tuple is every level."""

Write = Callable[[nn.Module, Tensor, Path], Path]


def _program(module: nn.Module, image: Tensor, directory: Path) -> Path:
    path = directory / "network.pt2"
    torch.export.save(torch.export.export(module, (image,), strict=False), path)
    return path


def _onnx(module: nn.Module, image: Tensor, directory: Path, *, dynamo: bool) -> Path:
    path = directory / "network.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (image,), path, dynamo=dynamo, verbose=False)
    return path


FILES: dict[str, Write] = {
    "pt2": _program,
    "onnx": lambda module, image, directory: _onnx(module, image, directory, dynamo=True),
    "onnx of TorchScript": lambda module, image, directory: _onnx(module, image, directory, dynamo=False),
}


def _aligned(module: nn.Module) -> Alignment:
    captured = capture_at(module, SIZE)
    outputs = {node.path: replace(node, op=Output(name="logits")) for node in captured.network.outputs}
    network = captured.network.with_nodes(outputs.get(node.path, node) for node in captured.network)
    candidate = in_normal_form(replace(captured, network=network))
    return align(network_like(candidate, TF_RELEASE.choices, 16, 21, SIZE), candidate)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_full_size_is_read_and_aligned(kind: str, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """From the bytes on the disk to the aligned graph, in at most ten seconds on two cores."""
    path = FILES[kind](build("tf-release", 16, 21).eval(), torch.zeros(1, 3, *SIZE), tmp_path)

    alignment = benchmark.pedantic(lambda: _aligned(open_file(path, kind)), rounds=3)

    assert {aspect.attribute for aspect in differences(alignment)} <= {"bias", "inputs"}
    assert benchmark.stats["median"] <= SECONDS


@pytest.mark.parametrize("kind", ["module", "folded"])
def test_a_module_of_full_size_is_read_and_aligned(kind: str, benchmark: BenchmarkFixture) -> None:
    """Including the export, because a module has no graph."""
    module = build("tf-release", 16, 21).eval()
    if kind == "folded":
        module = folded(module, torch.zeros(1, 3, 65, 65))

    alignment = benchmark.pedantic(lambda: _aligned(module), rounds=3)

    assert differences(alignment) == ()


@pytest.mark.parametrize("wrong", [0, 1])
def test_aligning_costs_as_much_per_node_in_a_deeper_network(wrong: int, benchmark: BenchmarkFixture) -> None:
    """Four times the nodes, at most six times the time: with no difference, and with one in the middle."""

    def seconds(blocks: int) -> float:
        choices = choose(TF_RELEASE.choices, {"middle_blocks": blocks, "width": 0.125})
        expected = normal_form(shaped(specification(choices, 16), (129, 129)))
        other = choose(choices, {"exit2_rates": (1, 2)}) if wrong else choices
        candidate = normal_form(shaped(specification(other, 16), (129, 129)))
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            alignment = align(expected, candidate)
            best = min(best, time.perf_counter() - started)
        assert bool(differences(alignment)) is bool(wrong)
        return best

    deep = benchmark.pedantic(lambda: seconds(128), rounds=1)

    assert deep <= 6 * seconds(32)


@pytest.mark.parametrize(("output_stride", "levels"), CERTIFY_SECONDS, ids=lambda value: str(value or "every level"))
@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_certificate_of_the_reference(
    variant: str, output_stride: int, levels: tuple[str, ...], benchmark: BenchmarkFixture
) -> None:
    """Building, reading the graph, aligning, two draws of weights, float64 and float32; then training."""
    command = [sys.executable, "-m", "deeplab_spec", "certify", f"reference:{variant}"]
    options = [word for level in levels for word in ("--level", level)]

    def certify() -> int:
        line = [*command, "--output-stride", str(output_stride), *options]
        return subprocess.run(line, check=False).returncode

    assert benchmark.pedantic(certify, rounds=1) == 0
    assert benchmark.stats["max"] <= CERTIFY_SECONDS[output_stride, levels]
