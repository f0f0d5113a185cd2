"""``mutants`` in pieces: shards are merged into the same bytes as the run in one piece, as the guide shows it."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplab_spec.strength import service
from deeplab_spec.strength.service import MutantsRequest, command_of
from tests.support.pytest_runs import ROOT
from tests.support.small_mutants import run, shrink

GUIDE = ROOT / "docs/guide/fleets.md"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder."""
    shrink(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def test_merged_shards_are_the_same_bytes_as_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON document, the report and the exit status; a lost shard and an altered piece are one line and 2."""
    assert run("mutants", "--json", "-o", "whole.json", "--report", "whole") == 0
    for shard in ("1/2", "2/2"):
        assert run("mutants", "--shard", shard, "--pieces", f"p{shard[0]}") == 0
    assert re.search(r"shard 2/2 is done, \d pieces in p2; merge all of them", capsys.readouterr().err)

    assert run("merge", "p1", "p2", "--json", "-o", "union.json", "--report", "union") == 0
    assert capsys.readouterr().err.startswith("4 pieces: 1/2 ")
    for name in ("whole.json", "whole/mutants.json", "whole/mutants.md"):
        assert Path(name).read_bytes() == Path(name.replace("whole", "union")).read_bytes()

    assert run("merge", "p1") == 2
    assert "are lost, of shard 2/2" in capsys.readouterr().err
    piece = next(Path("p2").glob("piece-*.json"))
    document = json.loads(piece.read_text())
    document["result"].pop()
    piece.write_text(json.dumps(document))
    assert run("merge", "p1", "p2") == 2
    assert "must have the results of its own networks" in capsys.readouterr().err


def test_a_shard_needs_a_folder_and_a_finished_one_makes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan in the folder is that of the command, so that no mutants are made again."""
    assert run("mutants", "--shard", "1/2") == 2
    assert "--shard: must come with --pieces DIR" in capsys.readouterr().err
    assert run("mutants", "--shard", "1/9", "--pieces", "pieces") == 0
    monkeypatch.setattr(service, "subject_of", None)
    assert run("mutants", "--shard", "1/9", "--pieces", "pieces") == 0
    with pytest.raises(TypeError):
        run("mutants", "--shard", "1/9", "--pieces", "pieces", "--again")


def test_an_interrupted_command_continues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without --pieces the finished pieces are in the cache; only a lost one is judged again, and all with --again."""
    assert run("mutants", "--json", "-o", "whole.json") == 0
    finished = sorted((tmp_path / "cache").rglob("mutants-*/piece-*.json"))
    finished[0].unlink()
    judged: list[int] = []
    judge_all = service.judge_all
    monkeypatch.setattr(
        service, "judge_all", lambda pieces, processes: (judged.append(len(pieces)), judge_all(pieces, processes))[1]
    )

    for extra in ((), (), ("--again",)):
        assert run("mutants", "--json", "-o", "again.json", *extra) == 0
        assert Path("again.json").read_bytes() == Path("whole.json").read_bytes()
    assert judged == [1, 0, len(finished)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of this program in a text, in words."""
    for line in re.findall(r"^.*?\b(deeplab-spec .*?)(?:  +#.*)?$", text, re.MULTILINE):
        yield shlex.split(line)[1:]


def test_the_workflow_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    """Its shards run one after the other here, each with its artifact."""
    yaml = pytest.importorskip("yaml", reason="not run: pyyaml is not installed (extra 'dev')")
    jobs = yaml.safe_load(_block("yaml"))["jobs"]
    for shard in jobs["shard"]["strategy"]["matrix"]["shard"]:
        for words in _steps(jobs["shard"], str(shard)):
            assert run(*words) == 0
        shutil.move("pieces", f"pieces-{shard}")
    Path("pieces").mkdir()
    for folder in sorted(Path().glob("pieces-*")):
        shutil.move(folder, "pieces")

    (words,) = _steps(jobs["merge"], "")
    folders = sorted(str(path) for path in Path().glob(words[1]))
    assert (words[0], len(folders)) == ("merge", 4)
    assert run(words[0], *folders, *words[2:]) == 0
    assert Path("report/mutants.md").exists()
    assert capsys.readouterr().out.endswith(" wrong networks of notebook refused, 100.00 %\n")


def _block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return block


def _steps(job: dict[str, list[dict[str, str]]], shard: str) -> list[list[str]]:
    text = "\n".join(step.get("run", "") for step in job["steps"]).replace("${{ matrix.shard }}", shard)
    return [words for words in commands(text) if not words[0].startswith("-")]


def test_the_array_of_the_guide() -> None:
    """Its tasks share a folder, and some of them have nothing to do."""
    script = _block("bash")
    (last,) = re.findall(r"--array=1-(\d+)", script)
    for task in range(1, int(last) + 1):
        text = script.replace("$SLURM_ARRAY_TASK_ID", str(task)).replace("$SLURM_ARRAY_TASK_COUNT", last)
        for words in commands(text):
            assert run(*words) == 0

    assert run("merge", "pieces", "--report", "strength") == 0
    assert Path("strength/mutants.json").exists()


def test_the_page_names_the_command_that_makes_it() -> None:
    """In one piece, with the options that are not as usual."""
    request = MutantsRequest(variants=("notebook",), output_strides=(8, 16), sample=3, seed=7)
    options = service.OPTIONS.dump_python(request, mode="json")
    plan = service.Plan(command="mutants", options=options, pieces=())

    assert command_of(plan) == "deeplab-spec mutants --variant notebook --sample 3 --seed 7"
