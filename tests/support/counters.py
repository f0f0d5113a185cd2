"""Runs the tools that count operations, to compare them with a closed form.

Each tool runs the module; operators have the names of :func:`deeplab_spec.analysis.conventions.operator`.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import MissingExtraError
from tests.support.peers import peer

_ARITHMETIC: Final = tuple(f"aten::{name}" for name in ("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "neg"))
"""Operators without a rule that a module may use on tensors, and on sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCount:
    """The counts of one run of a module.

    Attributes:
        total: Operations, for all images of the batch.
        by_operator: Operations by operator; operators that count nothing are left out.
        by_module: Operations by the module's name, with all that is in it; ``""`` is the whole.
        skipped: How many operators the tool met without a rule for them, by name.
    """

    total: int
    by_operator: Mapping[str, int]
    by_module: Mapping[str, int]
    skipped: Mapping[str, int]


def count_with_fvcore(module: nn.Module, inputs: Sequence[Tensor]) -> ToolCount:
    """Count a module in evaluation with fvcore's ``FlopCountAnalysis``.

    It traces a real forward pass: no tensor may be on the meta device. What it has no rule for, a
    sum of tensors for one, is not in the total; it is among the skipped instead of a warning. What
    the module works out with sizes, which a trace shows as operators too, is no part of either.

    Args:
        module: The implementation; its mode is as before afterwards.
        inputs: Its arguments.

    Raises:
        MissingExtraError: If fvcore is not installed.
    """
    with _in_mode(module, training=False), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # what fvcore is built on
        try:
            from fvcore.nn import FlopCountAnalysis
        except ImportError as error:
            raise MissingExtraError("counting with fvcore", "counters") from error
        analysis = FlopCountAnalysis(module, tuple(inputs))
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        arithmetic: Counter[str] = Counter()
        for name in _ARITHMETIC:
            analysis.set_op_handle(name, _skip(name, arithmetic))
        operators, modules = analysis.by_operator(), analysis.by_module()
        skipped = analysis.unsupported_ops() + arithmetic
    return ToolCount(
        total=int(modules[""]),
        by_operator=_counts(operators),
        by_module=_counts(modules),
        skipped=_counts(_without_in_place(skipped)),
    )


def count_with_torch(module: nn.Module, inputs: Sequence[Tensor], mode: Mode) -> ToolCount:
    """Count a module with torch's ``FlopCounterMode``.

    It works on the meta device too. It has no notion of an operator that it should have counted,
    so none is skipped.

    Args:
        module: The implementation; its mode is as before afterwards. A training step moves its
            running statistics, as any does, but leaves the gradients of its parameters alone.
        inputs: Its arguments.
        mode: An evaluation, or a training step: forward, and backward from every output to every
            parameter.
    """
    training = mode is Mode.TRAIN
    counter = FlopCounterMode(display=False)
    with _in_mode(module, training=training), torch.set_grad_enabled(training), counter:
        outputs = module(*inputs)
        if training:
            _gradients(module, outputs)
    return _read(counter, type(module).__name__)


def weight_gradients_divided_by_groups() -> bool:
    """Tell whether the installed torch divides the count of a grouped weight gradient by the groups.

    Where it does not, it counts more than is computed, by
    :func:`deeplab_spec.analysis.conventions.undivided_weight_gradients`.
    """
    with torch.device("meta"):
        conv = nn.Conv2d(2, 2, 1, groups=2, bias=False)
        counted = count_with_torch(conv, (torch.empty(1, 2, 1, 1),), Mode.TRAIN)
    forward_and_weights = 2 * 2 + 2 * 2
    return counted.total == forward_and_weights


@contextmanager
def _in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    before = [(layer, layer.training) for layer in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for layer, was in before:
            layer.training = was


def _gradients(module: nn.Module, outputs: object) -> None:
    """Compute the gradient of every parameter."""
    ends = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    torch.autograd.grad(ends, learned, [torch.ones_like(end) for end in ends], allow_unused=True)


def _read(counter: FlopCounterMode, root: str) -> ToolCount:
    found = counter.get_flop_counts()
    operators: Counter[str] = Counter()
    for packet, count in found.get("Global", {}).items():
        name = str(packet).removeprefix("aten.")
        operators["conv" if "convolution" in name else name] += count
    modules = {
        name.removeprefix(root).removeprefix("."): sum(counts.values())
        for name, counts in found.items()
        if name != "Global"
    }
    total = counter.get_total_flops()
    return ToolCount(total=total, by_operator=_counts(operators), by_module=_counts(modules | {"": total}), skipped={})


def _skip(name: str, skipped: Counter[str]) -> Callable[[list[Any], list[Any]], int]:
    """Return a rule that counts nothing, and lists an operator as skipped unless it works on a size."""

    def count(inputs: list[Any], outputs: list[Any]) -> int:
        del inputs
        kind = outputs[0].type()
        skipped[name] += not (kind.sizes() == [] and kind.scalarType() == "Long")
        return 0

    return count


def _without_in_place(names: Mapping[str, int]) -> Counter[str]:
    """Rename in-place operators to the plain ones."""
    counts: Counter[str] = Counter()
    for name, count in names.items():
        counts[name.removesuffix("_")] += count
    return counts


def _counts(numbers: Mapping[str, int]) -> dict[str, int]:
    return {name: int(count) for name, count in numbers.items() if count}


def count_with_thop(module: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return the operations and the parameters that thop counts in evaluation."""
    thop = peer("thop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operations, parameters = thop.profile(module, (image,), verbose=False)
    return int(operations), int(parameters)


def count_with_ptflops(module: nn.Module, image: Tensor, *, functions: bool = True, backend: str = "pytorch") -> int:
    """Return the operations that ptflops counts, with or without those of functions; mmcv counts as without."""
    counted, _ = peer("ptflops").get_model_complexity_info(
        module,
        tuple(image.shape[1:]),
        as_strings=False,
        print_per_layer_stat=False,
        backend=backend,
        backend_specific_config={"count_functional": functions},
    )
    return int(counted)


def count_with_torchinfo(module: nn.Module, image: Tensor) -> int:
    """Return the multiply-adds that torchinfo counts."""
    return int(peer("torchinfo").summary(module, input_data=image, verbose=0).total_mult_adds)
