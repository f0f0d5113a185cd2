"""Proves that a destination with moved weights computes what the source computes, in float64."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import Opaque, Output, Pair
from deeplab_spec.judge.numerics.end_to_end import END_TO_END_LIMIT
from deeplab_spec.judge.part import CAPTURE_LIMIT
from deeplab_spec.port.document import Engine, FirstModel, ProofModel, RunModel
from deeplab_spec.port.equivalent_forms import ROUNDED
from deeplab_spec.port.parameter_map import ParameterMap
from deeplab_spec.port.sides import Side, SideBySide
from deeplab_spec.precision import RATIO_LIMIT


def prove(
    pair: SideBySide, moved: ParameterMap, second: Pair | None, seed: int, tick: Callable[[str], None]
) -> ProofModel:
    """Load the moved weights into the destination, and compare its results with the source's.

    If some weights were computed and therefore rounded, the destination is first compared with the
    weights before rounding. After rounding, the error may be :data:`RATIO_LIMIT` times the error that one
    more rounding of the source's own weights causes.

    The modules are also compared at a second size, if both accept it.

    Raises:
        CaptureError: If a graph does not compute what its module computes.
    """
    image = _image(pair.source, pair.source.image, seed)
    tick("running the source")
    expected = _interpreted(pair.source, image)
    modules = [_called(pair.source, image)]
    _check(pair.source, expected, modules[0])
    runs = []
    allowed = END_TO_END_LIMIT
    if any(move.action in ROUNDED for move in moved.moves.values()):
        tick("comparing before rounding")
        load(pair.dest, moved.tensors)
        runs.append(
            _compared(pair, "interpreter", expected, _interpreted(pair.dest, image), END_TO_END_LIMIT, rounded=False)
        )
        allowed = max(END_TO_END_LIMIT, RATIO_LIMIT * _sensitivity(pair, image, expected, seed))
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
    equal = all(entry.equal for entry in runs)
    if not equal:
        tick("searching for the first difference")
    first = None if equal else _first(pair, seed, allowed)
    return ProofModel(equal=equal, runs=tuple(runs), refused=refused, first=first)


def load(dest: Side, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into the destination, in its dtypes."""
    saved = dest.module.saved
    with torch.no_grad():
        for name, tensor in tensors.items():
            saved[name].copy_(tensor)


def _image(side: Side, size: Pair, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, side.channels, *size, generator=generator, dtype=torch.float64)


def _interpreted(
    side: Side, image: Tensor, state: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
) -> Values:
    """Run a captured graph; return the values of its outputs and of the nodes in ``keep``, by path."""
    state = side.module.tensors if state is None else state
    captured = side.captured
    constants = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in captured.constants.items()
    }
    network = captured.network.live()
    with torch.no_grad():
        return run(
            network,
            {where: tensor.double() for where, tensor in captured.weights(state).items()},
            {network.inputs[0].path: image},
            keep={*keep, *(node.path for node in network.outputs)},
            opaque=lambda node, arriving: captured.steps[node.path](arriving, {**constants, **state}),
        )


def _called(side: Side, image: Tensor) -> Values:
    """Call the module itself; return its results by the path of the output.

    Raises:
        CaptureError: If it does not accept the image.
    """
    returned = side.module.call([image])
    if returned.error:
        raise CaptureError(f"{side.name} does not accept it: {returned.error}")
    results = returned.tensors
    return {path: results[name] for name, path in side.captured.network.results.items() if name in results}


def _check(side: Side, captured: Values, called: Values) -> None:
    for path, value in called.items():
        error = relative_error(captured[path], value)
        if error > CAPTURE_LIMIT:  # false for NaN, which the comparison reports
            raise CaptureError(f"{side.name}: its graph is off by {error:.2g} from its module at {path}")


def _compared(
    pair: SideBySide,
    engine: Engine,
    expected: Values,
    actual: Values,
    allowed: float,
    *,
    rounded: bool = True,
    image: Pair | None = None,
) -> RunModel:
    values = [(actual[right], expected[left]) for left, right in pair.outputs]
    error = _worst([relative_error(*sides) for sides in values])
    bit_equal = all(torch.equal(result, reference) for result, reference in values)
    comparable = [(result, reference) for result, reference in values if result.shape == reference.shape]
    return RunModel(
        engine=engine,
        size=image or pair.source.image,
        rounded=rounded,
        bit_equal=bit_equal,
        error=_finite(error),
        largest=_finite(_worst([float((result - reference).abs().max()) for result, reference in comparable])),
        allowed=allowed,
        equal=bit_equal or error <= allowed,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _worst(values: Sequence[float]) -> float:
    """Return the largest value; NaN is larger than any number."""
    return max(values, key=lambda value: float("inf") if value != value else value)  # noqa: PLR0124 - NaN


def _sensitivity(pair: SideBySide, image: Tensor, expected: Values, seed: int) -> float:
    """Return the error of the source if every weight is rounded once more, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in pair.source.module.tensors.items():
        if tensor.is_floating_point():
            sign = torch.randint(2, tensor.shape, generator=generator).double() * 2 - 1
            unit = torch.finfo(pair.source.dtypes[name]).eps / 2
            state[name] = tensor * (1 + unit * sign)
        else:
            state[name] = tensor
    values = _interpreted(pair.source, image, state)
    return _worst([relative_error(values[left], expected[left]) for left, _ in pair.outputs])


def _first(pair: SideBySide, seed: int, allowed: float) -> FirstModel | None:
    """Find the first operation in the order of the alignment whose value differs."""
    units = pair.source_units, pair.dest_units
    aligned = [(left, right) for left, right in pair.alignment.pairs if left is not None and right is not None]
    paths = []
    for left, right in aligned:
        if left in units[0] or isinstance(pair.source.captured.network[left].op, Opaque | Output):
            last = units[0][left].paths[-1] if left in units[0] else left
            paths.append((last, units[1][right].paths[-1] if right in units[1] else right))
    image = _image(pair.source, pair.source.image, seed)
    source = _interpreted(pair.source, image, keep=[left for left, _ in paths])
    dest = _interpreted(pair.dest, image, keep=[right for _, right in paths])
    for left, right in paths:
        order = pair.orders.get(right)
        value = source[left] if order is None else source[left][:, list(order)]
        error = relative_error(dest[right], value)
        if not error <= allowed:
            return FirstModel(path=right, source_path=left, error=_finite(error))
    return None
