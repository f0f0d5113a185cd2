"""Disables and records the dropout of a candidate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

ELEMENTS: Final = "dropout"
CHANNELS: Final = "dropout of whole channels"

_DEFAULT: Final = 0.5
_KINDS: Final[Mapping[Callable[..., Any], str]] = {
    **dict.fromkeys((functional.dropout, torch.dropout, torch.dropout_), ELEMENTS),
    **dict.fromkeys((functional.dropout1d, functional.dropout2d, functional.dropout3d), CHANNELS),
    **dict.fromkeys((torch.feature_dropout, torch.feature_dropout_), CHANNELS),
    **dict.fromkeys((functional.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_), "alpha dropout"),
    functional.feature_alpha_dropout: "alpha dropout of whole channels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutCall:
    """A recorded call of active dropout.

    Attributes:
        kind: The kind of dropout.
        probability: The probability that a value is dropped.
        module: Name of the innermost module that made the call.
        value: The input; empty if inputs are not kept.
    """

    kind: str
    probability: float
    module: str
    value: Tensor


class WithoutDropout(TorchFunctionMode):
    """Replaces every call of the framework's dropout by the identity, and records it.

    Args:
        names: Names of the candidate's modules.
        keep: Whether to keep the inputs of the calls.
    """

    def __init__(self, names: Mapping[nn.Module, str], *, keep: bool = False) -> None:
        super().__init__()
        self.names = names
        self.keep = keep
        self.within: list[str] = []
        self.calls: list[DropoutCall] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the call's result
        """Call a function of the framework, unless it is dropout."""
        kwargs = kwargs or {}
        kind = _KINDS.get(func)
        if kind is None:
            return func(*args, **kwargs)
        value, probability, active = _arguments(func, args, kwargs)
        if active and probability > 0:
            kept = value.detach().clone() if self.keep else value.new_empty(0)
            self.calls.append(
                DropoutCall(kind=kind, probability=probability, module=next(iter(self.within[::-1]), ""), value=kept)
            )
        return value

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Track which module is running."""

        def enter(module: nn.Module, _: object) -> None:
            self.within.append(self.names.get(module, ""))

        def leave(_: nn.Module, __: object, ___: object) -> None:
            self.within.pop()

        hooks = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.within.clear()


@contextmanager
def dropout_disabled(module: nn.Module) -> Iterator[None]:
    """Disable dropout modules: a checkpoint runs them again in the backward pass, where the mode is not active."""
    active = [part for part in module.modules() if isinstance(part, _DropoutNd) and part.training]
    for part in active:
        part.eval()
    try:
        yield
    finally:
        for part in active:
            part.train()


def _arguments(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, float, bool]:
    """Return the input of a dropout call, its rate, and whether it is active."""
    names = ("input", "p", "training" if func.__module__ == functional.__name__ else "train")
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return named["input"], float(named.get("p", _DEFAULT)), bool(named.get(names[2], True))
