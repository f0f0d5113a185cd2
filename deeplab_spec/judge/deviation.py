"""The record of how far a value of the candidate is from the expected one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The error of one value or tensor of the candidate.

    Attributes:
        path: The specification's node.
        candidate_path: The candidate's node or tensor.
        error: Root mean square of the difference, over that of the expected value; in a lower precision, how many
            times the reference's error it is; None if nothing could be compared.
        allowed: The largest error that is not a finding.
        origin: The first node that differs in the direction in which an error spreads; empty if it is not searched for.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``; empty for the value of a node.
        dtype: The lower precision; empty for float64 and float32.
        covered: Whether the values that arrived could have shown a fault of this operation.
        reason: Which values were missing, or why nothing could be compared.
    """

    path: str
    candidate_path: str | None
    error: float | None
    allowed: float
    origin: str = ""
    role: str = ""
    dtype: str = ""
    covered: bool = True
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two values are equal but for rounding."""
        return self.error is not None and self.error <= self.allowed
