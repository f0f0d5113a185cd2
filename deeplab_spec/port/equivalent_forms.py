"""Converts the tensors of a convolution and its normalisation between equivalent forms.

A normalisation is ``scale * (x - mean) / sqrt(var + eps) + offset``. Folded, it is part of the
convolution's weight and bias. Unfolded, an identity normalisation that adds the bias follows the
convolution. A bias before a normalisation has no effect: it can be subtracted from the running mean.
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
"""The tensors of one unit in float64, by role."""


class Action(StrEnum):
    """How a tensor of the destination gets its value."""

    COPIED = "copied"
    FOLDED = "folded"
    """A normalisation of the source is folded into it."""
    UNFOLDED = "unfolded"
    """It belongs to an identity normalisation that adds the source's bias."""
    SHIFTED = "shifted"
    """A running mean from which a bias without effect was subtracted."""
    INITIALISED = "initialised"
    """It has the neutral value, because the source has no such tensor."""
    KEPT = "kept"
    """It is not a weight, and keeps the destination's value."""


ROUNDED: Final = frozenset({Action.FOLDED, Action.UNFOLDED, Action.SHIFTED})
"""Actions that compute a new value, which is rounded when it is written."""


class UnfitError(Exception):
    """The destination's form cannot represent the source's function; the argument says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A tensor of the destination.

    Its value is in float64; ``roles`` are those of the source's tensors that it was computed from.
    """

    value: Tensor
    action: Action
    roles: tuple[str, ...] = ()


def convert(source: Tensors, eps: float, dest_roles: Collection[str], dest_eps: float) -> dict[str, Converted]:
    """Return the destination's tensors, by role, so that its unit computes the same as the source's.

    Each eps is that of a normalisation, if there is one.

    Raises:
        UnfitError: If the destination's form cannot represent the source's function.
    """
    if VARIANCE in source and VARIANCE not in dest_roles:
        return _folded(source, eps, dest_roles)
    if VARIANCE in dest_roles and VARIANCE not in source:
        return _unfolded(source, dest_roles, dest_eps)
    return _same_form(source, dest_roles)


def _same_form(source: Tensors, dest_roles: Collection[str]) -> dict[str, Converted]:
    converted = {
        role: Converted(value=source[role], action=Action.COPIED, roles=(role,)) for role in ROLES if role in source
    }
    if BIAS in source and BIAS not in dest_roles:
        if VARIANCE in source:
            action = Action.SHIFTED if source[BIAS].any() else Action.COPIED
            converted[MEAN] = Converted(value=source[MEAN] - source[BIAS], action=action, roles=(MEAN, BIAS))
        elif source[BIAS].any():
            raise UnfitError("has no bias, and the source's bias is not zero")
    if SCALE in source and SCALE not in dest_roles and (source[OFFSET].any() or not source[SCALE].eq(1).all()):
        raise UnfitError("its normalisation has no scale and offset, and the source's have an effect")
    neutral = {BIAS: 0.0, SCALE: 1.0, OFFSET: 0.0}
    for role in dest_roles:
        if role in neutral and role not in converted:
            converted[role] = _filled(source, neutral[role], Action.INITIALISED)
    return {role: entry for role, entry in converted.items() if role in dest_roles}


def _folded(source: Tensors, eps: float, dest_roles: Collection[str]) -> dict[str, Converted]:
    if WEIGHT not in source:
        raise UnfitError("has no normalisation, and no convolution to fold the source's normalisation into")
    scale = (source[VARIANCE] + eps).rsqrt()
    if SCALE in source:
        scale = scale * source[SCALE]
    shift = -source[MEAN] if BIAS not in source else source[BIAS] - source[MEAN]
    offset = shift * scale
    if OFFSET in source:
        offset = offset + source[OFFSET]
    weight = source[WEIGHT] * scale.view(-1, *[1] * (source[WEIGHT].ndim - 1))
    scaling = tuple(role for role in (SCALE, VARIANCE) if role in source)
    converted = {WEIGHT: Converted(value=weight, action=Action.FOLDED, roles=(WEIGHT, *scaling))}
    if BIAS in dest_roles:
        roles = tuple(role for role in (BIAS, *scaling, OFFSET, MEAN) if role in source)
        converted[BIAS] = Converted(value=offset, action=Action.FOLDED, roles=roles)
    elif offset.any():
        raise UnfitError("has neither a normalisation nor a bias to hold the offset of the source's normalisation")
    return converted


def _unfolded(source: Tensors, dest_roles: Collection[str], eps: float) -> dict[str, Converted]:
    if WEIGHT not in source:
        raise UnfitError("is a normalisation, and the source has none here")
    bias = source.get(BIAS, torch.zeros_like(source[WEIGHT][:, 0, 0, 0]))
    roles = (BIAS,) if BIAS in source else ()
    converted = {
        WEIGHT: Converted(value=source[WEIGHT], action=Action.COPIED, roles=(WEIGHT,)),
        BIAS: Converted(value=torch.zeros_like(bias), action=Action.INITIALISED),
        SCALE: Converted(value=torch.ones_like(bias), action=Action.UNFOLDED),
        OFFSET: Converted(value=bias, action=Action.UNFOLDED, roles=roles),
        MEAN: Converted(value=torch.zeros_like(bias), action=Action.UNFOLDED),
        VARIANCE: Converted(value=torch.full_like(bias, 1 - eps), action=Action.UNFOLDED),
    }
    if OFFSET not in dest_roles:
        converted[MEAN] = Converted(value=-bias, action=Action.UNFOLDED, roles=roles)
    return {role: entry for role, entry in converted.items() if role in dest_roles}


def _filled(source: Tensors, value: float, action: Action) -> Converted:
    channels = source[VARIANCE] if VARIANCE in source else source[WEIGHT][:, 0, 0, 0]
    return Converted(value=torch.full_like(channels, value), action=action)
