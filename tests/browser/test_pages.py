"""The pages of ``profile`` and ``compare`` in a real browser.

They open without a network connection, sort, filter, expand, export their table, and fit a phone.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.profile.compare import compare
from deeplab_spec.profile.compare_text import compare_csv, compare_html
from deeplab_spec.profile.document import TENSORBOARD, TRACE, CompareDocument
from deeplab_spec.profile.text import profile_csv, profile_html
from tests.support.browser import available
from tests.support.profile_samples import usual

pytestmark = available
LONG = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctorOnSelf_add<float>, " + 9 * "unbroken"
PHONE, NARROW, TABLET, DESKTOP = 390, 320, 768, 1280
NAMES = ["backbone.entry_flow.block1", "backbone.middle_flow.block7", "aspp.atrous1", "unattributed"]


def opened(browser: Any, html: str, directory: Path) -> Any:
    """Open a page from a file."""
    file = directory / "page.html"
    file.write_text(html, encoding="utf-8")
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)  # clear earlier entries
    browser.get(file.as_uri())
    return browser


def shown(browser: Any) -> list[str]:
    """Return the names of the visible rows, from top to bottom."""
    cells = browser.find_elements("css selector", "table.blocks > tbody .path")
    return [cell.text for cell in sorted(cells, key=lambda cell: cell.location["y"]) if cell.is_displayed()]


def sort_by(browser: Any, title: str) -> None:
    """Click the head of a column."""
    heads = browser.find_elements("css selector", "table.blocks > thead button")
    next(head for head in heads if head.text.split("\n")[0] == title).click()


def comparison(call: str = "aten::mm") -> CompareDocument:
    """Compare two profiles; one block becomes slower, and every block runs another operator."""
    return compare(usual(device=True), usual(slow=30, device=True, call=call), percent=5)


def page(kind: str) -> str:
    """Return a page."""
    return profile_html(usual(device=True)) if kind == "profile" else compare_html(comparison())


def long_page(kind: str) -> str:
    """Return a page with a kernel name as long as real ones."""
    return profile_html(usual(device=True, call=LONG)) if kind == "profile" else compare_html(comparison(LONG))


@contextmanager
def as_wide(browser: Any, width: int) -> Iterator[None]:
    """Emulate a screen of a width; a narrow one is a phone's."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PAGES = pytest.mark.parametrize("kind", ["profile", "compare"])


@PAGES
def test_a_page_makes_no_request_and_has_no_error(browser: Any, tmp_path: Path, kind: str) -> None:
    """Only the file itself is loaded."""
    html = page(kind)
    opened(browser, html, tmp_path)

    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [entry["params"]["request"]["url"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
    assert urls == [(tmp_path / "page.html").as_uri()]
    assert browser.get_log("browser") == []
    assert not re.search(r"https?://|src=|@import|url\(", html)


def test_a_request_of_a_page_is_detected(browser: Any, tmp_path: Path) -> None:
    """The test above can fail: the page's policy blocks an external image with a message."""
    html = page("profile").replace("</body>", '<img src="http://127.0.0.1:9/a.png"></body>')
    opened(browser, html, tmp_path)

    messages: list[str] = []
    for _ in range(100):  # the browser writes its log when it comes to it
        messages += [entry["message"] for entry in browser.get_log("browser")]
        if messages:
            break
        time.sleep(0.1)
    assert any("Content Security Policy" in message for message in messages)


@PAGES
def test_a_click_on_a_column_sorts_and_another_reverses(browser: Any, tmp_path: Path, kind: str) -> None:
    """Numbers are sorted as numbers, the largest first; names alphabetically."""
    opened(browser, page(kind), tmp_path)
    by_time = [NAMES[0], NAMES[2], NAMES[1], NAMES[3]]

    sort_by(browser, "device" if kind == "profile" else "A")
    assert shown(browser) == by_time
    sort_by(browser, "device" if kind == "profile" else "A")
    assert shown(browser) == by_time[::-1]
    sort_by(browser, "block")
    assert shown(browser) == sorted(NAMES)


@PAGES
def test_a_filter_keeps_the_rows_that_contain_a_text(browser: Any, tmp_path: Path, kind: str) -> None:
    """Kernel names in collapsed rows count too; an empty filter shows all rows."""
    opened(browser, page(kind), tmp_path)
    field = browser.find_element("id", "filter")

    field.send_keys("ASPP")
    assert shown(browser) == ["aspp.atrous1"]
    assert browser.find_element("id", "shown").text == "1 of 4 rows"
    field.clear()
    field.send_keys("conv2d_kernel")
    assert sorted(shown(browser)) == sorted(NAMES)
    field.clear()
    field.send_keys("nothing of that kind")
    assert shown(browser) == []


@PAGES
def test_a_row_opens_and_shows_its_kernels(browser: Any, tmp_path: Path, kind: str) -> None:
    """The details stay with the row when the table is sorted."""
    opened(browser, page(kind), tmp_path)
    row = next(
        body
        for body in browser.find_elements("css selector", "table.blocks > tbody")
        if body.find_element("css selector", ".path").text == "aspp.atrous1"
    )
    button = row.find_element("css selector", ".path button")
    details = row.find_element("css selector", ".details")
    assert not details.is_displayed()

    button.click()

    assert details.is_displayed()
    assert button.get_attribute("aria-expanded") == "true"
    assert "aten::conv2d_kernel" in details.text
    sort_by(browser, "block")
    assert 0 < details.location["y"] - button.location["y"] < 60
    button.click()
    assert not details.is_displayed()


def test_the_row_that_became_slower_is_the_first(browser: Any, tmp_path: Path) -> None:
    """In the table and in the chart when the page opens."""
    opened(browser, page("compare"), tmp_path)

    assert shown(browser)[0] == "backbone.middle_flow.block7"
    assert browser.find_element("css selector", ".picture li").text.splitlines()[0] == "backbone.middle_flow.block7"
    assert browser.find_element("css selector", ".verdict").text.startswith("The total is slower than the allowed 5 %")


WIDTH = "return document.documentElement.scrollWidth"  # a phone's window grows with what it contains
WIDER_TABLE = "const box = document.querySelector('.wide'); return box.scrollWidth - box.clientWidth"


@PAGES
@pytest.mark.parametrize("width", [NARROW, PHONE, TABLET, DESKTOP])
def test_nothing_is_wider_than_the_page(browser: Any, tmp_path: Path, kind: str, width: int) -> None:
    """With all rows open and long names, no text is cut, and no horizontal scrolling is needed.

    On a tablet the table scrolls in its own box.
    """
    with as_wide(browser, width):
        opened(browser, long_page(kind), tmp_path)
        browser.find_element("id", "all").click()

        assert browser.execute_script(WIDTH) <= width
        assert width == TABLET or browser.execute_script(WIDER_TABLE) <= 0


def test_a_page_that_is_too_wide_is_detected(browser: Any, tmp_path: Path) -> None:
    """The test above can fail."""
    html = page("compare").replace("</body>", '<div style="width: 500px">wide</div></body>')
    with as_wide(browser, PHONE):
        opened(browser, html, tmp_path)

        assert browser.execute_script(WIDTH) > PHONE


@PAGES
def test_on_a_phone_a_row_has_its_name_and_its_main_number_side_by_side(
    browser: Any, tmp_path: Path, kind: str
) -> None:
    """The other numbers are below them, with labels."""
    with as_wide(browser, PHONE):
        opened(browser, page(kind), tmp_path)
        for row in browser.find_elements("css selector", "table.blocks > tbody > tr.row"):
            name, main = (row.find_element("css selector", place) for place in (".path", ".main"))
            others = row.find_elements("css selector", "td[data-label]:not(.main):not(:empty)")
            assert main.get_attribute("data-label") == ("device ms" if kind == "profile" else "change ms")
            assert name.rect["x"] + name.rect["width"] <= main.rect["x"]
            assert 0 <= name.rect["x"] < main.rect["x"] + main.rect["width"] <= PHONE
            assert name.rect["y"] < main.rect["y"] + main.rect["height"]
            assert main.rect["y"] < name.rect["y"] + name.rect["height"]
            assert len(others) >= 5
            assert all(cell.rect["y"] >= name.rect["y"] + name.rect["height"] for cell in others)


@PAGES
def test_on_a_phone_targets_are_large_and_text_is_readable(browser: Any, tmp_path: Path, kind: str) -> None:
    """A finger needs 44 px (WCAG 2, criterion 2.5.5), and no text is smaller than 13 px."""
    with as_wide(browser, PHONE):
        opened(browser, page(kind), tmp_path)
        browser.find_element("id", "all").click()
        targets = browser.find_elements("css selector", "button, input, a.button")
        sizes = browser.execute_script(
            "return Array.from(document.querySelectorAll('body *'))"
            ".filter(e => e.checkVisibility() && Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim()))"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )

        assert len(targets) > len(NAMES) + 8
        assert [target.text for target in targets if min(target.rect["height"], target.rect["width"]) < 44] == []
        assert min(sizes) >= 13


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_rows_within_the_noise_are_grey_and_readable(browser: Any, tmp_path: Path, width: int) -> None:
    """Red, green and blue are nearly one, and the contrast with white is at least 4.5 (WCAG 2, criterion 1.4.3)."""
    with as_wide(browser, width):
        opened(browser, page("compare"), tmp_path)
        rows = browser.find_elements("css selector", "table.blocks > tbody > tr.row")
        colours = [
            {cell.value_of_css_property("color") for cell in row.find_elements("css selector", "td, button")}
            for row in rows
        ]

        words = [row.find_element("css selector", "td.beside").text for row in rows]
        assert [word.split()[0] for word in words] == ["above", "within", "within", "within"]
        assert all(len(found) == 1 for found in colours)
        (first,), *others = colours
        assert all(found == others[0] != {first} for found in others)
        (grey,) = others[0]
        parts = [int(part) for part in re.findall(r"\d+", grey)[:3]]
        assert max(parts) - min(parts) < 32
        assert 1.05 / (luminance(grey) + 0.05) >= 4.5
        assert luminance(grey) > 4 * luminance(first)


@PAGES
@pytest.mark.parametrize("scripts", [True, False])
def test_the_table_is_downloaded_as_a_file(browser: Any, tmp_path: Path, kind: str, *, scripts: bool) -> None:
    """The page itself contains it; also with scripts disabled."""
    place = tmp_path / "downloads"
    place.mkdir()
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(place)})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    try:
        opened(browser, page(kind), tmp_path)
        browser.find_element("id", "csv").click()
        file = place / f"{kind}.csv"
        until = time.monotonic() + 20
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    expected = profile_csv(usual(device=True)) if kind == "profile" else compare_csv(comparison())
    assert file.read_text(encoding="utf-8") == f"{expected}\n"


def test_the_links_of_a_profile_lead_to_the_files_in_its_folder(browser: Any, tmp_path: Path) -> None:
    """As the browser resolves links."""
    opened(browser, page("profile"), tmp_path)

    links = [link.get_attribute("href") for link in browser.find_elements("css selector", "p a")]
    assert links == [(tmp_path / name).as_uri() for name in (TRACE, TENSORBOARD)]
