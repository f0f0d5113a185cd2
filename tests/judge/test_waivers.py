"""Waivers: exactly what they cover is waived, and every one that is broad, stale or expired is refused."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplab_spec
from deeplab_spec.conformance.strategies import cases
from deeplab_spec.errors import SpecError
from deeplab_spec.evidence.page import page
from deeplab_spec.judge.certificate import Certificate, WaiverRecord
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.text import text
from deeplab_spec.judge.waivers import Waiver, Waivers, apply_waivers, read_waivers, waivers_from
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import Variant
from tests.support.candidates import right
from tests.support.certificates import certificate

TODAY = date(2026, 11, 24)
RATES = ("aspp.atrous1.conv", "aspp.atrous2.conv", "aspp.atrous3.conv")
FILE = """
[[waiver]]
clause = "ASPP-RATES"
node = "aspp.atrous*.conv"
reason = "our checkpoints have these rates"
expires = 2027-01-31
"""


def waiver(node: str, clause: str = "ASPP-RATES", expires: date = TODAY) -> Waiver:
    """Return a waiver of the rates."""
    return Waiver(where="w.toml: waiver 1", clause=clause, node=node, reason="our checkpoints", expires=expires)


def held(decided: Certificate, *nodes: str, clause: str = "ASPP-RATES", accepted: bool = False) -> Certificate:
    """Return a certificate as waivers leave it."""
    entries = tuple(waiver(node, clause) for node in nodes)
    return apply_waivers(decided, Waivers(entries=entries, today=TODAY), accepted=accepted)


def verdict(decided: Certificate, clause: str = "ASPP-RATES") -> Verdict:
    """Return the verdict of a clause."""
    return next(record.verdict for record in decided.clauses if record.id == clause)


@pytest.mark.parametrize("nodes", [RATES, ("aspp.atrous*.conv",), (RATES[0], "aspp.atrous*.conv")])
def test_a_clause_is_waived_if_waivers_cover_all_of_its_findings(nodes: Sequence[str]) -> None:
    """One by one, by a pattern, or both; the level and the run say so, and neither says passed."""
    decided = held(certificate({"ASPP-RATES": RATES}), *nodes)

    assert verdict(decided) is Verdict.WAIVED
    assert {level for level, found in decided.levels.items() if found != "passed"} == {"structure"}
    assert decided.levels["structure"] is Verdict.WAIVED
    assert decided.verdict is RunVerdict.CONFORMS_WITH_WAIVERS
    assert decided.today == TODAY
    assert len(next(each for each in decided.clauses if each.id == "ASPP-RATES").findings) == 3


def test_a_clause_with_one_finding_more_fails_as_before() -> None:
    """The waivers that cover the others are in the record, and change nothing."""
    before = certificate({"ASPP-RATES": (*RATES, "aspp.conv1x1.conv")})
    decided = held(before, "aspp.atrous*.conv")
    record = next(each for each in decided.clauses if each.id == "ASPP-RATES")

    assert record.verdict is Verdict.FAILED
    assert (decided.verdict, decided.levels) == (before.verdict, before.levels)
    assert record.waivers[0].covers == RATES
    assert "ASPP-RATES is not waived: no waiver covers aspp.conv1x1.conv" in text(decided)


def test_a_waiver_without_a_node_is_for_the_whole_clause() -> None:
    """It covers every finding of its clause, in a program as in a file, and must cover one."""
    entry = {"clause": "ASPP-RATES", "reason": "ours", "expires": TODAY}
    whole = waivers_from([entry], "mine", TODAY)
    (written,) = read_waivers(FILE.replace('node = "aspp.atrous*.conv"\n', ""), "w.toml")
    decided = apply_waivers(certificate({"ASPP-RATES": RATES, "VALUES-ASPP": RATES}), whole)
    (record,) = (each for each in decided.clauses if each.id == "ASPP-RATES")

    assert (record.verdict, verdict(decided, "VALUES-ASPP")) == (Verdict.WAIVED, Verdict.FAILED)
    assert record.waivers == (WaiverRecord(node=None, reason="ours", expires=TODAY, covers=RATES),)
    assert written.covers("any.node")
    assert "at any node: ours" in page(decided)
    with pytest.raises(SpecError, match="mine: waiver 1: must cover a finding of ASPP-RATES, which is passed, but got"):
        apply_waivers(certificate(), whole)
    with pytest.raises(SpecError, match=r"mine: waiver 1: must have the keys clause, node, reason, expires, but got"):
        waivers_from([{**entry, "until": TODAY}], "mine", TODAY)


def test_another_clause_that_fails_at_the_same_node_is_not_waived() -> None:
    """A waiver names one clause; what follows from the same fault is waived for itself."""
    decided = held(certificate({"ASPP-RATES": RATES, "VALUES-ASPP": RATES}), "aspp.atrous*.conv")

    assert verdict(decided) is Verdict.WAIVED
    assert verdict(decided, "VALUES-ASPP") is Verdict.FAILED
    assert decided.verdict is RunVerdict.DEVIATES


def test_an_undecided_clause_beside_a_waiver_leaves_the_run_inconclusive() -> None:
    """With waivers a run conforms only if everything else passed."""
    undecided = (Verdict.UNDECIDED, "the map is too small")
    decided = held(certificate({"ASPP-RATES": RATES, "ASPP-POOL": undecided}), "aspp.atrous*.conv")

    assert decided.verdict is RunVerdict.INCONCLUSIVE
    assert not decided.accepted


def test_waived_is_not_accepted_unless_the_user_says_so() -> None:
    """Nor does accepting waivers accept anything else."""
    failed = certificate({"ASPP-RATES": RATES})

    assert not held(failed, "aspp.atrous*.conv").accepted
    assert held(failed, "aspp.atrous*.conv", accepted=True).accepted
    assert not held(failed, RATES[0], accepted=True).accepted
    assert certificate().accepted


@given(case=cases(), data=st.data())
def test_a_path_covers_only_itself_and_a_star_no_dot(case: tuple[Variant, int], data: st.DataObject) -> None:
    """Of all nodes of a network, a pattern covers those that differ in the starred name alone."""
    variant, output_stride = case
    paths = [node.path for node in network(variant.choices, output_stride)]
    path = data.draw(st.sampled_from([path for path in paths if path.count(".") > 1]), label="path")
    names = path.split(".")
    place = data.draw(st.integers(1, len(names) - 1), label="name")
    starred = ".".join(name[:3] + "*" if number == place else name for number, name in enumerate(names))

    assert [each for each in paths if waiver(path).covers(each)] == [path]
    for other in filter(waiver(starred).covers, paths):
        split = other.split(".")
        assert split[:place] + split[place + 1 :] == names[:place] + names[place + 1 :]
        assert split[place].startswith(names[place][:3])


def test_a_star_ends_at_a_dot() -> None:
    """So that a pattern for one kind of layer does not cover another that lies deeper."""
    assert waiver("aspp.a*.conv").covers("aspp.atrous1.conv")
    assert not waiver("aspp.a*.conv").covers("aspp.atrous1.depthwise.conv")


def test_no_character_but_a_star_is_special() -> None:
    """Paths of other programs hold brackets and quotes."""
    assert waiver("output['out'][0]").covers("output['out'][0]")
    assert not waiver("output[ab]").covers("outputa")
    assert not waiver("aspp.pool?conv").covers("aspp.pool.conv")


@pytest.mark.parametrize(
    "node", ["*", "**", "", "aspp.*", "*.conv", "a*.pool.conv", "aspp.*.conv", ".conv", "aspp..conv"]
)
def test_a_broad_waiver_is_refused(node: str) -> None:
    """A star for whole names would accept the next fault too, unseen."""
    with pytest.raises(SpecError, match=r"^w.toml: waiver 1: node must be a path; a star may be part of one name"):
        waiver(node)


def test_a_waiver_of_another_network_is_refused() -> None:
    """Nothing else is decided of it, so nothing would be left that conforms."""
    with pytest.raises(SpecError, match="clause must be one that can be waived"):
        waiver("input", "SAME-FAMILY")


@pytest.mark.parametrize(
    ("decided", "message"),
    [
        ((), r"must cover a finding of ASPP-RATES, which is passed, but got 'aspp.pool.conv'"),
        ((Verdict.UNDECIDED, "the map is too small"), r"ASPP-RATES, which is undecided: the map is too small, but got"),
        ((Verdict.NOT_APPLICABLE, "no pyramid"), r"ASPP-RATES, which is not applicable: no pyramid, but got"),
        (RATES[:1], r"ASPP-RATES, which is false at aspp.atrous1.conv, but got 'aspp.pool.conv'"),
        (
            [*RATES, "aspp", "output"],
            r"false at aspp.atrous1.conv, .*, aspp and 1 more",
        ),
    ],
)
def test_a_waiver_that_covers_nothing_is_an_error(decided: Sequence[str], message: str) -> None:
    """It says which one, and what was found instead."""
    with pytest.raises(SpecError, match=message):
        held(certificate({"ASPP-RATES": decided}), "aspp.pool.conv")


def test_one_stale_waiver_among_good_ones_is_an_error() -> None:
    """The others do not make up for it."""
    with pytest.raises(SpecError, match=r"must cover a finding of ASPP-RATES"):
        held(certificate({"ASPP-RATES": RATES}), "aspp.atrous*.conv", "aspp.pool.conv")


def test_a_waiver_of_a_clause_that_was_not_requested_is_not_an_error() -> None:
    """One file serves a run of all levels and one of a single level."""
    assert held(certificate(only=["OUTPUT-SHAPE"]), *RATES).verdict is RunVerdict.CONFORMS


@given(days=st.integers(-400, 400))
def test_a_waiver_holds_until_its_day_has_passed(days: int) -> None:
    """The last day is a good one; the next day is an error, whether or not a finding needs the waiver."""
    entries = (waiver("aspp.atrous1.conv", expires=TODAY + timedelta(days=days)),)
    if days >= 0:
        assert Waivers(entries=entries, today=TODAY)
    else:
        with pytest.raises(SpecError, match=r"^w.toml: waiver 1: must not have expired by 2026-11-24, but got '"):
            Waivers(entries=entries, today=TODAY)


def test_a_file_is_parsed_into_its_waivers(tmp_path: Path) -> None:
    """Each waiver knows where it stands; the day is the caller's."""
    path = tmp_path / "w.toml"
    path.write_text(FILE + FILE.replace("atrous*", "pool"), encoding="utf-8")
    found = waivers_from(path, today=TODAY)

    assert found
    assert found.today == TODAY
    assert [entry.where for entry in found.entries] == [f"{path}: waiver 1", f"{path}: waiver 2"]
    assert found.entries[0].expires == date(2027, 1, 31)
    with pytest.raises(SpecError, match="waiver 1: must not have expired by 2027-02-01, but got '2027-01-31'"):
        waivers_from(path, today=date(2027, 2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ASPP-RATES", "ASPP-RATE"), "the id of a clause, but got 'ASPP-RATE'; did you mean 'ASPP-RATES'?"),
        (("ASPP-RATES", "*"), "w.toml: waiver 1: clause must be the id of a clause, but got '*'"),
        (("our checkpoints have these rates", " "), "w.toml: waiver 1: reason must not be empty, but got ' '"),
        (('reason = "our checkpoints have these rates"', ""), "must have the keys clause, node, reason, expires, but"),
        (("expires = 2027-01-31", ""), "must have the keys clause, node, reason, expires, but got 'clause, node, rea"),
        (("expires", "until"), "must have the keys clause, node, reason, expires, but got 'clause, node, reason, unti"),
        (("2027-01-31", '"2027-01-31"'), "w.toml: waiver 1: expires must be a day, as 2027-01-31, but got '2027-01"),
        (("2027-01-31", "2027-01-31T00:00:00"), "expires must be a day, as 2027-01-31, but got datetime.datetime("),
        (("2027-01-31", "2027-02-31"), "w.toml: must be TOML, but got "),
        (('"aspp.atrous*.conv"', "1"), "w.toml: waiver 1: node must be text, but got 1"),
        (("[[waiver]]", "[[waivers]]"), "w.toml: must contain only tables [[waiver]], but got 'waivers'"),
        (("[[waiver]]", "[waiver]"), "w.toml: must contain only tables [[waiver]], but got 'waiver'"),
        (("[[waiver]]", "[[waiver"), "w.toml: must be TOML, but got "),
        ((FILE, ""), "w.toml: must contain a table [[waiver]], but got 'none'"),
        ((FILE, "waiver = [1]"), "w.toml: waiver 1: must be a table, but got 1"),
    ],
)
def test_a_file_with_anything_else_in_it_is_refused_in_one_line(change: tuple[str, str], message: str) -> None:
    """The line names the file, the waiver, the rule and what arrived."""
    with pytest.raises(SpecError) as caught:
        read_waivers(FILE.replace(*change), "w.toml")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """So is one that is no text."""
    with pytest.raises(SpecError, match="must be a readable file of waivers, but got 'No such file or directory'"):
        waivers_from(tmp_path / "none.toml", today=TODAY)
    (tmp_path / "w.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="must be UTF-8, but got "):
        waivers_from(tmp_path / "w.toml", today=TODAY)


def test_the_day_is_the_present_one_unless_another_is_given(tmp_path: Path) -> None:
    """A waiver that expired long ago is refused without a day, and holds on its own."""
    path = tmp_path / "w.toml"
    path.write_text(FILE.replace("2027", "2007"), encoding="utf-8")

    assert waivers_from(path, today=date(2007, 1, 31))
    with pytest.raises(SpecError, match="must not have expired by 20"):
        waivers_from(path)


def test_the_report_lists_what_is_waived_with_reason_and_expiry() -> None:
    """And its last line says that this is not accepted, or nothing of the kind."""
    failed = certificate({"ASPP-RATES": RATES})
    report = text(held(failed, "aspp.atrous*.conv"))

    assert re.search(r"  structure  .* waived\n    ASPP-RATES is waived \(3 findings\)\n", report)
    assert "      until 2026-11-24: our checkpoints\n        aspp.atrous1.conv  my.aspp.atrous1.conv  rate is" in report
    last = " ".join(report.splitlines()[-2:])
    assert "CONFORMS WITH WAIVERS to notebook: " in last
    assert " 1 waived, which is not accepted (--accept-waivers)." in last
    assert "not accepted" not in text(held(failed, "aspp.atrous*.conv", accepted=True))


def test_the_document_holds_the_waivers_and_the_day() -> None:
    """What is waived, why, until when and at which day can be read back."""
    decided = held(certificate({"ASPP-RATES": RATES}), "aspp.atrous*.conv", accepted=True)
    document = decided.model_dump(mode="json")
    record = next(each for each in document["clauses"] if each["id"] == "ASPP-RATES")

    assert document["verdict"] == "conforms with waivers"
    assert (document["today"], document["waivers_accepted"]) == ("2026-11-24", True)
    assert record["verdict"] == "waived"
    assert record["waivers"] == [
        {
            "node": "aspp.atrous*.conv",
            "reason": "our checkpoints",
            "expires": "2026-11-24",
            "covers": list(RATES),
        }
    ]
    assert Certificate.model_validate_json(decided.model_dump_json()) == decided


def test_the_waiver_in_the_documentation_is_one() -> None:
    """What a user copies is read as it stands."""
    page = (Path(__file__).parents[2] / "docs/guide/waivers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    assert read_waivers(block, "w.toml")[0].covers("aspp.atrous1.depthwise.conv")


@pytest.mark.parametrize("target", ["reference:notebook", right])
def test_certify_takes_waivers(target: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file with a day; a run that they leave standing is accepted only where that is said."""
    decided = certificate({"ASPP-RATES": ("aspp.atrous1.conv",)})
    monkeypatch.setattr("deeplab_spec.judge.judge.judge", lambda *_: decided)
    path = tmp_path / "w.toml"
    path.write_text(FILE.replace("atrous*", "atrous1"), encoding="utf-8")

    def certify(**options: object) -> object:
        return deeplab_spec.certify(target, "notebook", **options)  # type: ignore[arg-type]

    held = certify(waivers=path, today=date(2027, 1, 31), accept_waivers=True)
    assert (held.verdict.value, held.accepted) == ("conforms with waivers", True)  # type: ignore[attr-defined]
    assert not certify(waivers=str(path), today=date(2027, 1, 31)).accepted  # type: ignore[attr-defined]
    assert certify() == decided
    with pytest.raises(SpecError, match="must not have expired by 2027-02-01"):
        certify(waivers=path, today=date(2027, 2, 1))
    decided = certificate()
    with pytest.raises(SpecError, match="must cover a finding of ASPP-RATES, which is passed"):
        certify(waivers=path, today=date(2027, 1, 31))
