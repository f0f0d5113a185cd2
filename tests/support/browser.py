"""A real browser: where it is, and how it is started."""

import importlib.util
import shutil

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
available = pytest.mark.skipif(
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
