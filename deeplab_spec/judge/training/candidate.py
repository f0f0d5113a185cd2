"""A candidate in training mode: its weights, statistics and gradients, its inputs, and its calls of dropout."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.execute.training import output_paths
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input, Pair
from deeplab_spec.judge.load_weights import Place, copy_weights
from deeplab_spec.judge.outputs import Answer, Shapes, call_candidate

Draw = Callable[[Pair, int, int], list[Tensor]]
"""Draws the inputs for an image's size, a batch and a seed, in float64."""

IMAGES: Final = ((51, 67), (64, 96), (289, 303), (320, 352))
"""Image sizes to train with: sides coprime to every stride; then multiples, for candidates that accept no other; then
larger ones likewise, for candidates whose maps shrink to nothing, as those of convolutions without padding do."""

SMALL: Final = ((33, 35), (32, 64), *IMAGES[2:])
"""Image sizes for many calls, likewise."""

BATCH: Final = 2


def images_of(network: Network) -> Draw:
    """Return a function that draws the inputs of a network whose inputs are all images of one size."""

    def draw(image: Pair, batch: int, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        channels = [node.op.channels for node in network.inputs if isinstance(node.op, Input)]
        return [torch.randn(batch, count, *image, generator=generator, dtype=torch.float64) for count in channels]

    return draw


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInputs:
    """The inputs of a training run.

    Attributes:
        network: The expected network.
        weights: Its weights, by path and role, in float64.
        draw: Draws the inputs.
        seed: Seed of inputs and loss.
        size: Index of the image size.
    """

    network: Network
    weights: Mapping[str, Tensor]
    draw: Draw
    seed: int
    size: int = 0

    @property
    def outputs(self) -> dict[str, str]:
        """The paths of the results by tap."""
        return output_paths(self.network)

    def batch(self, number: int) -> list[Tensor]:
        """Return the inputs of the first or the second batch."""
        return self.draw(IMAGES[self.size], BATCH, self.seed + number)

    def small(self, images: int) -> list[Tensor]:
        """Return a number of small inputs, in float32."""
        return [value.float() for value in self.draw(SMALL[self.size], images, self.seed + BATCH)]

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return inputs by path."""
        return {node.path: value for node, value in zip(self.network.inputs, inputs, strict=True)}

    def shapes(self, inputs: Sequence[Tensor]) -> dict[str, tuple[int, int, int]]:
        """Return channels, height and width of every value by path."""
        return shapes(
            self.network, {path: (int(x.shape[2]), int(x.shape[3])) for path, x in self.named(inputs).items()}
        )

    def taps(self, inputs: Sequence[Tensor]) -> Shapes:
        """Return the shapes of the results by tap."""
        found = self.shapes(inputs)
        return tuple((tap, (len(inputs[0]), *found[path])) for tap, path in self.outputs.items())

    def cotangents(self) -> dict[str, Tensor]:
        """Return the weight of every element of a result in the loss, by tap: the loss is their weighted sum."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            tap: torch.randn(shape, generator=generator, dtype=torch.float64) for tap, shape in self.taps(self.batch(0))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBatch:
    """The outcome of the first batch.

    Attributes:
        training: The training inputs, at a size that the candidate accepts.
        answer: The results, with running statistics of zero before it.
        moved: The running statistics after it.
        after: All buffers after it.
    """

    training: TrainingInputs
    answer: Answer
    moved: Mapping[str, Tensor]
    after: Mapping[str, Tensor]


ELEMENTS: Final = "dropout"
CHANNELS: Final = "dropout of whole channels"

_DEFAULT: Final = 0.5
_KINDS: Final[Mapping[Callable[..., Any], str]] = {
    **dict.fromkeys((functional.dropout, torch.dropout, torch.dropout_), ELEMENTS),
    **dict.fromkeys((functional.dropout1d, functional.dropout2d, functional.dropout3d), CHANNELS),
    **dict.fromkeys((torch.feature_dropout, torch.feature_dropout_), CHANNELS),
    **dict.fromkeys((functional.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_), "alpha dropout"),
    functional.feature_alpha_dropout: "alpha dropout of whole channels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutCall:
    """A recorded call of active dropout.

    Attributes:
        kind: The kind of dropout.
        probability: The probability that a value is dropped.
        module: Name of the innermost module that made the call.
        value: The input; empty if inputs are not kept.
    """

    kind: str
    probability: float
    module: str
    value: Tensor


class WithoutDropout(TorchFunctionMode):
    """Replaces every call of the framework's dropout by the identity, and records it.

    Args:
        names: Names of the candidate's modules.
        keep: Whether to keep the inputs of the calls.
    """

    def __init__(self, names: Mapping[nn.Module, str], *, keep: bool = False) -> None:
        super().__init__()
        self.names = names
        self.keep = keep
        self.within: list[str] = []
        self.calls: list[DropoutCall] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the call's result
        """Call a function of the framework, unless it is dropout."""
        kwargs = kwargs or {}
        kind = _KINDS.get(func)
        if kind is None:
            return func(*args, **kwargs)
        value, probability, active = _arguments(func, args, kwargs)
        if active and probability > 0:
            kept = value.detach().clone() if self.keep else value.new_empty(0)
            self.calls.append(
                DropoutCall(kind=kind, probability=probability, module=next(iter(self.within[::-1]), ""), value=kept)
            )
        return value

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Track which module is running."""

        def enter(module: nn.Module, _: object) -> None:
            self.within.append(self.names.get(module, ""))

        def leave(_: nn.Module, __: object, ___: object) -> None:
            self.within.pop()

        hooks = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.within.clear()


@contextmanager
def dropout_disabled(module: nn.Module) -> Iterator[None]:
    """Disable dropout modules: a checkpoint runs them again in the backward pass, where the mode is not active."""
    active = [part for part in module.modules() if isinstance(part, _DropoutNd) and part.training]
    for part in active:
        part.eval()
    try:
        yield
    finally:
        for part in active:
            part.train()


def _arguments(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, float, bool]:
    """Return the input of a dropout call, its rate, and whether it is active."""
    names = ("input", "p", "training" if func.__module__ == functional.__name__ else "train")
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return named["input"], float(named.get("p", _DEFAULT)), bool(named.get(names[2], True))


RUNNING = ("running_mean", "running_var")


class CandidateInTraining:
    """A candidate in training mode, in float64.

    Args:
        module: The candidate; it stays in training mode until :meth:`leave`.
        places: Where each tensor of the specification is stored in it.
    """

    def __init__(self, module: nn.Module, places: Sequence[Place]) -> None:
        self.module = module.double().train()
        self.places = tuple(places)
        self.names = {part: name for name, part in module.named_modules()}
        self.running = tuple(place for place in places if place.source.rpartition(".")[2] in RUNNING)
        self.calls: tuple[DropoutCall, ...] = ()

    def leave(self) -> None:
        """Return to evaluation mode, in float64."""
        self.module.zero_grad(set_to_none=True)
        self.module.double().eval()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights of the specification into the candidate."""
        copy_weights(weights, self.places, state_of(self.module))

    def fill_running(self, value: float) -> None:
        """Set every running statistic that has a place to one value."""
        state = state_of(self.module)
        with torch.no_grad():
            for place in self.running:
                place.read(state[place.name]).fill_(value)

    def buffers(self) -> dict[str, Tensor]:
        """Return a copy of the buffers, including counters."""
        return {name: buffer.detach().clone() for name, buffer in self.module.named_buffers(remove_duplicate=False)}

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        """Restore buffers."""
        state = state_of(self.module)
        with torch.no_grad():
            for name, buffer in buffers.items():
                if name in state and state[name].shape == buffer.shape:
                    state[name].copy_(buffer)

    def statistics(self) -> dict[str, Tensor]:
        """Return the running statistics, in the candidate's order of channels."""
        state = state_of(self.module)
        return _concatenated(self.running, {place: place.stored(state).clone() for place in self.running})

    def tensors(self) -> dict[str, Tensor]:
        """Return every placed tensor, in the candidate's order of channels."""
        state = state_of(self.module)
        return _concatenated(self.places, {place: place.stored(state).clone() for place in self.places})

    def gradients(self) -> dict[str, Tensor | None]:
        """Return the gradient of every placed tensor; None if it has none."""
        named = dict(self.module.named_parameters(remove_duplicate=False))
        found = {
            place: place.read(gradient)
            for place in self.places
            if place.name in named and (gradient := named[place.name].grad) is not None
        }
        missing = {place.source for place in self.places if place not in found}
        reached = _concatenated([place for place in self.places if place.source not in missing], found)
        return {place.source: reached.get(place.source) for place in self.places}

    @property
    def wholes(self) -> tuple[Place, ...]:
        """One place for each tensor of the specification: some tensors are stored in parts."""
        return tuple({place.source: place for place in self.places}.values())

    def call(
        self,
        inputs: Sequence[Tensor],
        expected: Shapes,
        seed: int,
        *,
        dropout: bool = False,
        differentiable: bool = False,
        keep: bool = False,
    ) -> Answer:
        """Call the candidate; errors are recorded, not raised.

        Args:
            inputs: Its arguments.
            expected: Shapes of the taps.
            seed: Seed of the random numbers that it draws.
            dropout: Whether its dropout is active.
            differentiable: Whether gradients of the results are needed.
            keep: Whether the inputs of dropout calls are kept.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(seed)
            if dropout:
                return call_candidate(self.module, inputs, expected, differentiable=differentiable)
            hooks = stack.enter_context(WithoutDropout(self.names, keep=keep))
            stack.enter_context(hooks.followed())
            answer = call_candidate(self.module, inputs, expected, differentiable=differentiable)
            self.calls = tuple(hooks.calls)
            return answer


def _concatenated(places: Iterable[Place], tensors: Mapping[Place, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the specification, in the candidate's order of channels; parts are concatenated."""
    parts: dict[str, list[Place]] = {}
    for place in places:
        parts.setdefault(place.source, []).append(place)
    found = {}
    for source, several in parts.items():
        first = several[0].part
        if first is None:
            found[source] = tensors[several[0]]
        else:
            several.sort(key=lambda place: place.part.at if place.part else 0)
            found[source] = torch.cat([tensors[place] for place in several], dim=first.axis)
    return found
