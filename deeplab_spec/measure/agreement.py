"""Whether a network in a mode computes what the module computes.

The module itself, run in float64, is the oracle. In the precision of the mode, on the same device and
inputs, the module errs by so much; a mode may err three times as much, and no more. Of a large batch
the first and the last image are compared.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import SpecError
from deeplab_spec.measure.modes import Mode, Precision, read_mode

RATIO: Final = 3.0
"""Error of a mode over the module's own: correct rewrites of 140 layers stay below 1.7."""

_FLOOR: Final = {
    Precision.FLOAT32: torch.finfo(torch.float32).eps,
    Precision.TF32: 2.0**-11,
    Precision.BF16: torch.finfo(torch.bfloat16).eps,
    Precision.FP16: torch.finfo(torch.float16).eps,
}
"""Error that one rounding makes: a module that errs less, by luck, allows so much."""

_PAIR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far values are from the oracle's.

    Attributes:
        mean: Root mean square of the difference, over that of the oracle.
        most: Largest difference, over the largest value of the oracle.
    """

    mean: float
    most: float

    def within(self, allowed: "Error") -> bool:
        """Tell whether both are at most what is allowed; what is no number is not."""
        return self.mean <= allowed.mean and self.most <= allowed.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What the comparison found.

    Attributes:
        error: Of the mode.
        allowed: Three times the module's own, in the same precision.
    """

    error: Error
    allowed: Error

    @property
    def equal(self) -> bool:
        """Whether the mode errs no more than is allowed."""
        return self.error.within(self.allowed)

    def __str__(self) -> str:
        return (
            f"errs by {self.error.mean:.2g} (largest {self.error.most:.2g}), "
            f"allowed are {self.allowed.mean:.2g} ({self.allowed.most:.2g})"
        )


class Standard:
    """What a module computes of an example, in float64, and how much it errs in other precisions.

    Args:
        module: The network; it is not changed.
        example: Its input.

    Raises:
        SpecError: If the values of the module are not finite, so that nothing can be compared.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.example = example
        exact = copy.deepcopy(module).eval().double()
        with torch.no_grad():
            self.oracle = _tensors(lambda x: exact(x.double()), ends(example), one_by_one=True)
        if not all(bool(value.isfinite().all()) for value in self.oracle):
            raise SpecError("example", "the module's values must be finite", "inf or nan")
        self._own: dict[Precision, Error] = {}

    def agreement(self, running: Callable[[Tensor], object], precision: Precision = Precision.FLOAT32) -> Agreement:
        """Compare what runs with the module, in a precision."""
        own = self.own(precision)
        with torch.no_grad():
            error = self._error(_ends_of(running(self.example), len(self.example)))
        return Agreement(error=error, allowed=Error(mean=RATIO * own.mean, most=RATIO * own.most))

    def own(self, precision: Precision) -> Error:
        """Return the error of the module itself, at least that of one rounding."""
        if precision not in self._own:
            images = ends(self.example)
            plain = _reference_mode(precision).apply(self.module, images)
            error, floor = self._error(_tensors(plain, images)), _FLOOR[precision]
            self._own[precision] = Error(mean=max(error.mean, floor), most=max(error.most, floor))
        return self._own[precision]

    def _error(self, values: list[Tensor]) -> Error:
        if [value.shape for value in values] != [value.shape for value in self.oracle]:
            return Error(mean=float("inf"), most=float("inf"))
        means, mosts = [0.0], [0.0]
        for value, exact in zip(values, self.oracle, strict=True):
            off = value.double() - exact
            means.append(_ratio(off.square().mean().sqrt(), exact.square().mean().sqrt()))
            mosts.append(_ratio(off.abs().max(), exact.abs().max()))
        return Error(mean=max(means), most=max(mosts))


def agreement(standard: Standard, running: Callable[[Tensor], object], mode: Mode) -> Agreement:
    """Compare a network in a mode with the module, and first the mode's rewrites in float32.

    A lower precision would hide what is wrong with a rewrite.
    """
    if mode.precision is not Precision.FLOAT32 and mode.float32_form.parts:
        single = standard.agreement(mode.float32_form.apply(standard.module, standard.example))
        if not single.equal:
            return single
    return standard.agreement(running, mode.precision)


def ends(batch: Tensor) -> Tensor:
    """Return the first and the last image of a batch."""
    return batch if len(batch) <= _PAIR else batch[[0, -1]]


def _reference_mode(precision: Precision) -> Mode:
    names = {Precision.TF32: "tf32", Precision.BF16: "amp_bf16", Precision.FP16: "amp_fp16"}
    return read_mode(names[precision]) if precision in names else Mode()


def _tensors(run: Callable[[Tensor], Any], images: Tensor, *, one_by_one: bool = False) -> list[Tensor]:
    if not one_by_one:
        return [value for value in pytree.tree_leaves(run(images)) if isinstance(value, Tensor)]
    parts = [_tensors(run, images[number : number + 1]) for number in range(len(images))]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def _ends_of(result: object, batch: int) -> list[Tensor]:
    values = [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]
    return [ends(value) if value.ndim and len(value) == batch else value for value in values]


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return how large a part is; an infinite one where there is nothing, or no number."""
    value = float(part) / float(whole) if float(whole) > 0 else (0.0 if float(part) == 0 else float("inf"))
    return value if value == value else float("inf")  # noqa: PLR0124 - nan differs from itself
