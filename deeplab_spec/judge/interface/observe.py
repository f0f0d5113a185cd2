"""Observes a candidate at its interface: which inputs it accepts, what it returns, and whether the values are right."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from math import isnan
from typing import Any, Final

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate.module import ModuleCandidate, Remote, RequestError
from deeplab_spec.capture.capture import CallSettings, Candidate, Returned
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import ChildError, TargetError
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.tensor_error import largest_error, relative_error
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input
from deeplab_spec.judge import evidence
from deeplab_spec.judge.evidence import Call, Comparison
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.outputs import IN_EVALUATION, Answer, assigned, begin_call
from deeplab_spec.judge.plan import Plan, Sizes, Taps
from deeplab_spec.judge.precision.run import moved

SAME = 0.0
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-2}
"""Largest relative difference that another order of summation can cause over the depth of the network."""

BATCHES: Final = (1, 2, 3, 4, 5)
"""The batch sizes to try if a candidate accepts any."""

EXACT: Final = 1e-9
"""Largest relative error of values in float64, with weights that do not amplify rounding."""

OWN_ERRORS: Final = 32.0
"""Largest relative error of values in float32, over the specification's own: other inputs and sizes round otherwise."""

AS_BUILT: Final = 1e-6
"""Largest relative error of values in float64 with weights that may amplify rounding."""

_LARGE: Final = 2**18
"""Numbers of an image from which the expected values are computed in float32: float64 takes too long."""

AHEAD: Final = 12
"""Calls that are started before the answer of one is compared."""

_PROCESSOR = torch.device("cpu")

Tick = Callable[[str], None]
"""Called with the name of the next stage."""


def images(
    plan: Plan, sizes: Sizes, batch: int, dtype: torch.dtype, seed: int, device: torch.device = _PROCESSOR
) -> list[Tensor]:
    """Return random inputs of a candidate, equal on every device.

    Shape:
        One tensor ``(batch, channels, height, width)`` for each input of the plan.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for node in plan.network.inputs:
        if isinstance(node.op, Input):
            shape = (batch, node.op.channels, *sizes[node.path])
            drawn.append(torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype))
    return drawn


class Oracle:
    """What the specification computes with the weights that were loaded into a candidate.

    Args:
        network: The specification, as it is executed.
        weights: Its weights by path and role, in float64.
    """

    def __init__(self, network: Network, weights: Mapping[str, Tensor]) -> None:
        self.network = network
        self.limit = 0.0
        self.known: dict[torch.dtype, tuple[list[Tensor], dict[str, Tensor]]] = {}
        self.weights = {torch.float64: weights}

    def values(self, inputs: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the results by tap, computed in a dtype; those of the first images of a known batch are known."""
        inputs = [value.cpu().to(dtype) for value in inputs]
        batch, known = self.known.get(dtype, ([], {}))
        if len(batch) == len(inputs) and all(starmap(_begins, zip(batch, inputs, strict=True))):
            return {tap: value[: len(inputs[0])] for tap, value in known.items()}
        named = {node.path: value for node, value in zip(self.network.inputs, inputs, strict=True)}
        if dtype not in self.weights:
            self.weights[dtype] = {name: value.to(dtype) for name, value in self.weights[torch.float64].items()}
        with torch.no_grad(), threads_for(dtype):
            values = run(self.network, self.weights[dtype], named, keep=())
        return {name: values[path] for name, path in self.network.results.items()}

    def allowed(self, batch: Sequence[Tensor]) -> float:
        """Return the largest accepted error in float32, from the specification's own on a batch, which is kept."""
        if not self.limit:
            for dtype in (torch.float64, torch.float32):
                images = [value.cpu().to(dtype) for value in batch]
                self.known[dtype] = images, self.values(images, dtype)
            exact, rounded = self.known[torch.float64][1], self.known[torch.float32][1]
            own = max(relative_error(rounded[tap], value) for tap, value in exact.items())
            self.limit = OWN_ERRORS * max(own, torch.finfo(torch.float32).eps)
        return self.limit


def _begins(batch: Tensor, images: Tensor) -> bool:
    """Tell whether images are the first of a batch."""
    return batch.shape[1:] == images.shape[1:] and torch.equal(batch[: len(images)], images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A call to make.

    Attributes:
        purpose: What it tests.
        subject: What is special about it, in words; empty if its size is.
        inputs: Its arguments.
        sizes: The sizes of the inputs.
        module: What is called; None for a copy of the candidate that could not be made.
        settings: How it is called.
        legal: Whether the variant accepts the inputs.
        earlier: Waits for earlier calls with these inputs.
        error: Why there is no copy.
    """

    purpose: str
    subject: str = ""
    inputs: Sequence[Tensor]
    sizes: Sizes
    module: nn.Module | Remote | None
    settings: CallSettings = IN_EVALUATION
    legal: bool = True
    earlier: Callable[[], Returned] | None = None
    error: str = ""


def calls(
    module: nn.Module, plan: Plan, tick: Tick, device: torch.device = _PROCESSOR, oracle: Oracle | None = None
) -> tuple[Call, ...]:
    """Call a candidate in float32, in every way that must give the specification's values, and with illegal inputs.

    Args:
        module: The candidate, or a stand-in for it.
        plan: The sizes of the inputs.
        tick: Called with the name of the next stage.
        device: The device of the candidate.
        oracle: Computes the expected values; None if the candidate does not have the specification's weights.
    """
    first = images(plan, plan.small[0], plan.limits.batch or BATCHES[-1], torch.float32, plan.request.seed)
    begun: deque[Callable[[], Call]] = deque()
    made = []
    for planned in _planned(module, plan, device):
        begun.append(_begun(planned, plan, tick, oracle, first))
        if len(begun) > AHEAD:
            made.append(begun.popleft()())
    return (*made, *(waiting() for waiting in begun))


def _planned(module: nn.Module, plan: Plan, device: torch.device) -> Iterator[Planned]:
    def drawn(sizes: Sizes, batch: int) -> list[Tensor]:
        return images(plan, sizes, batch, torch.float32, plan.request.seed, device)

    for sizes in plan.sizes:
        yield Planned(purpose="size", inputs=drawn(sizes, plan.batch), sizes=sizes, module=module)
    first = plan.small[0]
    batches = (plan.batch,) if plan.limits.batch else BATCHES
    largest = drawn(first, batches[-1])
    for batch in batches:
        yield Planned(purpose="batch", inputs=[value[:batch] for value in largest], sizes=first, module=module)
    one = [value[: plan.batch].clone() for value in largest]
    for subject, inputs, settings in _ways(one):
        yield Planned(purpose="values", subject=subject, inputs=inputs, sizes=first, module=module, settings=settings)
    if isinstance(module, ModuleCandidate):
        yield from _copies(module, one, first)
        last, repeat = plan.small[-1], module.remote.connection.repetitions
        number, earlier = module.exercised or (0, None)
        yield Planned(
            purpose="values",
            subject=f"after {repeat} calls",
            inputs=drawn(last, plan.batch),
            sizes=last,
            module=module,
            settings=CallSettings(repeat=max(3, repeat + 3 - module.remote.calls)),
            earlier=earlier if module.remote.calls >= number else None,  # else its process ended, and it is built anew
        )
    wider = torch.cat([one[0], one[0][:, :1]], dim=1)
    yield Planned(purpose="rank", inputs=[one[0][0], *one[1:]], sizes=first, module=module, legal=False)
    yield Planned(purpose="channels", inputs=[wider, *one[1:]], sizes=first, module=module, legal=False)


def _ways(inputs: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor], CallSettings]]:
    """Yield the ranges, layouts and modes in which the same values are expected, each in words."""
    ranges: dict[str, Callable[[Tensor], Tensor]] = {
        "whole numbers from 0 to 255": lambda value: (127.5 * (1 + torch.erf(value))).round(),
        "values from 0 to 1": lambda value: (1 + torch.erf(value)) / 2,
        "values from -1 to 1": torch.erf,
        "values above 0": torch.abs,
        "values beyond 10": lambda value: 20 * value,
        "a slice of a wider image": lambda value: value.repeat_interleave(2, dim=3)[..., ::2],
        "channels last": lambda value: value.to(memory_format=torch.channels_last),
    }
    for subject, change in ranges.items():
        yield subject, [change(value) for value in inputs], IN_EVALUATION
    for gradients, subject in (("on", "gradients recorded"), ("inference", "inference mode")):
        yield subject, list(inputs), CallSettings(gradients=gradients)


def _copies(module: ModuleCandidate, inputs: Sequence[Tensor], sizes: Sizes) -> Iterator[Planned]:
    """Yield a call of a deep copy, and of a second build that has the saved state; what cannot be copied has none."""

    def planned(subject: str, copied: Remote | None, error: str = "") -> Planned:
        return Planned(purpose="values", subject=subject, inputs=inputs, sizes=sizes, module=copied, error=error)

    try:
        module.send()
        copied = module.remote.copied()
    except RequestError:  # some modules that are right cannot be copied
        module.copyable = False
    except (ChildError, TargetError):
        pass
    else:
        yield planned("a deep copy", copied)
        copied.drop()
    if module.repeatable:
        subject = "a second build with the saved state"
        try:
            second = module.remote.second(1)
            module.send()  # if the process had ended, both are built anew
            module.remote.ask("reload", to=second.number)
        except (RequestError, ChildError, TargetError) as error:
            yield planned(subject, None, f"it cannot be made: {error}")
        else:
            yield planned(subject, second)
            second.drop()


def _begun(
    planned: Planned, plan: Plan, tick: Tick, oracle: Oracle | None, first: Sequence[Tensor]
) -> Callable[[], Call]:
    """Start a call, and compute the expected values; return a function that waits for the candidate's."""
    tick(f"{planned.subject or planned.purpose} {' '.join(str(tuple(value.shape)) for value in planned.inputs)}")
    expected = plan.taps(planned.sizes, planned.inputs[0].shape[0]) if planned.legal else ()
    if planned.module is None:
        return lambda: _record(planned, expected, Answer(results={}, error=planned.error))
    waiting = begin_call(planned.module, planned.inputs, expected, settings=planned.settings)
    if oracle is None or not planned.legal:
        return lambda: _record(planned, expected, waiting())

    allowed = oracle.allowed(first)
    values = oracle.values(planned.inputs, torch.float32 if planned.inputs[0].numel() > _LARGE else torch.float64)

    def compared() -> Call:
        answer = waiting()
        return replace(
            _record(planned, expected, answer),
            allowed=allowed,
            **_difference(answer, values, *_earlier(planned, answer, expected)),
        )

    return compared


def _earlier(planned: Planned, answer: Answer, expected: Taps) -> Iterator[Answer]:
    """Yield the results of calls with the same inputs before an answer, those that are equal once."""
    for returned in (answer.whole, planned.earlier() if planned.earlier else Returned()):
        if returned.error:
            yield Answer(results={}, error=returned.error)
        for tensors in returned.distinct:
            yield assigned(replace(returned, tensors=tensors), expected, planned.inputs[0].device)


def _difference(answer: Answer, values: Mapping[str, Tensor], *earlier: Answer) -> dict[str, Any]:
    """Return the largest relative error of a tap, in any answer, or why there is none."""
    found = []
    for each in (answer, *earlier):
        wrong = [tap for tap in values if tap not in each.results or each.results[tap].shape != values[tap].shape]
        if each.error or wrong:
            return {"reason": each.error or f"{wrong[0]} is missing, or has another shape"}
        found += [relative_error(each.results[tap].cpu(), value) for tap, value in values.items()]
    return {"difference": next(filter(isnan, found), max(found))}


def _record(planned: Planned, expected: Taps, answer: Answer) -> Call:
    results = tuple(
        (
            tap,
            evidence.Tensor(
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                finite=bool(tensor.isfinite().all()),
            ),
        )
        for tap, tensor in answer.results.items()
    )
    return Call(
        purpose=planned.purpose,
        subject=planned.subject,
        legal=planned.legal,
        inputs=tuple(tuple(value.shape) for value in planned.inputs),
        dtype=str(planned.inputs[0].dtype).removeprefix("torch."),
        expected=expected,
        results=results,
        returned=answer.returned,
        error=answer.error,
    )


def comparisons(
    module: nn.Module,
    plan: Plan,
    dtype: torch.dtype,
    tick: Tick,
    device: torch.device = _PROCESSOR,
    oracle: Oracle | None = None,
) -> tuple[Comparison, ...]:
    """Compare evaluations that must agree, with the candidate's present weights.

    Args:
        module: The candidate, in ``dtype``.
        plan: The sizes of the inputs.
        dtype: Dtype of inputs and weights; float64 shows the smallest faults.
        tick: Called with the name of the next stage.
        device: The device of the candidate.
        oracle: Computes the expected values; None if the candidate does not have the specification's weights.
    """
    sizes = plan.small[0]
    expected = plan.taps(sizes, plan.batch)
    inputs = images(plan, sizes, plan.limits.batch or 2, dtype, plan.request.seed + 1, device)
    one = [value[: plan.batch].clone() for value in inputs]
    passed = [value.clone() for value in one]
    before = {name: tensor.clone() for name, tensor in state_of(module).items()}
    tick("repetition, batch and layout")
    waiting = begin_call(module, passed, expected, settings=CallSettings(after=True))
    repeated = begin_call(module, [value.clone() for value in one], expected)
    reading = module.begin_refresh() if isinstance(module, ModuleCandidate) else str
    of_both = begin_call(module, inputs, plan.taps(sizes, len(inputs[0])))
    last = [value.to(memory_format=torch.channels_last) for value in one]
    of_other = begin_call(module, last, expected)
    exact = oracle.values(one, dtype) if oracle and dtype is torch.float64 else {}
    first, again, unread = waiting(), repeated(), reading()
    passed = list(first.whole.after) or passed
    nothing, now = torch.empty(0), state_of(module)
    changed = [_changed("state", name, value, now.get(name, nothing)) for name, value in before.items()]
    both, other = of_both(), of_other()
    halves = Answer(results={tap: tensor[: plan.batch] for tap, tensor in both.results.items()}, error=both.error)
    return (
        *([_exact(first, exact)] if exact else []),
        _compare("repeat", first, again, SAME),
        _compare("batch", first, halves, ROUNDING[dtype]),
        _compare("layout", first, other, ROUNDING[dtype]),
        *(_changed("input", "image", old, new) for old, new in zip(one, passed, strict=True)),
        replace(_nothing("state"), difference=None, reason=unread)
        if unread
        else max(changed, key=lambda comparison: comparison.difference or 0.0, default=_nothing("state")),
    )


def _exact(answer: Answer, values: Mapping[str, Tensor]) -> Comparison:
    """Compare values in float64 with the specification's."""
    found = {"difference": None, **_difference(answer, values)}
    return Comparison(purpose="values", subject="in float64", allowed=EXACT, **found)


def with_first_weights(
    module: Candidate, network: Network, places: Sequence[Place], plan: Plan
) -> tuple[Comparison, ...]:
    """Compare a call with the weights that a candidate was built with.

    Args:
        module: The candidate, in float64.
        network: The specification, as it is executed.
        places: Where each of its tensors is stored; nothing is compared if one is in parts or in another order.
        plan: The sizes of the inputs.
    """
    if module.float32_only or not all(place.order is None and place.part is None for place in places):
        return ()
    sizes = plan.small[0]
    inputs = images(plan, sizes, plan.batch, torch.float64, plan.request.seed + 2, torch.device(plan.request.device))
    with moved(module, torch.device(plan.request.device)):
        waiting = begin_call(module, inputs, plan.taps(sizes, plan.batch))
    weights = {place.source: place.read(module.tensors[place.name]) for place in places}
    expected = Oracle(network, weights).values(inputs, torch.float64)
    found = {"difference": None, **_difference(waiting(), expected)}
    return (Comparison(purpose="values", subject="with the weights that it was built with", allowed=AS_BUILT, **found),)


def _nothing(purpose: str) -> Comparison:
    return Comparison(purpose=purpose, subject="the candidate's state (it has none)", difference=0.0, allowed=SAME)


def _changed(purpose: str, subject: str, before: Tensor, after: Tensor) -> Comparison:
    same = torch.equal(before, after)
    if not same and before.shape == after.shape:
        same = bool(((before == after) | (before.isnan() & after.isnan())).all())
    difference = 0.0 if same else largest_error(after, before)
    return Comparison(purpose=purpose, subject=subject, difference=difference, allowed=SAME)


def _compare(purpose: str, left: Answer, right: Answer, allowed: float) -> Comparison:
    """Compare the results of two calls; the largest difference of any tap counts."""
    error = left.error or right.error
    taps = left.results.keys() & right.results.keys()
    if error or not taps:
        reason = error or "the candidate returned no tensor"
        return Comparison(purpose=purpose, subject="result", difference=None, allowed=allowed, reason=reason)
    difference = max(largest_error(right.results[tap], left.results[tap]) for tap in taps)
    return Comparison(purpose=purpose, subject="result", difference=difference, allowed=allowed)
