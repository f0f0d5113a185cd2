"""The committed cost reports: equal byte for byte to what the command writes, complete and without torch."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from deeplab_spec.analysis import costs, protocol
from deeplab_spec.analysis.conventions import CONVENTIONS, MAC
from deeplab_spec.analysis.published import PUBLISHED, readings
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.count import chart as cost_chart
from deeplab_spec.count import network_report
from deeplab_spec.count.chart import COLUMN, LABEL, LEFT, amount, lay_out_costs, percent
from deeplab_spec.count.network_report import CostReport, cost_report
from deeplab_spec.count.reports import write_reports
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import choose, written
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, VARIANTS
from tests.support.members import XCEPTIONS

COMMITTED = Path(__file__).parents[2] / "reports" / "costs"
COMMAND = "deeplab-spec count --report reports/costs"
CHARACTER = 6.7
"""Width of an average character of 12 pixels, in pixels."""
SVG = "{http://www.w3.org/2000/svg}"
NAMES = [f"{variant.name}-os{stride}" for variant in XCEPTIONS for stride in variant.output_strides]
"""The reports whose contents are compared; there is one for every other variant too."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every report in a fresh interpreter, where torch cannot be imported."""
    directory = tmp_path_factory.mktemp("reports") / "costs"
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from deeplab_spec.count.reports import write_reports\n"
        "write_reports(Path(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True)
    return directory


@pytest.fixture(scope="module")
def document() -> CostReport:
    """Return what one network costs."""
    return cost_report(Subject(variant=TF_RELEASE, choices=TF_RELEASE.choices))


def test_committed_reports_are_up_to_date(fresh: Path) -> None:
    """A changed number shows in the diff of a report."""
    today = {path.name: path.read_bytes() for path in fresh.iterdir()}
    committed = {path.name: path.read_bytes() for path in COMMITTED.iterdir()}

    stale = sorted(name for name in {**today, **committed} if today.get(name) != committed.get(name))

    assert not stale, f"reports/costs differs in {', '.join(stale)}; make it again with: {COMMAND}"


def test_every_variant_has_a_table_exact_numbers_and_a_picture_at_every_output_stride(fresh: Path) -> None:
    """There are no other files: no temporary file, no report of a removed variant."""
    names = [f"{variant.name}-os{stride}" for variant in VARIANTS for stride in variant.output_strides]
    expected = {f"{name}.{ending}" for name, ending in itertools.product(names, ("md", "json", "svg"))}

    assert {path.name for path in fresh.iterdir()} == {*expected, "published.md", "counters.md", "README.md"}


def test_links_between_reports_work(fresh: Path) -> None:
    """Every relative link is a file in the folder, and the index links to all of them."""
    for page in fresh.glob("*.md"):
        links = set(re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")))
        assert all((fresh / link).is_file() for link in links), page.name
        if page.name == "README.md":
            assert {path.name for path in fresh.iterdir()} - {"README.md"} == links


@pytest.mark.parametrize("name", NAMES)
def test_exact_numbers_are_a_valid_document_and_add_up(fresh: Path, name: str) -> None:
    """Blocks sum to the totals, and the totals are those of the evaluator."""
    text = (fresh / f"{name}.json").read_text(encoding="utf-8")
    report = CostReport.model_validate_json(text)
    subject = Subject(
        variant=next(variant for variant in XCEPTIONS if variant.name == report.variant),
        choices=next(variant.choices for variant in XCEPTIONS if variant.name == report.variant),
        output_stride=report.output_stride,
    )

    assert (report.size, report.classes, report.convention, report.mode.value) == ((513, 513), 21, "full", "forward")
    for field in ("parameters", "flops", "bytes_read", "bytes_written"):
        assert sum(getattr(block, field) for block in report.blocks) == getattr(report.total, field), field
        assert sum(getattr(block, field) for block in report.train.blocks) == getattr(report.train.total, field), field
    image = 4 * 3 * 513 * 513  # the first convolution keeps it; it belongs to no block
    assert sum(block.bytes_kept for block in report.blocks) + image == report.total.bytes_kept
    assert sum(report.multiply_adds.values()) == Evaluator(subject.network(), MAC)(513, 513).operations
    assert list(report.multiply_adds) == [block.path for block in report.blocks]
    for entry, convention in zip(report.totals, CONVENTIONS, strict=True):
        modes = dict(zip(("forward", "train"), (entry.forward, entry.train), strict=True))
        for mode in convention.modes:
            assert modes[mode.value] == Evaluator(subject.network(), convention, mode)(513, 513).operations
        assert (entry.train is None) == (len(convention.modes) == 1)


def test_every_node_is_counted_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an evaluation, in a training step, and in multiply-adds; the totals of other conventions are sums."""
    counted: list[tuple[str, Mode]] = []

    def node_costs(*arguments: Any) -> Any:
        _, _, convention, mode = (*arguments, Mode.FORWARD)[:4]
        counted.append((convention.name, mode))
        return costs.node_costs(*arguments)

    for module in (network_report, protocol):
        monkeypatch.setattr(module, "node_costs", node_costs)
    cost_report(Subject(variant=TF_RELEASE, choices=TF_RELEASE.choices))

    assert sorted(counted) == [("full", Mode.FORWARD), ("full", Mode.TRAIN), ("mac", Mode.FORWARD)]


def test_published_totals_are_marked_in_the_document(fresh: Path) -> None:
    """Only totals with a figure in the paper have one; the others are predictions."""
    figures = {(row.variant.name, row.output_stride): row for row in PUBLISHED if not row.overrides}

    for name in NAMES:
        report = CostReport.model_validate_json((fresh / f"{name}.json").read_text(encoding="utf-8"))
        row = figures.get((str(report.variant), report.output_stride))
        (entry,) = [entry for entry in report.totals if entry.convention == "tfprof"]
        assert entry.prediction == (row is None)
        assert (entry.published.billions if entry.published else None) == (float(row.billions or 0) if row else None)
        assert all(other.published is None for other in report.totals if other is not entry)


def table_rows(page: str, heading: str) -> list[list[str]]:
    """Return the body of the first table below a heading."""
    lines = page.split(f"{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| :--"))
    body = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 1 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_published_page_has_every_configuration_and_labels_predictions(fresh: Path) -> None:
    """Six published rows with residuals, eighteen predictions, and all other sizes."""
    page = (fresh / "published.md").read_text(encoding="utf-8")
    rows = table_rows(page, "## Every configuration of the table")
    sizes = table_rows(page, "## Other sizes and numbers of classes")

    published = [row for row in rows if row[4] != "prediction"]
    assert sorted(row[4] for row in published) == sorted(row.billions or "" for row in PUBLISHED)
    assert all(abs(float(row[6])) <= 0.02 for row in published)
    assert all(row[3] == "single" for row in published)
    assert [row[6] for row in rows if row[4] == "prediction"] == [""] * 18
    assert {row[3] for row in rows} == {"single", "multi-scale", "multi-scale + flip"}
    assert len(sizes) == 32
    assert {row[5] for row in sizes} == {"prediction"}
    assert "is a reconstruction, not a fact" in page
    assert "chosen after seeing the residuals" in page


def test_published_page_has_every_reading(fresh: Path) -> None:
    """Bold if ruled out, a dash for no change; readings without effect are listed below the table."""
    page = (fresh / "published.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in table_rows(page, "## What the figures rule out")}
    unseen = page.split("No published figure depends on these readings")[1].split("\n")[0]
    known = list(readings())

    assert len(rows) == sum(reading.visible for reading in known)
    for reading in known:
        if not reading.visible:
            assert f"`{reading.choice}`" in unseen
            continue
        (cells,) = [row for key, row in rows.items() if key == f"`{reading.choice}={written(reading.value)}`"]
        for number, (cell, change) in enumerate(zip(cells, reading.changes, strict=True)):
            assert cell.startswith("**") == reading.rules_out(number)
            assert (cell == "-") == (change == 0)
            assert (cell == "cannot be built") == (change is None)
            if change:
                assert float(cell.strip("*").replace(",", "")) == pytest.approx(change / 1e9, abs=5.1e-5)
    for choice in ("activation_placement", "backbone_norm_eps", "output_resize"):
        assert f"`{choice}`" in unseen


def test_index_has_the_count_of_a_counter_that_does_not_divide(document: CostReport, fresh: Path) -> None:
    """Computed by hand: two operations per weight of a depthwise convolution, channel and output."""
    excess = 0
    subject = Subject(variant=TF_RELEASE, choices=TF_RELEASE.choices)
    known = shapes(subject.network(), (513, 513))
    for node in subject.network():
        if node.path.endswith(".depthwise.conv"):
            channels, height, width = known[node.path]
            excess += 2 * 9 * channels * (channels - 1) * height * width

    assert document.torch_undivided == excess
    (own,) = [int(entry.train or 0) for entry in document.totals if entry.convention == "torch"]
    assert f"| {own:,} | {own + excess:,} | {(own + excess) / own:.2f} |" in (fresh / "README.md").read_text("utf-8")


def charted() -> list[CostReport]:
    """Return reports with different rows: usual, with one middle block, very narrow."""
    chosen = [(NOTEBOOK, {}), (TF_RELEASE, {"middle_blocks": 1}), (TF_RELEASE, {"width": 0.125})]
    return [cost_report(Subject(variant=variant, choices=choose(variant.choices, more))) for variant, more in chosen]


def test_bars_are_as_long_as_their_shares_and_texts_do_not_overlap() -> None:
    """All columns have one scale, and no text reaches the next column or the edge."""
    for report in charted():
        chart = lay_out_costs(report)
        scale = max(bar.width for row in chart.rows for bar in row.bars)
        assert scale == cost_chart.LONGEST
        for number in range(3):
            widths = [row.bars[number].width for row in chart.rows]
            left = LEFT + LABEL + number * COLUMN
            assert all(row.bars[number].x == left == chart.headings[number].x for row in chart.rows)
            assert (
                max(
                    bar.width + 6 + (len(bar.share) + 1 + len(bar.amount)) * CHARACTER
                    for bar in (row.bars[number] for row in chart.rows)
                )
                < COLUMN
            )
            exact = [share(report, row.name, number) for row in chart.rows]
            assert sum(exact) == pytest.approx(1)
            unit = sum(widths)
            assert widths == pytest.approx([unit * entry for entry in exact], abs=0.02)
        assert all(LEFT + len(row.name) * CHARACTER < LEFT + LABEL for row in chart.rows)
        assert chart.rows[-1].y + cost_chart.ROW <= chart.height
        assert len({row.name for row in chart.rows}) == len(chart.rows)


def share(report: CostReport, name: str, column: int) -> float:
    """Return a row's share of a total, from the document."""
    first, _, last = name.partition("..")
    stem = first.removesuffix("1") if last else first
    group = {f"{stem}{number}" for number in range(1, int(last) + 1)} if last else {first}
    counts = {
        block.path.removeprefix("backbone."): (
            block.parameters,
            report.multiply_adds[block.path],
            block.bytes_read + block.bytes_written,
        )[column]
        for block in report.blocks
    }
    return sum(counts[path] for path in group) / sum(counts.values())


@pytest.mark.parametrize("name", NAMES)
def test_chart_is_self_contained_and_described(fresh: Path, name: str) -> None:
    """It has a title and a description for screen readers, and no external font, script or image."""
    root = ET.fromstring((fresh / f"{name}.svg").read_text(encoding="utf-8"))  # noqa: S314 - our own text
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    values = [value for element in root.iter() for value in element.attrib.values()]
    labels = (root.attrib["aria-labelledby"]).split()

    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "tspan"}
    assert not any("://" in value or "data:" in value or "url(" in value for value in values)
    assert root.attrib["role"] == "img"
    described = [element.text for element in root if element.attrib.get("id") in labels]
    assert len(described) == 2
    assert (
        described[0] == f"Costs of {name.replace('-os', ', output stride ')}, 513\N{MULTIPLICATION SIGN}513, 21 classes"
    )
    assert str(described[1]).startswith("Most parameters: middle_flow.block1..16 ")


def test_amounts_and_shares_keep_their_meaning_at_the_edges() -> None:
    """A small share does not become zero, and the largest unit has no limit."""
    assert [amount(count, ("", "K", "M")) for count in (0, 999, 1000, 999_999, 10**6, 10**10)] == [
        "0",
        "999",
        "1.00 K",
        "1,000 K",
        "1.00 M",
        "10,000 M",
    ]
    assert [percent(part) for part in (1.0, 0.0005, 0.00049)] == ["100.0 %", "0.1 %", "< 0.1 %"]


def test_a_directory_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    """It precedes all reports."""
    (tmp_path / "costs").write_text("", encoding="utf-8")

    with pytest.raises(TargetError, match="cannot be written"):
        write_reports(tmp_path / "costs")


def test_json_has_no_nan_and_no_infinity(fresh: Path) -> None:
    """Other programs read it."""

    def reject(text: str) -> None:
        raise AssertionError(text)

    for path in fresh.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=reject)
