"""The files of a report: complete or absent, agreeing with the certificate, and safe for any text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.evidence import service
from deeplab_spec.evidence.exports import MOST_ANNOTATIONS, annotations, badge_json, junit, summary
from deeplab_spec.evidence.page import MOST_LETTERS, page, plots
from deeplab_spec.evidence.service import FILES, form_of, write_report
from deeplab_spec.judge.certificate import Certificate, Settings, StepError
from deeplab_spec.judge.finding import Finding, Verdict
from tests.support.certificates import certificate

SCRIPT = "<script>alert(1)</script>"
BAD = f"{SCRIPT}]]>&quot;\"'\n::error::|`@someone`[x](javascript:alert(1))\x1b[31m${{{{1+1}}}}"
PATHS = ("aspp.atrous1.depthwise.conv", "backbone.middle_flow.block7.sepconv1.depthwise.conv", "output")


def made(**changes: Any) -> Certificate:
    """Make a certificate of a network that deviates at three nodes, with a clause of every verdict."""
    decided = {
        "ASPP-RATES": PATHS,
        "DROPOUT": (Verdict.UNDECIDED, "it was not trained"),
        "BATCH-OF-ONE": (Verdict.NOT_APPLICABLE, "there is no batch of one"),
    }
    steps = tuple(
        StepError(output_stride=16, path=path, error=error, allowed=1e-11)
        for path, error in (("backbone.entry_flow.stem.conv1.conv", 0.0), (PATHS[0], 0.5), ("aspp.pool.conv", None))
    )
    found = certificate(decided)
    settings = Settings(output_strides=(16,), levels=tuple(found.levels))
    return found.model_copy(update={"settings": settings, "steps": steps, **changes})


def hostile() -> Certificate:
    """Make one whose every free text attacks what shows it."""
    found = made(target=BAD, versions={"torch": BAD})
    clauses = tuple(
        clause.model_copy(
            update={
                "reason": BAD if clause.reason else "",
                "findings": tuple(
                    each.model_copy(update={"candidate_path": BAD, "actual": BAD, "expected": BAD, "hint": BAD})
                    for each in clause.findings
                ),
            }
        )
        for clause in found.clauses
    )
    return found.model_copy(update={"clauses": clauses})


class Elements(HTMLParser):
    """Lists the elements of a page, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.names.append(tag)
        self.attributes += attrs


def test_a_report_has_every_file_and_nothing_else(tmp_path: Path) -> None:
    """Written into a new folder, and again into the same."""
    for _ in range(2):
        write_report(made(), tmp_path / "some" / "report")
        assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["report"]
        assert {path.name for path in (tmp_path / "some" / "report").iterdir()} == set(FILES)
    assert all((tmp_path / "some" / "report" / name).read_text().endswith("\n") for name in FILES)


@pytest.mark.parametrize("exists", [True, False])
def test_a_report_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool) -> None:
    """The last file cannot be written: the folder is as it was, and so is the one that it stands in."""
    place = tmp_path / "report"
    if exists:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    full = Path.write_text

    def fails(path: Path, text: str, **options: Any) -> int:
        if path.name == "badge.json":
            raise OSError(28, "No space left on device")
        return full(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(TargetError, match="No space left"):
        write_report(made(), place)

    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "starts"), [("a.txt", "my_model"), ("a.json", "{"), ("a.MD", "###"), ("a.html", "<!")]
)
def test_a_file_has_the_form_that_its_suffix_names(tmp_path: Path, name: str, starts: str) -> None:
    """The suffix decides, in any case."""
    assert form_of(tmp_path / name, as_json=False)(made()).startswith(starts)


@pytest.mark.parametrize(("name", "as_json"), [("a.pdf", False), ("a", False), ("a.html", True), ("a.txt", True)])
def test_another_suffix_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, *, as_json: bool
) -> None:
    """In one line; nothing is judged, and no file is written."""
    with pytest.raises(SpecError, match="must end in"):
        form_of(tmp_path / name, as_json=as_json)
    with pytest.raises(SystemExit) as end:
        main(["certify", "nothing:there", "-o", str(tmp_path / name), *(["--json"] if as_json else [])])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_report_in_the_place_of_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """The file stays."""
    place = tmp_path / "report"
    place.write_text("mine")
    with pytest.raises(SystemExit) as end:
        main(["certify", "nothing:there", "--report", str(place)])
    assert end.value.code == 2
    assert place.read_text() == "mine"


def test_without_a_suffix_json_is_written_as_before(tmp_path: Path) -> None:
    """``--json`` says the form; a device gets what stdout gets."""
    assert form_of(tmp_path / "certificate", as_json=True)(made()).startswith("{")
    assert form_of(Path("/dev/null"), as_json=False)(made()).startswith("my_model")
    assert form_of(None, as_json=False)(made()).startswith("my_model")


def test_junit_counts_only_what_passed_as_passed() -> None:
    """An undecided clause is an error, and one that does not apply is skipped."""
    found = made()
    root = ET.fromstring(junit(found))  # noqa: S314 - written a line above
    cases = {case.get("name"): [each.tag for each in case] for case in root.iter("testcase")}

    assert list(cases) == [clause.id for level in found.levels for clause in found.clauses if clause.level == level]
    assert cases["ASPP-RATES"] == ["failure"]
    assert cases["DROPOUT"] == ["error"]
    assert cases["BATCH-OF-ONE"] == ["skipped"]
    assert sum(not each for each in cases.values()) == len(cases) - 3
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == [str(len(cases)), "1", "1", "1"]


def test_annotations_are_one_line_each() -> None:
    """An error for what failed, a warning for what is undecided, and no more than GitHub shows."""
    lines = annotations(made()).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert "%0Aaspp.atrous1.depthwise.conv  my.aspp.atrous1.depthwise.conv: rate is 12, must be 6" in lines[0]
    every = certificate({clause.id: PATHS for clause in made().clauses})
    assert len(annotations(every).splitlines()) == MOST_ANNOTATIONS
    assert annotations(certificate()) == ""


def test_the_summary_says_the_verdict_first_and_fits_a_comment() -> None:
    """A comment has room for 65,536 characters."""
    assert summary(made()).startswith("### \N{CROSS MARK} my\\_model\\:build: deviates")
    assert "| ASPP-RATES | failed | aspp.atrous1.depthwise.conv" in summary(made())
    every = certificate({clause.id: 90 * PATHS for clause in made().clauses})
    assert len(summary(every)) < 65_536


def test_the_badge_is_what_shields_reads() -> None:
    """Its schema is that of shields.io's endpoint."""
    assert json.loads(badge_json(made())) == {
        "schemaVersion": 1, "label": "notebook", "message": "deviates", "color": "#b42318",
    }  # fmt: skip


def test_no_text_does_anything_in_any_output(tmp_path: Path) -> None:
    """Names from a candidate reach every file; none of them becomes an element, a link, a command or a line."""
    usual, attacked = tmp_path / "usual", tmp_path / "attacked"
    write_report(made(), usual)
    write_report(hostile(), attacked)

    first, second = (Elements((place / "report.html").read_text()) for place in (usual, attacked))
    assert set(second.names) == set(first.names)
    assert second.names.count("script") == first.names.count("script") == 1
    assert {name for name, _ in second.attributes} == {name for name, _ in first.attributes}
    for name in ("junit.xml", "badge.svg"):
        tags = [
            [each.tag for each in ET.fromstring((place / name).read_text()).iter()]  # noqa: S314 - written above
            for place in (usual, attacked)
        ]
        assert tags[0] == tags[1]
    text = (attacked / "summary.md").read_text()
    assert "<script" not in re.sub(r"\\<", "", text)
    assert "@" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    lines = (attacked / "annotations.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert all("\x1b" not in (attacked / name).read_text() for name in FILES if name != "certificate.json")


def test_a_page_of_many_findings_stays_small() -> None:
    """What has no room is counted, and is in the certificate."""
    found = made()
    first = next(each for each in found.clauses if each.findings).findings[0]
    long = first.model_copy(update={"candidate_path": "layer." * 30, "actual": "x" * 300})
    clauses = tuple(
        clause.model_copy(update={"findings": (long,) * 20_000}) if clause.findings else clause
        for clause in found.clauses
    )
    html = page(found.model_copy(update={"clauses": clauses}))

    assert MOST_LETTERS < len(html.encode()) < 2_000_000
    assert re.search(r"and \d+ more findings, in certificate.json", html)


def test_findings_are_marked_on_the_diagram() -> None:
    """At the box of their block; a run of equal blocks is one box, and what no box shows is in the list only."""
    html = page(made())
    assert re.findall(r'class="mark"[^>]*data-path="([^"]*)"', html) == ["backbone.middle_flow.block", "aspp.atrous1"]
    assert "<svg" in html


def test_without_a_published_network_there_is_no_diagram() -> None:
    """A certificate against a lock names none."""
    html = page(made(variant=None, against="other.lock"))
    assert 'class="mark"' not in html
    assert "Deviates from other.lock" in html


def test_the_plot_has_every_step() -> None:
    """Zero stands at the lower edge, what is not finite at the upper one, and what is over the limit is marked."""
    (plot,) = plots(made())
    assert [dot.over for dot in plot.dots] == [False, True, True]
    assert plot.dots[0].y > plot.limit > plot.dots[1].y > plot.dots[2].y
    assert [band.name for band in plot.bands] == ["BACKBONE", "ASPP"]
    assert plots(certificate()) == []


def test_every_finding_says_what_it_takes_to_mend_it() -> None:
    """Expected, actual, the module's own name, the cause, the source, and the sentence of the clause."""
    html = page(made())
    finding: Finding = next(clause for clause in made().clauses if clause.findings).findings[0]
    shown = re.sub("<wbr>", "", html)
    for text in (str(finding.expected), str(finding.actual), f"my.{PATHS[0]}", finding.hint, "arXiv:1706.05587"):
        assert text in shown
    assert "The atrous branches have the specified rates" in shown


def test_certify_writes_a_report(tmp_path: Path) -> None:
    """Beside what it prints, with a statement that is verified."""
    arguments = [
        "certify",
        "reference:tf-release",
        "--choose",
        "width=0.03",
        "--part",
        "decoder",
        "--level",
        "structure",
    ]
    place = tmp_path / "report"
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--report", str(place), "-o", str(tmp_path / "page.html")])
    assert end.value.code == 0
    assert {path.name for path in place.iterdir()} == set(service.FILES)
    with pytest.raises(SystemExit) as end:
        main(["verify", str(place / "certificate.json")])
    assert end.value.code == 0
