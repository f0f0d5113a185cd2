"""Proves that a destination with moved weights computes what the source computes, in float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deeplab_spec.capture.fx.module import state_of, uncompiled
from deeplab_spec.errors import CaptureError, one_line
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import Opaque, Output, Pair
from deeplab_spec.judge.load_weights import by_role
from deeplab_spec.judge.numerics.end_to_end import END
from deeplab_spec.judge.numerics.observe import CAPTURE
from deeplab_spec.port.equivalent_forms import ROUNDED
from deeplab_spec.port.parameter_map import ParameterMap
from deeplab_spec.port.sides import Side, SideBySide
from deeplab_spec.precision import RATIO_LIMIT

Engine = Literal["interpreter", "torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison of the two networks' results.

    Attributes:
        engine: What ran both: the interpreter the two graphs, or torch the two modules.
        image: Height and width of the image.
        rounded: Whether the destination had the weights as they are written.
        bit_equal: Whether no bit differed.
        error: Root mean square of the difference over that of the source's result; of the worst output.
        largest: The largest difference of two elements.
        allowed: The error that is allowed.
    """

    engine: Engine
    image: Pair
    rounded: bool
    bit_equal: bool
    error: float
    largest: float
    allowed: float

    @property
    def equal(self) -> bool:
        """Whether the results count as equal; what is no number does not."""
        return self.bit_equal or self.error <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDifference:
    """The first operation of the destination whose value differs.

    Attributes:
        path: The destination's operation.
        source_path: The source's.
        error: Relative error of its value.
    """

    path: str
    source_path: str
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparisons showed.

    Attributes:
        runs: The comparisons.
        refused: The size that one of the networks does not accept, with its error; empty if none.
        first: The first operation that differs, where a comparison failed.
    """

    runs: tuple[Run, ...]
    refused: str
    first: FirstDifference | None

    @property
    def equal(self) -> bool:
        """Whether every comparison held."""
        return all(entry.equal for entry in self.runs)


def prove(pair: SideBySide, moved: ParameterMap, second: Pair | None, seed: int, tick: Callable[[str], None]) -> Proof:
    """Load the moved weights into the destination, and compare its results with the source's.

    Where weights were computed and so must be rounded, the destination is first compared with them
    as they are before that; then the error that is allowed is that which one more rounding of the
    source's own weights makes, times :data:`RATIO_LIMIT`.

    Args:
        pair: The two networks.
        moved: The weights, without gaps.
        second: Another size at which the modules are compared, if both accept it.
        seed: Seed of the images.
        tick: Told what happens next.

    Raises:
        CaptureError: If a graph does not compute what its module computes.
    """
    image = _image(pair.source, pair.source.image, seed)
    tick("running the source")
    expected = _interpreted(pair.source, image)
    modules = [_called(pair.source, image)]
    _check(pair.source, expected, modules[0])
    runs = []
    allowed = END
    if any(move.action in ROUNDED for move in moved.moves.values()):
        tick("comparing before rounding")
        load(pair.dest, moved.tensors)
        runs.append(_compared(pair, "interpreter", expected, _interpreted(pair.dest, image), END, rounded=False))
        allowed = max(END, RATIO_LIMIT * _sensitivity(pair, image, expected, seed))
    load(pair.dest, moved.written())
    tick("comparing the graphs")
    actual = _interpreted(pair.dest, image)
    runs.append(_compared(pair, "interpreter", expected, actual, allowed))
    tick("comparing the modules")
    modules.append(_called(pair.dest, image))
    _check(pair.dest, actual, modules[1])
    runs.append(_compared(pair, "torch", modules[0], modules[1], allowed))
    refused = ""
    if second:
        tick(f"comparing the modules at {second[0]}x{second[1]}")
        image = _image(pair.source, second, seed + 1)
        try:
            results = _called(pair.source, image), _called(pair.dest, image)
        except CaptureError as error:
            refused = f"{second[0]}x{second[1]}: {error}"
        else:
            runs.append(_compared(pair, "torch", *results, allowed, image=second))
    proven = Proof(runs=tuple(runs), refused=refused, first=None)
    if proven.equal:
        return proven
    tick("looking for the first difference")
    return Proof(runs=proven.runs, refused=refused, first=_first(pair, seed, allowed))


def load(dest: Side, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into the destination, whatever its dtype."""
    saved = dest.saved()
    with torch.no_grad():
        for name, tensor in tensors.items():
            saved[name].copy_(tensor)


def _image(side: Side, size: Pair, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, side.channels, *size, generator=generator, dtype=torch.float64)


def _interpreted(
    side: Side, image: Tensor, state: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
) -> Values:
    """Run a captured graph; the values of its outputs, and of what else is wanted, by path."""
    state = state_of(side.module) if state is None else state
    captured = side.captured
    constants = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in captured.constants.items()
    }
    network = captured.network.live()
    with torch.no_grad():
        return run(
            network,
            {where: tensor.double() for where, tensor in by_role(captured, state).items()},
            {network.inputs[0].path: image},
            keep={*keep, *(node.path for node in network.outputs)},
            opaque=lambda node, arriving: captured.steps[node.path](arriving, {**constants, **state}),
        )


def _called(side: Side, image: Tensor) -> Values:
    """Call the module itself; its results by the path of the output.

    Raises:
        CaptureError: If it refuses the image.
    """
    try:
        with torch.no_grad():
            result = uncompiled(side.module)(image.clone())
    except (Exception, SystemExit) as error:
        raise CaptureError(f"{side.name} refuses it: {one_line(error)}") from error
    found = {"".join(map(str, keys)): value for keys, value in pytree.tree_flatten_with_path(result)[0]}
    outputs = {node.path: node.op.name for node in side.captured.network.outputs if isinstance(node.op, Output)}
    return {path: found[name] for path, name in outputs.items() if isinstance(found.get(name), Tensor)}


def _check(side: Side, captured: Values, called: Values) -> None:
    for path, value in called.items():
        off = relative_error(captured[path], value)
        if off > CAPTURE:  # results that are no numbers are equal to nothing, which the comparison says
            raise CaptureError(f"{side.name}: its graph is off by {off:.2g} from what it computes at {path}")


def _compared(
    pair: SideBySide,
    engine: Engine,
    expected: Values,
    actual: Values,
    allowed: float,
    *,
    rounded: bool = True,
    image: Pair | None = None,
) -> Run:
    values = [(actual[right], expected[left]) for left, right in pair.outputs]
    errors = [relative_error(*sides) for sides in values]
    alike = [(mine, yours) for mine, yours in values if mine.shape == yours.shape]
    return Run(
        engine=engine,
        image=image or pair.source.image,
        rounded=rounded,
        bit_equal=all(torch.equal(mine, yours) for mine, yours in values),
        error=_worst(errors),
        largest=_worst([float((mine - yours).abs().max()) for mine, yours in alike]),
        allowed=allowed,
    )


def _worst(values: Sequence[float]) -> float:
    """Return the largest value; what is no number is worse than any."""
    return max(values, key=lambda value: float("inf") if value != value else value)  # noqa: PLR0124 - NaN


def _sensitivity(pair: SideBySide, image: Tensor, expected: Values, seed: int) -> float:
    """Return the error that the source has if every weight is rounded once more, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in state_of(pair.source.module).items():
        if tensor.is_floating_point():
            sign = torch.randint(2, tensor.shape, generator=generator).double() * 2 - 1
            unit = torch.finfo(pair.source.dtypes[name]).eps / 2
            state[name] = tensor * (1 + unit * sign)
        else:
            state[name] = tensor
    values = _interpreted(pair.source, image, state)
    return _worst([relative_error(values[left], expected[left]) for left, _ in pair.outputs])


def _first(pair: SideBySide, seed: int, allowed: float) -> FirstDifference | None:
    """Find the first operation, along the alignment, whose value differs."""
    units = pair.source_units, pair.dest_units
    aligned = [(left, right) for left, right in pair.alignment.pairs if left is not None and right is not None]
    paths = []
    for left, right in aligned:
        if left in units[0] or isinstance(pair.source.captured.network[left].op, Opaque | Output):
            last = units[0][left].paths[-1] if left in units[0] else left
            paths.append((last, units[1][right].paths[-1] if right in units[1] else right))
    image = _image(pair.source, pair.source.image, seed)
    mine = _interpreted(pair.source, image, keep=[left for left, _ in paths])
    yours = _interpreted(pair.dest, image, keep=[right for _, right in paths])
    for left, right in paths:
        order = pair.orders.get(right)
        value = mine[left] if order is None else mine[left][:, list(order)]
        error = relative_error(yours[right], value)
        if not error <= allowed:
            return FirstDifference(path=right, source_path=left, error=error)
    return None
