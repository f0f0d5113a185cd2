"""The paper's figures against the reconstruction, and the reconstruction against an independent calculation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from deeplab_spec.analysis.conventions import FULL, MAC, TFPROF
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol
from deeplab_spec.analysis.published import (
    PUBLISHED,
    TOLERANCE,
    Configuration,
    Reading,
    configurations,
    constants,
    other_sizes,
    published,
    readings,
)
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.ops import Add, Conv2d, GlobalAveragePool
from deeplab_spec.spec.choices import Decoder, HeadConvs, names
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, TF_RELEASE_DENSE

# fmt: off
RESIDUALS = {
    ("tf-release-dense", "none", 16): ("68.00", -0.0055),
    ("tf-release-dense", "none", 8): ("240.85", -0.0034),
    ("tf-release-dense", "low_level", 16): ("89.76", -0.0015),
    ("tf-release-dense", "low_level", 8): ("262.59", -0.0011),
    ("tf-release", "low_level", 16): ("54.17", -0.0154),
    ("tf-release", "low_level", 8): ("177.10", 0.0000),
}
"""Table 5: as printed, and the residual of the reconstruction in percent, with four decimals."""
# fmt: on

ROWS = pytest.mark.parametrize(
    "row", PUBLISHED, ids=lambda row: f"{row.variant.name}-{row.choices.decoder.value}-os{row.output_stride}"
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The quantities that the constants multiply, counted here from the graph."""

    padded: int
    plain: int
    dense: int
    depthwise: int
    elements: int

    def total(self, *, dense: float = 2.5, depthwise: float = 1.0, elements: float = 0.5, padded: bool = True) -> float:
        """Return the sum of the parts."""
        computed = self.padded if padded else self.plain
        return computed + dense * self.dense + depthwise * self.depthwise + elements * self.elements


def parts(row: Configuration) -> Parts:
    """Count the parts of one image of a row, operator by operator, without the package's formulas."""
    graph = row.subject().network()
    known = shapes(graph, row.size)
    padded = plain = dense = depthwise = elements = 0
    for node in graph:
        channels, height, width = known[node.path]
        match node.op:
            case Conv2d(kernel=(3, 3), rate=(rate, _), channels_in=before, groups=groups) as op:
                weights = 9 * before // groups * channels
                plain += weights * height * width
                padded += weights * (height + -height % rate) * (width + -width % rate)
                dense += weights if groups == 1 else 0
                depthwise += weights if groups > 1 else 0
                assert groups in {1, before}, op
            case Conv2d(kernel=(1, 1), channels_in=before, groups=1):
                plain += before * channels * height * width
                padded += before * channels * height * width
                dense += before * channels
                elements += channels * height * width if node.path.startswith("decoder.logits") else 0
            case Add():
                elements += channels * height * width
            case GlobalAveragePool():
                elements += known[node.inputs[0]][0] * known[node.inputs[0]][1] * known[node.inputs[0]][2]
            case op:
                assert not isinstance(op, Conv2d), op
    return Parts(
        padded=padded,
        plain=plain,
        dense=dense,
        depthwise=depthwise,
        elements=elements + 2 * 3 * row.size[0] * row.size[1],
    )


@ROWS
def test_published_figure_is_met_within_the_tolerance_with_this_residual(row: Configuration) -> None:
    """One rule for all rows; a residual beyond 0.02 % would be another network or another rule."""
    printed, percent = RESIDUALS[row.variant.name, row.choices.decoder.value, row.output_stride]

    residual = row.residual(row.operations())

    assert row.billions == printed
    assert residual is not None
    assert abs(residual) <= TOLERANCE == 2e-4
    assert round(100 * residual, 4) == percent
    assert (row.size, row.classes, row.protocol) == ((513, 513), 21, SINGLE)


def test_all_figures_of_the_table_are_there() -> None:
    """Six rows of single images, each once."""
    found = [(row.variant.name, row.choices.decoder.value, row.output_stride) for row in PUBLISHED]

    assert sorted(found) == sorted(RESIDUALS)


@ROWS
def test_reconstruction_is_the_rule_written_down_here(row: Configuration) -> None:
    """Exact: another constant, another padding rule or another element would change the sum."""
    counted = parts(row)

    assert row.operations() == counted.total()
    assert row.operations(MAC) == counted.plain


@pytest.mark.parametrize(
    "other",
    [{"dense": 2.0}, {"dense": 3.0}, {"elements": 0.25}, {"elements": 1.25}, {"padded": False}],
    ids=lambda other: ",".join(f"{name}={value}" for name, value in other.items()),
)
def test_another_constant_or_no_padding_misses_a_figure(other: Mapping[str, float]) -> None:
    """The figures decide these: with another value a residual is beyond the tolerance."""
    missed = [row for row in PUBLISHED if abs(row.residual(parts(row).total(**other)) or 0) > TOLERANCE]

    assert missed


def test_depthwise_weights_are_too_few_for_the_figures_to_decide_their_constant() -> None:
    """Any value from 0 to 40 multiply-adds per weight matches every figure."""
    for depthwise in (0.0, 2.5, 40.0):
        assert all(abs(row.residual(parts(row).total(depthwise=depthwise)) or 0) <= TOLERANCE for row in PUBLISHED)


@pytest.mark.parametrize("end", ["least", "most"])
def test_a_constant_has_room_up_to_where_the_first_figure_is_missed(end: str) -> None:
    """At the end of its interval the largest residual is the tolerance, and no other constant is touched."""
    found = {constant.value: constant for constant in constants()}
    counted = [(row, parts(row)) for row in PUBLISHED]

    for value, name in ((2.5, "dense"), (1.0, "depthwise"), (0.5, "elements")):
        other = {name: getattr(found[value], end)}
        residuals = [abs(row.residual(entry.total(**other)) or 0) for row, entry in counted]
        assert found[value].least < value < found[value].most
        assert max(residuals) == pytest.approx(TOLERANCE, rel=1e-6), name


def test_what_is_not_published_is_a_prediction() -> None:
    """Other evaluations, sizes and numbers of classes have no figure, so no residual."""
    table = list(configurations())
    figures = [row for row in table if row.billions]

    assert len(table) == 24
    assert tuple(figures) == PUBLISHED
    assert {row.protocol for row in table if not row.billions} >= {
        Protocol(scales=MULTI_SCALE),
        Protocol(scales=MULTI_SCALE, flip=True),
    }
    for row in other_sizes():
        assert row.billions is None
        assert row.residual(row.operations()) is None
        assert (row.size, row.classes) != ((513, 513), 21)
    assert len({(row.variant, row.overrides, row.output_stride, row.protocol) for row in table}) == 24


def test_predictions_at_other_sizes_follow_the_same_rule() -> None:
    """The independent calculation, at sizes and numbers of classes without a figure."""
    for row in other_sizes():
        assert row.operations() == parts(row).total(), (row.variant.name, row.size)


@ROWS
def test_a_row_is_found_by_its_network_and_evaluation(row: Configuration) -> None:
    """Other sizes, numbers of classes, protocols and networks are not in the table."""
    subject = row.subject()

    assert published(subject) is row
    assert published(subject, Protocol(flip=True)) is None
    assert published(replace(subject, size=(512, 512))) is None
    assert published(replace(subject, classes=19)) is None
    assert published(replace(subject, variant=NOTEBOOK, choices=NOTEBOOK.choices)) is None


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, object], Reading]:
    """Return every reading by choice and value."""
    return {(reading.choice, reading.value): reading for reading in readings()}


def test_reading_of_the_rates_changes_the_figures_by_what_padding_adds(
    known: dict[tuple[str, object], Reading],
) -> None:
    """By hand: three dense 3x3 convolutions of 2048 to 256 channels, on maps padded to a multiple of each rate."""
    weights = 9 * 2048 * 256

    def tiles(side: int, rates: tuple[int, int, int]) -> int:
        return sum((side + -side % rate) ** 2 for rate in rates)

    at_8 = weights * (tiles(65, (6, 12, 18)) - tiles(65, (12, 24, 36)))
    at_16 = weights * (tiles(33, (12, 24, 36)) - tiles(33, (6, 12, 18)))

    assert known["aspp_rates", (6, 12, 18)].changes[:4] == (0, at_8, 0, at_8)
    assert known["aspp_rates", (12, 24, 36)].changes[:4] == (at_16, 0, at_16, 0)
    assert [known["aspp_rates", (6, 12, 18)].rules_out(row) for row in range(6)] == [False, True] * 2 + [False] * 2


def test_reading_of_the_head_turns_one_published_row_into_another(known: dict[tuple[str, object], Reading]) -> None:
    """Dense and separable rows differ by pyramid and decoder together; a row of the table has its own value already."""
    operations = [row.operations() for row in PUBLISHED]
    pyramid = known["aspp_convs", HeadConvs.DENSE].changes
    decoder = next(reading for key, reading in known.items() if key == ("decoder_convs", "dense_2")).changes

    assert pyramid[:4] == (0, 0, 0, 0)
    assert [operations[4] + (pyramid[4] or 0) + (decoder[4] or 0)] == [operations[2]]
    assert known["decoder", Decoder.NONE].changes[2:4] == (operations[0] - operations[2], operations[1] - operations[3])


def test_readings_that_no_figure_sees_leave_every_count_as_it_is(known: dict[tuple[str, object], Reading]) -> None:
    """Activations, eps, resizes and the like are not convolutions."""
    unseen = {choice for (choice, _), reading in known.items() if not reading.visible}
    seen = {choice for (choice, _), reading in known.items() if reading.visible}

    assert {"activation_placement", "backbone_norm_eps", "output_resize", "pool_norm", "conv_bias"} <= unseen - seen
    assert {"middle_blocks", "logits_conv", "unstrided_rate"} <= seen - unseen
    assert {choice for choice, _ in known} == set(names(TF_RELEASE.family)) - {"width"}
    for reading in known.values():
        assert reading.visible == (reading.changes != (0,) * 6)
        assert not any(reading.rules_out(row) for row in range(6) if reading.changes[row] in {0, None})


def test_reading_that_cannot_be_built_differs_from_one_that_changes_nothing(
    known: dict[tuple[str, object], Reading],
) -> None:
    """A network for multiples of the output stride refuses 513 and has no count."""
    (multiples,) = [reading for (choice, _), reading in known.items() if choice == "sizes_accepted"]

    assert multiples.changes == multiples.residuals == (None,) * 6
    assert multiples.visible


def test_smallest_departure_beyond_the_tolerance_is_ruled_out() -> None:
    """The tolerance decides, on both sides of it and of zero."""
    reading = Reading(
        choice="middle_blocks",
        value=8,
        changes=(1, 1, 1, 1, None, 0),
        residuals=(TOLERANCE, -TOLERANCE, 1.001 * TOLERANCE, -1.001 * TOLERANCE, None, 0.0),
    )

    assert [reading.rules_out(row) for row in range(6)] == [False, False, True, True, False, False]


def test_other_conventions_miss_the_figures() -> None:
    """The reconstruction is needed: multiply-adds as they are, and all operations, are far off."""
    for convention in (MAC, FULL):
        largest = max(abs(row.residual(row.operations(convention)) or 0) for row in PUBLISHED)
        assert largest > 100 * TOLERANCE
    assert {TF_RELEASE, TF_RELEASE_DENSE} == {row.variant for row in PUBLISHED}
    assert PUBLISHED[0].operations() == PUBLISHED[0].operations(TFPROF)
