"""A matrix of certificates: its file, one report and exit status, what runs again, and its shards."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.matrix import service
from deeplab_spec.matrix.document import WORST_FIRST, Judged, MatrixDocument, page, summary, text
from deeplab_spec.matrix.request import read_matrix
from deeplab_spec.result import ExitCode
from tests.support.certificates import certificate

SCRIPT = "<script>alert(1)</script>"
SMALL = "choose = {width = 0.03, middle_blocks = 2}"
MODEL = "from deeplab_spec import build\n\ndef mine(output_stride, num_classes):\n    return build('notebook')\n"
MATRIX = f"""
levels = ["structure", "numerics"]
dtypes = ["float64", "float32", "bfloat16"]

[[target]]
target = "my_model:mine"
variant = "notebook"
output_strides = [8, 16]
{SMALL}

[[target]]
target = "my_model:none"
name = "{SCRIPT}"
against = "mine.lock"
"""


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the file beside its module, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "my_model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    return tmp_path / "matrix.toml"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the judge by one that is quick: at output stride 8 a network deviates, and one cannot be built."""
    calls: list[str] = []

    def judge(request: object, _progress: object, _process: object) -> Certificate:
        calls.append(f"{request.target}@{request.output_strides[0]} {request.levels[0]} {len(request.dtypes)}")
        if request.target == "my_model:none":
            raise TargetError(request.target, "cannot be built")
        return certificate({"ASPP-RATES": ["aspp.pool.conv"]} if request.output_strides == (8,) else {})

    monkeypatch.setattr(service, "run", judge)
    return calls


def run(*arguments: object) -> int:
    """Run ``certify --matrix`` in this process, and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in arguments])
    return int(ended.value.code or 0)


def test_the_cells_are_the_product_of_the_file(matrix: Path) -> None:
    """A level once at each output stride; numerics once in float64 and float32, and once with each lower precision."""
    _, cells = read_matrix(matrix)

    assert [cell.id for cell in cells] == [
        f"{name}@{stride} {column}"
        for name, strides in (("my_model:mine", (8, 16)), (SCRIPT, (16,)))
        for stride in strides
        for column in ("structure", "numerics", "numerics bfloat16")
    ]
    assert cells[0].request.overrides == ("width=0.03", "middle_blocks=2")
    assert cells[2].request.dtypes == ("float64", "float32", "bfloat16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("levels", "level"), "level: must be one of target, .*; did you mean 'levels'?"),
        (("variant", "varient"), "target 1 varient: must be one of target, name, .*; did you mean 'variant'?"),
        (("notebook", "notebok"), "my_model:mine@8 structure: variant: must be one of .*; did you mean 'notebook'?"),
        (("middle_blocks", "middle_block"), "structure: choice: must be one of .*; did you mean 'middle_blocks'?"),
        (('"structure"', '"structur"'), "levels 1: Input should be 'interface', .*, but got 'structur'"),
        (("[8, 16]", "[]"), "target 1 output_strides: Tuple should have at least 1 item"),
        (("[8, 16]", "[7]"), "my_model:mine@7 structure: output_stride: notebook has output strides 8, 16, but got 7"),
        (('"bfloat16"', '"int8"'), "dtypes: must be one of float64, .*, but got 'int8'"),
        ((MATRIX, ""), "target: Field required"),
        (("[[target]]", "[[target"), "must be TOML, but got"),
        (
            ("[[target]]", "[[waiver]]\nclause = 'ASPP-RATE'\nreason = 'x'\nexpires = 2099-01-01\n[[target]]"),
            "waiver 1: clause",
        ),
    ],
)
def test_a_wrong_file_is_one_line(change: tuple[str, str], message: str, matrix: Path) -> None:
    """It names the key and what arrived."""
    matrix.write_text(MATRIX.replace(*change), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_matrix(matrix)
    assert re.match(f"{matrix}: .*{message.rstrip('?')}", str(caught.value)), str(caught.value)


def test_targets_of_one_name_are_refused(matrix: Path) -> None:
    """Their cells could not be told apart."""
    matrix.write_text(MATRIX.replace(SCRIPT, "my_model:mine"), encoding="utf-8")
    with pytest.raises(SpecError, match="target: must have a name that no other has, but got 'my_model:mine'"):
        read_matrix(matrix)


def test_a_run_with_the_costs_of_an_earlier_one_continues(matrix: Path, judged: list[str]) -> None:
    """The pieces in the cache are those of the run, whatever they cost: what could not run is judged again, no more."""
    run("certify", "--matrix", matrix, "--pieces", "earlier")
    for file in Path("earlier/times").iterdir():
        file.write_text("[2.0, 2.0]", encoding="utf-8")
    judged.clear()
    counts = []
    for _ in range(2):
        assert run("certify", "--matrix", matrix, "--costs", "earlier") == ExitCode.COULD_NOT_RUN
        counts.append(len(judged))

    assert counts == [9, 9 + 3]


def test_one_report_and_the_worst_exit_status(
    matrix: Path, judged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A table with a row for each target and output stride; what did not conform is below; nothing in it runs."""
    assert run("certify", "--matrix", matrix, "--report", "report") == ExitCode.COULD_NOT_RUN
    shown = capsys.readouterr().out.splitlines()

    assert len(judged) == 9
    assert shown[2].split() == ["my_model:mine", "8", *["deviates"] * 3]
    assert shown[3].split() == ["my_model:mine", "16", *["conforms"] * 3]
    assert f"{SCRIPT}@16 structure: my_model:none: cannot be built" in shown
    assert shown[-1] == "9 certificates; conforms: 3, could not run: 3, deviates: 3"
    assert sorted(path.name for path in Path("report").iterdir()) == ["matrix.json", "report.html", "summary.md"]
    assert SCRIPT not in Path("report/report.html").read_text() + Path("report/summary.md").read_text()
    document = MatrixDocument.model_validate_json(Path("report/matrix.json").read_text())
    assert [cell.verdict for cell in document.cells] == [*["deviates"] * 3, *["conforms"] * 3, *["could not run"] * 3]


def test_only_what_changed_runs_again(matrix: Path, judged: list[str]) -> None:
    """What could not run is tried again; so is a target whose code changed, and a cell that is new in the file."""
    run("certify", "--matrix", matrix, "-o", "first.json")
    del judged[:]
    run("certify", "--matrix", matrix, "-o", "second.json")
    assert {call.partition("@")[0] for call in judged} == {"my_model:none"}
    assert Path("first.json").read_bytes() == Path("second.json").read_bytes()

    matrix.write_text(MATRIX.replace('["structure"', '["interface", "structure"'), encoding="utf-8")
    del judged[:]
    run("certify", "--matrix", matrix)
    assert [call for call in judged if "mine" in call] == [f"my_model:mine@{n} interface 2" for n in (8, 16)]
    (matrix.parent / "my_model.py").write_text(f"{MODEL}\n", encoding="utf-8")
    for again in ((), ("--again",)):
        del judged[:]
        run("certify", "--matrix", matrix, *again)
        assert len(judged) == 12


def test_a_waiver_of_the_file_is_for_all_cells(
    matrix: Path, judged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It must cover a finding of one of them; what is accepted is no deviation."""
    content = MATRIX[: MATRIX.rindex("[[target]]")]
    waiver = '[[waiver]]\nclause = "ASPP-RATES"\nreason = "ours"\nexpires = 2099-01-31\n'
    for accepted, status in (("false", ExitCode.DIFFERENT), ("true", ExitCode.DONE)):
        matrix.write_text(f"accept_waivers = {accepted}\n{content}{waiver}", encoding="utf-8")
        assert run("certify", "--matrix", matrix) == status
        assert capsys.readouterr().out.endswith("6 certificates; conforms: 3, conforms with waivers: 3\n")
    matrix.write_text(f"{content}{waiver.replace('RATES', 'POOL')}", encoding="utf-8")
    assert run("certify", "--matrix", matrix) == ExitCode.USAGE
    assert "[[waiver]]: must cover a finding of ASPP-POOL, which is passed" in capsys.readouterr().err
    assert len(judged) == 6


def test_merged_shards_are_the_same_bytes_as_one_run(
    matrix: Path, judged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The document, the page and the exit status; a lost shard is one line."""
    whole = run("certify", "--matrix", matrix, "-o", "whole.json", "--report", "whole")
    for number in (1, 2):
        assert run("certify", "--matrix", matrix, "--shard", f"{number}/2", "--pieces", f"p{number}") == 0
    del judged[:]

    assert run("merge", "p1", "p2", "-o", "union.json", "--report", "union") == whole
    assert judged == []
    for name in ("whole.json", "whole/matrix.json", "whole/report.html", "whole/summary.md"):
        assert Path(name).read_bytes() == Path(name.replace("whole", "union")).read_bytes()
    capsys.readouterr()
    assert run("merge", "p2") == ExitCode.USAGE
    assert "are lost, of shard 1/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "notebook"), "--variant: must stand in matrix.toml with --matrix"),
        (("my_model:mine",), "TARGET: must stand in matrix.toml with --matrix"),
        (("-o", "x.pdf"), "--output: must end in .html, .json, .md, .txt"),
        (("--shard", "1/2"), "--shard: must come with --pieces DIR"),
    ],
)
def test_options_that_do_not_go_with_a_file_are_refused(
    arguments: Sequence[str], message: str, matrix: Path, judged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything runs."""
    assert run("certify", "--matrix", matrix.name, *arguments) == ExitCode.USAGE
    assert message in capsys.readouterr().err
    assert run("certify", "my_model:mine", "--shard", "1/2") == ExitCode.USAGE
    assert "--matrix: must come with --shard, --pieces, --ray and --again" in capsys.readouterr().err
    assert judged == []


def test_the_exit_status_is_the_worst_in_the_stated_order() -> None:
    """Could not run, deviates, undecided, conforms."""
    undecided = {"DROPOUT": (Verdict.UNDECIDED, "it was not trained")}
    found = [None, certificate({"ASPP-RATES": ["aspp.pool.conv"]}), certificate(undecided), certificate()]
    cells = [Judged(id=str(each), target="t", output_stride=16, column="x", certificate=each) for each in found]

    for number, status in enumerate(WORST_FIRST):
        document = MatrixDocument(cells=tuple(cells[number:]))
        assert document.exit_code is status
        assert ("Only" in page(document), bool(summary(document)), text(document).startswith("target")) == (True,) * 3


def test_a_small_network_is_judged_and_taken_from_its_piece(matrix: Path) -> None:
    """By the judge itself: the result is JSON, and has no time."""
    matrix.write_text(f'levels = ["structure"]\n[[target]]\ntarget = "reference:notebook"\n{SMALL}\n', encoding="utf-8")
    plan = service.planned(matrix)
    ((piece, result, took),) = service.judge_here(plan.pieces)

    document = service.summed(plan, {piece.id: json.loads(json.dumps(result))})
    assert (document.exit_code, document.cells[0].certificate.seconds) == (ExitCode.DONE, 0.0)
    assert took.seconds > 0 < took.processor
