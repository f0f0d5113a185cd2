"""Calls in code: on one line where they fit, else with their arguments on one line of their own, or on one each."""

from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 100
_STEP: Final = "    "


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call; an argument is text or a call, with its keyword or none."""

    callee: str
    arguments: tuple[tuple[str, "str | Call"], ...] = field(default=())


def written(value: "str | Call", indent: str = "", before: str = "", after: str = "") -> str:
    """Write a call between the text before and after it on its line.

    >>> print(written(Call(callee="f", arguments=(("", "1"), ("g", "2"))), before="x = "))
    x = f(1, g=2)
    """
    line = f"{indent}{before}{flat(value)}{after}"
    if isinstance(value, str) or len(line) <= WIDTH or not value.arguments:
        return line
    together = f"{indent}{_STEP}{flat(value).removeprefix(value.callee)[1:-1]}"
    if len(together) <= WIDTH:
        return f"{indent}{before}{value.callee}(\n{together}\n{indent}){after}"
    inner = [
        written(argument, indent + _STEP, f"{keyword}=" if keyword else "", ",")
        for keyword, argument in value.arguments
    ]
    return "\n".join([f"{indent}{before}{value.callee}(", *inner, f"{indent}){after}"])


def flat(value: "str | Call") -> str:
    """Write a call on one line."""
    if isinstance(value, str):
        return value
    arguments = [f"{keyword}={flat(argument)}" if keyword else flat(argument) for keyword, argument in value.arguments]
    return f"{value.callee}({', '.join(arguments)})"
