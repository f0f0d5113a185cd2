"""A mutant: a network with one fault."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from deeplab_spec.graph.network import Network

Shapes = Mapping[str, tuple[int, ...]]
"""Channels, height and width of the values of a network for one image size, by path."""


class Shows(StrEnum):
    """Where a fault shows."""

    EVALUATION = "evaluation"
    TRAINING = "training"
    NOWHERE = "nowhere"
    """The mutant is provably the same function, in evaluation and in training."""


class TrainingFault(StrEnum):
    """A fault in training that the graph does not show."""

    DETACHED = "no gradient passes"
    FROZEN = "statistics of evaluation in training"
    BIASED = "variance without the correction of its bias"
    CHANNELS = "dropout of whole channels"
    WIDE = "initial weights of twice the scale"
    FLAT = "initial weights of another distribution"
    SHIFTED = "initial weights that are not centred"

    @property
    def is_initial(self) -> bool:
        """Whether the fault is in the initial weights, and not in the training steps."""
        return self in {TrainingFault.WIDE, TrainingFault.FLAT, TrainingFault.SHIFTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A network with one fault.

    Attributes:
        kind: What is wrong; faults of one kind have the same words everywhere.
        detail: Tells several of one kind at one node apart, e.g. the value that is read instead.
        path: The node with the fault.
        attribute: What is wrong with the node: a field of its operator, ``node``, ``inputs``, ``size`` or ``training``.
        network: The graph with the fault.
        shows: Where the fault shows.
        other_paths: Other nodes that a report may name, where several descriptions are the same graph.
        training_fault: The fault in training, where the graph has none.
        proof: Why the mutant is the same function in evaluation; empty if it is not.
    """

    kind: str
    detail: str = ""
    path: str
    attribute: str
    network: Network = field(repr=False)
    shows: Shows = Shows.EVALUATION
    other_paths: tuple[str, ...] = ()
    training_fault: TrainingFault | None = None
    proof: str = ""

    @property
    def name(self) -> str:
        """The mutant's name: unique among the mutants of a network, and stable."""
        return f"{self.kind}{self.detail and ' '}{self.detail} at {self.path}"

    @property
    def paths(self) -> frozenset[str]:
        """The nodes that a report may name for the fault."""
        return frozenset((self.path, *self.other_paths))

    @property
    def has_initial_fault(self) -> bool:
        """Whether the fault is in the initial weights."""
        return self.training_fault is not None and self.training_fault.is_initial
