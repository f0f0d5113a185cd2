"""The steps of a captured program: the framework's own calls, repeated on given values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.capture.fx.operators import operator_name

FIRST_RESULT_ONLY: Final = frozenset({"_native_batch_norm_legit_no_training", "max_pool2d_with_indices"})
"""Operators that return what is asked for first, and more that only training needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCall:
    """Repeats a framework call, and the calls between it and the values that it is given.

    Attributes:
        node: The call.
        reads: Position among the node's inputs, by the value that is read.
        state: Name in the state, by placeholder.
        layouts: Where a value that is read has the elements of the input; by the value, if it is not the input.
        result: Where the call's result has the elements of the node's value; None if it is the node's value.
    """

    node: fx.Node
    reads: Mapping[fx.Node, int]
    state: Mapping[fx.Node, str]
    layouts: Mapping[fx.Node, Layout]
    result: Layout | None

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Make the call on given values, and what it makes itself on their device: of none, on that of the state."""
        given_tensors = pytree.tree_leaves((inputs, list(tensors.values())))  # a value may be a tuple of them
        device = next((tensor.device for tensor in given_tensors), None)

        def value(argument: fx.Node) -> Any:  # noqa: ANN401 - an operator's argument
            if argument in self.reads:
                given = inputs[self.reads[argument]]
                return self.layouts[argument].place(given) if argument in self.layouts else given
            return tensors[self.state[argument]] if argument in self.state else made(argument)

        def made(node: fx.Node) -> Any:  # noqa: ANN401 - an operator's result
            arguments: list[Any] = [on_device(argument, device) for argument in fx.map_arg(node.args, value)]
            named = {name: on_device(argument, device) for name, argument in fx.map_arg(node.kwargs, value).items()}
            if overwrites(node):
                arguments[0] = arguments[0].clone()
            function: Callable[..., Any] = node.target  # type: ignore[assignment]  # a call_function node
            return function(*arguments, **named)

        result: Any = made(self.node)
        value_of: Tensor = result[0] if only_first_used(self.node) else result
        return self.result.back(value_of) if self.result else value_of


@dataclass(frozen=True, slots=True)
class Placement:
    """Brings the elements of a value into another order."""

    layout: Layout

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002 - a step
        """Return the value in its order."""
        return self.layout.place(inputs[0])


def on_device(argument: Any, device: torch.device | None) -> Any:  # noqa: ANN401 - an operator's argument
    """Return an argument of a call; in the place of the device that it was captured on, another if one is known."""
    return device if device is not None and isinstance(argument, torch.device) else argument


def only_first_used(node: fx.Node) -> bool:
    """Tell whether only the first of an operator's results is used."""
    if operator_name(node) not in FIRST_RESULT_ONLY:
        return False
    return all(operator_name(user) == "getitem" and (user.args[1] == 0 or not user.users) for user in node.users)


def overwrites(node: fx.Node) -> bool:
    """Tell whether a call overwrites its first argument."""
    if not isinstance(node.target, OpOverload):
        return False
    arguments = node.target._schema.arguments  # noqa: SLF001 - the operator's only description
    return bool(arguments) and arguments[0].alias_info is not None and arguments[0].alias_info.is_write
