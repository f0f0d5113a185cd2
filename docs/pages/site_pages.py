"""Every generated page of the site: the specification from its data, and the reports as they are committed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pages import choices, clauses, initialisation, variants
from pages.markup import ROOT

FOLDER: Final = "specification"
REPORTS: Final = {
    "All reports": "README.md",
    "Real networks": "networks/README.md",
    "Strength of the judge": "strength/mutants.md",
    "Strength: other families": "strength/families/mutants.md",
    "Strength: in a candidate's process": "strength/isolated/mutants.md",
    "Clauses and their tests": "clauses.md",
    "Certificates": "certificates/README.md",
    "Costs": "costs/README.md",
    "The papers' figures": "costs/published.md",
    "What counters get wrong": "costs/counters.md",
    "Speed": "speed/README.md",
}
"""The pages of the reports that the navigation names; those of a device are added by its name."""


def specification() -> Iterator[tuple[str, str, str]]:
    """Yield path, title and text of every page of the specification."""
    for kind in (variants, choices, clauses):
        for path, title, text in kind.pages():
            yield f"{FOLDER}/{path}", title, text
    yield f"{FOLDER}/comparison.md", "Side by side", choices.comparison()
    yield f"{FOLDER}/initialisation.md", "Initial weights", initialisation.text()


def reports() -> Iterator[Path]:
    """Yield the files of the reports, under the root of the repository."""
    yield from (path.relative_to(ROOT) for path in sorted((ROOT / "reports").rglob("*")) if path.is_file())


def navigation(pages: list[tuple[str, str, str]]) -> dict[str, list[Any]]:
    """Return the entries of the navigation, by the word that stands for them in ``mkdocs.yml``."""
    titles = {path: title for path, title, _ in pages}
    found: dict[str, list[Any]] = {
        f"@{kind}": [{title: path} for path, title in titles.items() if path.startswith(f"{FOLDER}/{kind}/")]
        for kind in ("variants", "choices", "clauses")
    }
    found["@reports"] = [
        {title: f"reports/{path}"} for title, path in REPORTS.items() if (ROOT / "reports" / path).exists()
    ]
    found["@reports"] += [
        {f"{kind}: {path.stem if kind == 'The gate' else path.parent.name}": str(path.relative_to(ROOT))}
        for kind, pattern in (("Speed", "speed/*/*.md"), ("The gate", "gate/*.md"))
        for path in sorted((ROOT / "reports").glob(pattern))
    ]
    return found
