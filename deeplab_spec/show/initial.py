"""Initial tensors as a port needs them: the distribution as data, and the call of ``torch.nn.init`` that draws it."""

import math
from typing import Final

from deeplab_spec.graph.ops import Op, roles
from deeplab_spec.spec.distributions import Distribution, Shape, distribution
from deeplab_spec.spec.rows import Init, InitKind
from deeplab_spec.views.document import Model

_BY_NAME: Final = {
    InitKind.KAIMING_FAN_IN: 'kaiming_normal_({}, mode="fan_in", nonlinearity="relu")',
    InitKind.KAIMING_FAN_OUT: 'kaiming_normal_({}, mode="fan_out", nonlinearity="relu")',
    InitKind.KAIMING_UNIFORM: 'kaiming_uniform_({}, mode="fan_in", nonlinearity="relu")',
    InitKind.XAVIER_UNIFORM: "xavier_uniform_({})",
    InitKind.FRAMEWORK: "kaiming_uniform_({}, a=math.sqrt(5))",  # what nn.Conv2d does itself
}
"""Initialisations of a weight that torch computes from its shape."""


class InitialModel(Model):
    """How one tensor starts.

    ``scale`` is the standard deviation of a normal distribution (before it is cut off), half the width of a uniform
    one, or the constant; ``bound`` the largest magnitude, or null; ``torch`` the call, where ``w`` is the tensor.
    """

    shape: Shape
    scale: float
    bound: float | None
    torch: str


def initial_tensors(op: Op, init: Init | None) -> dict[str, InitialModel]:
    """Return how the tensors of an operation start, by role."""
    found = {role: distribution(op, role, init) for role in roles(op)}
    return {role: _model(known, init if role == "weight" else None) for role, known in found.items() if known}


def _model(known: Distribution, init: Init | None) -> InitialModel:
    by_name = _BY_NAME.get(init.kind) if init and known.shape is not Shape.CONSTANT else None
    return InitialModel(
        shape=known.shape,
        scale=known.scale,
        bound=None if math.isinf(known.bound) else known.bound,
        torch=by_name.format("w") if by_name else torch_call(known),
    )


def torch_call(known: Distribution) -> str:
    """Return the call of ``torch.nn.init`` that draws from a distribution.

    >>> torch_call(Distribution(shape=Shape.TRUNCATED, scale=0.09))
    'trunc_normal_(w, std=0.09, a=-0.18, b=0.18)'
    >>> torch_call(Distribution(shape=Shape.CONSTANT, scale=0.0))
    'zeros_(w)'
    """
    scale, bound = f"{known.scale:.9g}", f"{known.bound:.9g}"
    match known.shape:
        case Shape.NORMAL:
            return f"normal_(w, std={scale})"
        case Shape.TRUNCATED:
            return f"trunc_normal_(w, std={scale}, a=-{bound}, b={bound})"
        case Shape.UNIFORM:
            return f"uniform_(w, a=-{bound}, b={bound})"
        case Shape.CONSTANT:
            return {0.0: "zeros_(w)", 1.0: "ones_(w)"}.get(known.scale, f"constant_(w, {scale})")
