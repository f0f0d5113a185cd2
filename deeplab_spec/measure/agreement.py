"""Whether a network in a mode computes what the module computes.

The module itself, run in float64, is the oracle. In the precision of the mode, on the same device and
inputs, the module has an error of its own; that of a mode may be three times as large, and no more. Of a
large batch the first and the last image are compared. Where the module's own values are not finite in a
precision, nothing can be compared in it, and nothing is certified.
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
from deeplab_spec.execute.tensor_error import Error
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.measure.modes import Mode, reference_mode
from deeplab_spec.precision import FLOAT32, RATIO_LIMIT, TF32, Precision

_PAIR: Final = 2


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
        """Whether the error of the mode is at most what is allowed."""
        return self.error.within(self.allowed)

    def __str__(self) -> str:
        return (
            f"its error is {self.error.mean:.2g} (largest {self.error.most:.2g}), "
            f"at most {self.allowed.mean:.2g} ({self.allowed.most:.2g}) is allowed"
        )


class Reference:
    """What a module computes of an example, in float64, and its error in other precisions.

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
        with torch.no_grad(), threads_for(torch.float64):
            self.oracle = _image_by_image(lambda x: exact(x.double()), ends(example))
        if not all(bool(value.isfinite().all()) for value in self.oracle):
            raise SpecError("example", "the module's values must be finite", "inf or nan")
        self._own: dict[str, Error] = {}

    def agreement(self, running: Callable[[Tensor], object], precision: Precision = FLOAT32) -> Agreement:
        """Compare what runs with the module, in a precision.

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

        Where a network amplifies rounding, its error on one input is luck: sixteen draws of such a network gave
        correct rewrites up to eight times the error of the module. So the largest of three is taken, two of
        them with an example that is one rounding larger or smaller; a rewrite is no larger a change than that.

        Raises:
            NotFiniteError: If its values are not finite in the precision.
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
            values = _ends_of(running(images), len(images))
        if [value.shape for value in values] != [value.shape for value in self.oracle]:
            return Error(mean=inf, most=inf)
        means, mosts = [0.0], [0.0]
        for value, exact in zip(values, self.oracle, strict=True):
            off = value.double() - exact
            means.append(_ratio(off.square().mean().sqrt(), exact.square().mean().sqrt()))
            mosts.append(_ratio(off.abs().max(), exact.abs().max()))
        return Error(mean=max(means), most=max(mosts))

    def _largest(self) -> tuple[float, str]:
        """Return the largest value of any layer in float32, and the layer's name."""
        found: dict[str, float] = {"": 0.0}

        def watch(name: str) -> Callable[[nn.Module, Any, object], None]:
            def see(_layer: nn.Module, _inputs: Any, result: object) -> None:  # noqa: ANN401 - the hook's signature
                if isinstance(result, Tensor) and result.is_floating_point():
                    found[name] = float(result.abs().max())

            return see

        watched = copy.deepcopy(self.module).eval()
        for name, layer in watched.named_modules():
            if not any(layer.children()):
                layer.register_forward_hook(watch(name))
        with torch.no_grad():
            watched(ends(self.example))
        name = max(found, key=found.__getitem__)
        return found[name], name


def agreement(reference: Reference, running: Callable[[Tensor], object], mode: Mode) -> Agreement:
    """Compare a network in a mode with the module, and first the mode's rewrites in float32.

    A lower precision would hide what is wrong with a rewrite.

    Raises:
        NotFiniteError: If the module's own values are not finite in the mode's precision.
    """
    if mode.precision is not FLOAT32 and mode.float32_form.parts:
        single = reference.agreement(mode.float32_form.apply(reference.module, reference.example))
        if not single.equal:
            return single
    return reference.agreement(running, mode.precision)


def ends(batch: Tensor) -> Tensor:
    """Return the first and the last image of a batch."""
    return batch if len(batch) <= _PAIR else batch[[0, -1]]


def _rounding(precision: Precision) -> float:
    """Return the error that one rounding makes: a module with a smaller one, by luck, allows so much."""
    return precision.eps / 2 if precision is TF32 else precision.eps


def _tensors(result: object) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]


def _image_by_image(run: Callable[[Tensor], object], images: Tensor) -> list[Tensor]:
    """Run image by image: in float64 a batch takes its memory many times over."""
    parts = [_tensors(run(images[number : number + 1])) for number in range(len(images))]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def _ends_of(result: object, batch: int) -> list[Tensor]:
    return [ends(value) if value.ndim and len(value) == batch else value for value in _tensors(result)]


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return how large a part is; an infinite one where there is nothing, or no number."""
    value = float(part) / float(whole) if float(whole) > 0 else (0.0 if float(part) == 0 else inf)
    return value if value == value else inf  # noqa: PLR0124 - nan differs from itself
