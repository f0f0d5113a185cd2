"""The many ways to write a ReLU: as a choice between a value and zero."""

from collections.abc import Callable
from typing import Final

from torch import fx

from deeplab_spec.capture.fx.operators import Call, calls, operator_name, read_call

_CONVERSIONS: Final = frozenset({"to", "_to_copy", "type_as"})


def rectified(call: Call) -> fx.Node | None:
    """Return the value of which a call takes the positive part; None if it does something else."""
    rule = _TABLE.get(operator_name(call.node))
    return rule(call) if rule else None


def _where(call: Call) -> fx.Node | None:
    """Read ``where(x > 0, x, 0)`` or ``where(x < 0, 0, x)``."""
    positive, one, other = (call.arguments.get(name) for name in ("condition", "self", "other"))
    if _is_zero(other) and _compares(positive, one, {"gt", "ge"}):
        return _node(one)
    if _is_zero(one) and _compares(positive, other, {"lt", "le"}):
        return _node(other)
    return None


def _maximum(call: Call) -> fx.Node | None:
    """Read ``maximum(x, 0)``, zero in either place."""
    one, other = call["self"], call.arguments.get("other")
    if _is_zero(other):
        return _node(one)
    return _node(other) if _is_zero(one) else None


def _mul(call: Call) -> fx.Node | None:
    """Read ``x * (x > 0)``, in either order, the condition turned to numbers or not."""
    for one, other in ((call["self"], call["other"]), (call["other"], call["self"])):
        condition = other
        if isinstance(other, fx.Node) and calls(other, _CONVERSIONS):
            condition = other.args[0]
        if _compares(condition, one, {"gt", "ge"}):
            return _node(one)
    return None


def _threshold(call: Call) -> fx.Node | None:
    return _node(call["self"]) if call["threshold"] == 0 and call["value"] == 0 else None


def _compares(condition: object, value: object, names: set[str]) -> bool:
    """Tell whether a condition compares a value with zero."""
    if not isinstance(condition, fx.Node) or not calls(condition, names):
        return False
    call = read_call(condition)
    return call["self"] is value and _is_zero(call["other"])


def _is_zero(value: object) -> bool:
    if not isinstance(value, fx.Node):
        return isinstance(value, int | float) and value == 0
    if calls(value, {"full", "full_like", "new_full"}):
        return bool(read_call(value)["fill_value"] == 0)
    if calls(value, {"scalar_tensor"}):
        return bool(value.args[0] == 0)
    return calls(value, {"zeros", "zeros_like", "new_zeros"})


def _node(value: object) -> fx.Node | None:
    return value if isinstance(value, fx.Node) else None


_TABLE: Final[dict[str, Callable[[Call], fx.Node | None]]] = {
    "where": _where,
    "maximum": _maximum,
    "max": _maximum,
    "mul": _mul,
    "threshold": _threshold,
}
