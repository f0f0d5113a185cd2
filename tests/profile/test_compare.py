"""Comparisons: the largest change comes first, the changes add up, and different settings are refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.cli.app import app
from deeplab_spec.errors import SpecError
from deeplab_spec.measure.statistics import IntervalModel, difference, mean_interval, slowdown
from deeplab_spec.profile.compare import Verdict, compare, verdict
from deeplab_spec.profile.document import CompareDocument, DeviceModel, ProfileDocument
from tests.support.profile_samples import MILLISECOND, profile, usual

STEPS = st.lists(st.integers(10**6, 10**7), min_size=2, max_size=6).map(tuple)
SIDES = st.dictionaries(st.sampled_from("abcdef"), st.tuples(*[st.integers(0, 10**9)] * 4), min_size=1)


def written(document: ProfileDocument, file: Path) -> Path:
    """Write a profile."""
    file.write_text(document.model_dump_json())
    return file


def run(*arguments: Any) -> Any:
    """Run ``compare``; an error is the exception."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@given(SIDES, SIDES)
def test_the_changes_of_the_rows_add_up_to_the_totals(
    before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]
) -> None:
    """Means are linear, and a block that one side does not have takes no time there."""
    document = compare(profile(before), profile(after))
    rows = document.rows

    assert sum(row.delta.mean for row in rows) == pytest.approx(document.total.delta.mean, abs=1e-3)
    assert {row.path for row in rows} == before.keys() | after.keys()
    sizes = [abs(row.delta.mean) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


@given(STEPS, STEPS)
def test_an_interval_contains_its_mean_and_turns_with_the_sides(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """With the sides exchanged it is the same change with the other sign."""
    there, back = difference(before, after), difference(after, before)

    assert there.low <= there.mean <= there.high
    assert (there.mean, there.low) == (pytest.approx(-back.mean), pytest.approx(-back.high))
    ratio = slowdown(before, after)
    assert ratio.low <= ratio.mean <= ratio.high
    assert (1 + ratio.low) * (1 + slowdown(after, before).high) == pytest.approx(1)


def test_welchs_interval_is_a_textbooks() -> None:
    """Two samples with equal means and unequal variances, by the formula with printed quantiles."""
    before, after = (9.0, 11.0, 10.0, 10.0, 10.0), (10.0, 14.0, 6.0, 10.0, 10.0)
    result = difference(before, after)

    # Squared standard errors 0.1 and 1.6; freedom 1.7**2 / (0.01 / 4 + 2.56 / 4) = 4.498.
    assert (result.low, result.high) == (pytest.approx(-3.4673, abs=1e-4), pytest.approx(3.4673, abs=1e-4))
    assert mean_interval(before).high - 10 == pytest.approx(2.7764 * 0.1**0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.06, 0.2, "over"), (-0.1, 0.05, "within"), (0.04, 0.06, "undecided")],
)
def test_a_limit_inside_the_interval_is_undecided(low: float, high: float, expected: Verdict) -> None:
    """A limit below the interval is exceeded, one above it is not."""
    assert verdict(IntervalModel(mean=(low + high) / 2, low=low, high=high), 0.05) == expected


def test_the_block_that_became_slower_is_the_first_row() -> None:
    """By the largest change, not by the largest time."""
    document = compare(usual(), usual(slow=30))

    assert document.rows[0].path == "backbone.middle_flow.block7"
    assert document.rows[0].delta.mean == 30 * MILLISECOND
    assert document.total.delta.mean == sum(row.delta.mean for row in document.rows)
    assert document.total.slowdown is not None
    assert document.total.slowdown.mean == pytest.approx(30 / 77)


def test_blocks_and_operators_that_only_one_side_has_are_named() -> None:
    """They appeared in the second profile, or vanished from it."""
    other = profile(
        {"backbone.entry_flow.block1": (5, 6, 7, 8), "decoder.conv1": (1, 2, 3, 4), "unattributed": (0,) * 4}
    )
    document = compare(usual(), other)
    rows = {row.path: row for row in document.rows}

    assert rows["decoder.conv1"].before is None
    assert rows["aspp.atrous1"].after is None
    assert rows["aspp.atrous1"].slowdown is None
    assert {call.change for call in rows["aspp.atrous1"].calls} == {"vanished"}
    renamed = compare(usual(device=True), usual(device=True, call="aten::mm")).rows[0].calls
    assert [(call.name, call.kind, call.change) for call in renamed] == [
        ("aten::conv2d_kernel", "kernel", "vanished"),
        ("aten::mm_kernel", "kernel", "appeared"),
        ("aten::conv2d", "operator", "vanished"),
        ("aten::mm", "operator", "appeared"),
    ]


def test_the_devices_time_is_compared_where_there_is_one() -> None:
    """The host's time is compared on request."""
    sides = usual(device=True), usual(slow=30, device=True)

    assert compare(*sides).total.delta.mean == 15 * MILLISECOND
    assert compare(*sides, clock="host").total.delta.mean == 30 * MILLISECOND
    with pytest.raises(SpecError, match="--clock: must be host"):
        compare(usual(), usual(), clock="device")


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ({"device": DeviceModel(kind="cpu", name="another", threads=1)}, "device"),
        ({"device": DeviceModel(kind="cpu", name="a device", threads=2)}, "device"),
        ({"size": (65, 129)}, "size"),
        ({"batch": 2}, "batch"),
        ({"mode": Mode.TRAIN}, "mode"),
    ],
)
def test_profiles_with_different_settings_are_refused(other: dict[str, Any], where: str) -> None:
    """The error names the field and both values."""
    with pytest.raises(SpecError, match=rf"^{where}: must be equal in both profiles, but got '.* and .*'"):
        compare(usual(), usual(**other))


@pytest.mark.parametrize(("percent", "status"), [("20", 1), ("60.5", 0), ("39", 4)])
def test_exit_status_of_a_limit(tmp_path: Path, percent: str, status: int) -> None:
    """The second side is about 39 % slower."""
    sides = written(usual(), tmp_path / "a.json"), written(usual(slow=30), tmp_path / "b.json")

    assert run(*sides, "--fail-over", percent).exit_code == status
    assert run(*sides).exit_code == 0


def test_the_document_counts_the_changes_that_exceed_the_noise() -> None:
    """A document with another count is invalid; one without a count is valid."""
    document = compare(usual(), usual(slow=30))
    text = document.model_dump(mode="json")

    assert document.schema_version == 1
    assert document.exceeding == 1
    assert [row.exceeds_noise for row in document.rows] == [True, False, False, False]
    with pytest.raises(ValueError, match="exceeding must be the number of rows"):
        CompareDocument.model_validate(text | {"exceeding": 2})
    del text["exceeding"], text["before"]["execution_mode"]
    assert CompareDocument.model_validate(text).exceeding is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1, 1, True), (0, 1, True), (-1, 0, True), (0, 0, True), (1, 2, False), (-2, -1, False)],
)
def test_an_interval_that_ends_at_zero_contains_it(low: float, high: float, *, expected: bool) -> None:
    """Zero is then one of the possible changes."""
    assert IntervalModel(mean=(low + high) / 2, low=low, high=high).contains_zero is expected


def test_profiles_of_two_modes_can_be_compared() -> None:
    """A profile without a mode is one of the eager network."""
    old = usual().model_dump(mode="json")
    del old["execution_mode"]
    document = compare(ProfileDocument.model_validate(old), usual(execution_mode="channels_last"))

    assert (document.before.execution_mode, document.after.execution_mode) == ("eager", "channels_last")


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_the_first_line_of_a_format_has_the_number_of_changes_that_exceed_the_noise(tmp_path: Path, form: str) -> None:
    """On stdout and in a file. Two different modes follow."""
    sides = written(usual(), tmp_path / "a.json"), written(usual(slow=30, execution_mode="x"), tmp_path / "b.json")

    printed = run(*sides, "--format", form).stdout
    assert printed.splitlines()[0] == "1 of 4 changes exceeds the noise"
    assert "eager (A) and x (B)" in printed
    run(*sides, "--format", form, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_text() == printed


@pytest.mark.parametrize("form", ["table", "markdown", "json", "html", "csv"])
def test_every_form_names_the_block_and_goes_to_a_file(tmp_path: Path, form: str) -> None:
    """A directory is read as the document in it."""
    (tmp_path / "a").mkdir()
    written(usual(), tmp_path / "a" / "profile.json")
    after, file = written(usual(slow=30), tmp_path / "b.json"), tmp_path / "out"

    assert run(tmp_path / "a", after, "--format", form, "-o", file).exit_code == 0
    text = file.read_text()
    assert text.index("backbone.middle_flow.block7") < text.index("aspp.atrous1")
    if form == "json":
        assert CompareDocument.model_validate_json(text).rows[0].path == "backbone.middle_flow.block7"


def test_a_document_whose_rows_do_not_add_up_is_not_a_profile(tmp_path: Path) -> None:
    """It was edited, or is another document."""
    bad = usual().model_dump(mode="json")
    bad["blocks"] = bad["blocks"][1:]
    with pytest.raises(ValueError, match="the host times of the rows must add up to the total"):
        ProfileDocument.model_validate(bad)
    file = tmp_path / "b.json"
    file.write_text("{}")

    result = run(written(usual(), tmp_path / "a.json"), file)

    assert str(result.exception).startswith(f"{file}: is not a profile: ")
    assert "none.json: cannot be read: No such file" in str(run(tmp_path / "none.json", file).exception)


def test_the_schema_is_published() -> None:
    """Other programs can validate the document with it."""
    assert '"CompareDocument"' in run("--json-schema").stdout
