"""Which of a candidate's results is which tap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import one_line
from deeplab_spec.execute.torch_settings import threads_for

Shapes = Sequence[tuple[str, tuple[int, ...]]]
"""Shapes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call of the candidate gave.

    Attributes:
        results: The tensors by tap.
        returned: The type that came back; empty after an error.
        error: The error, in one line.
    """

    results: dict[str, Tensor]
    returned: str = ""
    error: str = ""


def call_candidate(
    module: nn.Module,
    inputs: Sequence[Tensor],
    expected: Shapes,
    *,
    device: torch.device | None = None,
    differentiable: bool = False,
) -> Answer:
    """Call a candidate where it is; whatever it raises is recorded, not raised.

    Args:
        module: The candidate, in evaluation or in training.
        inputs: Its arguments; where it is on another device, they are copied there.
        expected: Shapes of the taps, by name.
        device: Where it was put; None for where its weights are.
        differentiable: Whether the results shall have gradients.

    Returns:
        The results, where the arguments are.
    """
    home = inputs[0].device
    place = device or next((tensor.device for tensor in state_of(module).values()), home)
    try:
        with torch.set_grad_enabled(differentiable), threads_for(inputs[0].dtype):
            result = module(*(value.to(place) for value in inputs))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
        return Answer(results={}, error=one_line(error))
    named = [
        ("".join(map(str, keys)), value)
        for keys, value in pytree.tree_flatten_with_path(result)[0]
        if isinstance(value, Tensor)
    ]
    chosen = choose([(name, tuple(tensor.shape)) for name, tensor in named], expected)
    tensors = {name: value.to(home) for name, value in named}
    return Answer(results={tap: tensors[name] for tap, name in chosen.items()}, returned=type(result).__name__)


def choose(results: Shapes, expected: Shapes) -> dict[str, str]:
    """Find the result that is each tap: by name, else by shape, else by map size, else by order.

    Args:
        results: Shapes of the results, by where they stand in what came back.
        expected: Shapes of the taps, by name.

    Returns:
        Where each tap stands; taps that nothing can be are left out.

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
