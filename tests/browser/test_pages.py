"""The pages of ``profile`` and ``compare`` in a real browser: they open without a network, sort, filter and expand."""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.render.compare import compare_html
from deeplab_spec.render.profile import profile_html
from deeplab_spec.services.compare import compare
from tests.documents import usual

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not CHROMIUM or not DRIVER or importlib.util.find_spec("selenium") is None,
    reason="not run: chromium, chromium-driver or selenium is not installed",
)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
NAMES = ["backbone.entry_flow.block1", "backbone.middle_flow.block7", "aspp.atrous1", "unattributed"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a browser with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    started = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield started
    started.quit()


def opened(browser: Any, html: str, directory: Path) -> Any:
    """Open a page from a file."""
    file = directory / "page.html"
    file.write_text(html, encoding="utf-8")
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)  # forget what came before
    browser.get(file.as_uri())
    return browser


def shown(browser: Any) -> list[str]:
    """Return the names of the rows that are seen, from top to bottom."""
    found = browser.find_elements("css selector", "table.blocks > tbody .path")
    return [cell.text for cell in sorted(found, key=lambda cell: cell.location["y"]) if cell.is_displayed()]


def sort_by(browser: Any, title: str) -> None:
    """Click the head of a column."""
    heads = browser.find_elements("css selector", "table.blocks > thead button")
    next(head for head in heads if head.text.split("\n")[0] == title).click()


def page(kind: str) -> str:
    """Return a page."""
    if kind == "profile":
        return profile_html(usual(device=True))
    return compare_html(compare(usual(device=True), usual(slow=30, device=True, call="aten::mm"), percent=5))


PAGES = pytest.mark.parametrize("kind", ["profile", "compare"])


@PAGES
def test_a_page_asks_nothing_of_a_network_and_reports_no_error(browser: Any, tmp_path: Path, kind: str) -> None:
    """The only thing that is loaded is the file itself."""
    html = page(kind)
    opened(browser, html, tmp_path)

    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [found["params"]["request"]["url"] for found in messages if found["method"] == "Network.requestWillBeSent"]
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert browser.get_log("browser") == []
    assert not re.search(r"https?://|src=|@import|url\(", html)


def test_a_page_that_asks_a_network_would_be_seen(browser: Any, tmp_path: Path) -> None:
    """The test above can fail: the page's own policy blocks a picture from elsewhere, and says so."""
    html = page("profile").replace("</body>", '<img src="http://127.0.0.1:9/a.png"></body>')
    opened(browser, html, tmp_path)

    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@PAGES
def test_a_click_on_a_column_sorts_and_another_turns_it_round(browser: Any, tmp_path: Path, kind: str) -> None:
    """Numbers as numbers, the largest first; names by the alphabet."""
    opened(browser, page(kind), tmp_path)
    by_time = [NAMES[0], NAMES[2], NAMES[1], NAMES[3]]

    sort_by(browser, "device" if kind == "profile" else "A")
    assert shown(browser) == by_time
    sort_by(browser, "device" if kind == "profile" else "A")
    assert shown(browser) == by_time[::-1]
    sort_by(browser, "block")
    assert shown(browser) == sorted(NAMES)


@PAGES
def test_a_filter_leaves_the_rows_that_contain_a_text(browser: Any, tmp_path: Path, kind: str) -> None:
    """Also the name of a kernel inside a folded row; an empty filter shows all again."""
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
    """Its details stay with it when the table is sorted."""
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
    """As the page opens, and in the picture too."""
    opened(browser, page("compare"), tmp_path)

    assert shown(browser)[0] == "backbone.middle_flow.block7"
    assert browser.find_element("css selector", "svg.picture").text.splitlines()[2] == "backbone.middle_flow.block7"
    assert browser.find_element("css selector", ".verdict").text.startswith("The total is slower than the 5 %")


@PAGES
def test_nothing_is_wider_than_the_page(browser: Any, tmp_path: Path, kind: str) -> None:
    """No text is cut, and nothing needs scrolling sideways at a usual width."""
    opened(browser, page(kind), tmp_path)

    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert (
        browser.execute_script("const box = document.querySelector('.wide'); return box.scrollWidth - box.clientWidth")
        <= 0
    )
