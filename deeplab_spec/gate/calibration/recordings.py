"""What is recorded to calibrate the gate: pairs of one target, with and without a planted slowdown.

Recordings are lines of a file, one pair each, so that a run that was ended goes on where it was.

A file begins with what all of its recordings have in common: the protocol by which pairs are measured,
the device, the case, the target and the margin. Recordings of anything else are never added to it.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate.calibration.conditions import conditions, schedule
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.device import Device
from deeplab_spec.gate.modes import read_mode
from deeplab_spec.gate.pair_processes import StartedPair
from deeplab_spec.gate.pair_queue import Ahead
from deeplab_spec.gate.pairs import Pair
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import Side
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.views.progress import Progress

PROTOCOL: Final = 2
"""Number of the way in which pairs are measured; one more wherever a pair's numbers change their meaning."""

Recordings = list[tuple[str, Pair]]
"""Name of the condition, and the pair, in the order in which they were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """What all recordings of a file have in common, and how they are made.

    Attributes:
        case: What is timed.
        side: The target, on both sides.
        rule: The rule whose errors are wanted.
        device: Where they are made.
        timeout: Seconds that a process may take for any answer.
        ahead: How many pairs are started together.
    """

    case: Case
    side: Side
    rule: Rule
    device: Device
    timeout: float
    ahead: int

    def record(self, file: Path, recordings: int, progress: Progress) -> Recordings:
        """Record pairs into a file, one a line; what is there already is not recorded again.

        Args:
            file: The recordings.
            recordings: How many there are in the end.
            progress: Told what is done.

        Returns:
            Every recording of the file.

        Raises:
            TargetError: If a pair cannot be measured.
            SpecError: If the file holds recordings of something else.
        """
        known = self._read(file)
        left = Counter(name for name, _ in known)
        made: Counter[str] = Counter()  # of each condition, for its pairs take turns in who begins
        missing = []
        for condition in schedule(conditions(self.case, self.rule), recordings):
            if left[condition.name]:
                left[condition.name] -= 1
            else:
                missing.append((made[condition.name], condition))
            made[condition.name] += 1

        def start(place: int) -> StartedPair:
            number, condition = missing[place]
            timed = replace(self.case, mode=condition.base_mode)
            return StartedPair(timed, self.side, self.side, self.timeout, number=number, plant=condition.plant)

        with Ahead(start, self.ahead) as pairs:
            for place, (_, condition) in enumerate(missing):
                progress(f"recording {condition.name}", recordings - len(missing) + place, recordings)
                pair = pairs.measure(len(missing) - place)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"condition": condition.name, "pair": asdict(pair)}) + "\n")
        return self._read(file)

    def _header(self) -> dict[str, Any]:
        about = {"protocol": PROTOCOL, "device": self.device.name, "case": asdict(self.case)}
        header: dict[str, Any] = json.loads(json.dumps({**about, "margin": self.rule.margin, "target": self.side.name}))
        return header

    def _read(self, file: Path) -> Recordings:
        """Return the recordings of a file; begin it where there is none."""
        header = self._header()
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(header) + "\n", encoding="utf-8")
        first, *lines = file.read_text(encoding="utf-8").splitlines()
        _require_same(file, json.loads(first), header)
        found = []
        for number, line in enumerate(lines, start=2):
            try:
                document = json.loads(line)
            except json.JSONDecodeError as error:
                raise TargetError(str(file), f"line {number} is no recording: take it out") from error
            found.append((document["condition"], _pair(document["pair"])))
        return found


def _pair(values: dict[str, Any]) -> Pair:
    """Return a pair, whose lists JSON has made of tuples."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return Pair(**fields)


def _require_same(file: Path, actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a file of other recordings; names of modes of earlier releases are read as today's.

    Raises:
        SpecError: If it is one.
    """
    case = actual.get("case", {})
    known = {**actual, "case": {**case, "mode": read_mode(str(case.get("mode", EAGER)))}}
    different = [name for name in expected if known.get(name) != expected[name]]
    if different:
        names = ", ".join(different)
        rule = f"must hold recordings of the same {names} (name another directory, or move the file away)"
        raise SpecError(str(file), rule, ", ".join(f"{name} {actual.get(name)}" for name in different))
