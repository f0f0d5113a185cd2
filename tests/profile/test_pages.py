"""Profiles and comparisons as text: every row, units, and names that are escaped."""

import csv
import io
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from rich.console import Console

from deeplab_spec.profile.compare import compare
from deeplab_spec.profile.compare_text import (
    by_chance,
    compare_csv,
    compare_grid,
    compare_heading,
    compare_html,
    compare_markdown,
    compare_summary,
)
from deeplab_spec.profile.document import TENSORBOARD, TRACE, CompareDocument, ProfileDocument
from deeplab_spec.profile.text import between, profile_csv, profile_grid, profile_html, profile_summary
from deeplab_spec.views.table import plain, rich_table
from tests.support.profile_samples import MILLISECOND, profile, row, usual

HOSTILE = "<script>alert('x')</script>|`"


class Cells(HTMLParser):
    """Collects the text of a page's cells, and checks that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        """Enter an element."""
        if tag not in ("meta", "input", "wbr"):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Read text."""
        if "td" in self.open:
            self.cells[-1] += data.strip()


def changed(*milliseconds: int) -> CompareDocument:
    """Compare profiles of blocks that become slower by these milliseconds."""

    def side(*more: int) -> ProfileDocument:
        steps = [tuple(MILLISECOND * (9 + step + extra) for step in (0, 1, 2, 1)) for extra in more]
        return profile({f"block{number}": times for number, times in enumerate(steps)})

    return compare(side(*(0 for _ in milliseconds)), side(*milliseconds))


def read_csv(text: str) -> list[dict[str, str]]:
    """Read comma-separated values by their headers."""
    return list(csv.DictReader(io.StringIO(text)))


def cells(html: str) -> list[str]:
    """Return the text of the cells of a page."""
    parser = Cells()
    parser.feed(html)
    assert parser.open == []
    return parser.cells


@pytest.mark.parametrize("device", [False, True])
def test_a_profile_has_a_line_for_every_row_and_the_total_last(*, device: bool) -> None:
    """Only the profile of a device has columns for it and its kernels."""
    grid = profile_grid(usual(device=device))

    assert [line[0] for line in grid.rows] == [*(line.path for line in usual().rows), "total"]
    assert ("device ms" in grid.headers) is device
    assert ("kernels" in grid.headers) is device
    assert "31.000" in plain(grid).splitlines()[2]
    assert "roofline %" in grid.headers
    assert "25.0" in grid.rows[0]


def test_the_summary_has_the_target_the_mode_and_the_device() -> None:
    """It says that the images per second are under the profiler."""
    text = profile_summary(usual(batch=2, notes=("something is odd",)))

    assert "some:network, output stride 16, 2 x 65x65, float32, forward, eager, on a device (cpu, 1 thread)" in text
    assert "4 steps: 77.000 ms" in text
    assert "26 images per second under the profiler" in text
    assert text.endswith("something is odd")


@pytest.mark.parametrize("device", [False, True])
def test_a_profiles_page_has_every_row_operator_and_kernel(*, device: bool) -> None:
    """All elements are closed."""
    texts = cells(profile_html(usual(device=device)))

    assert [cell for cell in texts if cell in {line.path for line in usual().rows}] == [
        line.path for line in usual().rows
    ]
    assert texts.count("aten::conv2d") == 4
    assert texts.count("aten::conv2d_kernel") == (4 if device else 0)
    assert texts.count("between operators (Python, waits)") == 4


def test_the_time_outside_of_operators_is_the_rest() -> None:
    """The operators of such a row take three quarters of it."""
    assert between(row("stem", (4 * MILLISECOND,) * 2)) == MILLISECOND


@pytest.mark.parametrize("form", [profile_html, lambda profile: compare_html(compare(profile, profile))])
def test_names_are_escaped_in_pages(form: object) -> None:
    """A target's modules and kernels can have any name."""
    document = usual(target=HOSTILE, notes=(HOSTILE,), call=HOSTILE)
    html = form(document)  # type: ignore[operator]  # a function of a document

    assert "<script>alert" not in html
    assert len(re.findall("<script", html)) == 1
    cells(html)


def test_a_comparison_in_markdown_has_the_rows_and_the_calls_of_one_side_only() -> None:
    """Names in cells are escaped."""
    text = compare_markdown(compare(usual(), usual(slow=30, call="a|b"), percent=5))
    lines = text.splitlines()

    table = [line for line in lines if line.startswith("| ")]
    assert table[2].startswith("| backbone.middle_flow.block7 | 16.000 | 46.000 | +30.000 |")
    assert "slower than the allowed 5 %" in text
    assert "| backbone.middle_flow.block7 | appeared | operator | `a\\|b` | 2 | 23.000 |" in lines
    assert "### some:network (A) and some:network (B)" in lines


def test_a_comparison_as_a_table_ends_with_the_total() -> None:
    """A sign is the direction of a change."""
    document = compare(usual(slow=30), usual())
    grid = compare_grid(document)

    assert grid.rows[0][:4] == ("backbone.middle_flow.block7", "46.000", "16.000", "-30.000")
    assert grid.rows[-1][:4] == ("total", "107.000", "77.000", "-30.000")
    assert compare_summary(document).startswith("host time of a step: 107.000 ms, then 77.000 ms: -28.04 %")


@pytest.mark.parametrize(
    ("percent", "words"),
    [(20.0, "slower than the allowed 20 %"), (60.5, "within the allowed slowdown of 60.5 %"), (39.0, "undecided: ")],
)
def test_a_verdict_is_written_in_words(percent: float, words: str) -> None:
    """In the summary and on the page."""
    document = compare(usual(), usual(slow=30), percent=percent)

    assert words in compare_summary(document)
    assert words in compare_html(document)


def test_a_comparisons_page_says_that_both_sides_run_the_same_operators() -> None:
    """No call appeared or vanished."""
    texts = cells(compare_html(compare(usual(), usual())))

    assert texts.count("Both sides run the same operators.") == 4


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        ((0, 0, 0), "None of 3 changes exceeds the noise"),
        ((9, 0, 0), "1 of 3 changes exceeds the noise"),
        ((9, -8, 0), "2 of 3 changes exceed the noise"),
        ((9, 9, 9), "3 of 3 changes exceed the noise"),
        ((9,), "The only change exceeds the noise"),
        ((0,), "The only change does not exceed the noise"),
    ],
)
def test_the_first_line_has_the_number_of_changes_that_exceed_the_noise(
    milliseconds: tuple[int, ...], words: str
) -> None:
    """Steps vary by 2 ms: a change of 8 ms exceeds that. The total does not count."""
    document = changed(*milliseconds)

    assert compare_heading(document) == words
    assert compare_markdown(document).splitlines()[0] == words
    assert re.findall(r"<body>\s*<h1>(.*?)</h1>", compare_html(document)) == [words]
    assert document.exceeding == sum(delta != 0 for delta in milliseconds)


def test_rows_within_the_noise_are_marked_in_every_format() -> None:
    """Grey on the page, dimmed on a terminal, and a word in a column of all three."""
    document = changed(0, 9, 0)
    grid = compare_grid(document)
    html = compare_html(document)

    place = grid.headers.index("noise")
    assert [(line[0], line[place]) for line in grid.rows] == [
        ("block1", "above"),
        ("block0", "within"),
        ("block2", "within"),
        ("total", "above"),
    ]
    assert grid.dim == {1, 2}
    assert re.findall(r'<tr class="(row[^"]*)">\s*<td[^>]*>(?:<button[^>]*>)?(\w+)', html) == [
        ("row", "block1"),
        ("row noise", "block0"),
        ("row noise", "block2"),
        ("row", "total"),
    ]
    assert re.findall(r'<li( class="noise")?><span class="name">(\w+)', html) == [
        ("", "block1"),
        (' class="noise"', "block0"),
        (' class="noise"', "block2"),
    ]


@pytest.mark.parametrize("milliseconds", [(0, 9), (0, 0)])
def test_a_terminal_dims_the_rows_within_the_noise(milliseconds: tuple[int, ...]) -> None:
    """Exactly those lines, which may include the total, have the escape sequence of dimmed text."""
    document = changed(*milliseconds)
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=200, color_system="standard").print(
        rich_table(compare_grid(document))
    )

    lines = {name: line for line in stream.getvalue().splitlines() for name in re.findall(r"block\d|total", line)}
    dimmed = {name for name, line in lines.items() if re.search(r"\x1b\[(\d;)*2m", line)}
    assert lines.keys() == {"block0", "block1", "total"}
    assert dimmed == {row.path for row in (*document.rows, document.total) if not row.exceeds_noise}


def test_the_changes_expected_by_chance_are_given_if_one_or_more() -> None:
    """An interval of 95 % misses one time in twenty."""
    many, few = changed(*(0 for _ in range(40))), changed(0, 0)

    assert by_chance(many) == "of 40 unchanged blocks about 2 would exceed the noise by chance"
    assert by_chance(many) in compare_summary(many)
    assert by_chance(many) in compare_html(many)
    assert by_chance(few) == ""
    assert "by chance" not in compare_html(few)


def test_modes_that_differ_are_named_in_every_form() -> None:
    """The heading has a line for two different modes, and none for one mode."""
    alike = compare(usual(execution_mode="channels_last"), usual(execution_mode="channels_last"))
    apart = compare(usual(), usual(execution_mode="channels_last"))
    words = "eager (A) and channels_last (B)"

    assert compare_heading(apart).splitlines()[1] == f"mode: {words}"
    assert words in compare_markdown(apart)
    assert f"<dd>{words}</dd>" in compare_html(apart)
    assert len(compare_heading(alike).splitlines()) == 1
    assert "<dd>channels_last</dd>" in compare_html(alike)
    assert "(A) and" not in compare_html(alike)


@pytest.mark.parametrize("device", [False, True])
def test_a_profiles_csv_has_the_documents_numbers_unrounded(*, device: bool) -> None:
    """Units are in the headers, the total is the last row, and unknown values are empty."""
    unknown = usual(device=device)
    unknown = unknown.model_copy(
        update={"unattributed": unknown.unattributed.model_copy(update={"flops": None, "roofline": None})}
    )
    rows = read_csv(profile_csv(unknown))

    assert [line["block"] for line in rows] == [*(line.path for line in unknown.rows), "total"]
    first, second = rows[0], unknown.rows[0]
    assert (float(first["host (ns)"]), float(first["host low (ns)"])) == (second.host.mean, second.host.low)
    assert (first["work (FLOP)"], first["moved (bytes)"], first["peak (bytes)"]) == ("2000000000", "1000000", "3000000")
    assert (float(first["roofline (ratio)"]), float(first["operators (per step)"])) == (0.25, 3)
    assert (rows[3]["work (FLOP)"], rows[3]["roofline (ratio)"]) == ("", "")
    assert ("device (ns)" in first) is ("kernels (per step)" in first) is device
    if device:
        assert second.device is not None
        assert float(first["device high (ns)"]) == second.device.high


def test_a_comparisons_csv_has_the_documents_numbers_unrounded() -> None:
    """In the order of the table. A side without the block has an empty cell, not a zero."""
    document = compare(usual(), profile({"aspp.atrous1": (1, 2, 3, 4), 'odd,"name"': (5, 6, 7, 9)}, call="other"))
    rows = read_csv(compare_csv(document))

    assert [line["block"] for line in rows] == [*(line.path for line in document.rows), "total"]
    for line, expected in zip(rows, (*document.rows, document.total), strict=True):
        assert line["A (ns)"] == ("" if expected.before is None else str(expected.before))
        assert line["B (ns)"] == ("" if expected.after is None else str(expected.after))
        assert float(line["change (ns)"]) == expected.delta.mean
        assert float(line["change low (ns)"]) == expected.delta.low
        assert float(line["change high (ns)"]) == expected.delta.high
        assert (line["slowdown (ratio)"] == "") is (expected.slowdown is None)
        assert line["exceeds noise (0 or 1)"] == str(int(expected.exceeds_noise))
    named = {line["block"]: line for line in rows}
    assert named["aspp.atrous1"]["new (operators and kernels)"] == "1"
    assert named["backbone.entry_flow.block1"]["gone (operators and kernels)"] == "2"


@pytest.mark.parametrize("kind", ["profile", "compare"])
def test_a_page_holds_its_own_csv(kind: str) -> None:
    """The link contains the file: it needs no network and no script."""
    document = compare(usual(), usual(slow=30))
    html = profile_html(usual()) if kind == "profile" else compare_html(document)
    text = profile_csv(usual()) if kind == "profile" else compare_csv(document)

    link = re.search(r'href="data:text/csv;charset=utf-8,([^"]*)" download="(\w+)\.csv"', html)
    assert link
    assert (unquote(link[1]), link[2]) == (f"{text}\n", kind)


def test_a_profiles_page_says_how_to_open_its_traces() -> None:
    """The links name the files beside the page, and the page loads nothing."""
    html = profile_html(usual())

    assert f'<a href="{TRACE}">' in html
    assert f'<a href="{TENSORBOARD.as_posix()}">' in html
    assert "ui.perfetto.dev" in html
    assert "Open trace file" in html
    assert "this plugin loads its charts from the internet" in html
    assert not re.search(r"https?://|src=", html)
