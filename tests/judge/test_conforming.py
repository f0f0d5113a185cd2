"""What is right is accepted: the reference, at every variant and output stride, and its parts."""

import pytest

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.spec.clauses import clauses_of
from deeplab_spec.spec.network import PARTS
from tests.support.candidates import WIDTH
from tests.support.members import XCEPTIONS

NARROW = {"width": WIDTH, "middle_blocks": 4}
"""The whole depth is judged at full width."""
DEEP = pytest.mark.deep
USUAL = {("notebook", 8), ("tf-release", 16)}
USUAL_PARTS = {("notebook", "decoder"), ("tf-release", "backbone"), ("tf-release", "aspp")}


def open_clauses(certificate: Certificate) -> list[str]:
    """Return what is not passed, with the reason or the first finding."""
    return [
        f"{clause.id}: {clause.reason or clause.findings[:1]}"
        for clause in certificate.clauses
        if clause.verdict not in {Verdict.PASSED, Verdict.NOT_APPLICABLE}
    ]


def assert_all_decided(certificate: Certificate) -> None:
    """Check that every clause is passed; a batch of one is no question where its pooling is normalised."""
    assert not open_clauses(certificate)
    left = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.NOT_APPLICABLE}
    pooled = certificate.variant != "notebook" and certificate.part in {None, "aspp"}
    assert left == ({"BATCH-OF-ONE"} if pooled else set())
    assert all(clause.decisions for clause in certificate.clauses if clause.id not in left)


@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [
        (variant.name, stride) if (variant.name, stride) in USUAL else pytest.param(variant.name, stride, marks=DEEP)
        for variant in XCEPTIONS
        for stride in variant.output_strides
    ],
)
def test_the_reference_conforms_with_every_clause_decided(variant: str, output_stride: int) -> None:
    """The three implementations of one specification agree: rows, modules and interpreter."""
    certificate = deeplab_spec.certify(f"reference:{variant}", choices=NARROW, output_strides=[output_stride])

    assert_all_decided(certificate)
    assert certificate.verdict is RunVerdict.CONFORMS
    assert {clause.id for clause in certificate.clauses} == {clause.id for clause in clauses_of(None)}
    decided = [clause for clause in certificate.clauses if clause.required > 1]
    assert all(clause.decisions >= clause.required for clause in decided)
    assert certificate.canaries.killed == certificate.canaries.planted >= len(decided)
    assert certificate.nearest is not None
    assert certificate.nearest.variant == variant
    assert certificate.first_divergence is None


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        (variant, part) if (variant, part) in USUAL_PARTS else pytest.param(variant, part, marks=DEEP)
        for variant in ("notebook", "tf-release")
        for part in PARTS
    ],
)
def test_a_part_of_the_reference_conforms(variant: str, part: str) -> None:
    """A part is the whole between two taps; of a decoder the last convolution may be all that computes."""
    certificate = deeplab_spec.certify(f"reference:{variant}", choices=NARROW, part=part)

    assert_all_decided(certificate)
    assert certificate.part == part


def test_every_draw_of_weights_covers_every_operation() -> None:
    """An operation that saw no value it treats differently would leave its clause undecided."""
    for seed in (1, 2):
        certificate = deeplab_spec.certify("reference:tf-release", choices=NARROW, levels=["numerics"], seed=seed)

        assert not open_clauses(certificate), f"seed {seed}"
        assert all(drawn.covered == drawn.operations for drawn in certificate.conditioning)
