"""The parameter map: the sources of every tensor of the destination, and the tensors without a partner."""

from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.differences import describe
from deeplab_spec.align.match import Order
from deeplab_spec.capture.fx.calls import ProgramCall
from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Opaque
from deeplab_spec.port.document import GapModel, Owner
from deeplab_spec.port.equivalent_forms import ROLES, WEIGHT, Action, Tensors, UnfitError, convert
from deeplab_spec.port.sides import Side, SideBySide, Unit

_BATCHES: Final = "num_batches_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The sources of one tensor of the destination.

    Attributes:
        name: Its name in the destination's state dict.
        path: The destination's operation that uses it; empty if none does.
        sources: Names of the source's tensors that it is computed from.
        action: How it gets its value.
        role: Its role in its unit; empty outside of a unit.
        permuted: Whether its channels are in another order than the source's.
    """

    name: str
    path: str
    sources: tuple[str, ...]
    action: Action
    role: str = ""
    permuted: bool = False


@dataclass(slots=True, kw_only=True)
class ParameterMap:
    """The parameter map of two networks.

    Attributes:
        moves: By name in the destination's state dict.
        tensors: The values before rounding, by name.
        dtypes: The dtypes that they are written in, by name.
        gaps: Tensors without a partner; nothing is written if there are any.
        unused: Names of the source's tensors that no output depends on; they are not moved.
    """

    moves: dict[str, Move] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    gaps: list[GapModel] = field(default_factory=list)
    unused: tuple[str, ...] = ()

    def written(self) -> dict[str, Tensor]:
        """Return the values as they are written: rounded, without shared memory."""
        return {name: tensor.to(self.dtypes[name]).clone() for name, tensor in self.tensors.items()}


def parameter_map(pair: SideBySide) -> ParameterMap:
    """Find the sources of every tensor of the destination's state dict."""
    mapper = _Mapper(pair)
    for left, right in pair.alignment.pairs:
        if left is not None and right is not None:
            mapper.paired(left, right)
        elif left is not None:
            mapper.unpaired("source", left, pair.source_units.get(left))
        elif right is not None:
            mapper.unpaired("destination", right, pair.dest_units.get(right))
    return mapper.finished()


class _Mapper:
    """Collects the moves of one pair of networks."""

    def __init__(self, pair: SideBySide) -> None:
        self.pair = pair
        self.source, self.dest = pair.source, pair.dest
        self.state, self.dest_state = self.source.module.tensors, self.dest.module.tensors
        self.values = self.source.captured.weights(self.state)
        self.saved = self.dest.module.saved
        self.map = ParameterMap()
        self.used: set[str] = set()
        self.without_partner: set[str] = set()

    def paired(self, left: str, right: str) -> None:
        """Move the tensors of an operation to its partner."""
        if left in self.pair.source_units:
            self._unit(self.pair.source_units[left], self.pair.dest_units[right])
        elif opaque_tensors(self.source, left) or opaque_tensors(self.dest, right):
            self._opaque(left, right)

    def unpaired(self, side: Owner, path: str, unit: Unit | None) -> None:
        """Note that the tensors of an operation have no partner."""
        owner, other = (self.source, "destination") if side == "source" else (self.dest, "source")
        paths = unit.paths if unit else (path,)
        names = tuple(name for part in paths for name in (_owned(owner, part) or opaque_tensors(owner, part)))
        if names:
            self._gap(side, paths[0], names, f"the {other} has no such layer")

    def finished(self) -> ParameterMap:
        """Add the tensors that no operation uses, and return the map."""
        self._aliases()
        for name, tensor in self.saved.items():
            if name in self.map.moves or name in self.without_partner:
                continue
            if name.rpartition(".")[2] == _BATCHES:
                self._batches(name)
            elif tensor.is_floating_point() and not self.dest.module.inference_only:
                self._gap("destination", "", (name,), "no operation on the way to the outputs of both uses it")
            else:
                self._put(Move(name=name, path="", sources=(), action=Action.KEPT), tensor, tensor.dtype)
        floating = (name for name, tensor in self.state.items() if tensor.is_floating_point())
        self.map.unused = tuple(name for name in floating if name not in self.used | self.without_partner)
        return self.map

    def _gap(self, side: Owner, path: str, names: tuple[str, ...], reason: str) -> None:
        self.without_partner |= set(names)
        self.map.gaps.append(GapModel(side=side, path=path, names=names, reason=reason))

    def _unit(self, unit: Unit, dest_unit: Unit) -> None:
        source, names = self._tensors(unit)
        roles = {
            role: self.dest.captured.parameters[where]
            for role, where in _places(dest_unit).items()
            if where in self.dest.captured.parameters
        }
        path = dest_unit.paths[0]
        order = self.pair.orders.get(self.dest.captured.network[path].inputs[0])
        try:
            permuted = self._permuted(source, order, dest_unit)
            converted = convert(permuted, _eps(self.source, unit), roles, _eps(self.dest, dest_unit))
        except UnfitError as error:
            self._gap("destination", path, tuple(roles.values()), str(error))
            return
        dtype = self.source.dtypes.get(next(iter(names.values()), ""), torch.float32)
        for role, name in roles.items():
            if role not in converted:
                self._gap("destination", path, (name,), "the source has no such tensor")
                continue
            move = Move(
                name=name,
                path=path,
                sources=tuple(names[each] for each in converted[role].roles),
                action=converted[role].action,
                role=role,
                permuted=any(permuted[each] is not source[each] for each in converted[role].roles),
            )
            self._place(move, converted[role].value, dtype, self.dest.captured.views.get(_places(dest_unit)[role]))

    def _place(self, move: Move, value: Tensor, dtype: torch.dtype, view: Layout | None = None) -> None:
        """Move a value if the destination's state dict has a tensor of its shape; ``view`` is its layout in use."""
        own = self.dest_state.get(move.name)
        if own is None or move.name not in self.saved:
            self._gap("destination", move.path, (move.name,), "its state dict does not hold it")
            return
        shape = tuple(own.shape) if view is None else view.shape
        if shape != tuple(value.shape):
            reason = (
                f"its {move.role.partition('.')[2]} must have the source's shape {tuple(value.shape)}, but has {shape}"
            )
            self._gap("destination", move.path, (move.name,), reason)
        else:
            self._put(move, value if view is None else view.back(value), dtype)

    def _put(self, move: Move, value: Tensor, dtype: torch.dtype) -> None:
        before = self.map.tensors.get(move.name)
        if before is not None and not torch.equal(before, value):
            where = f"{self.map.moves[move.name].path} and {move.path}"
            self._gap("destination", move.path, (move.name,), f"{where} share it, but differ in the source")
            return
        self.map.moves.setdefault(move.name, move)
        self.map.tensors.setdefault(move.name, value)
        self.map.dtypes.setdefault(move.name, dtype)

    def _tensors(self, unit: Unit) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the source's tensors of a unit and their names, by role."""
        places = [(role, where) for role, where in _places(unit).items() if where in self.values]
        names = {role: self.source.captured.parameters[where] for role, where in places}
        self.used |= set(names.values())
        return {role: self.values[where].double() for role, where in places}, names

    def _permuted(self, source: Tensors, order: Order | None, unit: Unit) -> Tensors:
        """Permute the channels into the order in which they arrive in the destination."""
        if order is None:
            return source
        op = self.dest.captured.network[unit.paths[0]].op
        index = torch.tensor(order)
        if isinstance(op, Conv2d) and op.groups == 1:
            axes = {WEIGHT: 1}
        elif not isinstance(op, Conv2d) or (op.depthwise and op.channels_out == op.channels_in):
            axes = dict.fromkeys(source, 0)
        else:
            raise UnfitError("its groups of channels come from a concatenation in another order")
        if any(source[role].shape[axis] != len(order) for role, axis in axes.items()):
            raise UnfitError(f"must have as many input channels as the source's, but has {len(order)}")
        return {**source, **{role: source[role].index_select(axis, index) for role, axis in axes.items()}}

    def _opaque(self, left: str, right: str) -> None:
        """Copy the tensors of an operation without a record to the same operation."""
        names, others = opaque_tensors(self.source, left), opaque_tensors(self.dest, right)
        shapes = [
            [state[name].shape for name in owned] for state, owned in ((self.state, names), (self.dest_state, others))
        ]
        if shapes[0] != shapes[1] or any(path in self.pair.orders for path in self.dest.captured.network[right].inputs):
            op = self.dest.captured.network[right].op
            self._gap("destination", right, others, f"no rule moves the tensors of {describe(op)}")
            self._gap("source", left, names, f"no rule moves the tensors of {describe(op)}")
            return
        self.used |= set(names)
        for name, other in zip(names, others, strict=True):
            move = Move(name=other, path=right, sources=(name,), action=Action.COPIED)
            self._place(move, self.state[name].double(), self.source.dtypes[name])

    def _aliases(self) -> None:
        """Give tensors that the destination saves under several names their value under each name."""
        by_memory: dict[tuple[int, torch.Size], str] = {}
        for name in list(self.map.moves):
            tensor = self.dest_state[name]
            key = (tensor.data_ptr(), tensor.shape)
            first = by_memory.setdefault(key, name)
            if first != name and not torch.equal(self.map.tensors[first], self.map.tensors[name]):
                paths = f"{self.map.moves[first].path} and {self.map.moves[name].path}"
                reason = f"{paths} share it, but differ in the source"
                self._gap("destination", self.map.moves[name].path, (name,), reason)
        for name, tensor in self.saved.items():
            known = by_memory.get((tensor.data_ptr(), tensor.shape))
            if known and name not in self.map.moves and tensor.numel():
                move = self.map.moves[known]
                self._put(replace(move, name=name), self.map.tensors[known], self.map.dtypes[known])

    def _batches(self, name: str) -> None:
        """Copy the number of batches that a normalisation has seen, if both count them."""
        mean = self.map.moves.get(_sibling(name, "running_mean"))
        counter = _sibling(mean.sources[0], _BATCHES) if mean and mean.sources else ""
        count = self.state.get(counter)
        if mean and mean.action in {Action.COPIED, Action.SHIFTED} and count is not None:
            move = Move(name=name, path=mean.path, sources=(counter,), action=Action.COPIED)
        else:
            count = torch.zeros_like(self.saved[name])
            move = Move(name=name, path=mean.path if mean else "", sources=(), action=Action.INITIALISED)
        self.used |= set(move.sources)
        self._put(move, count, self.saved[name].dtype)


def opaque_tensors(side: Side, path: str) -> tuple[str, ...]:
    """Return the names of the tensors that an operation without a record uses, in order."""
    step = side.captured.steps.get(path)
    if not isinstance(side.captured.network[path].op, Opaque) or not isinstance(step, ProgramCall):
        return ()
    state = side.module.tensors
    names = (step.state.get(argument, "") for argument in step.node.all_input_nodes)
    return tuple(name for name in names if name in state)


def _sibling(name: str, last: str) -> str:
    prefix, dot, _ = name.rpartition(".")
    return f"{prefix}{dot}{last}"


def _owned(side: Side, path: str) -> tuple[str, ...]:
    names = (side.captured.parameters.get(f"{path}.{role.partition('.')[2]}") for role in ROLES)
    return tuple(dict.fromkeys(name for name in names if name))


def _places(unit: Unit) -> dict[str, str]:
    """Return the key of each role of a unit among a capture's parameters."""
    parts = {"conv": unit.conv, "norm": unit.norm}
    named = ((role, *role.split(".")) for role in ROLES)
    return {role: f"{parts[part]}.{last}" for role, part, last in named if parts[part]}


def _eps(side: Side, unit: Unit) -> float:
    op = side.captured.network[unit.norm].op if unit.norm else None
    return op.eps if isinstance(op, BatchNorm) else 0.0
