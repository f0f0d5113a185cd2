"""``deeplab-spec port``: its report, its document and its exit status."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deeplab_spec.cli.app import main
from deeplab_spec.port.document import PortDocument
from deeplab_spec.reference.network import build
from deeplab_spec.result import ExitCode
from tests.support.port_networks import small, small_folded, small_other_eps

pytestmark = pytest.mark.in_process

SMALL = "tests.support.port_networks:small"
SIZE = ("--size", "17x14")


def run(*arguments: object) -> int:
    """Run the program in this process and return its exit status."""
    with pytest.raises(SystemExit) as exited:
        main(["port", *map(str, arguments)])
    return int(exited.value.code or 0)


@pytest.mark.own_process
def test_the_report_has_counts_and_comparisons_and_ends_with_the_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The output of the targets is not in the report."""
    output = tmp_path / "w.safetensors"

    status = run(SMALL, "tests.support.port_networks:small_shuffled", "-o", output, *SIZE, "--map")
    captured = capfd.readouterr()

    lines = captured.out.splitlines()
    assert status == ExitCode.DONE == 0
    assert lines[0].startswith(
        "tests.support.port_networks:small -> tests.support.port_networks:small_shuffled, output stride 16 "
    )
    assert lines[1:7] == [
        "  20 tensors: 20 copied",
        "  results in float64",
        "    the interpreter on both graphs, 17x14: bit-equal",
        "    torch on both modules, 17x14: bit-equal",
        "    torch on both modules, 64x96: bit-equal",
        f"MOVED, proven equal: {output}, float32, int64",
    ]
    assert len(lines) == 7 + 2 + 20
    assert lines[7].split() == ["destination", "action", "source"]
    assert "a target may print" in captured.err


def test_the_document_has_the_map_and_the_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document fits its schema, and the file has the tensors of the map."""
    output = tmp_path / "w.safetensors"

    status = run(SMALL, "tests.support.port_networks:small_folded", "-o", output, *SIZE, "--json")
    captured = capsys.readouterr()

    document = PortDocument.model_validate(json.loads(captured.out))
    assert status == 0
    assert captured.err.splitlines()[-1].startswith("MOVED, proven equal: ")
    assert document.verdict == "moved"
    assert (document.counts.folded, document.counts.copied) == (6, 2)
    assert document.notes == ("3 normalisations of the source were folded into their convolutions, in float64",)
    assert {entry.name for entry in document.parameters} == set(load_file(output)) == set(small_folded().state_dict())
    assert document.proof
    assert [(run.engine, run.rounded, run.equal) for run in document.proof.runs] == [
        ("interpreter", False, True),
        ("interpreter", True, True),
        ("torch", True, True),
        ("torch", True, True),
    ]


def test_unequal_networks_are_not_written_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report names the node; no file is left."""
    status = run(SMALL, "tests.support.port_networks:small_other_eps", "-o", tmp_path / "w.safetensors", *SIZE)
    lines = capsys.readouterr().out.splitlines()

    assert status == ExitCode.DIFFERENT == 1
    assert any(line.endswith(" and 2 more: eps is 1e-05, must be 0.001") for line in lines)
    assert lines[-1].startswith("NOT MOVED, nothing is written: the first difference is at box")
    assert list(tmp_path.iterdir()) == []


def test_missing_layers_are_grouped_by_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two more blocks of the entry flow take a few lines, not hundreds."""
    arguments = ("--choose", "width=0.03", "--choose", "middle_blocks=8", "--dest-choose", "entry_blocks=5")
    status = run("reference:notebook", "reference:notebook", "-o", tmp_path / "w.safetensors", "--size", 65, *arguments)
    lines = capsys.readouterr().out.splitlines()

    start = lines.index("  without a partner")
    assert status == 1
    assert 4 <= len(lines) - start <= 11
    assert all("backbone.entry_flow.block" in line for line in lines[start + 1 : -2])
    assert "--dest-choose middle_blocks=8" in lines[-2]
    assert "entry_blocks" not in lines[-2]
    assert "the source has no such layer" in lines[start + 1]
    assert lines[-1].endswith("tensors of the destination get no value")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_a_file_are_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They replace the weights that the source was built with."""
    weights = {name: tensor.double().mul(0.5).to(tensor.dtype) for name, tensor in small().state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "trained.pth")

    status = run(SMALL, SMALL, "-o", tmp_path / "w.safetensors", "--weights", tmp_path / "trained.pth", *SIZE)

    assert status == 0
    assert "  note: the weights were read from 'state_dict'\n" in capsys.readouterr().out
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(tmp_path / "w.safetensors").items())


def test_errors_are_one_line_with_the_exit_status_of_their_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, and stdout is empty."""
    good, bad = tmp_path / "w.safetensors", tmp_path / "bad.safetensors"
    save_file({"x": torch.ones(1)}, bad)
    cases = (
        (ExitCode.USAGE, (SMALL, SMALL, "-o", tmp_path / "w.pt"), "--output: must end in .safetensors"),
        (ExitCode.USAGE, (SMALL, SMALL, "-o", good, "--weights", "w.pkl"), "--weights: must be a file .safetensors"),
        (
            ExitCode.COULD_NOT_RUN,
            (SMALL, SMALL, "-o", tmp_path / "no" / "w.safetensors"),
            "its directory does not exist",
        ),
        (ExitCode.COULD_NOT_RUN, (SMALL, SMALL, "-o", good, "--weights", bad), "does not fit the source: 20 names are"),
        (ExitCode.COULD_NOT_RUN, (SMALL, "tests.support.port_networks:none", "-o", good), "has no attribute 'none'"),
    )
    for status, arguments, message in cases:
        assert run(*arguments) == status
        captured = capsys.readouterr()
        last = captured.err.splitlines()[-1]
        assert last.startswith("deeplab-spec: ")
        assert message in last
        assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SMALL,), "name two networks"),
        ((SMALL, SMALL), "name the file to write"),
        ((SMALL, SMALL, "-o", "w.safetensors", "--dest-choose", "width=1"), "applies to a reference"),
        ((SMALL, SMALL, "-o", "w.safetensors", "--source-arg", "x"), "must be NAME=VALUE"),
    ],
)
def test_usage_errors_exit_2(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are found before a network is built."""
    assert run(*arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_schema_is_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed schema is the document's."""
    assert run("--json-schema") == 0
    assert json.loads(capsys.readouterr().out) == PortDocument.model_json_schema()


def test_what_differs_comes_with_the_line_that_would_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reference gets the choices of the other network; the command that is printed moves the weights."""
    output = tmp_path / "w.safetensors"
    narrow = ("--choose", "width=0.03125", "--choose", "middle_blocks=1", "--size", "65")
    source = ("reference:tf-release", "--source-choose", "backbone_norm_eps=1e-05")

    status = run(source[0], "reference:tf-release", *source[1:], "-o", output, *narrow)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("  this would move them: "))
    words = shlex.split(line.partition(": ")[2])

    assert status == 1
    assert lines[-1].startswith("NOT MOVED, nothing is written: the first difference is at backbone.")
    assert "backbone_norm_eps=1e-05" in words
    assert words[:2] == ["deeplab-spec", "port"]
    assert run(*words[2:], "--size", "65") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("MOVED, proven equal")


def test_a_module_gets_the_line_that_sets_the_attribute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line works on the destination's module."""
    run(SMALL, "tests.support.port_networks:small_other_eps", "-o", tmp_path / "w.safetensors", *SIZE)
    (line,) = (line.strip() for line in capsys.readouterr().out.splitlines() if "set there: " in line)

    model = small_other_eps()
    exec(line.removeprefix("set there: "), {"model": model})  # noqa: S102 - the line that the report prints

    assert 1e-3 in {layer.eps for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)}


def test_the_weights_of_a_part_are_moved_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reference gives its part; the file has the part's own names."""
    output = tmp_path / "w.safetensors"
    options = ("--choose", "width=0.03125", "--choose", "middle_blocks=1", "--size", "65", "--part", "backbone")

    status = run("reference:tf-release", "reference:tf-release", "-o", output, *options)

    assert status == 0
    assert "MOVED, proven equal" in capsys.readouterr().out
    module = build("tf-release", 16, 21, {"width": 0.03125, "middle_blocks": 1}).backbone
    assert set(load_file(output)) == set(module.state_dict())
    assert run("reference:tf-release", "reference:tf-release", "-o", output, "--part", "decoder") == 2
    assert "must be one of backbone, aspp" in capsys.readouterr().err
