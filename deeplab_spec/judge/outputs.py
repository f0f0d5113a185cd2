"""Calls a candidate or runs its captured graph, and assigns the results to taps; detects values that are not finite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.capture.candidate.module import Remote
from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import one_line
from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.tensor_error import all_finite
from deeplab_spec.execute.torch_settings import threads_for

IN_EVALUATION: Final = CallSettings()

Shapes = Sequence[tuple[str, tuple[int, ...]]]
"""Shapes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of a call of the candidate.

    Attributes:
        results: The tensors by tap.
        places: The place of each in the returned value, by tap.
        returned: The returned type; empty after an error.
        error: The error, in one line; empty if there was none.
        whole: All that the call returned.
    """

    results: dict[str, Tensor]
    places: dict[str, str] = field(default_factory=dict)
    returned: str = ""
    error: str = ""
    whole: Returned = field(default_factory=Returned)


def call_candidate(
    module: nn.Module,
    inputs: Sequence[Tensor],
    expected: Shapes,
    *,
    device: torch.device | None = None,
    settings: CallSettings = IN_EVALUATION,
) -> Answer:
    """Call a candidate on its device; errors are recorded, not raised.

    Args:
        module: The candidate, or a module of this process.
        inputs: Its arguments; they are copied to its device.
        expected: Shapes of the taps, by name.
        device: Its device; None for that of its weights.
        settings: How it is called.

    Returns:
        The results, on the device of the inputs.
    """
    return begin_call(module, inputs, expected, device=device, settings=settings)()


def begin_call(
    module: nn.Module | Remote,
    inputs: Sequence[Tensor],
    expected: Shapes,
    *,
    device: torch.device | None = None,
    settings: CallSettings = IN_EVALUATION,
) -> Callable[[], Answer]:
    """Start a call as :func:`call_candidate` makes it; return a function that waits for its answer."""
    home = inputs[0].device
    if isinstance(module, Remote):
        waiting = module.begin(inputs, settings)
    else:
        place = device or next((tensor.device for tensor in state_of(module).values()), home)
        arguments = [value.to(place) for value in inputs]
        begun = module.begin(arguments, settings) if isinstance(module, Candidate) else None
        waiting = begun or partial(_called, module, arguments)
    return lambda: assigned(waiting(), expected, home)


def assigned(returned: Returned, expected: Shapes, home: torch.device) -> Answer:
    """Return an answer with its tensors assigned to taps."""
    if returned.error:
        return Answer(results={}, error=returned.error)
    chosen = choose([(name, tuple(tensor.shape)) for name, tensor in returned.tensors.items()], expected)
    results = {tap: returned.tensors[name].to(home) for tap, name in chosen.items()}
    return Answer(results=results, places=chosen, returned=returned.kind, whole=returned)


def _called(module: nn.Module, inputs: Sequence[Tensor]) -> Returned:
    """Call a module of this process."""
    try:
        with torch.no_grad(), threads_for(inputs[0].dtype):
            result = module(*inputs)
    except Exception as error:  # noqa: BLE001 - a planted fault raises anything
        return Returned(error=one_line(error))
    tensors = {
        "".join(map(str, keys)): value
        for keys, value in pytree.tree_flatten_with_path(result)[0]
        if isinstance(value, Tensor)
    }
    return Returned(kind=type(result).__name__, tensors=tensors)


def choose(results: Shapes, expected: Shapes) -> dict[str, str]:
    """Find the result of each tap: by name, else by shape, else by map size, else by order.

    Args:
        results: Shapes of the results, by their position in the returned value.
        expected: Shapes of the taps, by name.

    Returns:
        The position of each tap; taps without a result are left out.

    >>> choose([("[0]", (1, 64, 8, 8)), ("[1]", (1, 9, 2, 2))], [("backbone", (1, 9, 2, 2))])
    {'backbone': '[1]'}
    """
    chosen: dict[str, str] = {}
    left = dict(results)
    rules = (
        lambda tap, _, name, __: name in {f"[{tap!r}]", f".{tap}"},
        lambda _, shape, __, found: found == shape,
        lambda _, shape, __, found: len(found) == len(shape) and found[2:] == shape[2:],
        lambda _, shape, __, found: len(found) == len(shape),
        lambda *_: True,
    )
    for rule in rules:
        for tap, shape in expected:
            if tap in chosen:
                continue
            name = next((name for name, found in left.items() if rule(tap, shape, name, found)), None)
            if name is not None:
                chosen[tap] = name
                del left[name]
    return chosen


class Overflow:
    """Watches the specification's own values: nothing can be compared with one that is not finite.

    Attributes:
        path: The first node whose value is not finite; empty while all are.
    """

    def __init__(self) -> None:
        self.path = ""

    def __call__(self, path: str, value: Tensor) -> None:
        """Check the value of a node."""
        if not self.path and not all_finite(value):
            self.path = path

    def reason(self, precision: str) -> str:
        """Return why nothing can be compared in a precision; empty if all values are finite."""
        return f"the specification itself is not finite in {precision} at {self.path}" if self.path else ""


def overflow_of(path: str, value: Tensor, precision: str) -> str:
    """Return why nothing can be compared with a value of the specification; empty if it is finite."""
    overflow = Overflow()
    overflow(path, value)
    return overflow.reason(precision)


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, unless it is of an integer dtype."""
    return tensor.double() if tensor.is_floating_point() else tensor


def in_double(captured: Capture) -> Capture:
    """Return a capture whose constants are in float64."""
    return replace(captured, constants={name: double(tensor) for name, tensor in captured.constants.items()})


def executed(captured: Capture, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Values:
    """Run a captured graph with the interpreter in float64; unknown operations run as they were captured.

    Args:
        captured: The graph.
        state: Parameters and buffers by name, in float64.
        inputs: Its arguments.

    Returns:
        The values of its outputs, by path.
    """
    captured = in_double(captured)
    named = {node.path: double(value) for node, value in zip(captured.network.inputs, inputs, strict=True)}
    with torch.no_grad():
        return captured.run(named, state, keep=())
