"""The generated pages of the site, as ``docs/hooks.py`` gives them to MkDocs."""

import importlib
import sys
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


@cache
def generated_pages() -> dict[str, str]:
    """Return the text of every generated page, by its path in the site."""
    sys.path.insert(0, str(DOCS))
    try:
        site_pages = importlib.import_module("pages.site_pages")
    finally:
        sys.path.remove(str(DOCS))
    return {path: text for path, _, text in site_pages.specification()}
