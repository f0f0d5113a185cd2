"""A page for each variant: its diagram, blocks at every output stride, choices, initial weights, errata and costs."""

import json
from collections.abc import Iterator
from typing import Any

from deeplab_spec.graph.ops import BatchNorm
from deeplab_spec.show.document import effects, initial_tensors
from deeplab_spec.show.drawing import drawing
from deeplab_spec.show.rows import Row, network_rows
from deeplab_spec.show.text import effects_text
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.api import Subject, usual_size
from deeplab_spec.spec.distributions import initials
from deeplab_spec.spec.errata import Erratum, errata_of
from deeplab_spec.spec.variants import VARIANTS, Variant
from pages.markup import ROOT, choice_link, code, page, plain, source_text, table, variant_link, wide

_GIGA = 1e9
_USUAL = 16
"""The output stride of the papers' experiments, and the program's default."""
_FEW = 3


def pages() -> Iterator[tuple[str, str, str]]:
    """Yield path, title and text of every page."""
    yield "variants/index.md", "All variants", _index()
    for entry in VARIANTS:
        yield f"variants/{entry.name}.md", entry.name, _variant(entry)


def costs(entry: Variant, output_stride: int) -> dict[str, Any]:
    """Return the committed costs of a variant; a test holds them against the program."""
    text = (ROOT / f"reports/costs/{entry.name}-os{output_stride}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _index() -> str:
    rows = [
        (
            variant_link(entry.name),
            plain(entry.title),
            entry.family.title,
            ", ".join(map(str, entry.output_strides)),
            f"{costs(entry, entry.output_strides[-1])['total']['parameters']:,}",
        )
        for entry in VARIANTS
    ]
    headers = ("variant", "is", "backbone", "output strides", "parameters")
    return page(
        "# Variants",
        "A variant is a published network: a value for every [choice](../choices/index.md), with its source. "
        "[All of them side by side](../comparison.md), choice by choice.",
        wide(table(headers, rows, right=(4,))),
    )


def subject(entry: Variant, output_stride: int) -> Subject:
    """Return a variant at its usual size."""
    return Subject(
        variant=entry, choices=entry.choices, output_stride=output_stride, size=usual_size(entry, output_stride)
    )


def _variant(entry: Variant) -> str:
    usual = _USUAL if _USUAL in entry.output_strides else entry.output_strides[-1]
    shown = subject(entry, usual)
    commands = [
        f"deeplab-spec show --variant {entry.name} --format skeleton -o my_network.py",
        f"deeplab-spec certify my_network.py:DeepLab --variant {entry.name} --output-stride {usual}",
    ]
    if usual != _USUAL:
        commands[0] = commands[0].replace(" --format", f" --output-stride {usual} --format")
    return page(
        f"# {entry.name}",
        f"{plain(entry.title[0].upper())}{plain(entry.title[1:])}. Source: {source_text(entry.source)}.",
        code("console", "\n".join(commands)),
        f'<div class="scroll drawing">\n{drawing(shown)}\n</div>',
        "## Blocks",
        *(text for stride in entry.output_strides for text in _blocks(entry, stride)),
        "## Costs",
        _costs(entry),
        "## Initial weights and normalisation",
        _initial(shown),
        "## Choices",
        table(("choice", "value", "decides"), _choices(entry)),
        "## Errata" if errata_of(entry.name) else "",
        *(_erratum(erratum) for erratum in errata_of(entry.name)),
    )


def _blocks(entry: Variant, output_stride: int) -> Iterator[str]:
    at = subject(entry, output_stride)
    found = costs(entry, output_stride)
    blocks = {block["path"]: block for block in found["blocks"]}
    rows = [_block(row, blocks, found["multiply_adds"]) for row in network_rows(at)]
    total = found["total"]["parameters"], sum(found["multiply_adds"].values())
    rows.append(("total", "", "", "", "", f"{total[0]:,}", f"{total[1] / _GIGA:,.3f}"))
    height, width = found["size"]
    yield f"### At output stride {output_stride}"
    yield f"An image of {height}x{width}, {at.classes} classes; multiply-adds of convolutions, in billions."
    headers = ("block", "layers", "rates", "output", "receptive field", "parameters", "multiply-adds")
    yield wide(table(headers, rows, right=(4, 5, 6)))


def _block(row: Row, blocks: dict[str, Any], multiply_adds: dict[str, int]) -> tuple[str, ...]:
    paths = row.blocks
    field = blocks[paths[-1]]["receptive_field"]
    extent = "x".join(f"{side:g}" for side in dict.fromkeys(field["extent"])) if field else ""
    layers = ", ".join(
        filter(None, (row.layers, row.skip and f"skip {row.skip}", row.stride > 1 and f"stride {row.stride}"))
    )
    return (
        f"`{row.path}`",
        layers,
        ", ".join(map(str, dict.fromkeys(row.rates))) if max(row.rates, default=1) > 1 else "",
        "x".join(map(str, row.output)),
        "image" if field and field["whole_image"] else extent,
        f"{sum(blocks[path]['parameters'] for path in paths):,}",
        f"{sum(multiply_adds.get(path, 0) for path in paths) / _GIGA:,.3f}",
    )


def _costs(entry: Variant) -> str:
    rows = []
    for stride in entry.output_strides:
        found = costs(entry, stride)
        totals = {row["convention"]: row for row in found["totals"]}
        full = f"[every operator](../../reports/costs/{entry.name}-os{stride}.md)"
        total = found["total"]
        rows.append(
            (
                str(stride),
                f"{total['parameters']:,}",
                *(f"{totals[name]['forward'] / _GIGA:,.3f}" for name in ("mac", "full", "fvcore", "torch", "tfprof")),
                f"{total['peak_bytes'] / 1e6:,.1f}",
                full,
            )
        )
    headers = ("output stride", "parameters", "`mac`, B", "`full`, B", "`fvcore`, B", "`torch`, B", "`tfprof`, B")
    return wide(table((*headers, "peak MB", "more"), rows, right=range(8)))


def _initial(shown: Subject) -> str:
    """Return a table of the calls of ``torch.nn.init``, with the convolutions that they are for."""
    drawn, graph = initials(shown.rows()), shown.network()
    calls: dict[tuple[str, str], list[str]] = {}
    for path, init in drawn.items():
        for role, how in initial_tensors(graph[path].op, init).items():
            calls.setdefault((role, how.torch), []).append(path)
    rows = [(role, f"`{call}`", _where(paths)) for (role, call), paths in calls.items()]
    norms: dict[tuple[float, float | None], list[str]] = {}
    for node in graph:
        if isinstance(node.op, BatchNorm):
            norms.setdefault((node.op.eps, node.op.momentum), []).append(node.path)
    lines = [
        (f"`nn.BatchNorm2d(c, eps={eps:g}, momentum={momentum:g})`", _where(paths))
        for (eps, momentum), paths in norms.items()
    ]
    return page(
        table(("tensor", "call of `torch.nn.init`", "of"), rows),
        "A new normalisation is the identity: weight 1, bias 0, running mean 0, running variance 1.",
        table(("normalisation", "of"), lines),
    ).strip()


def _where(paths: list[str]) -> str:
    """Return some paths: all of a few, else how many and the first."""
    shown = ", ".join(f"`{path}`" for path in paths[:_FEW])
    return shown if len(paths) <= _FEW else f"{len(paths)} layers: {shown}, ..."


def _choices(entry: Variant) -> Iterator[tuple[str, ...]]:
    for name in c.names(entry.family):
        value = c.written(getattr(entry.choices, name)) or "(empty)"
        yield choice_link(name), f"`{value}`", plain(c.about(name, entry.family).meaning)


def _erratum(erratum: Erratum) -> str:
    corrections = ", ".join(f"`--choose {name}={c.written(value)}`" for name, value in erratum.corrections)
    adds = f" It adds {effects_text(tuple(effects(erratum)))}." if erratum.corrections else ""
    return page(
        f"### {erratum.id}",
        f"{plain(erratum.sentence)} Shown by: {erratum.shown_by}.{plain(adds)}",
        f"Corrected by {corrections}." if corrections else plain(erratum.api_note),
        f"Source: {source_text(erratum.source)}.",
    ).strip()
