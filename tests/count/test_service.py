"""Counts of a user's network: exact, under the specification's paths, with notes on what they do not show."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from deeplab_spec.analysis.conventions import FVCORE, MAC, Convention
from deeplab_spec.analysis.protocol import SINGLE, Protocol
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.document import CountDocument
from deeplab_spec.count.service import CountRequest
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.reference.network import build

pytestmark = pytest.mark.in_process

NARROW = 0.06
TARGETS = "tests.count.test_service:"


def request(**changes: Any) -> CountRequest:
    """Return a request for a small network."""
    settings: dict[str, Any] = {
        "variant": None,
        "overrides": (),
        "arguments": {},
        "output_stride": 16,
        "size": (97, 130),
        "classes": 5,
        "convention": MAC,
        "mode": Mode.FORWARD,
        "protocol": SINGLE,
        "by_node": False,
    }
    return CountRequest(**{**settings, **changes})


def release(output_stride: int = 16, num_classes: int = 5) -> nn.Module:
    """Build the release's network, narrow."""
    return build("tf-release", output_stride, num_classes, {"width": NARROW})


class Renamed(nn.Module):
    """The release's network under another name, with an unused layer and a frozen backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = release()
        self.spare = nn.Linear(3, 7)
        for parameter in self.inner.backbone.parameters():
            parameter.requires_grad = False

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.inner(image)
        return logits


class Sharing(nn.Module):
    """A network with one convolution in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = self.first

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.second(self.first(image))
        return logits


def elsewhere() -> nn.Module:
    """Build a different network that prints; the output must not be in the report."""
    print("building")  # noqa: T201 - foreign code may print
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))


class Picky(nn.Module):
    """A network that computes other operations on large images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.conv(image)
        return logits.relu() if image.shape[-1] > 200 else logits


@pytest.fixture(scope="module")
def plain() -> CountDocument:
    """Return the count of the release's network, built as a user's network."""
    return request().document(release)


@pytest.mark.parametrize(
    ("convention", "protocol"),
    [
        pytest.param(FVCORE, SINGLE, id="fvcore"),
        pytest.param(MAC, Protocol(scales=(1, 2), flip=True), id="scales", marks=pytest.mark.deep),  # type: ignore[arg-type]
    ],
)
def test_a_captured_reference_has_the_costs_of_the_specification(convention: Convention, protocol: Protocol) -> None:
    """The captured graph and the graph of the rows have equal counts; an export has no dropout."""
    overrides = (f"width={NARROW}",)
    specified = request(variant="tf-release", overrides=overrides, convention=convention, protocol=protocol)
    captured = request(variant="tf-release", convention=convention, protocol=protocol)

    expected = specified.document(None)
    counted = captured.document(release)

    assert counted.variant == "tf-release"
    assert counted.total.macs == expected.total.macs
    assert counted.total.parameters == expected.total.parameters
    rows = {row.path: (row.parameters, row.macs, row.output) for row in counted.blocks}
    assert rows == {
        row.path: (row.parameters, row.macs, row.output) for row in expected.blocks if row.path != "aspp.dropout"
    }


def test_blocks_are_named_after_the_nearest_published_network(plain: CountDocument) -> None:
    """Without --variant the nearest is found."""
    assert plain.variant == "tf-release"


def test_unused_and_frozen_parameters_are_reported(plain: CountDocument) -> None:
    """They explain why two counts of parameters differ."""
    counted = request().document(Renamed)

    assert counted.total.parameters == plain.total.parameters
    assert "28 more parameters are used by no operation" in counted.notes
    backbone = sum(row.parameters for row in plain.blocks if row.path.startswith("backbone."))
    assert counted.total.trainable == plain.total.parameters - backbone + 28


def test_shared_parameters_are_counted_once() -> None:
    """Two layers with one set of weights compute twice and store it once."""
    counted = request(classes=3).document(Sharing)
    first, again = counted.blocks

    assert (first.parameters, again.parameters) == (3 * 3 * 9 + 3, 0)
    assert first.macs == again.macs > 0
    assert counted.total.parameters == first.parameters
    assert any("share parameters with others" in note for note in counted.notes)


def test_another_network_keeps_its_own_paths() -> None:
    """It is not mapped to the blocks of this family."""
    counted = request().document(elsewhere)

    assert counted.variant is None
    assert counted.total.macs == (27 * 8 + 8 * 5) * 97 * 130
    assert [row.path for row in counted.blocks] == ["0", "1", "2"]


@pytest.mark.own_process
def test_output_of_the_target_is_not_in_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    """It would break the JSON document."""
    request().document(f"{TARGETS}elsewhere")
    captured = capfd.readouterr()

    assert captured.out == ""
    assert "building" in captured.err


@pytest.mark.deep
def test_side_by_side_of_equal_networks() -> None:
    """One published network, and one built by a user."""
    alike = request(overrides=(f"width={NARROW}",)).side_by_side("reference:tf-release", release)

    assert alike.equal
    assert alike.operations_explained == "equal under mac"


def test_side_by_side_of_different_networks() -> None:
    """The first row has the largest difference."""
    other = request(overrides=(f"width={NARROW}", "aspp_convs=dense")).side_by_side("reference:tf-release", release)

    assert not other.equal
    assert other.rows[0].path.startswith("aspp.atrous")
    assert other.rows[0].macs[0] > other.rows[0].macs[1]
    assert other.operations_explained == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: request().document("nowhere:nothing"), "cannot import 'nowhere'"),
        (lambda: request(size=(1, 1)).document(large_kernel), "cannot be read at 1x1"),
        (
            lambda: request(protocol=Protocol(scales=(1, 2))).document(Picky),  # type: ignore[arg-type]
            "computes other operations at 193x259",
        ),
    ],
    ids=["import", "size", "scales"],
)
def test_a_target_that_cannot_be_counted_is_one_line(make: Callable[[], object], message: str) -> None:
    """The line says where and why."""
    with pytest.raises(TargetError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def large_kernel() -> nn.Module:
    """Build a network whose kernel is larger than one pixel."""
    return nn.Sequential(nn.Conv2d(3, 8, 3))


def test_choices_do_not_apply_to_a_target() -> None:
    """A target has its own."""
    with pytest.raises(SpecError, match="applies to a published network"):
        request(overrides=("middle_blocks=8",)).document(release)
