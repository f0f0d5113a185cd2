"""Two ways to run a mutant: as a graph in this process, or as a module in a candidate's process as for ``certify``."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate.connection import Connection
from deeplab_spec.capture.candidate.module import ModuleCandidate, Remote, local
from deeplab_spec.errors import CaptureError, TargetError
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.training import initial_tensor
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair, roles
from deeplab_spec.judge.load_weights import assign
from deeplab_spec.judge.numerics import end_to_end
from deeplab_spec.judge.outputs import call_candidate
from deeplab_spec.judge.plan import SpecifiedPlan, tap_of
from deeplab_spec.judge.precision.run import cast
from deeplab_spec.judge.structure.observe import GraphResult, decide_graph, decide_reading, read
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.initial_weights import specified_inits
from deeplab_spec.mutate.mutant import Mutant
from deeplab_spec.reference.network import assemble
from deeplab_spec.spec.choices import Choices
from deeplab_spec.spec.distributions import distribution
from deeplab_spec.spec.network import rows
from deeplab_spec.strength.modules import MutantModule, build_mutant, build_with_initial_fault, with_initial_fault

PACKAGE: Final = str(Path(__file__).parents[2])
"""The folder that this package is imported from, here and in a candidate's process."""


@dataclass(eq=False)
class Running(ABC):
    """A mutant that can be judged against the plan, its graph at an image of this height and width."""

    mutant: Mutant
    plan: SpecifiedPlan
    image: Pair
    seed: int

    @abstractmethod
    def decided(self) -> GraphResult:
        """Decide the clauses of the structure."""

    @abstractmethod
    def unmatched(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Return the tensors of the specification that are missing in it, or have another shape."""

    @abstractmethod
    def output(self, trial: end_to_end.Trial, dtype: torch.dtype) -> Tensor:
        """Return its first output for the input and the weights of a trial; it raises an error if it has none."""

    @abstractmethod
    def trainable(self) -> ModuleCandidate:
        """Return what is trained."""

    @abstractmethod
    def kernels(self, planned: SpecifiedPlan) -> tuple[Tensor, Tensor]:
        """Return its initial weight with the fault, drawn with two seeds."""

    def close(self) -> None:  # noqa: B027 - for those that hold something
        """Forget what was built."""


class AsGraph(Running):
    """A mutant in this process: its graph is given, and nodes before its fault are not run again."""

    def decided(self) -> GraphResult:
        """Decide its graph, with nothing run."""
        return decide_graph(self.plan, self.mutant.network, self.image)

    def unmatched(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Compare the shapes that its graph states."""
        return end_to_end.unmatched_tensors(self.mutant.network, weights)

    def output(self, trial: end_to_end.Trial, dtype: torch.dtype) -> Tensor:
        """Run its graph."""
        network, known, same = self.mutant.network, trial.values_in(dtype), set(trial.inputs)
        weights = {**cast(trial.weights, dtype), **cast(_extra(network, trial), dtype)}
        values: Values = cast(trial.inputs, dtype)
        for node in network:
            if node.path in values:
                continue
            if node.path in trial.network and trial.network[node.path] == node and same.issuperset(node.inputs):
                same.add(node.path)
                values[node.path] = known[node.path]
            else:
                values[node.path] = step(node, [values[path] for path in node.inputs], weights)
        return values[network.outputs[0].path]

    def trainable(self) -> ModuleCandidate:
        """Return a module of this process."""
        torch.manual_seed(self.seed)
        return local(MutantModule(self.mutant))

    def kernels(self, planned: SpecifiedPlan) -> tuple[Tensor, Tensor]:
        """Change the weight of networks that are built once for all mutants."""
        specified = distribution(
            planned.network[self.mutant.path].op, "weight", specified_inits(planned)[SPECIFIED][self.mutant.path]
        )
        if specified is None:
            raise ValueError(self.mutant.path)
        request, (first, second) = planned.request, (self.seed, self.seed + 1)
        drawn = (_new(request.choices, planned.output_stride, request.class_count, seed) for seed in (first, second))
        one, other = (module.get_parameter(f"{self.mutant.path}.weight").detach() for module in drawn)
        return (
            with_initial_fault(one, specified, self.mutant, first),
            with_initial_fault(other, specified, self.mutant, second),
        )


@dataclass(eq=False)
class AsCandidate(Running):
    """A mutant in a candidate's process, which builds it from its name: its graph is exported there and read here."""

    connection: Connection
    subject: Mapping[str, object]
    built: list[Remote] = field(default_factory=list)

    @cached_property
    def candidate(self) -> ModuleCandidate:
        """The mutant, built when it is needed."""
        return ModuleCandidate(self._remote(build_mutant.__name__))

    def decided(self) -> GraphResult:
        """Decide the graph that it exports; one that cannot be read fails no clause."""
        try:
            return decide_reading(self.plan, read(self.candidate, self.plan))
        except CaptureError:
            return GraphResult(failed=(), first=None)

    def unmatched(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Compare the shapes of the tensors that it has."""
        shapes = {name: tensor.shape for name, tensor in self.candidate.tensors.items()}
        return tuple(name for name, tensor in weights.items() if shapes.get(name) != tensor.shape)

    def output(self, trial: end_to_end.Trial, dtype: torch.dtype) -> Tensor:
        """Load the weights, and call it."""
        module = self.candidate.to(dtype)
        for name, tensor in cast({**trial.weights, **_extra(self.mutant.network, trial)}, dtype).items():
            assign(module.tensors[name], tensor)
        inputs = cast(trial.inputs, dtype)
        sizes = {path: (value.shape[-2], value.shape[-1]) for path, value in inputs.items()}
        answer = call_candidate(module, [*inputs.values()], self.plan.taps(sizes, 1))
        if answer.error:
            raise RuntimeError(answer.error)
        return answer.results[tap_of(trial.network.outputs[0])]

    def trainable(self) -> ModuleCandidate:
        """Return the candidate."""
        return self.candidate

    def kernels(self, planned: SpecifiedPlan) -> tuple[Tensor, Tensor]:
        """Build the network twice, and read the weight."""
        width = planned.choices.width
        name = f"{self.mutant.path}.weight"
        remote = self._remote(build_with_initial_fault.__name__, drawn_width=width)
        self.built.append(remote.second(self.seed + 1))
        one, other = (self.connection.unpack(each.ask("read", names=[name])["tensors"])[name] for each in self.built)
        return one, other

    def _remote(self, factory: str, **more: object) -> Remote:
        arguments = {"name": self.mutant.name, "image": self.image, **self.subject, **more}
        request = {
            "do": "build",
            "seed": self.seed,
            "module": build_mutant.__module__,
            "attribute": factory,
            "texts": {name: repr(value) for name, value in arguments.items()},
            "filled": {},
            "search": [PACKAGE],
        }
        remote = Remote(self.mutant.name, self.connection, lambda: request)
        self.built.append(remote)
        remote.ready()
        return remote

    def close(self) -> None:
        """Forget what was built.

        Raises:
            TargetError: If the process ended, which is no verdict.
        """
        for remote in self.built:
            remote.drop()
        if self.connection.generation > 1:
            raise TargetError(self.mutant.name, "the process that it ran in has ended")


def _extra(network: Network, trial: end_to_end.Trial) -> dict[str, Tensor]:
    """Return initial tensors for the parameters that only the mutant has."""
    return {
        name: initial_tensor(node, role, shape, torch.Generator().manual_seed(zlib.crc32(name.encode()))).double()
        for node in network
        for role, shape in roles(node.op).items()
        if (name := f"{node.path}.{role}") not in trial.weights
    }


@lru_cache(maxsize=2)
def _new(choices: Choices, output_stride: int, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return assemble(rows(choices, output_stride, classes))
