"""The browser that the tests of pages share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, DRIVER, OPTIONS


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
