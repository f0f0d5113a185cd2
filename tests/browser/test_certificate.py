"""The page of a certificate in a real browser: findings on the diagram, filter, search, keyboard, phone, dark."""

import json
from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.evidence.page import page
from tests.browser.test_pages import DESKTOP, PHONE, WIDTH, as_wide, luminance, opened
from tests.evidence.test_report import SCRIPT, hostile, made
from tests.support.browser import available

pytestmark = available


def clauses(browser: Any) -> list[str]:
    """Return the ids of the visible clauses."""
    found = browser.find_elements("css selector", "details.clause .id")
    return [each.text for each in found if each.is_displayed()]


def test_the_verdict_is_in_the_first_screen_and_only_the_file_is_loaded(browser: Any, tmp_path: Path) -> None:
    """What did not pass is open, before what passed."""
    opened(browser, page(made()), tmp_path)

    headline = browser.find_element("css selector", "h1")
    assert headline.text == "Deviates from notebook"
    assert headline.rect["y"] + headline.rect["height"] < 300
    assert clauses(browser) == ["ASPP-RATES", "DROPOUT"]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [entry["params"]["request"]["url"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
    assert urls == [(tmp_path / "page.html").as_uri()]
    assert browser.get_log("browser") == []


def test_a_mark_on_the_diagram_shows_its_findings(browser: Any, tmp_path: Path) -> None:
    """It is a link, which the keyboard reaches too."""
    opened(browser, page(made()), tmp_path)
    mark = browser.find_element("css selector", "a.mark[data-path='aspp.atrous1']")
    browser.execute_script("arguments[0].focus()", mark)
    browser.switch_to.active_element.send_keys("\ue007")

    assert browser.find_element("id", "filter").get_attribute("value") == "aspp.atrous1"
    rows = [row.text for row in browser.find_elements("css selector", "tbody tr") if row.is_displayed()]
    assert len(rows) == 1
    assert rows[0].startswith("aspp.atrous1.depthwise.conv")


def test_search_and_filters_narrow_the_clauses(browser: Any, tmp_path: Path) -> None:
    """The slash key reaches the search, Escape empties it."""
    from selenium.webdriver.support.select import Select

    opened(browser, page(made()), tmp_path)
    browser.find_element("css selector", "body").send_keys("/")
    field = browser.switch_to.active_element
    assert field.get_attribute("id") == "filter"

    field.send_keys("BLOCK7")
    assert clauses(browser) == ["ASPP-RATES"]
    assert browser.find_element("id", "shown").text.endswith("clauses, 1 findings")
    field.send_keys("nothing of that kind")
    assert clauses(browser) == []
    assert browser.find_element("id", "none").is_displayed()
    field.send_keys("\ue00c")
    assert clauses(browser) == ["ASPP-RATES", "DROPOUT"]
    Select(browser.find_element("id", "verdict")).select_by_value("")
    assert len(clauses(browser)) == len(made().clauses)
    Select(browser.find_element("id", "level")).select_by_visible_text("training")
    assert "DROPOUT" in clauses(browser)
    assert "ASPP-RATES" not in clauses(browser)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_readable_and_nothing_is_wider_than_the_page(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    """A contrast of 4.5 at least (WCAG 2, criterion 1.4.3), on a phone too, in both colour schemes."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    with as_wide(browser, width):
        opened(browser, page(made()), tmp_path)
        pairs = browser.execute_script(
            """
            function back(e) {
              while (e) {
                const colour = getComputedStyle(e).backgroundColor;
                if (!colour.endsWith(', 0)')) { return colour; }
                e = e.parentElement;
              }
              return 'rgb(255, 255, 255)';
            }
            return Array.from(document.querySelectorAll('body *:not(svg *)'))
              .filter(e => e.checkVisibility() && Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim()))
              .map(e => [getComputedStyle(e).color, back(e), e.textContent.slice(0, 40)]);
            """
        )
        wide = browser.execute_script(WIDTH)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    assert wide <= width
    assert len(pairs) > 40
    page_colour = pairs[-1][1]
    assert (luminance(page_colour) < 0.1) is (scheme == "dark")
    for text, behind, words in pairs:
        light, dark = sorted((luminance(text), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, words


def test_no_name_runs_as_a_script(browser: Any, tmp_path: Path) -> None:
    """It is shown as it is."""
    opened(browser, page(hostile()), tmp_path)

    assert browser.get_log("browser") == []
    assert SCRIPT in browser.find_element("css selector", ".target").text
    browser.switch_to.default_content()  # an alert would be an error here
