"""Profiles and comparisons as text: every row, units, and nothing that a name could break."""

import re
from html.parser import HTMLParser

import pytest

from deeplab_spec.render.compare import compare_grid, compare_html, compare_markdown, compare_summary
from deeplab_spec.render.profile import between, profile_grid, profile_html, profile_summary
from deeplab_spec.render.table import plain
from deeplab_spec.services.compare import compare
from tests.documents import MILLISECOND, row, usual

HOSTILE = "<script>alert('x')</script>|`"


class Cells(HTMLParser):
    """Collects the text of a page's cells, and checks that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        """Enter an element."""
        if tag not in ("meta", "input", "rect", "line"):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Read text."""
        if "td" in self.open:
            self.cells[-1] += data.strip()


def cells(html: str) -> list[str]:
    """Return the text of the cells of a page."""
    parser = Cells()
    parser.feed(html)
    assert parser.open == []
    return parser.cells


@pytest.mark.parametrize("device", [False, True])
def test_a_profile_has_a_line_for_every_row_and_the_total_last(*, device: bool) -> None:
    """Device and kernels are columns only where there is a device."""
    grid = profile_grid(usual(device=device))

    assert [line[0] for line in grid.rows] == [*(found.path for found in usual().rows), "total"]
    assert ("device ms" in grid.headers) is device
    assert ("kernels" in grid.headers) is device
    assert "31.000" in plain(grid).splitlines()[2]
    assert "roofline %" in grid.headers
    assert "25.0" in grid.rows[0]


def test_the_summary_says_where_and_how() -> None:
    """Images per second are under the profiler, and say so."""
    text = profile_summary(usual(batch=2, notes=("something is odd",)))

    assert "some:network, output stride 16, 2 x 65x65, float32, forward, on a device (cpu, 1 thread)" in text
    assert "4 steps: 77.000 ms" in text
    assert "26 images per second under the profiler" in text
    assert text.endswith("something is odd")


@pytest.mark.parametrize("device", [False, True])
def test_a_profiles_page_has_every_row_operator_and_kernel(*, device: bool) -> None:
    """All elements are closed."""
    found = cells(profile_html(usual(device=device)))

    assert [cell for cell in found if cell in {line.path for line in usual().rows}] == [
        line.path for line in usual().rows
    ]
    assert found.count("aten::conv2d") == 4
    assert found.count("aten::conv2d_kernel") == (4 if device else 0)
    assert found.count("between operators (Python, waits)") == 4


def test_what_no_operator_accounts_for_is_in_between() -> None:
    """The operators of such a row take three quarters of it."""
    assert between(row("stem", (4 * MILLISECOND,) * 2)) == MILLISECOND


@pytest.mark.parametrize("form", [profile_html, lambda found: compare_html(compare(found, found))])
def test_names_are_escaped_in_pages(form: object) -> None:
    """A target's own modules and kernels may be called anything."""
    document = usual(target=HOSTILE, notes=(HOSTILE,), call=HOSTILE)
    html = form(document)  # type: ignore[operator]  # a function of a document

    assert "<script>alert" not in html
    assert len(re.findall("<script", html)) == 1
    cells(html)


def test_a_comparison_in_markdown_has_the_rows_and_what_only_one_side_has() -> None:
    """For a pull request: tables whose cells a name cannot break."""
    text = compare_markdown(compare(usual(), usual(slow=30, call="a|b"), percent=5))
    lines = text.splitlines()

    table = [line for line in lines if line.startswith("| ")]
    assert table[2].startswith("| backbone.middle_flow.block7 | 16.000 | 46.000 | +30.000 |")
    assert "slower than the 5 % that are allowed" in text
    assert "| backbone.middle_flow.block7 | appeared | operator | `a\\|b` | 2 | 23.000 |" in lines
    assert "### some:network (A) and some:network (B)" in lines


def test_a_comparison_as_a_table_ends_with_the_total() -> None:
    """Signs say the direction."""
    document = compare(usual(slow=30), usual())
    grid = compare_grid(document)

    assert grid.rows[0][:4] == ("backbone.middle_flow.block7", "46.000", "16.000", "-30.000")
    assert grid.rows[-1][:4] == ("total", "107.000", "77.000", "-30.000")
    assert compare_summary(document).startswith("host time of a step: 107.000 ms, then 77.000 ms: -28.04 %")


@pytest.mark.parametrize(
    ("percent", "words"),
    [(20.0, "slower than the 20 %"), (60.5, "not slower than the 60.5 %"), (39.0, "undecided: the interval contains")],
)
def test_a_verdict_is_worded(percent: float, words: str) -> None:
    """In the summary and on the page."""
    document = compare(usual(), usual(slow=30), percent=percent)

    assert words in compare_summary(document)
    assert words in compare_html(document)


def test_a_comparisons_page_says_that_both_sides_are_alike() -> None:
    """Nothing appeared, and nothing vanished."""
    found = cells(compare_html(compare(usual(), usual())))

    assert found.count("Both sides run the same operators.") == 4
