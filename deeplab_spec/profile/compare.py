"""Compares two profiles: the change of every block, and whether it exceeds the noise.

Differences of means are linear, so that the changes of the blocks and of the unattributed rest add up to that of
the total. A block that one side does not have takes no time there.
"""

from collections.abc import Iterator
from typing import Literal

from deeplab_spec.errors import SpecError
from deeplab_spec.measure.statistics import IntervalModel, difference, slowdown
from deeplab_spec.profile.document import (
    BlockModel,
    CallChangeModel,
    ChangeModel,
    CompareDocument,
    DeviceModel,
    LimitModel,
    ProfileDocument,
    SideModel,
    TimeModel,
)
from deeplab_spec.profile.text import named

Clock = Literal["host", "device"]
Verdict = Literal["within", "over", "undecided"]

_EQUAL = ("device", "size", "batch", "dtype", "mode")
"""Fields of profiles that must be equal for their times to be comparable."""


def compare(
    before: ProfileDocument, after: ProfileDocument, clock: Clock | None = None, percent: float | None = None
) -> CompareDocument:
    """Compare two profiles, the largest change first.

    Args:
        before: The first profile.
        after: The second one.
        clock: Whose time is compared; by default the device's, if there is one.
        percent: The allowed slowdown of the total; None for no limit.

    Raises:
        SpecError: If devices, sizes, batches, dtypes or directions differ, or there is no such time.
    """
    for name in _EQUAL:
        sides = getattr(before, name), getattr(after, name)
        if sides[0] != sides[1]:
            raise SpecError(name, "must be equal in both profiles", " and ".join(map(_text, sides)))
    if clock == "device" and not before.total.device:
        raise SpecError("--clock", "must be host, as the profiles have no device time", clock)
    used: Clock = clock or ("device" if before.total.device and after.total.device else "host")
    first, second = ({row.path: row for row in side.rows} for side in (before, after))
    steps = len(before.total.host.steps), len(after.total.host.steps)
    rows = [_change(path, first.get(path), second.get(path), used, steps) for path in dict.fromkeys((*first, *second))]
    rows.sort(key=lambda row: -abs(row.delta.mean))
    total = _change("total", before.total, after.total, used, steps)
    return CompareDocument(
        before=_side(before),
        after=_side(after),
        device=before.device,
        size=before.size,
        batch=before.batch,
        dtype=before.dtype,
        mode=before.mode,
        clock=used,
        total=total,
        rows=tuple(rows),
        limit=None if percent is None else LimitModel(percent=percent, verdict=verdict(total.slowdown, percent / 100)),
        exceeding=sum(row.exceeds_noise for row in rows),
    )


def verdict(increase: IntervalModel | None, limit: float) -> Verdict:
    """Decide whether a slowdown is larger than a limit: 0.05 for 5 %."""
    if increase is None or increase.low <= limit < increase.high:
        return "undecided"
    return "within" if increase.high <= limit else "over"


def _change(
    path: str, before: BlockModel | None, after: BlockModel | None, clock: Clock, steps: tuple[int, int]
) -> ChangeModel:
    times = [_time(row, clock) if row else None for row in (before, after)]
    first, second = (time.steps if time else (0,) * count for time, count in zip(times, steps, strict=True))
    return ChangeModel(
        path=path,
        before=times[0].mean if times[0] else None,
        after=times[1].mean if times[1] else None,
        delta=difference(first, second),
        slowdown=slowdown(first, second) if any(first) and any(second) else None,
        calls=tuple(_calls(before, after)),
    )


def _time(row: BlockModel, clock: Clock) -> TimeModel:
    time = row.device if clock == "device" else row.host
    if time is None:
        raise SpecError("--clock", "must be host, as one profile has no device time", clock)
    return time


def _calls(before: BlockModel | None, after: BlockModel | None) -> Iterator[CallChangeModel]:
    """Return the calls that only one side has: kernels first, the vanished before the new ones."""
    kinds: tuple[tuple[Literal["kernel", "operator"], str], ...] = (("kernel", "kernels"), ("operator", "operators"))
    changes: tuple[tuple[Literal["vanished", "appeared"], int], ...] = (("vanished", 0), ("appeared", 1))
    for kind, field in kinds:
        sides = [{call.name: call for call in (side and getattr(side, field)) or ()} for side in (before, after)]
        for change, at in changes:
            for name, call in sides[at].items():
                if name not in sides[1 - at]:
                    yield CallChangeModel(name=name, kind=kind, change=change, calls=call.calls, time=call.time)


def _side(document: ProfileDocument) -> SideModel:
    return SideModel(**{name: getattr(document, name) for name in SideModel.model_fields})


def _text(value: object) -> str:
    """Return a field of a profile in words."""
    if isinstance(value, DeviceModel):
        return named(value)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
