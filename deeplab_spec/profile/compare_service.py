"""Compares two profiles, if they can be compared at all."""

from collections.abc import Iterator
from typing import Literal

from deeplab_spec.errors import SpecError
from deeplab_spec.profile.compare import Change, change, changes, only_in, verdict
from deeplab_spec.profile.compare_document import (
    CallChangeModel,
    ChangeModel,
    CompareDocument,
    IntervalModel,
    LimitModel,
    SideModel,
)
from deeplab_spec.profile.document import BlockModel, CallModel, ProfileDocument, TimeModel
from deeplab_spec.profile.statistics import Interval

Clock = Literal["host", "device"]

_EQUAL = ("device", "size", "batch", "dtype", "mode")
"""What must be equal for times to be comparable."""


def compare(
    before: ProfileDocument, after: ProfileDocument, clock: Clock | None = None, percent: float | None = None
) -> CompareDocument:
    """Compare two profiles.

    Args:
        before: The first profile.
        after: The second one.
        clock: Whose time is compared; the device's where there is one.
        percent: The slowdown of the total that is allowed; None to decide nothing.

    Raises:
        SpecError: If devices, sizes, batches, dtypes or modes differ, or the clock is not there.
    """
    for name in _EQUAL:
        sides = getattr(before, name), getattr(after, name)
        if sides[0] != sides[1]:
            raise SpecError(name, "must be equal in both profiles", " and ".join(map(_said, sides)))
    if clock == "device" and not before.total.device:
        raise SpecError("--clock", "must be host, as the profiles have no device time", clock)
    used: Clock = clock or ("device" if before.total.device and after.total.device else "host")
    mine, yours = ({row.path: row for row in side.rows} for side in (before, after))
    found = changes(
        {path: _time(row, used).steps for path, row in mine.items()},
        {path: _time(row, used).steps for path, row in yours.items()},
    )
    whole = change("total", _time(before.total, used).steps, _time(after.total, used).steps)
    total = _row(whole, before.total, after.total, used)
    rows = tuple(_row(row, mine.get(row.path), yours.get(row.path), used) for row in found)
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
        rows=rows,
        limit=_limit(whole, percent) if percent is not None else None,
        exceeding=sum(row.exceeds_noise for row in rows),
    )


def _limit(whole: Change, percent: float) -> LimitModel:
    if whole.slowdown is None:
        return LimitModel(percent=percent, verdict="undecided")
    return LimitModel(percent=percent, verdict=verdict(whole.slowdown, percent / 100).value)


def _time(row: BlockModel, clock: Clock) -> TimeModel:
    time = row.device if clock == "device" else row.host
    if time is None:
        raise SpecError("--clock", "must be host, as one profile has no device time", clock)
    return time


def _row(found: Change, before: BlockModel | None, after: BlockModel | None, clock: Clock) -> ChangeModel:
    return ChangeModel(
        path=found.path,
        before=_time(before, clock).mean if before else None,
        after=_time(after, clock).mean if after else None,
        delta=_interval(found.delta),
        slowdown=_interval(found.slowdown) if found.slowdown else None,
        calls=tuple(_calls(before, after)),
    )


def _calls(before: BlockModel | None, after: BlockModel | None) -> Iterator[CallChangeModel]:
    """Return what only one side calls: what vanished, then what appeared; kernels first."""
    kinds: tuple[tuple[Literal["kernel", "operator"], str], ...] = (("kernel", "kernels"), ("operator", "operators"))
    for kind, name in kinds:
        mine, yours = (_by_name(getattr(side, name) if side else None) for side in (before, after))
        for gone in only_in(mine, yours):
            call = mine[gone]
            yield CallChangeModel(name=gone, kind=kind, change="vanished", calls=call.calls, time=call.time)
        for new in only_in(yours, mine):
            call = yours[new]
            yield CallChangeModel(name=new, kind=kind, change="appeared", calls=call.calls, time=call.time)


def _by_name(calls: tuple[CallModel, ...] | None) -> dict[str, CallModel]:
    return {call.name: call for call in calls or ()}


def _interval(found: Interval) -> IntervalModel:
    return IntervalModel(mean=found.mean, low=found.low, high=found.high)


def _side(document: ProfileDocument) -> SideModel:
    return SideModel(
        target=document.target,
        variant=document.variant,
        output_stride=document.output_stride,
        torch=document.torch,
        steps=document.steps,
        execution_mode=document.execution_mode,
    )


def _said(value: object) -> str:
    """Word a property of a profile."""
    if hasattr(value, "threads"):
        return f"{value.name} ({value.kind}, {value.threads} threads)"  # type: ignore[attr-defined]  # a DeviceModel
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
