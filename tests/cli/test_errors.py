"""Every expected error is one line on stderr, with the exit status of its kind."""

from pathlib import Path

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.count import text
from deeplab_spec.result import ExitCode
from tests.support.members import VARIANT_NAMES

# fmt: off
USAGE = (
    ("show --variant tf", f"variant: must be one of {VARIANT_NAMES}, but got 'tf'"),
    ("count --choose colour=red", "choice: must be one of activation_placement, "),
    ("count --choose decoder=some", "decoder: must be one of low_level, none, but got 'some'"),
    ("count --choose decoder", "--choose: must be NAME=VALUE, but got 'decoder'"),
    ("count --choose entry_blocks=4", "entry_blocks: must be 3 or 5, but got 4"),
    ("show --output-stride 32", "output_stride: notebook has output strides 8, 16, but got 32"),
    ("show --variant tf-release --output-stride 12", "tf-release has output strides 8, 16, 32, but got 12"),
    ("count --size 0x5", "--size: height and width must be 1 or more, but got '0x5'"),
    ("count --size abc", "--size: must be HxW, or one number for a square, but got 'abc'"),
    ("count --size 1x2x3", "--size: must be HxW, or one number for a square, but got '1x2x3'"),
    ("count --size=-5", "--size: must be HxW, or one number for a square, but got '-5'"),
    ("count --classes 0", "classes: must be 1 or more, but got 0"),
    ("count --choose sizes_accepted=multiples_of_output_stride", "must be multiples of 16, but got (513, 513)"),
    ("clauses --variant none", "variant: must be one of "),
    ("choices --choose width=0.5", "--choose: needs --variant, but got 'width=0.5'"),
    ("count --classes many", "Invalid value for '--classes': "),
    ("count --colour", "No such option: --colour"),
    ("show --format onnx", "'onnx' is not one of 'table', 'json', 'markdown', 'svg', 'skeleton'"),
    ("colour", "No such command 'colour'"),
)
# fmt: on
OURS = len(USAGE) - 4
"""The last four are rejected by the parser of the command line."""


def run(arguments: list[str]) -> int:
    """Run the program in this process and return its exit status."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    return int(exited.value.code or 0)


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_a_usage_error_names_rule_and_value_and_exits_2(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stdout stays empty, so that no program takes the error for a result."""
    status = run(arguments.split())
    captured = capsys.readouterr()

    assert status == ExitCode.USAGE == 2
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [entry[0] for entry in USAGE[:OURS]])
def test_an_error_of_this_package_is_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The line starts with the program's name, so that it can be found in a log."""
    run(arguments.split())
    (line,) = capsys.readouterr().err.splitlines()

    assert line.startswith("deeplab-spec: ")


def test_a_network_that_cannot_be_built_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    """Each choice is valid; together they give feature maps that do not fit."""
    assert run(["count", "--choose", "atrous_padding=one"]) == ExitCode.COULD_NOT_RUN == 3
    assert "exit_flow.block1.add: operands must have one shape" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the file and the system's reason."""
    target = tmp_path / "missing" / "count.txt"

    assert run(["count", "-o", str(target)]) == ExitCode.COULD_NOT_RUN
    assert f"deeplab-spec: {target}: cannot be written: No such file or directory\n" in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only expected errors become one line."""
    monkeypatch.setattr(text, "count_grid", lambda _: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        main(["count"])


def test_exit_codes_are_those_of_the_contract() -> None:
    """Scripts and continuous integration branch on them."""
    assert [(code.name, code.value) for code in ExitCode] == [
        ("DONE", 0),
        ("DIFFERENT", 1),
        ("USAGE", 2),
        ("COULD_NOT_RUN", 3),
        ("UNDECIDED", 4),
    ]
