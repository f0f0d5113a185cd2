"""What is recorded to calibrate the gate: pairs of one target, with and without a planted slowdown.

Recordings are lines of a file, one pair each, so that a run that was ended goes on where it was. The
conditions take turns, in proportion to their shares: what disturbs the machine for minutes disturbs all.
"""

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.measure.gate_cases import Case
from deeplab_spec.measure.gate_pairs import Pair, Plant, run_pair
from deeplab_spec.measure.gate_rule import Rule
from deeplab_spec.measure.gate_run import Progress
from deeplab_spec.measure.gate_sides import Side

SAME: Final = "A/A"

Recordings = list[tuple[str, Pair]]
"""Name of the condition, and the pair, in the order in which they were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is recorded.

    Attributes:
        name: Its name.
        slowdown: The planted slowdown; None where only the recordings can say how large it is.
        share: How many of the recordings are of it, in parts of all shares.
        base_mode: The mode of base.
        plant: What is done to head.
    """

    name: str
    slowdown: float | None
    share: int
    base_mode: str
    plant: Plant


def conditions(case: Case, rule: Rule) -> tuple[Condition, ...]:
    """Return what is recorded for a case: nothing planted, waits around the margin, two lost optimisations."""
    modes = case.mode.split("+")
    waits = tuple(
        Condition(
            name=f"wait {factor * rule.margin:.3g}",
            slowdown=factor * rule.margin,
            share=share,
            base_mode=case.mode,
            plant=Plant(wait=factor * rule.margin),
        )
        for factor, share in ((0.3, 6), (0.5, 6), (1.0, 10), (2.0, 4))
    )
    plain = "+".join(mode for mode in modes if mode not in {"channels_last", "folded"}) or "eager"
    lost = tuple(
        Condition(
            name=name,
            slowdown=None,
            share=5,
            base_mode=mode if plain == "eager" else f"{mode}+{plain}",
            plant=Plant(mode=plain),
        )
        for name, mode in (("lost channels_last", "channels_last"), ("unfused BN", "folded"))
        if mode != "folded" or case.direction == "forward"
    )
    same = Condition(name=SAME, slowdown=0.0, share=18, base_mode=case.mode, plant=Plant())
    return (same, *waits, *lost)


def schedule(wanted: Sequence[Condition], recordings: int) -> Iterator[Condition]:
    """Return the condition of each recording: spread over time, in proportion to the shares."""
    total = sum(condition.share for condition in wanted)
    done = dict.fromkeys((condition.name for condition in wanted), 0)
    for number in range(1, recordings + 1):
        late = max(wanted, key=lambda condition: condition.share * number / total - done[condition.name])
        done[late.name] += 1
        yield late


def record(
    file: Path, case: Case, side: Side, rule: Rule, recordings: int, timeout: float, progress: Progress
) -> Recordings:
    """Record pairs into a file, one a line; what is there already is not recorded again.

    Returns:
        Every recording of the file.

    Raises:
        TargetError: If a pair cannot be measured.
        SpecError: If the file holds recordings of something else.
    """
    wanted = conditions(case, rule)
    header = {"case": asdict(case), "margin": rule.margin, "target": side.name}
    known = _read(file, header)
    left = Counter(name for name, _ in known)
    for number, condition in enumerate(schedule(wanted, recordings)):
        if left[condition.name]:
            left[condition.name] -= 1
            continue
        progress(f"recording {condition.name}", number, recordings)
        timed = replace(case, mode=condition.base_mode)
        pair = run_pair(timed, side, side, timeout, head_first=bool(number % 2), plant=condition.plant)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"condition": condition.name, "pair": asdict(pair)}) + "\n")
    return _read(file, header)


def _read(file: Path, header: dict[str, object]) -> Recordings:
    """Return the recordings of a file; begin it where there is none."""
    written = json.loads(json.dumps(header))
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(written) + "\n", encoding="utf-8")
    first, *lines = file.read_text(encoding="utf-8").splitlines()
    if json.loads(first) != written:
        raise SpecError(str(file), "must hold recordings of the same case, target and margin", first)
    found = []
    for number, line in enumerate(lines, start=2):
        try:
            document = json.loads(line)
        except json.JSONDecodeError as error:
            raise TargetError(str(file), f"line {number} is no recording: take it out") from error
        found.append((document["condition"], Pair(**document["pair"])))
    return found


def device_name(case: Case) -> str:
    """Return the name of the device that runs a case, as a file may be named."""
    if case.device == "cpu":
        return f"cpu-{platform.machine().lower().replace('_', '-')}-{os.cpu_count()}-cores"
    import torch

    if not torch.cuda.is_available():
        raise TargetError(case.name, "needs a CUDA device, and there is none")
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
