"""Reads a hard sigmoid or a hard swish that is written out, as exporters write them where the operators are missing.

A hard sigmoid is ``clip(x + 3, 0, 6) / 6``; a hard swish is its product with ``x``, before or after the division.
"""

from collections.abc import Callable

from deeplab_spec.capture.onnx.values import Call, attributes_of, decimal
from deeplab_spec.graph.ops import ActivationKind

Rule = Callable[[Call], str]
"""Returns the name of the value that a node is computed from; empty if the node is another one."""


def hard_activation(call: Call) -> tuple[ActivationKind, str] | None:
    """Return the kind and the argument of an activation whose last operator is a node; None for other nodes."""
    value = _hard_sigmoid(call)
    if value:
        return ActivationKind.HARDSIGMOID, value
    product = _made(_sixth(call), call)
    value = (product and _gated(product, _clipped)) or _gated(call, _hard_sigmoid)
    return (ActivationKind.HARDSWISH, value) if value else None


def _gated(call: Call, rule: Rule) -> str:
    """Parse a product of a value and what a rule computes from it, in either order."""
    if call.node.op_type != "Mul":
        return ""
    one, other = call.name(0), call.name(1)
    pairs = ((one, _made(other, call)), (other, _made(one, call)))
    return next((name for name, factor in pairs if factor and rule(factor) == name), "")


def _hard_sigmoid(call: Call) -> str:
    """Parse a hard sigmoid, in one operator or written out."""
    if call.node.op_type == "HardSigmoid":
        exact = (decimal(call.get("alpha", 0.2)), call.get("beta", 0.5)) == (decimal(1 / 6), 0.5)
        return call.name(0) if exact else ""
    clipped = _made(_sixth(call), call)
    return _clipped(clipped) if clipped else ""


def _sixth(call: Call) -> str:
    """Parse ``x / 6`` or ``x * (1 / 6)``."""
    return _by_constant(call, "Div", 6) or _by_constant(call, "Mul", 1 / 6)


def _clipped(call: Call) -> str:
    """Parse ``clip(x + 3, 0, 6)``."""
    shifted = _made(call.name(0), call) if call.node.op_type == "Clip" and call.bounds() == (0, 6) else None
    return _by_constant(shifted, "Add", 3) if shifted else ""


def _by_constant(call: Call, operator: str, number: float) -> str:
    """Parse an operator with a single number as its second operand, or as its first if the order has no effect."""
    for position in (1,) if operator == "Div" else (1, 0):
        array = call.constant(position)
        if call.node.op_type == operator and array is not None and array.size == 1:
            return call.name(1 - position) if decimal(float(array.reshape(()))) == decimal(number) else ""
    return ""


def _made(name: str, call: Call) -> Call | None:
    """Return the node that computes a value; None if none does."""
    node = call.values.makers.get(name)
    return Call(node, call.values, attributes_of(node)) if node else None
