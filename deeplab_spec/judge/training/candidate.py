"""Controls a candidate in training mode: loads weights and running statistics, calls it, and reads its state."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.judge.load_weights import Place, copy_weights
from deeplab_spec.judge.outputs import Answer, Shapes, call_candidate
from deeplab_spec.judge.training.dropout_hooks import DropoutCall, WithoutDropout

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
        return _joined(self.running, {place: place.stored(state).clone() for place in self.running})

    def tensors(self) -> dict[str, Tensor]:
        """Return every placed tensor, in the candidate's order of channels."""
        state = state_of(self.module)
        return _joined(self.places, {place: place.stored(state).clone() for place in self.places})

    def gradients(self) -> dict[str, Tensor | None]:
        """Return the gradient of every placed tensor; None if it has none."""
        named = dict(self.module.named_parameters(remove_duplicate=False))
        found = {
            place: place.read(gradient)
            for place in self.places
            if place.name in named and (gradient := named[place.name].grad) is not None
        }
        missing = {place.source for place in self.places if place not in found}
        reached = _joined([place for place in self.places if place.source not in missing], found)
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


def _joined(places: Iterable[Place], tensors: Mapping[Place, Tensor]) -> dict[str, Tensor]:
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
