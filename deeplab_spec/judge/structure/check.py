"""Decides the clauses of the structure from the facts of aligned graphs.

Every fact of every node belongs to exactly one clause: that of the first matching row of :data:`SCOPES`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deeplab_spec.align.differences import Aspect
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Op, Opaque, Pool
from deeplab_spec.judge.evidence import Check, Evidence
from deeplab_spec.judge.finding import Decision, Finding, as_json
from deeplab_spec.spec.clauses import CLAUSES, Level

ANY: Final = (object,)
_CONV: Final = (Conv2d,)
_NORM: Final = (BatchNorm,)
_UNIT: Final = (BatchNorm, Activation)

_UNSTRIDED: Final = "unstrided "
"""Prefix of a pattern for layers of a block that loses its stride at this output stride."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The facts that one clause decides.

    Attributes:
        clause: Id of the clause.
        path: Pattern of the paths.
        ops: Kinds of operation.
        attributes: The attributes; empty for all.
    """

    clause: str
    path: str
    ops: tuple[type, ...] = ANY
    attributes: tuple[str, ...] = ()

    def fits(self, path: str, op: Op, attribute: str, *, unstrided: bool) -> bool:
        """Tell whether a fact, of a block that loses its stride or of another, is in this scope."""
        if self.attributes and attribute not in self.attributes:
            return False
        if self.path.startswith(_UNSTRIDED) and not unstrided:
            return False
        return isinstance(op, self.ops) and re.match(self.path.removeprefix(_UNSTRIDED), path) is not None


_HEAD: Final = r"(aspp|decoder)\."
_XCEPTION: Final = r"backbone\.(entry|middle|exit)_flow\."
_BACKBONE: Final = r"backbone\."
_SEPCONV: Final = r"backbone\.\w+\.block\d+\.sepconv"

# fmt: off
SCOPES: Final = (
    Scope("GRAPH-KNOWN", r".*", (Opaque,)),
    Scope("SAME-FAMILY", r".*", ANY, ("network",)),
    Scope("LOW-LEVEL-TAP", r"decoder\.low_level\.conv$|output\.low_level$", ANY, ("inputs",)),
    Scope("LOW-LEVEL-TAP", r"output\.low_level$"),
    Scope("SKIP-INPUT", r"backbone\..*\.(add|skip\.conv)$", ANY, ("inputs",)),
    Scope("ASPP-BRANCHES", r"aspp\.concat$", ANY, ("inputs",)),
    Scope("DECODER-RESIZE", r"decoder\.concat$", ANY, ("inputs",)),
    Scope("DATAFLOW", r".*", ANY, ("inputs",)),
    Scope("DATAFLOW", r"(input|output)(\.(?!resize)|$)"),
    Scope("BACKBONE-BIAS", r"backbone\.", _CONV, ("bias",)),
    Scope("BACKBONE-NORM-EPS", r"backbone\.", _NORM, ("eps",)),
    Scope("STEM-CONVS", r"backbone\.entry_flow\.stem\.", _CONV),
    Scope("XCEPTION-STRIDES", _XCEPTION, _CONV, ("stride",)),
    Scope("XCEPTION-CHANNELS", _XCEPTION, _CONV, ("channels_out",)),
    Scope("XCEPTION-PADDING", _XCEPTION, _CONV, ("padding",)),
    Scope("BACKBONE-POOLING", _BACKBONE, (Pool,)),
    Scope("SKIP-UNIT", r"backbone\..*\.skip\."),
    Scope("SEPCONV-FACTORS", _SEPCONV, _CONV, ("kernel", "groups")),
    Scope("EXIT2-RATES", r"backbone\.exit_flow\.block2\.", _CONV, ("rate",)),
    Scope("XCEPTION-UNSTRIDED-RATE", _UNSTRIDED + _XCEPTION, _CONV, ("rate",)),
    Scope("XCEPTION-RATES", _XCEPTION, _CONV, ("rate",)),
    Scope("XCEPTION-NORMS", _XCEPTION, _NORM),
    Scope("XCEPTION-ACTIVATIONS", _XCEPTION, (Activation,)),
    Scope("XCEPTION-LAYERS", _XCEPTION),
    Scope("BACKBONE-STEM", r"backbone\.stem\.", _CONV),
    Scope("BACKBONE-STRIDES", _BACKBONE, _CONV, ("stride",)),
    Scope("BACKBONE-CHANNELS", _BACKBONE, _CONV, ("channels_out",)),
    Scope("BACKBONE-PADDING", _BACKBONE, _CONV, ("padding",)),
    Scope("BACKBONE-KERNELS", _BACKBONE, _CONV, ("kernel", "groups")),
    Scope("BACKBONE-UNSTRIDED-RATE", _UNSTRIDED + _BACKBONE, _CONV, ("rate",)),
    Scope("BACKBONE-RATES", _BACKBONE, _CONV, ("rate",)),
    Scope("BACKBONE-NORMS", _BACKBONE, _NORM),
    Scope("BACKBONE-ACTIVATIONS", _BACKBONE, (Activation,)),
    Scope("BACKBONE-LAYERS", _BACKBONE),
    Scope("AUXILIARY-HEAD", r"auxiliary\."),
    Scope("HEAD-BIAS", r"(aspp|decoder\.(low_level|conv\d))", _CONV, ("bias",)),
    Scope("HEAD-NORM-EPS", _HEAD, _NORM, ("eps",)),
    Scope("ASPP-POOL", r"aspp\.pool\."),
    Scope("ASPP-PROJECTION", r"aspp\.(projection|refinement)\."),
    Scope("ASPP-RATES", r"aspp\.", _CONV, ("rate", "padding")),
    Scope("ASPP-CONVS", r"aspp\.", _CONV, ("kernel", "stride", "groups", "channels_out")),
    Scope("ASPP-UNITS", r"aspp\.", _UNIT),
    Scope("ASPP-BRANCHES", r"aspp\."),
    Scope("DECODER-LOW-LEVEL", r"decoder\.low_level\."),
    Scope("DECODER-RESIZE", r"decoder\.(resize|concat)$"),
    Scope("LOGITS-CONV", r"decoder\.logits\."),
    Scope("DECODER-UNITS", r"decoder\.", _UNIT),
    Scope("DECODER-CONVS", r"decoder\."),
    Scope("OUTPUT-RESIZE", r"output\.resize"),
)
# fmt: on


def clause_of(path: str, op: Op, attribute: str, unstrided: frozenset[str]) -> str:
    """Return the id of the clause that decides an attribute of a node, given the blocks that lose their stride."""
    inside = any(path.startswith(f"{block}.") for block in unstrided)
    return next((scope.clause for scope in SCOPES if scope.fits(path, op, attribute, unstrided=inside)), "DATAFLOW")


def by_clause(aspects: Iterable[Aspect], unstrided: frozenset[str]) -> dict[str, tuple[Aspect, ...]]:
    """Group facts by the clause that decides them, given the blocks that lose their stride at this output stride."""
    sorted_out: dict[str, list[Aspect]] = {}
    for aspect in aspects:
        clause = clause_of(aspect.path, aspect.op, aspect.attribute, unstrided)
        sorted_out.setdefault(clause, []).append(aspect)
    return {clause: tuple(found) for clause, found in sorted_out.items()}


_FOLDED_AWAY: Final = frozenset(
    {"BACKBONE-BIAS", "BACKBONE-NORM-EPS", "BACKBONE-NORMS", "XCEPTION-NORMS", "HEAD-BIAS", "HEAD-NORM-EPS"}
)
"""Clauses about normalisations, and about a bias beside one: not applicable if the normalisations are folded."""


def check(clause: str) -> Check:
    """Return the check of one clause of the structure."""

    def decide(evidence: Evidence) -> Decision:
        if evidence.aspects is None:
            return Decision(undecided=evidence.graph_reason)
        if not evidence.aspects:
            return Decision(undecided="the aligned graphs have no fact in common")
        mine = evidence.aspects.get(clause, ())
        findings = tuple(_finding(evidence, aspect) for aspect in mine if not aspect.equal)
        if clause in _FOLDED_AWAY and not findings and _all_folded(evidence, mine):
            return Decision(not_applicable="its normalisations are folded into its convolutions")
        return Decision(findings=findings, decisions=len(mine) + 1)  # one more: no other node is there

    return decide


def _all_folded(evidence: Evidence, facts: Iterable[Aspect]) -> bool:
    """Tell whether all facts are about convolutions that a normalisation is folded into."""
    if evidence.folded or not evidence.folded_convs:
        return evidence.folded
    return all(aspect.path in evidence.folded_convs for aspect in facts)


def _finding(evidence: Evidence, aspect: Aspect, hint: str = "") -> Finding:
    return Finding(
        path=aspect.path,
        candidate_path=aspect.candidate_path,
        attribute=aspect.attribute,
        expected=as_json(aspect.expected),
        actual=as_json(aspect.actual),
        hint=hint,
        output_stride=evidence.output_stride,
    )


def block_counts(evidence: Evidence) -> Decision:
    """Decide BLOCK-COUNTS: every block with the expected operations has the expected parameters and multiply-adds."""
    if evidence.counts is None:
        return Decision(undecided=evidence.graph_reason)
    comparable = [block for block in evidence.counts if block.comparable]
    findings = tuple(
        _finding(evidence, node, f"of {block.path}: {total.actual:,} {total.attribute}, must be {total.expected:,}")
        for block in comparable
        for total in (block.parameters, block.multiply_adds)
        for node in block.nodes
        if node.attribute == total.attribute and not node.equal
    )
    reason = "" if comparable else "the operations of every block differ"
    return Decision(findings=findings, decisions=2 * len(comparable), undecided=reason)


CHECKS: Final[dict[str, Check]] = {
    **{clause.id: check(clause.id) for clause in CLAUSES if clause.level is Level.STRUCTURE},
    "BLOCK-COUNTS": block_counts,
}
