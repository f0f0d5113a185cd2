"""Runs in pieces: shards are alike and disjoint, a stopped run continues, and only an exact union is merged."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.errors import SpecError
from deeplab_spec.pieces.folder import Folder, balance, merged, recosted, run
from deeplab_spec.pieces.plan import WHOLE, Done, Piece, Plan, Shard, Took


def plan_of(costs: Sequence[float], **options: object) -> Plan:
    """Return a run with pieces of these costs."""
    pieces = (Piece(id=f"piece {number}", cost=cost, work={"number": number}) for number, cost in enumerate(costs))
    return Plan(command="square", options={"seed": 0, **options}, pieces=tuple(pieces))


def square(pieces: Sequence[Piece]) -> Iterator[Done]:
    """Yield the squares of the pieces' numbers, the last one first."""
    for piece in reversed(pieces):
        yield piece, {"square": piece.work["number"] ** 2}, Took(piece.cost, 1.0)


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


PLAN = plan_of([1, 4, 2, 3, 3, 2, 4, 1])


def sharded(folder: Path, count: int = 4) -> list[Path]:
    """Run each shard in a folder of its own, and return the folders."""
    paths = [folder / str(number) for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        run(PLAN, Shard(number, count), Folder(path), square, silent)
    return paths


@given(costs=st.lists(st.floats(0, 100), max_size=60), count=st.integers(1, 9))
def test_shards_are_disjoint_and_nearly_alike(costs: list[float], count: int) -> None:
    """Every piece is in one shard, in order; no shard is longer than the mean and one piece."""
    plan = plan_of(costs)
    shards = [plan.shard(Shard(number, count)) for number in range(1, count + 1)]

    assert sorted((piece for shard in shards for piece in shard), key=lambda piece: plan.places[piece.id]) == [
        *plan.pieces
    ]
    assert all(
        [plan.places[each.id] for each in shard] == sorted(plan.places[each.id] for each in shard) for shard in shards
    )
    longest = max(sum(piece.cost for piece in shard) for shard in shards)
    assert longest <= sum(costs) / count + max(costs, default=0) + 1e-6


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "1", "a/b", "-1/4", "1/4/2", "", "1/99999", "\N{ARABIC-INDIC DIGIT ONE}/4"]
)
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    """The line says what it must be."""
    with pytest.raises(SpecError, match="--shard: must be k/n, with k from 1 to n, but got"):
        Shard.read(text)


def test_the_union_of_the_shards_is_the_run(tmp_path: Path) -> None:
    """The same results in the same order, whether the shards have folders of their own or share one."""
    whole = run(PLAN, WHOLE, None, square, silent)
    plan, results = merged(sharded(tmp_path)[::-1])
    for number in (1, 2, 3):
        run(PLAN, Shard(number, 3), Folder(tmp_path / "shared"), square, silent)

    assert plan.text == PLAN.text
    assert [*results.items()] == [(piece.id, whole[piece.id]) for piece in PLAN.pieces]
    assert merged([tmp_path / "shared"]) == (plan, results)
    line = balance(PLAN, sharded(tmp_path))
    assert line.startswith("8 pieces: 1/4 5.0 s, 2/4 5.0 s, 3/4 5.0 s, 4/4 5.0 s; the longest is 1/4.00 of 20.0 s")
    assert line.endswith(", of processor time 1/4.00 of 8.0 s")


def test_shards_are_cut_by_the_times_of_an_earlier_run(tmp_path: Path) -> None:
    """Those of processor time; a piece without a time keeps its estimate, and a folder without a plan is refused."""
    paths = sharded(tmp_path)
    other = plan_of([9, *(piece.cost for piece in PLAN.pieces[1:]), 5])

    costs = [piece.cost for piece in recosted(other, [*map(Folder, paths)]).pieces]
    assert costs == [*[1.0] * 8, 5]
    assert recosted(other, []) is other
    with pytest.raises(SpecError, match=r"none: must be a folder of pieces, but got 'no plan.json'"):
        recosted(other, [Folder(tmp_path / "none")])


def test_a_run_that_was_stopped_continues_with_what_is_missing(tmp_path: Path) -> None:
    """A piece is there whole or not at all; one with a result that does not last runs again."""
    ran: list[str] = []

    def noted(pieces: Sequence[Piece]) -> Iterator[Done]:
        for done in square(pieces):
            ran.append(done[0].id)
            yield done
            if len(ran) == 3:
                raise KeyboardInterrupt

    folder = Folder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(PLAN, WHOLE, folder, noted, silent)
    counted: list[tuple[int, int]] = []
    results = run(PLAN, WHOLE, folder, noted, lambda _stage, done, total: counted.append((done, total)))

    assert len(ran) == len(set(ran)) == len(results) == 8
    assert counted == [(done, 8) for done in range(3, 9)]
    assert run(PLAN, WHOLE, folder, noted, silent, lambda result: result == {"square": 4}) == results
    assert ran[8:] == ["piece 2"]
    folder.forget()
    assert folder.plan() is None
    assert folder.finished(PLAN) == {}


def test_a_lost_shard_is_named(tmp_path: Path) -> None:
    """So is a lost piece."""
    paths = sharded(tmp_path)

    with pytest.raises(
        SpecError, match=r"^merge: must have each of the 8 pieces; 2 are lost, of shard 3/4, but got 'piece"
    ):
        merged([*paths[:2], paths[3]])
    next(paths[1].glob("piece-*.json")).unlink()
    with pytest.raises(SpecError, match=r"1 are lost, of shard 2/4"):
        merged(paths)


def test_a_shard_that_is_there_twice_is_named(tmp_path: Path) -> None:
    """Whether its folder is given twice, or it ran twice."""
    paths = sharded(tmp_path)
    run(PLAN, Shard(2, 4), Folder(tmp_path / "again"), square, silent)

    for twice in (paths[1], tmp_path / "again"):
        with pytest.raises(
            SpecError, match=r"merge: must have each piece once, but got .* of shard 2/4 twice: in .*2 and in "
        ):
            merged([*paths, twice])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (plan_of([1, 2], seed=1), "whose option seed is 0, but got 1"),
        (plan_of([1, 2]), "whose pieces are others"),
        (PLAN.model_copy(update={"code": "other"}), "whose code is"),
        (PLAN.model_copy(update={"command": "cube"}), "whose command is 'square', but got 'cube'"),
    ],
)
def test_a_shard_of_another_run_is_refused(other: Plan, message: str, tmp_path: Path) -> None:
    """The line names its folder and the first difference; its folder takes no pieces of this run either."""
    paths = sharded(tmp_path)
    run(other, WHOLE, Folder(tmp_path / "other"), square, silent)

    with pytest.raises(SpecError, match=f"^{tmp_path}/other: must be of the run of {paths[0]}, {message}"):
        merged([*paths, tmp_path / "other"])
    with pytest.raises(SpecError, match=r"other: must be of the run of this command, whose"):
        run(PLAN, WHOLE, Folder(tmp_path / "other"), square, silent)


def test_a_file_of_another_run_or_of_no_run_is_refused(tmp_path: Path) -> None:
    """Also under another name, and where there is no plan."""
    paths = sharded(tmp_path)
    run(plan_of([1, 2], seed=1), WHOLE, Folder(tmp_path / "other"), square, silent)
    foreign = (tmp_path / "other" / "piece-00000.json").read_text()
    own = next(paths[0].glob("piece-*.json"))
    content = own.read_text()

    for text in (foreign, "{}", content.replace('"piece":"piece', '"piece":"peace')):
        own.write_text(text)
        with pytest.raises(SpecError, match=f"^{own}: must be a "):
            merged(paths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"empty: must be a folder of pieces, but got 'no plan.json'"):
        merged([tmp_path / "empty"])
    own.rename(tmp_path / "empty" / own.name)
    with pytest.raises(SpecError, match="empty: must hold no pieces, or those of this run"):
        run(PLAN, WHOLE, Folder(tmp_path / "empty"), square, silent)
