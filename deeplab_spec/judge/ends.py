"""Compares the results of whole runs with the oracle's."""

from collections.abc import Mapping

from deeplab_spec.checks.evidence import Deviation
from deeplab_spec.execute.interpreter import Values
from deeplab_spec.graph.ops import Output
from deeplab_spec.judge.results import Answer
from deeplab_spec.judge.running import relative_error
from deeplab_spec.judge.steps import Loaded


def compare_ends(
    loaded: Loaded, answer: Answer, oracle: Values, allowed: Mapping[str, float], first: Deviation | None
) -> tuple[Deviation, ...]:
    """Compare the results of a run by tap.

    Args:
        loaded: The candidate.
        answer: What it returned.
        oracle: What it must return, by the path of the output.
        allowed: The relative error that is no finding, by tap.
        first: The first step that differs, which is blamed for a difference.
    """
    deviations = []
    for node in loaded.expected.outputs:
        tap = node.op.name if isinstance(node.op, Output) else ""
        reason = answer.error
        if loaded.misfits:
            reason = "not every weight of the specification has a place, so the two cannot be run with the same weights"
        elif not answer.error and tap not in answer.results:
            reason = f"the candidate does not return {tap}"
        deviations.append(
            Deviation(
                path=node.path,
                candidate_path=first.candidate_path if first else loaded.reading.alignment.partner.get(node.path),
                place=first.place if first else node.path,
                error=None if reason else relative_error(answer.results[tap], oracle[node.path]),
                allowed=allowed[tap],
                reason=reason,
            )
        )
    return tuple(deviations)
