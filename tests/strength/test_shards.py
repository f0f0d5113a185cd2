"""``mutants`` in pieces: shards are merged into the same bytes as the run in one piece."""

import json
from functools import partial
from pathlib import Path

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.strength import processes, service
from deeplab_spec.strength.service import MutantsRequest

COMMAND = ("mutants", "--variant", "notebook", "--output-stride", "16", "--sample", "10", "--lower-every", "5")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command makes mutants of a short network, in this process, and keeps no journal elsewhere."""
    small = partial(MutantsRequest, overrides=("middle_blocks=1",), rewrites=False)
    monkeypatch.setattr(service, "MutantsRequest", small)
    monkeypatch.setattr(processes, "MUTANTS_PER_UNIT", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def run(*arguments: str) -> int:
    """Run a command in this process, and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(ended.value.code or 0)


def test_merged_shards_are_the_same_bytes_as_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON document, the report and the exit status; a lost shard and an altered piece are one line and 2."""
    shards = [str(tmp_path / name) for name in "ab"]
    whole, union = tmp_path / "whole", tmp_path / "union"
    assert run(*COMMAND, "--json", "-o", tmp_path / "whole.json", "--report", whole) == 0
    for number, path in enumerate(shards, 1):
        assert run(*COMMAND, "--shard", f"{number}/2", "--pieces", path) == 0
    assert f"shard 2/2 is done, 3 pieces in {shards[1]}; merge all of them" in capsys.readouterr().err

    assert run("merge", *shards, "--json", "-o", tmp_path / "union.json", "--report", union) == 0
    assert capsys.readouterr().err.startswith("4 pieces: 1/2 ")
    for name in ("whole.json", "whole/mutants.json", "whole/mutants.md"):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("whole", "union")).read_bytes()
    assert "Made by `deeplab-spec mutants --variant notebook --output-stride 16 --sample 10 --lower-every 5`." in (
        whole / "mutants.md"
    ).read_text(encoding="utf-8")

    assert run("merge", shards[0]) == 2
    assert "3 are lost, of shard 2/2" in capsys.readouterr().err
    piece = next(Path(shards[1]).glob("piece-*.json"))
    document = json.loads(piece.read_text())
    document["result"].pop()
    piece.write_text(json.dumps(document))
    assert run("merge", *shards) == 2
    assert "must have the results of its own networks" in capsys.readouterr().err


def test_a_shard_needs_a_folder_and_a_finished_one_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan in the folder is that of the command, so that no mutants are made again."""
    assert run(*COMMAND, "--shard", "1/2") == 2
    assert "--shard: must come with --pieces DIR" in capsys.readouterr().err
    command = (*COMMAND, "--shard", "1/9", "--pieces", str(tmp_path / "pieces"))
    assert run(*command) == 0
    monkeypatch.setattr(service, "subject_of", None)
    assert run(*command) == 0
