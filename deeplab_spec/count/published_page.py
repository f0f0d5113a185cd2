"""The page on published figures: residuals, predictions, and the readings that the figures rule out."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from deeplab_spec.analysis.conventions import MAC, TFPROF
from deeplab_spec.analysis.printed import PRINTED
from deeplab_spec.analysis.published import (
    PUBLISHED,
    TOLERANCE,
    Configuration,
    Constant,
    Reading,
    configurations,
    constants,
    other_sizes,
    readings,
)
from deeplab_spec.count.network_report import COMMAND, billions
from deeplab_spec.spec.choices import Decoder, HeadConvs, written
from deeplab_spec.views.table import Grid, markdown

_NETWORK: Final = ("pyramid and decoder", "decoder", "output stride")


def published_page() -> str:
    """Return the page on the published figures."""
    all_readings = tuple(readings())
    return "\n\n".join(
        (
            "# Published multiply-adds",
            f"In billions (B), 10^9. Source: {PUBLISHED[0].source}. Made by `{COMMAND}`.",
            _reconstruction(),
            markdown(_constants(tuple(constants()))),
            "## Every configuration of the table",
            (
                f"513x513 pixels, {PUBLISHED[0].classes} classes. *Multi-scale* is the sum over scales 0.5 to 1.75 in "
                "steps of 0.25, where a side d becomes int((d - 1) * s + 1); *flip* doubles every image; terms counted "
                "once per network are not repeated. Rows marked *prediction* have no published figure here."
            ),
            markdown(_configurations()),
            "## Other sizes and numbers of classes",
            "By the same rule; all are predictions, of one image at one scale.",
            markdown(_sizes()),
            "## What the figures rule out",
            (
                "Each row gives one choice another value that is known from elsewhere; each column is a published "
                "figure. Cells give the change of the figure in B. **Bold**: the residual would exceed "
                f"{_percent(TOLERANCE)}, so the figure rules the reading out. A dash: no change. *Cannot be built*: "
                "values of different sizes would meet, or the network does not accept 513x513."
            ),
            markdown(_readings(all_readings)),
            _undecided(all_readings),
            _unseen(all_readings),
            "## Figures of the other members",
            (
                "As papers and libraries print them: multiply-adds in B under the convention that the source uses, or "
                "parameters. A pooling window counts one half per pixel that it reads under `tfprof`; that was chosen "
                "after seeing the residuals of the ResNet rows, and no other row has such a window but the ResNets'."
            ),
            markdown(_printed()),
        )
    )


def _reconstruction() -> str:
    residuals = [abs(row.residual(row.operations()) or 0) for row in PUBLISHED]
    return (
        f"`tfprof` is a reconstruction, not a fact: no source here says how the figures were counted, and its three "
        f"constants were chosen after seeing the residuals of plain multiply-adds. One rule with the same constants "
        f"fits all {len(residuals)} figures; the largest residual is {_percent(max(residuals), digits=4)}. Most of "
        f"the difference to plain multiply-adds has one plausible cause: an atrous convolution runs on a map padded "
        f"to a multiple of its rate. The rest is fitted. Each constant alone can vary within these limits "
        f"before a residual exceeds {_percent(TOLERANCE)}:"
    )


def _constants(known: Sequence[Constant]) -> Grid:
    return Grid(
        headers=("multiply-adds for each of", "used", "least", "most"),
        rows=tuple(
            (constant.title, f"{constant.value:g}", f"{constant.least:.2f}", f"{constant.most:.2f}")
            for constant in known
        ),
        right=frozenset({1, 2, 3}),
    )


def _configurations() -> Grid:
    body = []
    for row in configurations():
        operations = row.operations()
        residual = row.residual(operations)
        body.append(
            (
                *_network(row),
                _evaluation(row),
                row.billions or "prediction",
                billions(operations),
                "" if residual is None else f"{100 * residual:+.4f}",
                billions(row.operations(MAC)),
            )
        )
    return Grid(
        headers=(*_NETWORK, "evaluation", "published, B", "`tfprof`, B", "residual, %", "plain MACs, B"),
        rows=tuple(body),
        right=frozenset({2, 4, 5, 6, 7}),
    )


def _sizes() -> Grid:
    return Grid(
        headers=(*_NETWORK, "size", "classes", "published, B", "`tfprof`, B", "plain MACs, B"),
        rows=tuple(
            (
                *_network(row),
                f"{row.size[0]}x{row.size[1]}",
                str(row.classes),
                "prediction",
                billions(row.operations()),
                billions(row.operations(MAC)),
            )
            for row in other_sizes()
        ),
        right=frozenset({2, 3, 4, 5, 6, 7}),
    )


def _readings(known: Sequence[Reading]) -> Grid:
    return Grid(
        headers=("reading", *(f"{', '.join(_network(row)[:2])}, OS {row.output_stride}" for row in PUBLISHED)),
        rows=tuple(
            (f"`{reading.choice}={written(reading.value)}`", *(_cell(reading, row) for row in range(len(PUBLISHED))))
            for reading in known
            if reading.visible
        ),
        right=frozenset(range(1, 1 + len(PUBLISHED))),
    )


def _cell(reading: Reading, row: int) -> str:
    change = reading.changes[row]
    if change is None:
        return "cannot be built"
    if not change:
        return "-"
    text = f"{change / 1e9:+,.4f}"
    return f"**{text}**" if reading.rules_out(row) else text


def _printed() -> Grid:
    body = []
    for entry in PRINTED:
        row = entry.configuration
        changed = ", ".join(f"{name}={written(value)}" for name, value in row.overrides)
        exact = entry.counts not in {MAC.name, TFPROF.name}
        body.append(
            (
                str(entry.source),
                f"{row.variant.name}{f' with {changed}' if changed else ''}",
                str(row.output_stride),
                f"{row.size[0]}x{row.size[1]}, {_evaluation(row)}, {row.classes} classes",
                entry.counts,
                entry.figure,
                f"{entry.computed:,}" if exact else billions(entry.computed),
                f"{100 * entry.residual:+.4f}",
                entry.note,
            )
        )
    network = ("network", "output stride", "evaluation")
    headers = ("printed by", *network, "counts", "printed", "computed", "residual, %", "")
    return Grid(headers=headers, rows=tuple(body), right=frozenset({2, 5, 6, 7}))


def _undecided(known: Sequence[Reading]) -> str:
    allowed = [
        reading
        for reading in known
        if reading.visible and None not in reading.changes and not any(map(reading.rules_out, range(len(PUBLISHED))))
    ]
    return (
        f"These readings change a figure by too little to be ruled out: {_listed(allowed)}."
        if allowed
        else "Every reading in the table is ruled out by a figure, or cannot be built for one."
    )


def _unseen(known: Sequence[Reading]) -> str:
    return (
        f"No published figure depends on these readings: "
        f"{_listed([reading for reading in known if not reading.visible])}."
    )


def _listed(known: Sequence[Reading]) -> str:
    """Write readings, grouped by choice."""
    return "; ".join(
        f"`{choice}` ({', '.join(written(reading.value) for reading in group)})"
        for choice, group in groupby(known, key=lambda reading: reading.choice)
    )


def _network(row: Configuration) -> tuple[str, str, str]:
    head = "dense" if row.choices.aspp_convs is HeadConvs.DENSE else "separable"
    return (head, "no decoder" if row.choices.decoder is Decoder.NONE else "decoder", str(row.output_stride))


def _evaluation(row: Configuration) -> str:
    scales = "multi-scale" if len(row.protocol.scales) > 1 else "single"
    return f"{scales} + flip" if row.protocol.flip else scales


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"
