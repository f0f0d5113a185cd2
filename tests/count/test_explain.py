"""``count --explain``: every published figure has its explanation, and nothing that is not one is called one."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deeplab_spec.analysis.costs import exact
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol, protocol_totals
from deeplab_spec.analysis.published import PUBLISHED
from deeplab_spec.analysis.terms import total_stored
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.cli.app import main
from deeplab_spec.count.explain.axes import COUNTINGS, Axes, Group, views
from deeplab_spec.count.explain.candidates import Case
from deeplab_spec.count.explain.document import CountedModel, ExplainDocument, explain_document
from deeplab_spec.count.explain.figures import Quantity, read_figures
from deeplab_spec.count.explain.search import explain
from deeplab_spec.count.explain.service import ExplainRequest
from deeplab_spec.count.explain.tally import Tally, groups_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Input, Output, Resize
from deeplab_spec.spec.api import network

CONVENTIONS = Axes().conventions
MISMATCH = 1
QUICK = ("68.00", "54.17")
"""Published figures of the usual run; the deep run has all."""
ONE_SIZE = Axes(sizes={(513, 513): 0}, protocols={SINGLE: 0})
NARROW = 1 / 32


def graph(variant: str = "tf-release", output_stride: int = 16, classes: int = 21) -> Network:
    """Return a narrow network."""
    return network(variant, output_stride, classes, {"width": NARROW})


def explained(figures: str, *networks: Network, axes: Axes | None = None, name: str = "ours") -> ExplainDocument:
    """Explain figures for networks of one name, at output strides 16, 8 and so on."""
    axes = axes or Axes()
    cases = [
        Case(name=name, output_stride=stride, tally=Tally(entry, axes.conventions))
        for stride, entry in zip((16, 8, 32), networks, strict=False)
    ]
    return explain_document(explain(cases, read_figures(figures), axes))


def only(document: ExplainDocument) -> CountedModel:
    """Return the only way to count the only figure."""
    (fit,) = document.fits
    (entry,) = fit.figures
    return entry


@given(
    variant=st.sampled_from(("notebook", "tf-release", "tf-release-dense")),
    counting=st.sampled_from(COUNTINGS),
    size=st.tuples(st.integers(200, 600), st.integers(200, 600)),
    protocol=st.sampled_from((SINGLE, Protocol(flip=True), Protocol(scales=MULTI_SCALE, flip=True))),
    classes=st.integers(1, 60),
)
def test_a_tally_is_the_closed_form_of_every_convention(
    variant: str, counting: Any, size: tuple[int, int], protocol: Protocol, classes: int
) -> None:
    """Sums over groups and equal nodes are those of the evaluator, for any size, protocol and number of classes."""
    tally, convention = TALLIES[variant], counting.convention

    counts = tally.operations(size, protocol)
    row = next(at for at, row in enumerate(tally.rows) if (row.convention, row.view.name) == (convention, ""))
    counted = counts[row].own + counts[row].each * (classes - tally.classes)

    expected = protocol_totals(Evaluator(graph(variant, classes=classes), convention), size, protocol)
    assert exact(counted, convention.divisor) == expected.operations


TALLIES = {variant: Tally(graph(variant), CONVENTIONS) for variant in ("notebook", "tf-release", "tf-release-dense")}


def test_what_is_stored_is_the_sum_of_the_groups() -> None:
    """Parameters, running statistics and folded parameters, of the whole and without the logits layer."""
    tally, sizes = TALLIES["tf-release"], total_stored(graph())
    every = frozenset(tally.groups)

    assert tally.stored(every, "parameters").own == sizes.parameters
    assert tally.stored(every, "parameters and running statistics").own == sizes.parameters + sizes.buffers
    assert tally.stored(every, "parameters with normalisations folded").own == sizes.folded_parameters
    logits = graph()["decoder.logits.conv"].op
    assert isinstance(logits, Conv2d)
    assert tally.stored({Group.LOGITS}, "parameters").own == logits.channels_in * 21 + 21
    assert tally.stored(every, "parameters").each == logits.channels_in + 1


@pytest.mark.parametrize(
    "row",
    [row if row.billions in QUICK else pytest.param(row, marks=pytest.mark.deep) for row in PUBLISHED],
    ids=lambda row: str(row.billions),
)
def test_every_figure_of_the_paper_is_explained_first_by_its_own_row(
    row: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Convention, size, output stride and classes are found; nothing but the figure and the variant is given."""
    document = command(capsys, f"{row.billions} B", "--variant", row.variant.name)
    overrides = {f"{name}={value}" for name, value in row.overrides}

    fits = [fit for fit in document["fits"] if set(fit["network"].split()[1:]) == overrides]
    first = fits[0]
    (entry,) = first["figures"]
    assert (entry["convention"], entry["factor"], entry["size"]) == ("tfprof", 1, [513, 513])
    assert (first["output_strides"], first["classes"]) == ([row.output_stride], [21])
    assert entry["count"] == row.operations()
    assert document["ambiguous"] is (len(document["fits"]) > 1)


def command(capsys: pytest.CaptureFixture[str], figures: str, *arguments: str, status: int | None = 0) -> Any:
    """Return the document that the command prints."""
    with pytest.raises(SystemExit) as exited:
        main(["count", "--explain", figures, "--json", *arguments])
    assert status is None or (exited.value.code or 0) == status
    return json.loads(capsys.readouterr().out)


def test_an_exact_count_has_one_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    """Eight digits leave no room for chance; every output stride has these parameters."""
    document = command(capsys, "41,258,213", "--variant", "tf-release")

    assert not document["ambiguous"]
    (fit,) = document["fits"]
    assert (fit["network"], fit["output_strides"], fit["classes"]) == ("tf-release", None, [21])
    assert fit["figures"][0]["stored"] == "parameters and running statistics"
    assert fit["figures"][0]["residual"] == 0
    assert document["by_chance"] < 1e-3


def test_a_neighbouring_integer_has_none_and_the_nearest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One off is no fit: exit status 1, and the nearest counts instead."""
    document = command(capsys, "41,055,412 parameters", "--variant", "tf-release", status=MISMATCH)

    assert document["fits"] == []
    assert document["nearest"][0][0]["count"] == 41_055_413
    with pytest.raises(SystemExit):
        main(["count", "--explain", "41,055,412 parameters", "--variant", "tf-release"])
    captured = capsys.readouterr()
    assert "41,055,413  +2.4e-06 %" in captured.out
    assert "nothing that was tried gives '41,055,412 parameters'" in captured.err


def test_two_figures_have_one_network_and_one_number_of_classes() -> None:
    """19 classes have these parameters, and 21 these multiply-adds: together they fit nothing."""
    ours = graph()
    parameters = {classes: total_stored(network("tf-release", 16, classes, {"width": NARROW})) for classes in (19, 21)}
    macs = {classes: Evaluator(graph(classes=classes))(513, 513).operations for classes in (19, 21)}

    together = explained(f"{parameters[19].parameters}, {macs[19]}", ours)
    apart = explained(f"{parameters[19].parameters}, {macs[21]}", ours)

    assert [fit.classes for fit in together.fits] == [(19,)]
    assert apart.fits == ()
    assert [entry[0].residual for entry in apart.nearest] == [0.0, 0.0]
    assert apart.exit_code == MISMATCH


@pytest.mark.parametrize("view", list(views(TALLIES["tf-release"].groups, Quantity.STORED)), ids=lambda view: view.name)
def test_every_part_is_found_by_its_own_parameters(view: Any) -> None:
    """The backbone alone, the network without its logits layer, and all of it."""
    count = TALLIES["tf-release"].stored(view.groups, "parameters")

    document = explained(f"{count.own} parameters", graph())

    assert view.name in {entry.part for fit in document.fits for entry in fit.figures}


def test_megabytes_printed_as_parameters_are_recognised() -> None:
    """Four bytes a number, in units of a thousand or of 1024."""
    sizes = total_stored(graph("notebook"))
    stored = sizes.parameters + sizes.buffers
    decimal, binary = 4 * stored / 1e6, 4 * stored / 2**20

    assert only(explained(f"{decimal:.6f} M", graph("notebook"))).unit == "MB of float32"
    assert only(explained(f"{binary:.6f} MB", graph("notebook"))).unit == "MiB of float32"
    assert explained(f"{decimal:.6f} MiB", graph("notebook")).fits == ()
    assert explained(f"{stored / 1e6:.6f} MB", graph("notebook")).fits == ()


def test_a_figure_of_few_digits_is_ambiguous_and_says_so() -> None:
    """The same count with fewer digits is met by more candidates, and more are expected by chance."""
    macs = Evaluator(graph())(513, 513).operations / 1e6
    many, few = explained(f"{macs:.5f} M MACs", graph()), explained(f"{macs:.1f} M MACs", graph())

    assert len(many.fits) < len(few.fits)
    assert many.by_chance < few.by_chance
    assert few.ambiguous
    assert few.summary.startswith("ambiguous: ")
    assert "a fit may be a coincidence" in few.text
    assert many.fits[0] in few.fits or many.fits[0].figures[0].count == few.fits[0].figures[0].count


def test_the_number_that_fits_by_chance_is_that_of_figures_that_mean_nothing() -> None:
    """Figures of three digits drawn at random are met as often as is said, within a factor of two."""
    ours = graph()
    axes = Axes(protocols={SINGLE: 0})
    macs = Evaluator(ours)(513, 513).operations / 1e6
    drawn = [explained(f"{macs * (0.8 + 0.02 * step):.1f} M MACs", ours, axes=axes) for step in range(20)]

    met = sum(len(document.fits) for document in drawn) / len(drawn)
    said = sum(document.by_chance for document in drawn) / len(drawn)

    assert said / 2 < met < said * 2


def test_output_strides_with_one_count_are_one_fit() -> None:
    """Parameters do not depend on the output stride, multiply-adds do."""
    both = [graph(output_stride=16), graph(output_stride=8)]
    parameters = total_stored(both[0]).parameters
    macs = Evaluator(both[1])(513, 513).operations

    assert [fit.output_strides for fit in explained(f"{parameters}", *both).fits] == [None]
    assert [fit.output_strides for fit in explained(f"{macs}", *both, axes=ONE_SIZE).fits] == [(8,)]


def with_auxiliary_head() -> Network:
    """Return a network with a second head on its backbone, both with 21 classes."""
    nodes = (
        Node(path="input", op=Input(channels=3)),
        Node(path="backbone.conv", op=Conv2d(channels_in=3, channels_out=8, kernel=(3, 3)), inputs=("input",)),
        Node(path="head.conv", op=Conv2d(channels_in=8, channels_out=16), inputs=("backbone.conv",)),
        Node(path="head.norm", op=BatchNorm(channels=16, eps=1e-3, momentum=0.1), inputs=("head.conv",)),
        Node(path="head.logits", op=Conv2d(channels_in=16, channels_out=21, bias=True), inputs=("head.norm",)),
        Node(path="head.resize", op=Resize(), inputs=("head.logits", "input")),
        Node(path="output", op=Output(name="out"), inputs=("head.resize",)),
        Node(path="aux.conv", op=Conv2d(channels_in=8, channels_out=4, kernel=(3, 3)), inputs=("backbone.conv",)),
        Node(path="aux.logits", op=Conv2d(channels_in=4, channels_out=21, bias=True), inputs=("aux.conv",)),
        Node(path="output.aux", op=Output(name="aux"), inputs=("aux.logits",)),
    )  # fmt: skip
    return Network(nodes=nodes)


def test_an_auxiliary_head_is_found_in_the_graph_and_may_be_left_out() -> None:
    """What only the second output needs is the auxiliary head, and its classes are classes too."""
    ours = with_auxiliary_head()
    tally = Tally(ours, CONVENTIONS)

    assert {path for path, group in groups_of(ours).items() if group is Group.AUXILIARY} == {
        *("aux.conv", "aux.logits", "output.aux")
    }
    assert tally.stored({Group.AUXILIARY}, "parameters").own == 8 * 4 * 9 + 4 * 21 + 21
    assert tally.stored(tally.groups, "parameters").each == 17 + 5
    main = 216 + 128 + 32 + 16 * 21 + 21
    entry = only(explained(f"{main} parameters", ours, axes=replace(Axes(), classes={})))
    assert entry.part == "without the auxiliary head"


class Unrun(nn.Module):
    """A network with a head that evaluation does not run."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, num_classes, 1))
        self.aux = nn.Conv2d(7, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.main(image)
        return logits


def test_a_target_is_searched_with_the_parameters_that_it_does_not_run() -> None:
    """They grow with the classes too: the target is built once more to see by how much."""
    used, unused = 108 + 4 + 5 * 150, 8 * 150
    request = ExplainRequest(
        figures=read_figures(f"{used + unused} parameters, {used} parameters"), axes=ONE_SIZE, size=(33, 33)
    )

    (fit,) = request.document(Unrun).fits

    assert fit.classes == (150,)
    assert [entry.part for entry in fit.figures] == ["", "without the parameters that no operation uses"]


@pytest.mark.parametrize(
    ("arguments", "fixed"),
    [
        (("--size", "512"), lambda fit: fit["figures"][0]["size"] == [512, 512]),
        (("--classes", "19"), lambda fit: fit["classes"] == [19]),
        (("--output-stride", "8"), lambda fit: fit["output_strides"] == [8]),
        (("--convention", "thop"), lambda fit: fit["figures"][0]["convention"] == "thop"),
        (("--scales", "0.5,1"), lambda fit: fit["figures"][0]["scales"] == [0.5, 1.0]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_option_that_is_given_is_not_searched(
    arguments: tuple[str, ...], fixed: Callable[[Any], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every fit has the given value; fewer candidates are tried."""
    options = ["--variant", "tf-release", "--choose", f"width={NARROW}"]
    free = command(capsys, "88 M MACs", *options)
    held = command(capsys, "100 M MACs", *options, *arguments, status=None)

    assert held["tried"] < free["tried"]
    assert all(map(fixed, held["fits"]))
