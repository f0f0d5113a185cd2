"""A candidate in training mode: its weights, statistics and gradients, its inputs, and its calls of dropout."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.capture.candidate.module import ModuleCandidate, RequestError
from deeplab_spec.capture.capture import CallSettings
from deeplab_spec.errors import ChildError, TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input, Pair
from deeplab_spec.judge.load_weights import Place, assign, copy_weights
from deeplab_spec.judge.outputs import Answer, Shapes, begin_call
from deeplab_spec.judge.training.evidence import Site

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
        return self.network.results

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
"""The kind of dropout that drops single values, as the candidate's process names it."""

DropoutCall = tuple[Site, Tensor]
"""A recorded call of dropout, by the innermost module that made it, and its input, which is empty if it is not kept."""

RUNNING = ("running_mean", "running_var")


class CandidateInTraining:
    """A candidate that is trained, in float64.

    Attributes:
        places: Where each tensor of the specification is stored in it.
        frozen: Parameters of convolutions that hold a normalisation that take no gradient, by path and role.
    """

    def __init__(self, module: ModuleCandidate, places: Sequence[Place], folded: Collection[str] = ()) -> None:
        self.module = module.double()
        self.places = tuple(places)
        self.frozen = {
            place.source
            for place in places
            if place.source.rpartition(".")[0] in folded and place.name not in module.trained
        }
        self.running = tuple(place for place in places if place.source.rpartition(".")[2] in RUNNING)
        self.calls: tuple[DropoutCall, ...] = ()
        self.reached: dict[str, Tensor] = {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights of the specification into the candidate."""
        copy_weights(weights, self.places, self.module.tensors)

    def fill_running(self, value: float) -> None:
        """Set every running statistic that has a place to one value."""
        for place in self.running:
            stored = place.stored(self.module.tensors)
            assign(stored, torch.full_like(stored, value))

    def buffers(self) -> dict[str, Tensor]:
        """Return a copy of the buffers, including counters."""
        parameters = set(self.module.parameter_names)
        return {name: tensor.clone() for name, tensor in self.module.tensors.items() if name not in parameters}

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        """Restore buffers."""
        state = self.module.tensors
        for name, buffer in buffers.items():
            if name in state and state[name].shape == buffer.shape:
                assign(state[name], buffer)

    def statistics(self) -> dict[str, Tensor]:
        """Return the running statistics, in the candidate's order of channels."""
        return _concatenated({place: place.stored(self.module.tensors).clone() for place in self.running})

    def tensors(self) -> dict[str, Tensor]:
        """Return every placed tensor, in the candidate's order of channels; some are those of the candidate."""
        return _concatenated({place: place.stored(self.module.tensors) for place in self.places})

    def gradients(self) -> dict[str, Tensor | None]:
        """Return the gradient of every placed tensor; None if it has none."""
        found = {place: place.read(self.reached[place.name]) for place in self.places if place.name in self.reached}
        missing = {place.source for place in self.places if place not in found}
        reached = _concatenated({place: value for place, value in found.items() if place.source not in missing})
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
        **how: bool,
    ) -> Answer:
        """Call the candidate as :meth:`begin` does, and wait for its answer."""
        return self.begin(inputs, expected, seed, **how)()

    def begin(
        self,
        inputs: Sequence[Tensor],
        expected: Shapes,
        seed: int,
        *,
        train: bool = True,
        dropout: bool = False,
        differentiable: bool = False,
    ) -> Callable[[], Answer]:
        """Start a call of the candidate; return a function that waits for its answer.

        Errors are recorded, not raised. In training, its buffers are read back. Calls of inactive dropout are
        recorded; those of a differentiable call with their inputs.
        """
        gradients = "on" if differentiable else "off"
        settings = CallSettings(train=train, gradients=gradients, seed=seed, dropout=dropout, hold=differentiable)
        waiting = begin_call(self.module, inputs, expected, settings=settings)
        return lambda: self._answered(waiting(), inputs, train=train, dropout=dropout)

    def _answered(self, answer: Answer, inputs: Sequence[Tensor], *, train: bool, dropout: bool) -> Answer:
        if train and not answer.error:
            unread = self.module.refresh(sorted(self.module.tensors.keys() - set(self.module.parameter_names)))
            answer = Answer(results={}, error=unread) if unread else answer
        if not dropout:
            kept = answer.whole.dropped or [inputs[0].new_empty(0)] * len(answer.whole.dropouts)
            recorded = zip(answer.whole.dropouts, kept, strict=False)
            self.calls = tuple(
                (Site(path=module, kind=kind, probability=rate), value) for (kind, rate, module), value in recorded
            )
        return answer

    def differentiate(self, cotangents: Mapping[str, Tensor]) -> str:
        """Run the backward pass of the last call; return the error that it raised, if any.

        ``cotangents`` are the weights of the elements of a result in the loss, by the result's place.
        """
        remote = self.module.remote
        try:
            answer = remote.ask("backward", cotangents=remote.connection.pack(cotangents))
            self.reached = remote.connection.unpack(answer["gradients"])
        except (RequestError, ChildError, TargetError, KeyError) as error:
            return str(error)
        return ""

    def step(self, rate: float) -> str:
        """Take a step of gradient descent, and read the parameters back; return the error that it raised, if any."""
        try:
            self.module.remote.ask("step", rate=rate)
        except (RequestError, ChildError, TargetError) as error:
            return str(error)
        return self.module.refresh()


def _concatenated(tensors: Mapping[Place, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the specification, in the candidate's order of channels; parts are concatenated."""
    parts: dict[str, list[Place]] = {}
    for place in tensors:
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
