"""The generated pages: one for each variant, choice and clause, with what the data say, and no dead link."""

import posixpath
import re
import shlex
import sys
from pathlib import Path

import pytest

from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge import expected
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.clauses import CLAUSES, NOTES, Clause, Level
from deeplab_spec.spec.errata import errata_of
from deeplab_spec.spec.variants import FAMILIES, VARIANTS, Variant
from tests.docs.test_pages import parse
from tests.support.site import generated_pages

ROOT = Path(__file__).parents[2]
PAGES = generated_pages()


def variant_page(entry: Variant) -> str:
    """Return the page of a variant."""
    return PAGES[f"specification/variants/{entry.name}.md"]


def test_there_is_a_page_for_each_and_no_other() -> None:
    """Beside the lists, the comparison and the initial weights."""
    expected = {f"variants/{entry.name}" for entry in VARIANTS}
    expected |= {f"choices/{name}" for family in FAMILIES for name in c.names(family)}
    expected |= {f"clauses/{clause.id.lower()}" for clause in CLAUSES}
    others = {"variants/index", "choices/index", "clauses/index", "comparison", "initialisation"}

    assert set(PAGES) == {f"specification/{name}.md" for name in expected | others}


def test_every_link_leads_to_a_page_or_a_report() -> None:
    """With its anchor, if it names an erratum."""
    dead = []
    for path, text in PAGES.items():
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
            exists = target in PAGES or (target.startswith("reports/") and (ROOT / target).exists())
            heading = not anchor or f"### {anchor.upper()}\n" in PAGES.get(target, "")
            dead += [] if exists and heading else [(path, link, anchor)]

    assert dead == []


def test_every_command_of_a_page_can_be_parsed() -> None:
    """Its choices too."""
    commands = {
        line
        for text in PAGES.values()
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    }
    assert len(commands) > len(VARIANTS)
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "deeplab-spec"
        options = parse(words)
        family = next(entry.family for entry in VARIANTS if entry.name == options["variant"])
        c.read_overrides(options.get("choose") or (), family)


@pytest.mark.parametrize("entry", VARIANTS, ids=lambda entry: entry.name)
def test_the_page_of_a_variant_has_its_blocks_at_every_output_stride(entry: Variant) -> None:
    """The parameters of the blocks add up to those of the network; every choice and erratum is there."""
    text = variant_page(entry)
    for stride in entry.output_strides:
        table = text.split(f"### At output stride {stride}\n")[1].split("</div>")[0]
        rows = [
            [cell.strip() for cell in line.strip("| ").split("|")]
            for line in table.splitlines()
            if line.startswith("| ")
        ]
        counts = {row[0]: int(row[-2].replace(",", "")) for row in rows[2:]}
        total = counts.pop("total")
        assert sum(counts.values()) == total > 0
        assert f"| {stride} | {total:,} |" in text.split("## Costs")[1]
    assert text.count("<svg") == 1
    for name in c.names(entry.family):
        assert (
            f"| [`{name}`](../choices/{name}.md) | `{c.written(getattr(entry.choices, name)) or '(empty)'}` |" in text
        )
    assert re.findall(r"### (ERRATUM-\S+)", text) == [erratum.id for erratum in errata_of(entry.name)]


def test_initial_weights_are_calls_of_torch() -> None:
    """As a port copies them."""
    for path in ("specification/variants/tf-release.md", "specification/initialisation.md"):
        assert "`trunc_normal_(w, std=0.09, a=-0.18, b=0.18)`" in PAGES[path]
    assert "`nn.BatchNorm2d(c, eps=1e-05, momentum=0.0003)`" in PAGES["specification/variants/tf-release.md"]


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.id)
def test_the_page_of_a_clause_says_why_and_what_the_judge_says(clause: Clause) -> None:
    """Its words are those of the report, which the judge has made."""
    text = PAGES[f"specification/clauses/{clause.id.lower()}.md"]
    report = (ROOT / "reports/clauses.md").read_text(encoding="utf-8")
    (row,) = [line for line in report.splitlines() if line.startswith(f"| {clause.id} |")]
    (said,) = re.findall(r"```text\n(.*)\n```", text)

    assert row.endswith(f"| {said} |")
    assert NOTES[clause.id].torch in text
    assert all(f"](../choices/{name}.md)" in text for name in clause.choices)


def test_the_comparison_has_every_value_of_every_variant() -> None:
    """A row for each choice, a column for each variant that has it."""
    text = PAGES["specification/comparison.md"]
    for family in FAMILIES:
        of = [entry for entry in VARIANTS if entry.family is family]
        for name in c.names(family):
            rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| [`{name}`]")]
            values = [f"`{c.written(getattr(entry.choices, name)) or '(empty)'}`" for entry in of]
            assert any(set(values) <= {cell.strip("*") for cell in row[1:]} for row in rows)


@pytest.mark.parametrize(
    "clause", [clause for clause in CLAUSES if clause.level is Level.STRUCTURE], ids=lambda clause: clause.id
)
def test_a_clause_of_the_structure_has_a_picture_of_what_it_decides(clause: Clause) -> None:
    """Emphasised are the nodes of the drawn block that have a fact of the clause, and no other; the words name them."""
    text = PAGES[f"specification/clauses/{clause.id.lower()}.md"]
    pictures = sys.modules["pages.pictures"]
    name, nodes, _ = pictures.example(clause)
    (network, unstrided), *_ = [(graph, lost) for title, graph, lost in pictures.networks() if title == name]
    (svg,) = re.findall(r"<svg.*</svg>", text, re.DOTALL)
    (block,) = re.findall(r"the block `(.*?)`", text)
    every = {node.path for node in nodes}
    deciding = {
        "GRAPH-KNOWN": every,
        "BLOCK-COUNTS": every,
        "SAME-FAMILY": {node.path for node in nodes if isinstance(node.op, Conv2d)},
    }
    by_scope = {fact.node.path for fact in expected.facts(network, unstrided).get(clause.id, ())} & every
    drawn = re.findall(r'class="emphasised".*\n<text class="name"[^>]*>([^<]*)<', svg)

    assert (
        {f"{block}.{path}" if path != block else path for path in drawn} == deciding.get(clause.id, by_scope) != set()
    )
    assert all(f"`{path}`" in text for path in drawn)
    assert len(svg) < 60_000


@pytest.mark.parametrize(
    "clause", [clause for clause in CLAUSES if clause.level is not Level.STRUCTURE], ids=lambda clause: clause.id
)
def test_a_clause_about_calls_has_a_picture_of_what_its_level_does(clause: Clause) -> None:
    """Its last step is what the candidate is compared with."""
    (svg,) = re.findall(r"<svg.*</svg>", PAGES[f"specification/clauses/{clause.id.lower()}.md"], re.DOTALL)

    names = re.findall(r'<text class="name"[^>]*>([^<]*)<', svg)
    assert len(names) == 4
    assert (
        re.findall(r'class="emphasised".*\n<text class="name"[^>]*>([^<]*)<', svg)
        == names[-1:]
        == ["the specification"]
    )


def test_code_in_a_note_is_shown_as_code() -> None:
    """Between backticks nothing is escaped, and outside everything is."""
    assert "is fixed in a `view`" in PAGES["specification/clauses/batches-accepted.md"]
    assert sys.modules["pages.markup"].prose("*a* `b*c`") == r"\*a\* `b*c`"
