"""What a resize of an ONNX graph means.

The standard has more rules than a record stands for: which positions of the result are which of the
input, how a position between samples is rounded, what lies beyond the edge. Where none fits, the
node stays as it is.
"""

import math

import numpy as np

from deeplab_spec.capture.onnx.call import PIXEL, Call, Translation, decimal
from deeplab_spec.graph.ops import Pair, Resize, ResizeMode


def resize(call: Call) -> Translation | None:
    """Translate a resize whose rule a record stands for; any resize of a single pixel is a broadcast."""
    before, after = call.shape(), call.result
    if before[:2] != after[:2] or call.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    size = (after[2], after[3])
    if before[2:] == PIXEL:
        op: Resize | None = Resize(mode=ResizeMode.NEAREST, align_corners=False, size=size)
    else:
        op = _grid(call, size)
    return Translation(op, (call.name(0),)) if op else None


def _grid(call: Call, size: Pair) -> Resize | None:
    modern = call.node.op_type == "Resize" and call.values.opset > 10  # noqa: PLR2004 - before it, there was one rule
    mode, sides = call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel")
    if not modern:
        sides = "asymmetric"
    if call.get("antialias") or not _exact(call, size, 2 if modern else 1):
        return None
    if mode == "nearest":
        rounding = call.get("nearest_mode", "round_prefer_floor") if modern else "floor"
        kept = size == call.shape()[2:]
        floor = kept or (sides, rounding) == ("asymmetric", "floor")
        return Resize(mode=ResizeMode.NEAREST, align_corners=False, size=size) if floor else None
    kind = {"linear": ResizeMode.BILINEAR, "cubic": ResizeMode.BICUBIC}.get(mode)
    if mode == "cubic" and (decimal(call.get("cubic_coeff_a", -0.75)) != -0.75 or call.get("exclude_outside")):  # noqa: PLR2004 - the framework's constant
        return None
    centred = sides == "half_pixel" or (sides == "pytorch_half_pixel" and 1 not in size)
    if kind is None or not (centred or sides == "align_corners"):
        return None
    return Resize(mode=kind, align_corners=not centred, size=size)


def _exact(call: Call, size: Pair, scales: int) -> bool:
    """Say whether the distance of samples is the ratio of the sides, also where scales are stated."""
    found = call.constant(scales)
    stated = call.get("scales", ()) if found is None else np.ravel(found).tolist()
    axes = [axis % 4 for axis in call.get("axes") or range(4)]
    sides = zip(call.shape()[2:], size, (2, 3), strict=True)
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch" or axes not in ([0, 1, 2, 3], [2, 3]):
        return False
    return not stated or all(
        math.isclose(side * stated[axes.index(axis)], result, rel_tol=1e-6) for side, result, axis in sides
    )


def broadcast(call: Call) -> Translation | None:
    """Translate what repeats a pixel over a map, or a map once."""
    before, after = call.shape(), call.result
    if before == after:
        return Translation(None, (call.name(0),))
    return resize(call) if before[2:] == PIXEL else None
