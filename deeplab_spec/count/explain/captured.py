"""A user's network as a case: captured once, and then counted at any size."""

import sys
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deeplab_spec.align.network_at_size import Shaped, for_any_size
from deeplab_spec.analysis.conventions import Convention
from deeplab_spec.analysis.protocol import SINGLE
from deeplab_spec.analysis.terms import conv_weights
from deeplab_spec.capture.candidate.module import ModuleCandidate
from deeplab_spec.capture.target import Target, connect, is_file
from deeplab_spec.count.explain.candidates import Case
from deeplab_spec.count.explain.tally import Linear, Tally, logits_layers
from deeplab_spec.count.target_counts import Captured, read
from deeplab_spec.errors import TargetError
from deeplab_spec.graph.ops import Conv2d, Pair

if TYPE_CHECKING:
    from deeplab_spec.capture.target import TargetLike
    from deeplab_spec.count.explain.service import ExplainRequest

_SIZES: Final = ((513, 513), (512, 512))
"""The network is captured at the first size that it takes."""


def capture(
    request: "ExplainRequest", target: "TargetLike", output_stride: int, classes: int, conventions: Sequence[Convention]
) -> Case:
    """Return a target as a case.

    Raises:
        TargetError: If it cannot be built or read.
        GraphError: If its costs are not known.
    """
    built = replace(Target.of(target, request.arguments), process=request.process)
    sizes = (request.size,) if request.size else _SIZES
    captured = _at_a_size(built, output_stride, classes, sizes)
    network = for_any_size(Shaped(network=captured.network, shapes=captured.shapes))
    each = _unused_of_a_class(built, captured, output_stride, classes) if captured.unused else 0
    tally = Tally(network, conventions, captured.shared, Linear(captured.unused, each))
    return Case(name=captured.name, output_stride=output_stride, tally=tally)


def _at_a_size(target: Target, output_stride: int, classes: int, sizes: Sequence[Pair]) -> Captured:
    for size in sizes[:-1]:
        try:
            return read(target, output_stride, classes, size, SINGLE)
        except TargetError:
            continue  # it may take no odd sizes
    return read(target, output_stride, classes, sizes[-1], SINGLE)


def _unused_of_a_class(target: Target, captured: Captured, output_stride: int, classes: int) -> int:
    """Return how many parameters that no operation uses one more class has: the target is built again for it.

    They are those of an auxiliary head, as a rule, which is not run in evaluation.
    """
    if is_file(target.name):
        return 0
    own, more = (_parameters(target, output_stride, number) for number in (classes, classes + 1))
    layers = logits_layers(captured.network)
    op = captured.network[layers[0]].op if layers else None
    used = conv_weights(op) // op.channels_out + op.bias if isinstance(op, Conv2d) else 0
    return max(more - own - used, 0)


def _parameters(target: Target, output_stride: int, classes: int) -> int:
    with redirect_stdout(sys.stderr), closing(connect(target, output_stride, classes)) as module:
        if not isinstance(module, ModuleCandidate):
            return 0
        tensors = {id(tensor): tensor for name, tensor in module.tensors.items() if name in module.parameter_names}
        return sum(tensor.numel() for tensor in tensors.values())
