"""Decides whether a network in a mode computes what the module computes.

The reference is the module in float64. In the precision of the mode, on the same device and input, the module
has an error of its own; the error of the mode may be at most three times as large. For a large batch the first
and the last image are compared. Where the module's own values are not finite in a precision, nothing can be
compared in it, and nothing is certified.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import NotFiniteError, SpecError
from deeplab_spec.execute.tensor_error import Error, error_of
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.measure.modes import Mode, reference_mode
from deeplab_spec.precision import FLOAT32, RATIO_LIMIT, TF32, Precision

_PAIR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The error of a mode, and the allowed one: three times the module's own, in the same precision."""

    error: Error
    allowed: Error

    @property
    def equal(self) -> bool:
        """Whether the error of the mode is at most the allowed one."""
        return self.error.within(self.allowed)

    def __str__(self) -> str:
        return (
            f"its error is {self.error.mean:.2g} (largest {self.error.most:.2g}), "
            f"at most {self.allowed.mean:.2g} ({self.allowed.most:.2g}) is allowed"
        )


class Reference:
    """The outputs of a module on an example in float64, and its error in other precisions.

    Args:
        module: The network; it is not changed.
        example: Its input, (n, channels, h, w).

    Raises:
        SpecError: If the outputs of the module are not finite, so that nothing can be compared.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.example = example
        double = copy.deepcopy(module).eval().double()
        with torch.no_grad(), threads_for(torch.float64):
            self.exact = _image_by_image(lambda x: double(x.double()), first_and_last(example))
        if not all(bool(value.isfinite().all()) for value in self.exact):
            raise SpecError("example", "the module's values must be finite", "inf or nan")
        self._own: dict[str, Error] = {}

    def agreement(self, running: Callable[[Tensor], object], precision: Precision = FLOAT32) -> Agreement:
        """Compare a function with the module, in a precision.

        Raises:
            NotFiniteError: If the module's own values are not finite in the precision.
        """
        own = self.own(precision)
        return Agreement(
            error=self._error(running, self.example),
            allowed=Error(mean=RATIO_LIMIT * own.mean, most=RATIO_LIMIT * own.most),
        )

    def own(self, precision: Precision) -> Error:
        """Return the error of the module itself on the example, at least that of one rounding.

        A network that amplifies rounding can have a small error on one input by luck: with sixteen draws of such
        a network, correct rewrites had up to eight times the error of the module. So the result is the largest of
        three errors, two of them on an example that is one rounding larger or smaller: a change as small as that
        of a rewrite.
        """
        if precision.name not in self._own:
            plain = reference_mode(precision).apply(self.module, self.example)
            errors = [self._error(plain, self.example * (1 + nudge)) for nudge in (0.0, precision.eps, -precision.eps)]
            if not all(error.finite for error in errors):
                raise NotFiniteError(precision.name, precision.largest, *self._largest())
            least = Error(mean=_rounding(precision), most=_rounding(precision))
            self._own[precision.name] = Error(
                mean=max(error.mean for error in (*errors, least)), most=max(error.most for error in (*errors, least))
            )
        return self._own[precision.name]

    def _error(self, running: Callable[[Tensor], object], images: Tensor) -> Error:
        with torch.no_grad():
            values = _outputs(running(images), len(images))
        if [value.shape for value in values] != [value.shape for value in self.exact]:
            return Error(mean=inf, most=inf)
        errors = [error_of(value, exact) for value, exact in zip(values, self.exact, strict=True)]
        errors.append(Error(mean=0.0, most=0.0))  # for a network without outputs
        return Error(mean=max(error.mean for error in errors), most=max(error.most for error in errors))

    def _largest(self) -> tuple[float, str]:
        """Return the largest value of any layer in float32, and the layer's name."""
        largest: dict[str, float] = {"": 0.0}

        def watch(name: str) -> Callable[[nn.Module, Any, object], None]:
            def note(_layer: nn.Module, _inputs: Any, result: object) -> None:  # noqa: ANN401 - the hook's signature
                if isinstance(result, Tensor) and result.is_floating_point():
                    largest[name] = float(result.abs().max())

            return note

        watched = copy.deepcopy(self.module).eval()
        for name, layer in watched.named_modules():
            if not any(layer.children()):
                layer.register_forward_hook(watch(name))
        with torch.no_grad():
            watched(first_and_last(self.example))
        name = max(largest, key=largest.__getitem__)
        return largest[name], name


def agreement(reference: Reference, running: Callable[[Tensor], object], mode: Mode) -> Agreement:
    """Compare a network in a mode with the module; for a lower precision, first its rewrites in float32.

    A lower precision hides faults of a rewrite.

    Raises:
        NotFiniteError: If the module's own values are not finite in the mode's precision.
    """
    if mode.precision is not FLOAT32 and mode.float32_form.parts:
        rewritten = reference.agreement(mode.float32_form.apply(reference.module, reference.example))
        if not rewritten.equal:
            return rewritten
    return reference.agreement(running, mode.precision)


def first_and_last(batch: Tensor) -> Tensor:
    """Return the first and the last image of a batch."""
    return batch if len(batch) <= _PAIR else batch[[0, -1]]


def _rounding(precision: Precision) -> float:
    """Return the error of one rounding: the least own error of a module, which can be smaller by luck."""
    return precision.eps / 2 if precision is TF32 else precision.eps


def _tensors(result: object) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]


def _image_by_image(run: Callable[[Tensor], object], images: Tensor) -> list[Tensor]:
    """Run image by image: a whole batch in float64 takes too much memory."""
    parts = [_tensors(run(images[number : number + 1])) for number in range(len(images))]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def _outputs(result: object, batch: int) -> list[Tensor]:
    return [first_and_last(value) if value.ndim and len(value) == batch else value for value in _tensors(result)]
