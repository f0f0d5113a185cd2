"""Turns the tensors of one convolution and its normalisation into those that another form of it has.

A normalisation is ``scale * (x - mean) / sqrt(var + eps) + offset``. Folded, it is part of the
convolution's weight and bias; unfolded, a normalisation that does nothing stands behind the
convolution. A bias before a normalisation is dead: it can move into the running mean.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor

WEIGHT: Final = "conv.weight"
BIAS: Final = "conv.bias"
SCALE: Final = "norm.weight"
OFFSET: Final = "norm.bias"
MEAN: Final = "norm.running_mean"
VARIANCE: Final = "norm.running_var"
ROLES: Final = (WEIGHT, BIAS, SCALE, OFFSET, MEAN, VARIANCE)

Tensors = Mapping[str, Tensor]
"""Tensors of one unit by role, in float64."""


class Action(StrEnum):
    """How a tensor of the destination got its value."""

    COPIED = "copied"
    FOLDED = "folded"
    """A normalisation of the source was folded into it."""
    UNFOLDED = "unfolded"
    """It belongs to a normalisation that does nothing but add what was the source's bias."""
    SHIFTED = "shifted"
    """A running mean that a dead bias of the source was moved into."""
    INITIALISED = "initialised"
    """It got the value that has no effect, as the source has no such tensor."""
    KEPT = "kept"
    """It is no weight, and keeps the destination's own value."""


ROUNDED: Final = frozenset({Action.FOLDED, Action.UNFOLDED, Action.SHIFTED})
"""Actions that compute a new value, which must be rounded to be written."""


class UnfitError(Exception):
    """One form cannot hold what the other computes; the argument says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A tensor of the destination.

    Attributes:
        value: Its value, in float64.
        action: How it came about.
        roles: The roles of the source's tensors that it was made of.
    """

    value: Tensor
    action: Action
    roles: tuple[str, ...] = ()


def convert(source: Tensors, eps: float, wanted: Collection[str], wanted_eps: float) -> dict[str, Converted]:
    """Return the tensors of the wanted roles, so that the unit computes what the source's does.

    Args:
        source: The source's tensors.
        eps: Of the source's normalisation, where it has one.
        wanted: The roles that the destination has.
        wanted_eps: Of the destination's normalisation, where it has one.

    Raises:
        UnfitError: If the destination's form cannot compute the same.
    """
    if VARIANCE in source and VARIANCE not in wanted:
        return _folded(source, eps, wanted)
    if VARIANCE in wanted and VARIANCE not in source:
        return _unfolded(source, wanted, wanted_eps)
    return _alike(source, wanted)


def _alike(source: Tensors, wanted: Collection[str]) -> dict[str, Converted]:
    found = {
        role: Converted(value=source[role], action=Action.COPIED, roles=(role,)) for role in ROLES if role in source
    }
    if BIAS in source and BIAS not in wanted:
        if VARIANCE in source:
            action = Action.SHIFTED if source[BIAS].any() else Action.COPIED
            found[MEAN] = Converted(value=source[MEAN] - source[BIAS], action=action, roles=(MEAN, BIAS))
        elif source[BIAS].any():
            raise UnfitError("has no bias, and that of the source is not zero")
    if SCALE in source and SCALE not in wanted and (source[OFFSET].any() or not source[SCALE].eq(1).all()):
        raise UnfitError("its normalisation has no scale and offset, and those of the source have an effect")
    neutral = {BIAS: 0.0, SCALE: 1.0, OFFSET: 0.0}
    for role in wanted:
        if role in neutral and role not in found:
            found[role] = _filled(source, neutral[role], Action.INITIALISED)
    return {role: converted for role, converted in found.items() if role in wanted}


def _folded(source: Tensors, eps: float, wanted: Collection[str]) -> dict[str, Converted]:
    if WEIGHT not in source:
        raise UnfitError("has no normalisation, and there is no convolution to fold that of the source into")
    scale = (source[VARIANCE] + eps).rsqrt()
    if SCALE in source:
        scale = scale * source[SCALE]
    shift = -source[MEAN] if BIAS not in source else source[BIAS] - source[MEAN]
    offset = shift * scale
    if OFFSET in source:
        offset = offset + source[OFFSET]
    weight = source[WEIGHT] * scale.view(-1, *[1] * (source[WEIGHT].ndim - 1))
    scaling = tuple(role for role in (SCALE, VARIANCE) if role in source)
    found = {WEIGHT: Converted(value=weight, action=Action.FOLDED, roles=(WEIGHT, *scaling))}
    if BIAS in wanted:
        roles = tuple(role for role in (BIAS, *scaling, OFFSET, MEAN) if role in source)
        found[BIAS] = Converted(value=offset, action=Action.FOLDED, roles=roles)
    elif offset.any():
        raise UnfitError("has neither a normalisation nor a bias to hold the offset of the source's normalisation")
    return found


def _unfolded(source: Tensors, wanted: Collection[str], eps: float) -> dict[str, Converted]:
    if WEIGHT not in source:
        raise UnfitError("is a normalisation, and the source has none there")
    bias = source.get(BIAS, torch.zeros_like(source[WEIGHT][:, 0, 0, 0]))
    roles = (BIAS,) if BIAS in source else ()
    found = {
        WEIGHT: Converted(value=source[WEIGHT], action=Action.COPIED, roles=(WEIGHT,)),
        BIAS: Converted(value=torch.zeros_like(bias), action=Action.INITIALISED),
        SCALE: Converted(value=torch.ones_like(bias), action=Action.UNFOLDED),
        OFFSET: Converted(value=bias, action=Action.UNFOLDED, roles=roles),
        MEAN: Converted(value=torch.zeros_like(bias), action=Action.UNFOLDED),
        VARIANCE: Converted(value=torch.full_like(bias, 1 - eps), action=Action.UNFOLDED),
    }
    if OFFSET not in wanted:
        found[MEAN] = Converted(value=-bias, action=Action.UNFOLDED, roles=roles)
    return {role: converted for role, converted in found.items() if role in wanted}


def _filled(source: Tensors, value: float, action: Action) -> Converted:
    channels = source[VARIANCE] if VARIANCE in source else source[WEIGHT][:, 0, 0, 0]
    return Converted(value=torch.full_like(channels, value), action=action)
