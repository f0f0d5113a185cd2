"""The recordings that a calibration resamples: pairs of one target, with and without a planted slowdown.

A file has one pair per line, so that an interrupted run can go on. Its first line holds what all of its
recordings have in common: the protocol by which pairs are measured, the device, the case, the target and
the margin. Recordings of anything else are not added to it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate.cases import CHANNELS_LAST, FOLDED, Case, Device, read_mode
from deeplab_spec.gate.document import NO_PLANT, Plant
from deeplab_spec.gate.pairs import Pair, PairProcesses, PairQueue
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import Side
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.views.document import read_bounded
from deeplab_spec.views.progress import Progress

PROTOCOL: Final = 2
"""Version of the way in which pairs are measured; it grows when the numbers of a pair change their meaning."""

SAME: Final = "A/A"

MOST_BYTES: Final = 64 * 2**20
"""A larger file is not read."""

_Kind = TypeVar("_Kind")

Recordings = list[tuple[str, Pair]]
"""The name of the condition and the pair, in the order in which they were recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One kind of recording.

    Attributes:
        name: Its name.
        slowdown: The planted slowdown; None if only the recordings show how large it is.
        share: Its share of the recordings, relative to the shares of the other conditions.
        base_mode: The mode of base.
        plant: What is planted in head.
    """

    name: str
    slowdown: float | None
    share: int
    base_mode: str
    plant: Plant


def conditions(case: Case, rule: Rule) -> tuple[Condition, ...]:
    """Return the conditions of a case: nothing planted, waits around the margin, and two lost optimisations.

    Most recordings are made with nothing planted and with a wait of the margin: they decide the promised rates.
    """
    waits = tuple(
        Condition(
            name=f"wait {factor * rule.margin:.3g}",
            slowdown=factor * rule.margin,
            share=share,
            base_mode=case.mode,
            plant=Plant(wait=factor * rule.margin),
        )
        for factor, share in ((0.3, 4), (0.5, 4), (1.0, 18), (2.0, 2))
    )
    plain = "+".join(mode for mode in case.mode.split("+") if mode not in {CHANNELS_LAST, FOLDED}) or EAGER
    lost = tuple(
        Condition(
            name=name,
            slowdown=None,
            share=4,
            base_mode=mode if plain == EAGER else f"{mode}+{plain}",
            plant=Plant(mode=plain),
        )
        for name, mode in (("lost channels_last", CHANNELS_LAST), ("unfused BN", FOLDED))
        if mode != FOLDED or case.direction == "forward"
    )
    same = Condition(name=SAME, slowdown=0.0, share=18, base_mode=case.mode, plant=NO_PLANT)
    return (same, *waits, *lost)


def schedule(planned: Sequence[Condition], recordings: int) -> Iterator[Condition]:
    """Return the condition of each recording, in proportion to the shares.

    The conditions alternate, so that a disturbance of some minutes affects all of them.
    """
    total = sum(condition.share for condition in planned)
    done = dict.fromkeys((condition.name for condition in planned), 0)
    for number in range(1, recordings + 1):
        late = max(planned, key=lambda condition: condition.share * number / total - done[condition.name])
        done[late.name] += 1
        yield late


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """Records pairs of a target, which is both base and head, into a file; ``ahead`` are started together."""

    case: Case
    side: Side
    rule: Rule
    device: Device
    timeout: float
    ahead: int

    def record(self, file: Path, recordings: int, progress: Progress) -> Recordings:
        """Record the pairs that the file needs to have so many recordings.

        Returns:
            All recordings of the file.

        Raises:
            TargetError: If a pair cannot be measured.
            SpecError: If the file holds recordings of something else.
        """
        left = Counter(name for name, _ in self._read(file))
        planned: Counter[str] = Counter()  # pairs are numbered within a condition, so that its sides begin in turn
        missing = []
        for condition in schedule(conditions(self.case, self.rule), recordings):
            if left[condition.name]:
                left[condition.name] -= 1
            else:
                missing.append((planned[condition.name], condition))
            planned[condition.name] += 1

        def start(place: int) -> PairProcesses:
            number, condition = missing[place]
            case = replace(self.case, mode=condition.base_mode)
            return PairProcesses(case, self.side, self.side, self.timeout, number=number, plant=condition.plant)

        with PairQueue(start, self.ahead) as queue:
            for place, (_, condition) in enumerate(missing):
                progress(f"recording {condition.name}", recordings - len(missing) + place, recordings)
                pair = queue.measure(len(missing) - place)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"condition": condition.name, "pair": pair.model_dump()}) + "\n")
        return self._read(file)

    def _header(self) -> dict[str, Any]:
        about = {"protocol": PROTOCOL, "device": self.device.name, "case": asdict(self.case)}
        header: dict[str, Any] = json.loads(json.dumps({**about, "margin": self.rule.margin, "target": self.side.name}))
        return header

    def _read(self, file: Path) -> Recordings:
        """Return the recordings of a file; create the file if there is none."""
        header = self._header()
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(header) + "\n", encoding="utf-8")
        first, *lines = read_bounded(file, MOST_BYTES).splitlines() or [b""]
        _require_same(file, _parsed(file, 1, first, _described), header)
        return [_parsed(file, number, line, _recording) for number, line in enumerate(lines, start=2)]


def _parsed(file: Path, number: int, line: bytes, kind: Callable[[Any], _Kind]) -> _Kind:
    """Read a line of a file, which may have been written by others."""
    try:
        return kind(json.loads(line, parse_constant=_refuse))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TargetError(str(file), f"line {number} is not a recording: remove it") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _described(header: dict[str, Any]) -> dict[str, Any]:
    return {**header, "case": {**header["case"]}}


def _recording(document: dict[str, Any]) -> tuple[str, Pair]:
    return str(document["condition"]), Pair.model_validate(document["pair"])


def _require_same(file: Path, actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare the header of a file with that of this run; modes may have their names of earlier releases."""
    case = actual.get("case", {})
    known = {**actual, "case": {**case, "mode": read_mode(str(case.get("mode", EAGER)))}}
    different = [name for name in expected if known.get(name) != expected[name]]
    if different:
        names = ", ".join(different)
        rule = f"must hold recordings of the same {names} (name another directory, or move the file away)"
        raise SpecError(str(file), rule, ", ".join(f"{name} {actual.get(name)}" for name in different))
