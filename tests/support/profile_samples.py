"""Profiles made by hand, for tests of comparisons and pages."""

from typing import Any

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.measure.statistics import CeilingsModel, mean_interval
from deeplab_spec.profile.document import (
    BlockModel,
    CallModel,
    DeviceModel,
    ProfileDocument,
    TimeModel,
)

MILLISECOND = 1_000_000


def time(steps: tuple[int, ...]) -> TimeModel:
    """Return a time from its steps in nanoseconds."""
    return TimeModel(steps=steps, **mean_interval(steps).model_dump())


def row(path: str, steps: tuple[int, ...], *, device: bool = False, call: str = "aten::conv2d") -> BlockModel:
    """Return a row whose device takes half of the host's time."""
    half = tuple(step // 2 for step in steps)
    mean = sum(steps) / len(steps)
    return BlockModel(
        path=path,
        host=time(steps),
        device=time(half) if device else None,
        operators=(CallModel(name=call, calls=2, time=mean / 2), CallModel(name="aten::empty", calls=1, time=mean / 4)),
        kernels=(CallModel(name=f"{call}_kernel", calls=2, time=mean / 2),) if device else None,
        flops=2_000_000_000,
        bytes=1_000_000,
        intensity=2000.0,
        roofline=0.25,
        peak_bytes=3_000_000,
    )


def profile(
    blocks: dict[str, tuple[int, ...]], *, device: bool = False, call: str = "aten::conv2d", **other: Any
) -> ProfileDocument:
    """Return a profile; the last block is the unattributed rest."""
    whole = tuple(map(sum, zip(*blocks.values(), strict=True)))
    rows = [row(path, steps, device=device, call=call) for path, steps in blocks.items()]
    total = row("total", whole, device=device)
    if device:
        halves = tuple(map(sum, zip(*(each.device.steps for each in rows if each.device), strict=True)))
        total = total.model_copy(update={"device": time(halves)})
    values: dict[str, Any] = {
        "target": "some:network",
        "arguments": {},
        "variant": "notebook",
        "choices": {},
        "output_stride": 16,
        "classes": 21,
        "size": (65, 65),
        "batch": 1,
        "dtype": "float32",
        "mode": Mode.FORWARD,
        "steps": len(whole),
        "warmup": 1,
        "device": DeviceModel(kind="cuda" if device else "cpu", name="a device", threads=1),
        "torch": "2.13.0",
        "ceilings": CeilingsModel(flops_per_second=1e12, bytes_per_second=1e10),
        "total": total,
        "blocks": tuple(rows[:-1]),
        "unattributed": rows[-1],
    }
    return ProfileDocument(**(values | other))


STEPS = (10, 11, 12, 11)


def usual(slow: int = 0, **other: Any) -> ProfileDocument:
    """Return a profile of four rows; one block takes longer by some milliseconds."""

    def steps(first: int) -> tuple[int, ...]:
        return tuple(MILLISECOND * (first + step) for step in STEPS)

    return profile(
        {
            "backbone.entry_flow.block1": steps(20),
            "backbone.middle_flow.block7": steps(5 + slow),
            "aspp.atrous1": steps(8),
            "unattributed": steps(0),
        },
        **other,
    )
