"""A wrong network: one network with one fault."""

from dataclasses import dataclass, field
from enum import StrEnum

from deeplab_spec.graph.network import Network


class Shows(StrEnum):
    """Where a fault shows."""

    EVALUATION = "evaluation"
    TRAINING = "training"
    NOWHERE = "nowhere"
    """The mutant is provably the same function, in evaluation and in training."""


class Habit(StrEnum):
    """What an implementation does in training that no graph of it shows."""

    DETACHED = "no gradient passes"
    FROZEN = "statistics of evaluation in training"
    BIASED = "variance without the correction of its bias"
    CHANNELS = "dropout of whole channels"
    WIDE = "initial weights of twice the scale"
    FLAT = "initial weights of another distribution"
    SHIFTED = "initial weights that are not centred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One wrong network.

    Attributes:
        kind: What is wrong, in the same words wherever it is made.
        detail: Which of several of the kind at one node, e.g. the value that is read instead.
        path: The node that it was made at.
        attribute: What of the node is wrong: a field of its record, ``node`` or ``inputs``.
        network: The graph that has the fault.
        shows: Where it shows.
        places: More nodes that a report may name for it, where several descriptions are the same graph.
        habit: What is wrong outside the graph; None if the graph has the fault.
        proof: Why it is the same function in evaluation; empty if it is not.
    """

    kind: str
    detail: str = ""
    path: str
    attribute: str
    network: Network = field(repr=False)
    shows: Shows = Shows.EVALUATION
    places: tuple[str, ...] = ()
    habit: Habit | None = None
    proof: str = ""

    @property
    def name(self) -> str:
        """The mutant's name among those of one network: unique and stable."""
        return f"{self.kind}{self.detail and ' '}{self.detail} at {self.path}"

    @property
    def named(self) -> frozenset[str]:
        """The nodes that a report may name for it."""
        return frozenset((self.path, *self.places))
