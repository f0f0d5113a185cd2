"""The page of a matrix in a real browser: on a phone, with hostile names, by the keyboard."""

from pathlib import Path
from typing import Any

import pytest

from deeplab_spec.matrix.document import Judged, MatrixDocument, page
from tests.browser.test_pages import DESKTOP, PHONE, WIDTH, as_wide, opened
from tests.evidence.test_report import SCRIPT, hostile
from tests.support.browser import available
from tests.support.certificates import certificate

pytestmark = available


def document() -> MatrixDocument:
    """Return a matrix in which a cell conforms, one deviates, and one could not run."""
    found = (certificate(), hostile(), None)
    cells = (
        Judged(id=f"{SCRIPT} {n}", target=SCRIPT, output_stride=n, column="structure", reason=SCRIPT, certificate=each)
        for n, each in enumerate(found)
    )
    return MatrixDocument(cells=tuple(cells))


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_page_fits_and_runs_nothing(browser: Any, tmp_path: Path, width: int) -> None:
    """The verdicts are a table; what did not conform opens by the keyboard."""
    with as_wide(browser, width):
        opened(browser, page(document()), tmp_path)

        assert browser.find_element("css selector", "h1").text.startswith(
            "3 certificates; conforms: 1, could not run: 1"
        )
        chips = browser.find_elements("css selector", "td .chip")
        assert [each.text for each in chips] == ["conforms", "deviates", "could not run"]
        text = browser.find_elements("css selector", "pre")[1]
        assert text.is_displayed()
        assert browser.execute_script(WIDTH) <= width
        browser.find_elements("css selector", "summary")[1].send_keys("\ue007")
        assert not text.is_displayed()
        assert browser.get_log("browser") == []
