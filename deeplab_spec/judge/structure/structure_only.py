"""Decides the structure of a network that is only a graph: nothing is run."""

from dataclasses import dataclass

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.decisions import CHECKS
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.finding import Finding, Verdict
from deeplab_spec.judge.numerics.divergence import first_of
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.structure.observe import unstrided_blocks
from deeplab_spec.spec.clauses import CLAUSES, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What the clauses of the structure say of a graph.

    Attributes:
        failed: Ids of the clauses that are false, in the order of the catalogue.
        first: The first finding along the alignment; None if there is none.
    """

    failed: tuple[str, ...]
    first: Finding | None


def structure(planned: SpecifiedPlan, candidate: Network, image: Pair) -> Structure:
    """Decide the clauses of the structure.

    Args:
        planned: What the candidate is held against.
        candidate: The graph.
        image: Height and width of the image.

    Raises:
        GraphError: If the candidate's shapes do not fit.
    """
    alignment = align(planned.expected(image), normal_form(shaped(candidate.live(), planned.inputs_at(image))))
    evidence = Evidence(
        output_stride=planned.output_stride,
        part=None,
        fixed_size=False,
        fixed_batch=False,
        aspects=by_clause(aspects(alignment), unstrided_blocks(planned.network)),
        counts=block_counts(alignment),
    )
    decided = {clause.id: CHECKS[clause.id](evidence) for clause in CLAUSES if clause.level is Level.STRUCTURE}
    failed = tuple(name for name, decision in decided.items() if decision.verdict is Verdict.FAILED)
    findings = [finding for decision in decided.values() for finding in decision.findings]
    return Structure(failed=failed, first=first_of(alignment, findings))
