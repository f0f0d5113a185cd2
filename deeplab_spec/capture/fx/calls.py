"""Calls of a captured program: their arguments, what they alias, and how to repeat them on given values."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from deeplab_spec.capture.candidate.process import CHECKS
from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.graph.ops import Op, Opaque

FIRST_RESULT_ONLY: Final = frozenset({"_native_batch_norm_legit_no_training", "max_pool2d_with_indices"})
"""Operators whose further results are needed in training only."""

NO_VALUE: Final = CHECKS | {"sym_size"}
"""Operators without a value of the network."""

WHOLE_ALIAS: Final = frozenset(
    {"contiguous", "alias", "detach", "to", "dropout", "feature_dropout", "dropout_", "lift_fresh_copy"}
)
"""Operators that may return their argument itself."""

_SAME_VALUE: Final = frozenset({"clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "to"})
"""Operators that return the value of their argument if the dtype stays."""

_NEUTRAL: Final = {"add": 0, "sub": 0, "mul": 1, "div": 1}
"""The second operand that changes nothing, by operator."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator in a captured graph.

    Attributes:
        node: The call.
        arguments: Its arguments by name, with defaults.
    """

    node: fx.Node
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an operator's argument
        return self.arguments[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor argument."""
        return shape_of(self[name])

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the result."""
        return shape_of(self.node)


@dataclass(frozen=True, slots=True)
class Translation:
    """A call as an operation of the graph.

    Attributes:
        op: The operation.
        inputs: The values that it reads.
        roles: Its own tensors, by role.
        result: Layout of the call's result relative to the operation's; None if they are the same.
        views: Layout of a role's tensor relative to the stored tensor, by role.
    """

    op: Op
    inputs: tuple[fx.Node, ...]
    roles: tuple[tuple[str, fx.Node], ...] = ()
    result: Layout | None = None
    views: Mapping[str, Layout] = field(default_factory=dict)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's (first) value; empty if it is not a tensor."""
    value = node.meta.get("val")
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else ()


def read_call(node: fx.Node) -> Call:
    """Return a call with its arguments named by the operator's schema."""
    if not isinstance(node.target, OpOverload):
        raise TypeError(node.target)
    schema = node.target._schema  # noqa: SLF001 - the operator's only description
    arguments = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    arguments |= {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    return Call(node, arguments | dict(node.kwargs))


def operator_name(node: fx.Node) -> str:
    """Return the short name of a call's operator, e.g. ``conv2d`` or ``relu_``."""
    target = node.target
    if isinstance(target, OpOverload):
        return target._schema.name.removeprefix("aten::")  # noqa: SLF001 - the operator's only description
    return str(getattr(target, "__name__", target))


def is_call_of(value: object, names: Collection[str]) -> bool:
    """Tell whether a value is the result of one of the named operators."""
    return isinstance(value, fx.Node) and isinstance(value.target, OpOverload) and operator_name(value) in names


def opaque(node: fx.Node) -> Opaque:
    """Return a call as an opaque operation."""
    described = ", ".join(map(str, node.args))
    return Opaque(target=str(node.target), detail=described)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCall:
    """Repeats a framework call, and the calls between it and the given values.

    Attributes:
        node: The call.
        reads: Position among the node's inputs, by the argument that reads it.
        state: Name in the state, by placeholder.
        layouts: Layout of an argument relative to the input, by argument; an argument without one is the input.
        result: Layout of the call's result relative to the node's value; None if they are the same.
    """

    node: fx.Node
    reads: Mapping[fx.Node, int]
    state: Mapping[fx.Node, str]
    layouts: Mapping[fx.Node, Layout]
    result: Layout | None

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Repeat the call on given values; tensors that it creates are on their device, or on that of the state."""
        values = (*inputs, *tensors.values())  # a value may be a tuple of tensors
        device = next((leaf.device for each in values for leaf in pytree.tree_leaves(each)), None)

        def value(argument: fx.Node) -> Any:  # noqa: ANN401 - an operator's argument
            if argument in self.reads:
                value_read = inputs[self.reads[argument]]
                return self.layouts[argument].place(value_read) if argument in self.layouts else value_read
            return tensors[self.state[argument]] if argument in self.state else computed(argument)

        def computed(node: fx.Node) -> Any:  # noqa: ANN401 - an operator's result
            arguments, named = [*fx.map_arg(node.args, value)], dict(fx.map_arg(node.kwargs, value))
            arguments, named = pytree.tree_map_only(torch.device, lambda stated: device or stated, (arguments, named))
            if overwrites(node):
                arguments[0] = arguments[0].clone()
            function: Callable[..., Any] = node.target  # type: ignore[assignment]  # a call_function node
            return function(*arguments, **named)

        result: Any = computed(self.node)
        first: Tensor = result[0] if only_first_used(self.node) else result
        return self.result.back(first) if self.result else first


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


def is_view(node: fx.Node) -> bool:
    """Tell whether a call's result shares memory with an argument."""
    if not isinstance(node.target, OpOverload):
        return True  # an element of a list of views
    returned = node.target._schema.returns  # noqa: SLF001 - the operator's only description
    return any(value.alias_info is not None for value in returned)


def keeps_value(node: fx.Node, first: fx.Node) -> bool:
    """Tell whether a call's result equals its first argument, in value, shape and dtype."""
    name = operator_name(node)
    if name == "getitem":
        return only_first_used(first) and node.args[1:] == (0,)
    if name in {"cat", "concat"}:
        same = node.args[0] == [first]
    elif name in _NEUTRAL:
        same = node.args == (first, _NEUTRAL[name]) and not node.kwargs
    else:
        same = name in _SAME_VALUE
    if not same:
        return False
    before, after = first.meta["val"], node.meta["val"]
    return bool(before.dtype == after.dtype and before.shape == after.shape)
