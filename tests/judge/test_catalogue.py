"""Every clause has a check, every check a clause, and every fact of the structure a clause of its own."""

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from deeplab_spec.align.differences import Aspect, aspects
from deeplab_spec.align.match import align
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge.decisions import CHECKS
from deeplab_spec.judge.structure.check import SCOPES, by_clause, clause_of
from deeplab_spec.mutate.mutant import with_inputs, without
from deeplab_spec.spec.choices import ChoiceValue, choose, names, seen_values
from deeplab_spec.spec.clauses import CLAUSES, Level, clause, clauses_of
from deeplab_spec.spec.network import PARTS
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from tests.support.graphs import narrow_network, narrow_normal, normal, with_op
from tests.support.members import OTHERS, XCEPTIONS

EVERY = {entry.id for entry in CLAUSES if entry.level is Level.STRUCTURE} - {"BLOCK-COUNTS"}
STRUCTURE = EVERY & {entry.id for entry in clauses_of(None, "xception")}
"""Clauses that are decided from facts of nodes; counts of blocks are tested with the alignment."""

SELDOM = {"GRAPH-KNOWN", "SAME-FAMILY"}
"""Clauses about what a network of the specification never has: unknown operations, another network."""

CASES = [(variant, output_stride) for variant in XCEPTIONS for output_stride in variant.output_strides]
ALL = pytest.mark.parametrize(("variant", "output_stride"), CASES, ids=lambda item: getattr(item, "name", str(item)))


def unstrided(network: Network) -> frozenset[str]:
    """Return the blocks whose skip lost its stride."""
    skips = {node.path: node.op for node in network if node.path.endswith(".skip.conv")}
    return frozenset(
        path.removesuffix(".skip.conv") for path, op in skips.items() if isinstance(op, Conv2d) and op.stride == (1, 1)
    )


def test_every_clause_has_a_check_and_every_check_a_clause() -> None:
    """A sentence that nothing decides would pass in silence."""
    assert set(CHECKS) == {entry.id for entry in CLAUSES}
    assert len(CLAUSES) == len(set(CHECKS)), "ids are unique"


def test_every_scope_names_a_clause_of_the_structure_and_every_such_clause_has_a_scope() -> None:
    """A clause without a scope could never fail."""
    assert {scope.clause for scope in SCOPES} == EVERY


@ALL
def test_every_fact_of_a_variant_belongs_to_a_clause_of_the_structure(variant: Variant, output_stride: int) -> None:
    """Every aspect once; every clause but the seldom ones decides something."""
    normal_form = narrow_normal(variant.choices, output_stride)
    found = aspects(align(normal_form, normal_form))
    sorted_out = by_clause(found, unstrided(narrow_network(variant.choices, output_stride)))

    assert set(sorted_out) <= STRUCTURE
    assert Counter(found) == Counter(aspect for mine in sorted_out.values() for aspect in mine)
    without_refinement = {"DECODER-CONVS", "DECODER-UNITS"} if variant is NOTEBOOK else set()
    without_removed_strides = {"XCEPTION-UNSTRIDED-RATE"} if output_stride == 32 else set()
    assert STRUCTURE - set(sorted_out) == SELDOM | without_refinement | without_removed_strides


@pytest.mark.parametrize("variant", OTHERS, ids=lambda variant: variant.name)
def test_every_fact_of_a_member_belongs_to_a_clause_of_its_family(variant: Variant) -> None:
    """A new backbone has clauses without an edit of the scopes."""
    normal_form = narrow_normal(variant.choices, 16)
    sorted_out = by_clause(aspects(align(normal_form, normal_form)), frozenset())

    assert set(sorted_out) <= {entry.id for entry in clauses_of(None, variant.family.family)}
    assert len(sorted_out) > 15


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_every_difference_that_a_choice_makes_belongs_to_a_clause_of_its_part(variant: Variant) -> None:
    """Whatever is missing, extra or different: the clause is one of the structure, and of the part it stands in."""
    choices = replace(variant.choices, middle_blocks=2)
    expected = narrow_normal(choices, 16)
    blocks = unstrided(narrow_network(choices, 16))
    for name in names(TF_RELEASE.family):
        for value in seen_values(name, TF_RELEASE.family) if name not in {"width", "middle_blocks"} else ():
            try:
                candidate = narrow_normal(choose(choices, {name: value}), 16)
            except GraphError:
                continue
            for aspect in aspects(align(expected, candidate)):
                _assert_belongs(aspect, clause_of(aspect.path, aspect.op, aspect.attribute, blocks))


def _assert_belongs(aspect: Aspect, name: str) -> None:
    entry = clause(name)
    part = aspect.path.split(".", maxsplit=1)[0]
    assert entry.level is Level.STRUCTURE, aspect
    if part in PARTS and name != "LOW-LEVEL-TAP":
        assert not entry.parts or part in entry.parts, aspect


BASE = replace(TF_RELEASE.choices, middle_blocks=1)
GRAPH = narrow_network(BASE, 8)
BACKBONE = "backbone.exit_flow.block1.sepconv1"
FEATURES = "backbone.exit_flow.block2.sepconv3.pointwise"
ONE_TAP: dict[str, Any] = {"kernel": (1, 1), "padding": (0, 0, 0, 0)}


def other(name: str, value: ChoiceValue) -> Network:
    """Return the network of another decision."""
    return narrow_network(choose(BASE, {name: value}), 8)


def rated(path: str, rate: int) -> Network:
    """Return the network with another rate in one layer."""
    return with_op(GRAPH, path, rate=(rate, rate), padding=(rate, rate, rate, rate))


def widened() -> Network:
    """Return the network with other channels between two layers."""
    graph = with_op(GRAPH, f"{BACKBONE}.pointwise.conv", channels_out=25)
    graph = with_op(graph, f"{BACKBONE}.pointwise.norm", channels=25)
    following = BACKBONE.replace("sepconv1", "sepconv2")
    graph = with_op(graph, f"{following}.depthwise.conv", channels_in=25, channels_out=25, groups=25)
    graph = with_op(graph, f"{following}.depthwise.norm", channels=25)
    return with_op(graph, f"{following}.pointwise.conv", channels_in=25)


def four_branches() -> Network:
    """Return the network without one branch of the pyramid."""
    kept = GRAPH["aspp.concat"].inputs[:-1]
    depth = cast("Conv2d", GRAPH["aspp.projection.conv"].op).channels_out
    return with_op(with_inputs(GRAPH, "aspp.concat", *kept), "aspp.projection.conv", channels_in=4 * depth)


TAP_ELSEWHERE = "backbone.entry_flow.block2.sepconv1.pointwise.norm"
WRONG: dict[str, Network] = {
    "DATAFLOW": with_inputs(GRAPH, "aspp.conv1x1.conv", f"{FEATURES}.norm"),
    "STEM-CONVS": with_op(GRAPH, "backbone.entry_flow.stem.conv1.conv", kernel=(5, 5), padding=(2, 2, 2, 2)),
    "XCEPTION-LAYERS": other("middle_blocks", 2),
    "XCEPTION-CHANNELS": widened(),
    "SEPCONV-FACTORS": with_op(GRAPH, f"{BACKBONE}.depthwise.conv", **ONE_TAP),
    "XCEPTION-STRIDES": other("unstrided_rate", "keep_stride"),
    "XCEPTION-RATES": rated("backbone.middle_flow.block1.sepconv2.depthwise.conv", 3),
    "XCEPTION-UNSTRIDED-RATE": rated("backbone.entry_flow.block3.sepconv3.depthwise.conv", 2),
    "EXIT2-RATES": rated("backbone.exit_flow.block2.sepconv1.depthwise.conv", 2),
    "XCEPTION-PADDING": with_op(GRAPH, f"{BACKBONE}.depthwise.conv", padding=(1, 3, 2, 2)),
    "XCEPTION-NORMS": without(GRAPH, [f"{BACKBONE}.depthwise.norm"]),
    "XCEPTION-ACTIVATIONS": without(GRAPH, [f"{BACKBONE}.activation"]),
    "SKIP-UNIT": without(GRAPH, ["backbone.exit_flow.block1.skip.norm"]),
    "SKIP-INPUT": with_inputs(GRAPH, "backbone.exit_flow.block1.skip.conv", f"{BACKBONE}.activation"),
    "BACKBONE-BIAS": with_op(GRAPH, f"{BACKBONE}.depthwise.conv", bias=True),
    "BACKBONE-NORM-EPS": with_op(GRAPH, f"{BACKBONE}.depthwise.norm", eps=1e-5),
    "LOW-LEVEL-TAP": with_inputs(GRAPH, "decoder.low_level.conv", TAP_ELSEWHERE),
    "ASPP-BRANCHES": four_branches(),
    "ASPP-RATES": rated("aspp.atrous2.depthwise.conv", 12),
    "ASPP-CONVS": with_op(GRAPH, "aspp.conv1x1.conv", kernel=(3, 3), padding=(1, 1, 1, 1)),
    "ASPP-UNITS": without(GRAPH, ["aspp.atrous1.depthwise.activation"]),
    "ASPP-POOL": without(GRAPH, ["aspp.pool.norm"]),
    "ASPP-PROJECTION": without(GRAPH, ["aspp.projection.activation"]),
    "DECODER-LOW-LEVEL": without(GRAPH, ["decoder.low_level.activation"]),
    "DECODER-RESIZE": with_op(GRAPH, "decoder.resize", align_corners=False),
    "DECODER-CONVS": with_op(GRAPH, "decoder.conv1.depthwise.conv", **ONE_TAP),
    "DECODER-UNITS": without(GRAPH, ["decoder.conv2.depthwise.activation"]),
    "LOGITS-CONV": with_op(GRAPH, "decoder.logits.conv", kernel=(3, 3), padding=(1, 1, 1, 1)),
    "HEAD-BIAS": with_op(GRAPH, "aspp.projection.conv", bias=True),
    "HEAD-NORM-EPS": with_op(GRAPH, "decoder.conv1.depthwise.norm", eps=1e-3),
    "OUTPUT-RESIZE": with_op(GRAPH, "output.resize", align_corners=False),
}
WITH_OTHERS = {"XCEPTION-LAYERS", "XCEPTION-STRIDES", "ASPP-BRANCHES"}
"""Faults that are more than one wrong number: whole blocks and branches."""


def test_every_clause_of_the_structure_was_seen_failing() -> None:
    """A clause that nothing breaks decides nothing."""
    assert set(WRONG) == STRUCTURE - SELDOM


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_number_fails_the_clause_that_is_about_it(name: str) -> None:
    """And no other one: a user reads one sentence."""
    found = aspects(align(narrow_normal(BASE, 8), normal(WRONG[name])))
    sorted_out = by_clause(found, unstrided(GRAPH))
    failed = {entry for entry, mine in sorted_out.items() if any(not aspect.equal for aspect in mine)}

    assert name in failed
    assert name in WITH_OTHERS or failed == {name}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_judged_by_its_clauses(part: str) -> None:
    """Not by those of the other parts, and by every clause that belongs to no part."""
    names = {entry.id for entry in clauses_of(part, on_request=True)}

    assert {entry.id for entry in CLAUSES if not entry.parts} <= names
    parts = {"aspp", "decoder"} if part == "head" else {part}
    assert all(parts.intersection(clause(name).parts) or not clause(name).parts for name in names)
    families = (clauses_of(None, family, on_request=True) for family in ("xception", "resnet"))
    assert {entry.id for found in families for entry in found} == set(CHECKS)
    assert {entry.id for entry in clauses_of(part)} == {name for name in names if not clause(name).on_request}
