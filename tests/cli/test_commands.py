"""The commands ``show``, ``count`` and ``clauses``: their output on stdout, stderr and in files."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.cli import output
from deeplab_spec.cli.app import main
from deeplab_spec.cli.options import complete_choice, complete_variant, read_size
from deeplab_spec.count.document import CountDocument
from deeplab_spec.result import ExitCode
from deeplab_spec.show.choices import ChoicesDocument
from deeplab_spec.show.document import ClausesDocument, ShowDocument
from deeplab_spec.spec.choices import names
from deeplab_spec.spec.clauses import CLAUSES
from deeplab_spec.spec.variants import FAMILIES


def run(*arguments: str) -> None:
    """Run the program in this process, and expect success."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert not exited.value.code


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the program prints to stdout."""
    run(*arguments)
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the JSON document that the program prints."""
    return json.loads(printed(capsys, *arguments))


def test_count_json_describes_the_requested_network(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option reaches the document."""
    options = ["--variant", "tf-release", "--output-stride", "8", "--size", "512", "--classes", "19"]
    data = document(
        capsys, "count", *options, "--choose", "aspp_convs=dense", "--choose", "decoder_convs=dense_2", "--json"
    )

    assert (data["variant"], data["output_stride"], data["size"], data["classes"]) == ("tf-release", 8, [512, 512], 19)
    assert data["choices"]["aspp_convs"] == "dense"
    assert data["total"]["macs"] == 241_615_110_144 - 2 * 256 * 128 * 128
    assert "nodes" not in data
    assert len(document(capsys, "count", "--by", "node", "--json")["nodes"]) == 445


def test_count_lists_operators_and_those_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The expected figures come from fvcore on the source document's network; it does not count sums."""
    run("count", "--convention", "fvcore")
    lines = capsys.readouterr().err.splitlines()

    assert any(line.startswith("66,351,107,412 = 66.35 B ") for line in lines)
    operators = "by operator: conv 65,972,773,424, batch_norm 336,678,352, adaptive_avg_pool2d 2,230,272, "
    assert f"{operators}upsample_nearest2d 278,784, upsample_bilinear2d 39,146,580" in lines
    assert "not counted: aten::add 20 times" in lines


def test_count_prints_the_residual_of_a_published_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Other evaluations are labelled as predictions."""
    run("count", "--variant", "tf-release-dense", "--output-stride", "8", "--convention", "tfprof")
    published = capsys.readouterr().err
    run("count", "--variant", "tf-release-dense", "--convention", "tfprof", "--scales", "0.5,1", "--flip")
    predicted = capsys.readouterr().err

    assert "262,587,195,065.5 = 262.59 B multiply-adds per image" in published
    assert "published: 262.59 B (arXiv:1802.02611, table 5); residual -0.0011 %" in published
    assert "in 4 passes" in predicted
    assert "a prediction by the same rule: no published value is known" in predicted


def test_count_against_exits_with_1_if_rows_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """Continuous integration can stop on it."""
    run("count", "reference:notebook", "--against", "reference:notebook")
    assert "operations: equal under mac" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exited:
        main(["count", "--against", "reference:tf-release", "--json"])
    assert exited.value.code == ExitCode.DIFFERENT
    data = json.loads(capsys.readouterr().out)
    assert data["rows"][0]["path"].startswith("aspp.atrous")
    assert not data["equal"]


def test_count_table_ends_in_the_totals_and_the_summary_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets the table without the summary."""
    run("count")
    captured = capsys.readouterr()

    assert captured.out.splitlines()[-1].split() == ["total", "53,559,805", "100.0", "65,972,773,424", "100.0"]
    assert captured.err.startswith("notebook, output stride 16, 513x513, 21 classes\n53,559,805 parameters")


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        (("count", "--json"), CountDocument),
        (("show", "--format", "json"), ShowDocument),
        (("clauses", "--json"), ClausesDocument),
        (("choices", "--format", "json"), ChoicesDocument),
    ],
    ids=["count", "show", "clauses", "choices"],
)
def test_documents_match_the_printed_schema(
    arguments: tuple[str, ...], model: type[CountDocument], capsys: pytest.CaptureFixture[str]
) -> None:
    """``--json-schema`` describes the document of the same command."""
    assert document(capsys, arguments[0], "--json-schema") == json.loads(json.dumps(model.model_json_schema()))
    model.model_validate_json(printed(capsys, *arguments))


@pytest.mark.parametrize(
    ("form", "begins"),
    [("table", "path "), ("markdown", "| path |"), ("svg", "<svg "), ("json", "{"), ("skeleton", '"""')],
)
def test_show_has_every_format(form: str, begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All formats show one network; the summary names its taps."""
    run("show", "--format", form)
    captured = capsys.readouterr()

    assert captured.out.startswith(begins)
    assert "low_level = backbone.entry_flow.block1.add" in captured.err


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_clauses_are_all_listed_and_notebook_has_its_errata(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is complete."""
    plain = printed(capsys, "clauses", "--format", form)
    notebook = printed(capsys, "clauses", "--format", form, "--variant", "notebook")

    for clause in CLAUSES:
        assert clause.id in plain
    assert "ERRATUM-" not in plain
    assert "ERRATUM-DEAD-BIASES" in notebook
    assert ("+93,928 parameters" if form != "json" else '"parameters": 93928') in notebook
    assert "ERRATUM-" not in printed(capsys, "clauses", "--format", form, "--variant", "tf-release")


def test_output_replaces_the_file_atomically_and_keeps_its_permissions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old file stays until the new one is complete; no temporary file is left."""
    target = tmp_path / "count.json"
    target.write_text("old")
    target.chmod(0o640)
    fresh = tmp_path / "fresh.txt"

    assert printed(capsys, "count", "--json", "-o", str(target)) == ""
    run("show", "-o", str(fresh))
    assert json.loads(target.read_text())["variant"] == "notebook"
    assert target.stat().st_mode & 0o777 == 0o640
    other = tmp_path / "other"
    other.touch()
    assert fresh.stat().st_mode == other.stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["count.json", "fresh.txt", "other"]


def test_a_terminal_gets_a_drawn_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets plain text, as in the tests above."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    run("count")

    assert "\u2500" in stream.getvalue()
    assert "65,972,773,424" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 100


def test_help_is_short_and_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Help fits on a terminal."""
    overview = printed(capsys, "--help")

    assert all(f"\n  {command} " in overview for command in ("show", "count", "clauses", "choices"))
    assert "..." not in overview.replace("[ARGS]...", "")
    for command, options in {
        "show": ("--variant", "--choose", "--output-stride", "--size", "--classes", "--format", "--output"),
        "count": ("--variant", "--choose", "--output-stride", "--size", "--classes", "--by", "--json", "--output"),
        "clauses": ("--variant", "--format", "--json", "--output", "--json-schema"),
        "choices": ("--variant", "--choose", "--format", "--json", "--output", "--json-schema"),
    }.items():
        text = printed(capsys, command, "--help")
        assert all(option in text for option in options)
        assert len(text.splitlines()) <= 50


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug reports need it."""
    assert printed(capsys, "--version").startswith("deeplab-spec ")


def test_shells_complete_variants_choices_and_values() -> None:
    """A name alone completes to choices, a name with an equals sign to known values."""
    assert [name for name, _ in complete_variant("tf-rel")] == ["tf-release", "tf-release-dense"]
    assert {name for name, _ in complete_choice("")} == {f"{name}=" for family in FAMILIES for name in names(family)}
    assert [name for name, _ in complete_choice("aspp_r")] == ["aspp_rates="]
    assert [name for name, _ in complete_choice("decoder=")] == ["decoder=low_level", "decoder=none"]
    assert [name for name, _ in complete_choice("aspp_rates=12")] == ["aspp_rates=12,24,36"]
    assert complete_choice("colour=") == []


def test_a_size_is_read_from_one_number_or_two() -> None:
    """Height comes first, as in every shape."""
    assert read_size("513x257") == (513, 257)
    assert read_size("512X64") == (512, 64)
    assert read_size("97") == (97, 97)


def test_a_table_for_a_file_is_plain_text_on_a_terminal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has no terminal formatting."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.table(output.Grid(headers=("a",), rows=(("b",),)), tmp_path / "t")

    assert (tmp_path / "t").read_text() == "a\n-\nb\n"
