"""Observes a candidate at its interface: which inputs it accepts, and what it returns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate.module import ModuleCandidate
from deeplab_spec.capture.capture import CallSettings
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.execute.tensor_error import largest_error
from deeplab_spec.graph.ops import Input
from deeplab_spec.judge import evidence
from deeplab_spec.judge.evidence import Call, Comparison
from deeplab_spec.judge.outputs import Answer, call_candidate
from deeplab_spec.judge.plan import Plan, Sizes

SAME = 0.0
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-2}
"""Largest relative difference that another order of summation can cause over the depth of the network."""

BATCHES = (1, 2, 3)
"""The batch sizes to try if a candidate accepts any."""

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


def calls(module: nn.Module, plan: Plan, tick: Tick, device: torch.device = _PROCESSOR) -> tuple[Call, ...]:
    """Call a candidate with legal and illegal inputs in float32, on its device."""
    return tuple(_calls(module, plan, tick, device))


def _calls(module: nn.Module, plan: Plan, tick: Tick, device: torch.device) -> Iterator[Call]:
    def call(purpose: str, inputs: list[Tensor], sizes: Sizes, *, legal: bool = True) -> Call:
        tick(f"{purpose} {' '.join(str(tuple(value.shape)) for value in inputs)}")
        expected = plan.taps(sizes, inputs[0].shape[0]) if legal else ()
        return _record(purpose, inputs, expected, call_candidate(module, inputs, expected), legal=legal)

    seed = plan.request.seed
    for sizes in plan.small:
        yield call("size", images(plan, sizes, plan.batch, torch.float32, seed, device), sizes)
    first = plan.small[0]
    for batch in (plan.batch,) if plan.limits.batch else BATCHES:
        yield call("batch", images(plan, first, batch, torch.float32, seed, device), first)
    inputs = images(plan, first, plan.batch, torch.float32, seed, device)
    yield call("rank", [inputs[0][0], *inputs[1:]], first, legal=False)
    wider = torch.cat([inputs[0], inputs[0][:, :1]], dim=1)
    yield call("channels", [wider, *inputs[1:]], first, legal=False)


def _record(
    purpose: str,
    inputs: Sequence[Tensor],
    expected: tuple[tuple[str, tuple[int, ...]], ...],
    answer: Answer,
    *,
    legal: bool,
) -> Call:
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
        purpose=purpose,
        legal=legal,
        inputs=tuple(tuple(value.shape) for value in inputs),
        dtype=str(inputs[0].dtype).removeprefix("torch."),
        expected=expected,
        results=results,
        returned=answer.returned,
        error=answer.error,
    )


def comparisons(
    module: nn.Module, plan: Plan, dtype: torch.dtype, tick: Tick, device: torch.device = _PROCESSOR
) -> tuple[Comparison, ...]:
    """Compare evaluations that must agree, with the candidate's present weights.

    Args:
        module: The candidate, in ``dtype``.
        plan: The sizes of the inputs.
        dtype: Dtype of inputs and weights; float64 shows the smallest faults.
        tick: Called with the name of the next stage.
        device: The device of the candidate.
    """
    sizes = plan.small[0]
    expected = plan.taps(sizes, plan.batch)
    inputs = images(plan, sizes, plan.limits.batch or 2, dtype, plan.request.seed + 1, device)
    one = [value[: plan.batch].clone() for value in inputs]
    passed = [value.clone() for value in one]
    before = {name: tensor.clone() for name, tensor in state_of(module).items()}
    tick("repetition, batch and layout")
    first = call_candidate(module, passed, expected, settings=CallSettings(after=True))
    passed = list(first.whole.after) or passed
    again = call_candidate(module, [value.clone() for value in one], expected, settings=CallSettings(seed=1))
    unread = module.refresh() if isinstance(module, ModuleCandidate) else ""
    nothing, now = torch.empty(0), state_of(module)
    changed = [_changed("state", name, before.get(name, nothing), now.get(name, nothing)) for name in {**before, **now}]
    both = call_candidate(module, inputs, plan.taps(sizes, len(inputs[0])), settings=CallSettings(seed=1))
    halves = Answer(results={tap: tensor[: plan.batch] for tap, tensor in both.results.items()}, error=both.error)
    last = [value.to(memory_format=torch.channels_last) for value in one]
    other = call_candidate(module, last, expected, settings=CallSettings(seed=1))
    return (
        _compare("repeat", first, again, SAME),
        _compare("batch", first, halves, ROUNDING[dtype]),
        _compare("layout", first, other, ROUNDING[dtype]),
        *(_changed("input", "image", old, new) for old, new in zip(one, passed, strict=True)),
        replace(_nothing("state"), difference=None, reason=unread)
        if unread
        else max(changed, key=lambda comparison: comparison.difference or 0.0, default=_nothing("state")),
    )


def _nothing(purpose: str) -> Comparison:
    return Comparison(purpose=purpose, subject="the candidate's state (it has none)", difference=0.0, allowed=SAME)


def _changed(purpose: str, subject: str, before: Tensor, after: Tensor) -> Comparison:
    same = before.shape == after.shape and bool(((before == after) | (before.isnan() & after.isnan())).all())
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
