"""Waivers: findings that are accepted, each with a reason and an expiry.

A waiver names one clause, and one node or none: without a node it is for the whole clause. A clause is waived only if
waivers cover all of its findings; otherwise it fails. A waiver that covers nothing, or has expired, is an error: a
waiver that is no longer needed could hide a new fault.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from deeplab_spec.errors import SpecError, one_line
from deeplab_spec.judge.certificate import Certificate, ClauseRecord, WaiverRecord
from deeplab_spec.judge.finding import Verdict, combined, run_verdict
from deeplab_spec.spec.clauses import CLAUSES

UNWAIVABLE = "SAME-FAMILY"
"""A candidate that fails this clause has no other decided clause, so waiving it would leave nothing."""

MOST_BYTES: Final = 1_000_000
"""A longer file is not written by a person, and is not read."""

_SHOWN = 4
_TABLE: Final = "waiver"
_KEYS: Final = {"clause": str, "node": str, "reason": str, "expires": date}
_OPTIONAL: Final = frozenset({"node"})

Entry = Mapping[str, object]
"""A waiver as a table of TOML gives it: clause, node, reason and expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One clause that may be false at one node, at nodes of one pattern, or anywhere.

    Attributes:
        where: File and number of the waiver, for messages.
        clause: Id of the clause.
        node: Path of the findings that it covers; None for the whole clause. A star stands for characters of one name
            between dots (``aspp.atrous*.depthwise.conv``); it may not stand for a dot or a whole name, nor in the
            first name.
        reason: Why the findings are accepted.
        expires: The last day on which the waiver is valid.

    Raises:
        SpecError: If the clause is unknown or cannot be waived, the node covers too much, or there is no reason.
    """

    where: str
    clause: str
    node: str | None = None
    reason: str
    expires: date

    def __post_init__(self) -> None:
        known = {clause.id for clause in CLAUSES}
        if self.clause not in known:
            raise SpecError(self.where, "clause must be the id of a clause", self.clause, known)
        if self.clause == UNWAIVABLE:
            rule = "clause must be one that can be waived; this one says that it is another network"
            raise SpecError(self.where, rule, self.clause)
        first, *others = ("whole",) if self.node is None else self.node.split(".")
        if not first or "*" in first or any(not name.strip("*") for name in others):
            rule = "node must be a path; a star may be part of one name between dots, not all of it, nor in the first"
            raise SpecError(self.where, rule, self.node)
        if not self.reason.strip():
            raise SpecError(self.where, "reason must not be empty", self.reason)

    def covers(self, path: str) -> bool:
        """Tell whether this waiver covers the path of a finding."""
        return self.node is None or re.fullmatch("[^.]*".join(map(re.escape, self.node.split("*"))), path) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waivers:
    """The waivers of a run.

    Attributes:
        entries: The waivers.
        today: The day on which their expiry is checked.

    Raises:
        SpecError: If one of them has expired.
    """

    entries: tuple[Waiver, ...]
    today: date

    def __post_init__(self) -> None:
        for waiver in self.entries:
            if waiver.expires < self.today:
                raise SpecError(waiver.where, f"must not have expired by {self.today}", waiver.expires.isoformat())

    def applied(self, certificate: Certificate) -> Certificate:
        """Return the certificate with the clauses waived whose findings are all covered."""
        clauses = tuple(self._applied(clause) for clause in certificate.clauses)
        levels = {
            level: combined(clause.verdict for clause in clauses if clause.level == level)
            for level in certificate.levels
        }
        verdict = run_verdict(clause.verdict for clause in clauses)
        return certificate.model_copy(
            update={"clauses": clauses, "levels": levels, "verdict": verdict, "today": self.today}
        )

    def check_used(self, certificates: Sequence[Certificate]) -> None:
        """Check that every waiver covers a finding of the certificates: one for each output stride, or one for all.

        A waiver of a clause that was not judged (another level, another part) is not checked.

        Raises:
            SpecError: If a waiver covers nothing.
        """
        for waiver in self.entries:
            records = [record for each in certificates for record in each.clauses if record.id == waiver.clause]
            paths = list(dict.fromkeys(finding.path for record in records for finding in record.findings))
            if records and not any(map(waiver.covers, paths)):
                found = f"is false at {_listed(paths)}" if paths else f"is {_verdict(records)}"
                place = waiver.node or "the whole clause"
                raise SpecError(waiver.where, f"must cover a finding of {waiver.clause}, which {found}", place)

    def _applied(self, clause: ClauseRecord) -> ClauseRecord:
        """Return a clause with the waivers that cover its findings; it is waived if they cover all."""
        paths = list(dict.fromkeys(finding.path for finding in clause.findings))
        records = tuple(
            WaiverRecord(node=waiver.node, reason=waiver.reason, expires=waiver.expires, covers=covered)
            for waiver in self.entries
            if waiver.clause == clause.id and (covered := tuple(filter(waiver.covers, paths)))
        )
        left = set(paths) - {path for record in records for path in record.covers}
        waived = clause.verdict is Verdict.FAILED and paths and not left
        verdict = Verdict.WAIVED if waived else clause.verdict
        return clause.model_copy(update={"waivers": records, "verdict": verdict})


def apply_waivers(certificate: Certificate, waivers: Waivers | None, *, accepted: bool = False) -> Certificate:
    """Return a certificate with waivers applied, noting whether a run with waivers counts as accepted.

    Raises:
        SpecError: If a waiver covers nothing.
    """
    if waivers is None:
        return certificate
    waivers.check_used([certificate])
    return waivers.applied(certificate).model_copy(update={"waivers_accepted": accepted})


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _verdict(records: Iterable[ClauseRecord]) -> str:
    """Return the verdict of a clause without findings, with its reason."""
    verdict = combined(record.verdict for record in records)
    reason = next((record.reason for record in records if record.verdict is verdict and record.reason), "")
    return f"{verdict}: {reason}" if reason else str(verdict)


def waivers_from(
    given: str | Path | Sequence[Entry] | None, where: str = "waivers", today: date | None = None
) -> Waivers | None:
    """Return the waivers of a file, or of entries that stand in a program; None for none.

    Args:
        given: The path of a TOML file, or entries with the keys of its tables.
        where: Name of entries, for messages.
        today: The day on which their expiry is checked; by default today, in UTC.

    Raises:
        SpecError: If a waiver is wrong or has expired, or the file cannot be read.
    """
    if given is None:
        return None
    entries = _load(Path(given)) if isinstance(given, str | Path) else _waivers(given, where)
    return Waivers(entries=entries, today=today or datetime.now(tz=UTC).date())


def _load(path: Path) -> tuple[Waiver, ...]:
    try:
        if path.exists() and not path.is_file():
            raise SpecError(str(path), "must be a file of waivers", "something else")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpecError(str(path), f"must be at most {MOST_BYTES:,} bytes", "more")
        text = content.decode()
    except OSError as error:
        raise SpecError(str(path), "must be a readable file of waivers", error.strerror) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "must be UTF-8", one_line(error)) from error
    return read_waivers(text, str(path))


def read_waivers(text: str, name: str) -> tuple[Waiver, ...]:
    """Read the text of a file of waivers: tables ``[[waiver]]``, each with clause, reason, expires, and node or not.

    Raises:
        SpecError: If it is not TOML, or contains anything else.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # what TOML does not allow, numbers and tables without end
        raise SpecError(name, "must be TOML", one_line(error)) from error
    tables = document.pop(_TABLE, [])
    if document or not isinstance(tables, list):
        raise SpecError(name, f"must contain only tables [[{_TABLE}]]", ", ".join(document) or _TABLE)
    if not tables:
        raise SpecError(name, f"must contain a table [[{_TABLE}]]", "none")
    return _waivers(tables, name)


def _waivers(tables: Sequence[object], name: str) -> tuple[Waiver, ...]:
    return tuple(_waiver(table, f"{name}: waiver {number}") for number, table in enumerate(tables, 1))


def _waiver(table: object, where: str) -> Waiver:
    if not isinstance(table, Mapping):
        raise SpecError(where, "must be a table", table)
    if table.keys() | _OPTIONAL != _KEYS.keys():
        raise SpecError(where, f"must have the keys {', '.join(_KEYS)}", ", ".join(map(str, table)))
    for key, kind in _KEYS.items():
        if key in table and type(table[key]) is not kind:  # a datetime is a date to Python
            rule = "a day, as 2027-01-31" if kind is date else "text"
            raise SpecError(where, f"{key} must be {rule}", table[key])
    return Waiver(where=where, **table)
