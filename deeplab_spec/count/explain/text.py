"""The text of ``count --explain``: a table of fits, and what they prove."""

from collections.abc import Sequence
from typing import Final

from deeplab_spec.analysis.costs import Number
from deeplab_spec.count.explain.document import CountedModel, ExplainDocument, FitModel
from deeplab_spec.count.explain.figures import Quantity
from deeplab_spec.views.table import Grid, number

_SHOWN: Final = 20
"""Fits that the table lists; the document has all."""
_CLASSES: Final = 4
"""Other numbers of classes that a row names."""
_LIKELY: Final = 0.05
"""Fits to expect by chance above which a single fit proves little."""


def explain_grid(document: ExplainDocument) -> Grid:
    """Return the table of fits, the most usual first; without a fit, that of the nearest counts."""
    if not document.fits:
        near = tuple((entry.figure, *_cells(entry)) for entries in document.nearest for entry in entries)
        near = near or (("", "nothing within 2 %", "", ""),)
        return Grid(headers=("nearest to", "would be", "count", "residual"), rows=near, right=frozenset({2, 3}))
    rows = []
    for fit, also in _grouped(document.fits)[:_SHOWN]:
        rows += [("", entry.figure, *_cells(entry)) for entry in fit.figures]
        rows[-len(fit.figures)] = (_setting(fit, also), *rows[-len(fit.figures)][1:])
    headers = ("network", "figure", "is", "count", "residual")
    return Grid(headers=headers, rows=tuple(rows), right=frozenset({3, 4}))


def _grouped(fits: Sequence[FitModel]) -> list[tuple[FitModel, list[int]]]:
    """Return the fits that differ in more than the classes, each with the classes of the others like it."""
    groups: dict[object, tuple[FitModel, list[int]]] = {}
    for fit in fits:
        key = (fit.network, fit.output_strides, *(described(entry) for entry in fit.figures))
        first, also = groups.setdefault(key, (fit, []))
        if first is not fit:
            also += fit.classes or ()
    return list(groups.values())


def _setting(fit: FitModel, also: Sequence[int]) -> str:
    words = [fit.network]
    if fit.output_strides:
        words.append(f"output stride {' or '.join(map(str, fit.output_strides))}")
    if fit.classes and fit.classes != (0,):
        others = ", ".join(map(str, sorted(also)[:_CLASSES]))
        more = f", and {len(also) - _CLASSES} more" if len(also) > _CLASSES else ""
        words.append(f"{' or '.join(map(str, fit.classes))} classes{f' (also {others}{more})' if also else ''}")
    return ", ".join(words)


def _cells(entry: CountedModel) -> tuple[str, str, str]:
    return (described(entry), number(entry.count), _percent(entry.residual))


def _percent(residual: float) -> str:
    """Write a residual.

    >>> _percent(0.0), _percent(-0.000154), _percent(2e-8)
    ('exact', '-0.0154 %', '+2.0e-06 %')
    """
    percent = 100 * residual
    if not percent:
        return "exact"
    return f"{percent:+.4f} %" if abs(percent) >= 1e-3 else f"{percent:+.1e} %"  # noqa: PLR2004 - four decimals


def described(entry: CountedModel) -> str:
    """Return how a figure is counted, in a few words."""
    if entry.quantity is Quantity.STORED:
        words = [f"{entry.unit}: {entry.stored}" if entry.unit else entry.stored, entry.part]
        return ", ".join(filter(None, words))
    twice = "twice " if entry.factor and entry.factor > 1 else ""
    height, width = entry.size or (0, 0)
    scales = entry.scales or (1.0,)
    words = [
        f"{twice}{entry.convention} at {height}x{width}",
        f"scales {', '.join(f'{scale:g}' for scale in scales)}" if scales != (1.0,) else "",
        "mirrored too" if entry.flip else "",
        entry.part,
    ]
    return ", ".join(filter(None, words))


def verdict(document: ExplainDocument) -> str:
    """Return what was found, in one line."""
    printed = " and ".join(f"'{figure.text}'" for figure in document.figures)
    if not document.fits:
        return f"nothing that was tried gives {printed}"
    if document.ambiguous:
        return f"ambiguous: {len(document.fits):,} explanations fit {printed}"
    return f"one explanation fits {printed}"


def explain_summary(document: ExplainDocument) -> str:
    """Return the lines below the table of ``count --explain``."""
    lines = [verdict(document)]
    groups = len(_grouped(document.fits))
    if groups > _SHOWN:
        lines.append(f"the {_SHOWN} most usual are listed, and {groups - _SHOWN:,} more with --json")
    lines += [
        f"'{figure.text}': {figure.digits} digits; {figure.tried:,} candidates tried, {figure.matches:,} fit, "
        f"{_expected(figure.by_chance)} would by chance"
        for figure in document.figures
    ]
    if len(document.figures) > 1:
        lines.append(f"together {_expected(document.by_chance)} would fit by chance")
    if document.fits and document.by_chance > _LIKELY:
        lines.append("so few digits prove little: a fit may be a coincidence; give more digits or a second figure")
    lines += dict.fromkeys(
        f"{entry.convention}: {entry.title}"
        for fit, _ in _grouped(document.fits)[:_SHOWN]
        for entry in fit.figures
        if entry.convention
    )
    return "\n".join(lines)


def _expected(count: Number) -> str:
    """Write an expected number.

    >>> _expected(12.3), _expected(0.04), _expected(1e-7)
    ('12', '0.04', 'fewer than 0.0001')
    """
    if count < 1e-4:  # noqa: PLR2004 - stated in the words
        return "fewer than 0.0001"
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"  # noqa: PLR2004 - two digits say enough
