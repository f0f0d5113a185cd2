"""``port``: weights move by the graphs, not by names, and only if the results are equal."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from deeplab_spec.capture.target import Target
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.graph.ops import Activation, ActivationKind, Conv2d
from deeplab_spec.measure.rewrites import folded
from deeplab_spec.mutate.rewrites.graphs import Shuffled
from deeplab_spec.port import proof as port_proof
from deeplab_spec.port.equivalent_forms import ROUNDED, Action
from deeplab_spec.port.service import Moved, PortRequest, move, port, port_document
from deeplab_spec.reference.network import build
from tests.support import source_document
from tests.support.graphs import chain, with_op
from tests.support.port_networks import (
    FORMS,
    NARROW,
    SIZE,
    File,
    branches,
    image,
    in_form,
    kernel,
    narrow,
    narrow_shuffled,
    normal,
    small,
    trained,
)
from tests.support.weights import randomise_weights

pytestmark = pytest.mark.in_process

WIDE = (97, 65)


@torch.no_grad()
def assert_moved(moved: Moved, source: nn.Module, dest: nn.Module) -> None:
    """Compare both modules in float32 on an image that the proof does not use."""
    assert moved.verdict == "moved", (moved.reason, moved.map.gaps, moved.differences)
    torch.testing.assert_close(dest(image(9)), source(image(9)), rtol=1e-4, atol=1e-4)


def bit_equal(moved: Moved) -> tuple[bool, ...]:
    """Return whether each comparison was bit-equal."""
    assert moved.proof
    return tuple(run.bit_equal for run in moved.proof.runs)


def computed(moved: Moved) -> bool:
    """Return whether a value was computed and therefore rounded."""
    return any(entry.action in ROUNDED for entry in moved.map.moves.values())


def reasons(moved: Moved) -> list[str]:
    """Return the reasons of the gaps."""
    return [gap.reason for gap in moved.map.gaps]


@pytest.mark.parametrize("dest_form", FORMS)
@pytest.mark.parametrize("source_form", FORMS)
def test_every_form_of_a_normalisation_becomes_every_other(source_form: str, dest_form: str) -> None:
    """Names and order of definition are random.

    Copied weights give the same network, so that results are bit-equal. Computed weights are rounded, which may
    change results; before rounding, sums differ only by their order.
    """
    source, dest = trained(in_form(source_form, 1e-3), 1), trained(in_form(dest_form, 1e-3), 2)

    moved = move(source, dest, size=SIZE)

    assert_moved(moved, source, dest)
    assert moved.proof
    runs = moved.proof.runs
    copies = source_form == dest_form or (source_form, dest_form) == ("norm", "biased norm")
    assert computed(moved) is not copies
    assert [run.rounded for run in runs] == ([True] * 3 if copies else [False, *[True] * 3])
    assert [run.bit_equal for run in runs] == [run.largest == 0 for run in runs]
    assert all(run.bit_equal for run in runs) or source_form != dest_form
    assert all(run.allowed == port_proof.END_TO_END_LIMIT for run in runs if copies or not run.rounded)
    assert runs[0].error < 1e-14
    assert set(moved.map.moves) == set(dest.state_dict())


def test_the_map_has_the_sources_of_every_tensor() -> None:
    """A folded bias is computed from five tensors of the source."""
    source, dest = trained(in_form("biased norm"), 1), trained(in_form("folded"), 2)
    moved = move(source, dest, size=SIZE)

    (weight, bias) = (moved.map.moves[f"{dest.names['n1']}.{role}"] for role in ("weight", "bias"))

    conv, norm = source.names["n1"], source.names["n2"]
    assert (weight.action, bias.action) == (Action.FOLDED, Action.FOLDED)
    assert set(weight.sources) == {f"{conv}.weight", f"{norm}.weight", f"{norm}.running_var"}
    assert set(bias.sources) == {
        f"{conv}.bias",
        *(f"{norm}.{role}" for role in ("weight", "bias", "running_mean", "running_var")),
    }


def test_an_unfolded_normalisation_is_the_identity_with_the_destinations_own_eps() -> None:
    """Mean 0, variance 1 - eps, scale 1, offset the bias, no batches counted."""
    source, dest = trained(in_form("folded"), 1), trained(in_form("norm", 0.25), 2)
    moved = move(source, dest, size=SIZE)

    norm, state = dest.names["n2"], moved.map.written()

    assert state[f"{norm}.running_mean"].eq(0).all()
    assert state[f"{norm}.running_var"].eq(0.75).all()
    assert state[f"{norm}.weight"].eq(1).all()
    assert torch.equal(state[f"{norm}.bias"], source.state_dict()[f"{source.names['n1']}.bias"])
    assert state[f"{norm}.num_batches_tracked"] == 0
    assert any("training from here" in note for note in port_document(_request(Path()), moved).notes)


def test_batch_counters_are_copied() -> None:
    """An integer, copied if both have it."""
    source, dest = trained(in_form("norm"), 1), Shuffled(in_form("norm"), 2)

    move(source, dest, size=SIZE)

    counts = [value for name, value in dest.state_dict().items() if name.endswith("num_batches_tracked")]
    assert len(counts) == 3
    assert all(count == 7 and count.dtype == torch.int64 for count in counts)


def test_an_offset_that_cannot_be_represented_is_rejected_at_its_node() -> None:
    """A convolution without a bias can absorb only a normalisation without an offset."""
    graph = chain(kernel(3, 4), normal(4), channels=3)
    source, dest = trained(graph, 1), trained(chain(kernel(3, 4), channels=3), 2)

    moved = move(source, dest, size=SIZE)
    assert moved.verdict == "no_partner"
    assert [gap.path for gap in moved.map.gaps] == [dest.names["n1"]]
    assert reasons(moved) == ["has neither a normalisation nor a bias to hold the offset of the source's normalisation"]

    state = source.state_dict()
    state[f"{source.names['n2']}.running_mean"].zero_()
    state[f"{source.names['n2']}.bias"].zero_()
    assert_moved(move(source, dest, size=SIZE), source, dest)


def test_a_bias_that_cannot_be_represented_is_rejected_unless_it_is_zero() -> None:
    """Without a normalisation there is no running mean to subtract it from."""
    source = trained(chain(kernel(3, 4, bias=True), channels=3), 1)
    dest = trained(chain(kernel(3, 4), channels=3), 2)

    assert reasons(move(source, dest, size=SIZE)) == ["has no bias, and the source's bias is not zero"]

    source.state_dict()[f"{source.names['n1']}.bias"].zero_()
    assert_moved(move(source, dest, size=SIZE), source, dest)


def test_a_normalisation_without_a_scale_accepts_only_neutral_scales() -> None:
    """In the other direction, the scale gets neutral values."""
    first, second = (chain(kernel(3, 4), normal(4, affine=affine), channels=3) for affine in (True, False))
    source, dest = trained(first, 1), trained(second, 2)

    assert reasons(move(source, dest, size=SIZE)) == [
        "its normalisation has no scale and offset, and the source's have an effect"
    ]
    moved = move(dest, source, size=SIZE)
    assert_moved(moved, dest, source)
    assert sum(entry.action is Action.INITIALISED for entry in moved.map.moves.values()) == 2


def test_a_separate_normalisation_needs_a_partner() -> None:
    """No tensor of the source corresponds to it."""
    first = chain(kernel(3, 4), Activation(), kernel(4, 4), Activation(), channels=3)
    second = chain(kernel(3, 4), Activation(), normal(4), kernel(4, 4), Activation(), channels=3)
    source, dest = trained(first, 1), trained(second, 2)

    moved = move(source, dest, size=SIZE)
    assert reasons(moved) == ["the source has no such layer"]
    assert (moved.map.gaps[0].side, moved.map.gaps[0].path) == ("destination", dest.names["n3"])

    back = move(dest, source, size=SIZE)
    assert reasons(back) == ["the destination has no such layer"]
    assert back.map.gaps[0].side == "source"


AFTER = {
    "dense": [Conv2d(channels_in=10, channels_out=4, bias=True)],
    "depthwise": [
        kernel(10, 10, bias=True, groups=10),
        normal(10),
        Activation(),
        Conv2d(channels_in=10, channels_out=4),
    ],
    "normalised": [normal(10), Activation(), Conv2d(channels_in=10, channels_out=4)],
}


@pytest.mark.parametrize("after", AFTER)
def test_another_order_of_concatenation_permutes_the_weights_after_it(after: str) -> None:
    """Moved there and back, every weight has its original value."""
    source = trained(branches("abc", AFTER[after]), 1)
    dest, back = trained(branches("cab", AFTER[after]), 2), trained(branches("abc", AFTER[after]), 1)
    randomise_weights(back, 3)

    moved = move(source, dest, size=SIZE)
    assert_moved(moved, source, dest)
    assert any(entry.permuted for entry in moved.map.moves.values())
    assert moved.proof
    assert all(run.allowed == port_proof.END_TO_END_LIMIT for run in moved.proof.runs)

    assert_moved(move(dest, back, size=SIZE), dest, back)
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in source.state_dict().items())


def test_groups_after_another_order_of_concatenation_are_rejected() -> None:
    """The channels of one group would come from two groups."""
    after = [kernel(10, 10, groups=2), Activation()]
    source, dest = trained(branches("abc", after), 1), trained(branches("cab", after), 2)

    assert reasons(move(source, dest, size=SIZE)) == [
        "its groups of channels come from a concatenation in another order"
    ]


def test_a_wrong_attribute_is_rejected_with_its_values() -> None:
    """The slope affects no parameter and no shape."""
    graph = chain(kernel(3, 4), Activation(kind=ActivationKind.LEAKY_RELU, slope=0.1), kernel(4, 4), channels=3)
    source, dest = trained(graph, 1), trained(with_op(graph, "n2", slope=0.2), 2)

    moved = move(source, dest, size=SIZE)

    (difference,) = moved.differences
    assert moved.verdict == "different"
    assert (difference.attribute, difference.expected, difference.actual) == ("slope", 0.1, 0.2)


class Scaled(nn.Module):
    """A network with an operation without a record, with or without weights."""

    def __init__(self, factor: float, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.middle = middle or nn.Identity()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the result."""
        result: Tensor = self.last(self.middle(self.first(x)) * self.factor)
        return result


def test_operations_without_a_record_are_compared_by_their_values() -> None:
    """Equal factors pass; a different factor is found at the first value that differs."""
    source = Scaled(0.5)
    assert_moved(move(source, same := Scaled(0.5), size=SIZE), source, same)

    moved = move(source, Scaled(0.6), size=SIZE)

    assert moved.verdict == "unequal"
    assert moved.proof
    assert moved.proof.first
    assert moved.proof.first.path == "mul"
    assert moved.proof.first.error == pytest.approx(0.2)
    assert moved.reason == "the results are not equal; the first difference is at mul"


def test_weights_without_a_record_are_copied_only_between_equal_operations() -> None:
    """The partner of a PReLU is a PReLU of the same shape."""
    source, dest = Scaled(1, nn.PReLU(4, 0.3)), Scaled(1, nn.PReLU(4))
    assert_moved(move(source, dest, size=SIZE), source, dest)

    moved = move(source, Scaled(1, nn.PReLU(1)), size=SIZE)
    assert moved.verdict == "no_partner"
    assert {gap.path for gap in moved.map.gaps} == {"middle"}
    assert all("no rule moves the tensors of aten.prelu" in reason for reason in reasons(moved))

    lost = move(source, Scaled(1), size=SIZE)
    assert [(gap.side, gap.names) for gap in lost.map.gaps] == [("source", ("middle.weight",))]


class Twice(nn.Module):
    """A network whose two layers are the same module, or two modules."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 3)
        self.two = self.one if shared else nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the result."""
        result: Tensor = self.two(self.one(x).relu())
        return result


def test_two_layers_move_into_a_shared_layer_only_if_they_are_equal() -> None:
    """The shared layer is written under each of its names."""
    source, dest = Twice(shared=False), Twice(shared=True)

    moved = move(source, dest, size=SIZE)
    assert moved.verdict == "no_partner"
    assert all(reason.endswith("share it, but differ in the source") for reason in reasons(moved))

    source.two.load_state_dict(source.one.state_dict())
    moved = move(source, dest, size=SIZE)
    assert_moved(moved, source, dest)
    assert set(moved.map.written()) == {"one.weight", "one.bias", "two.weight", "two.bias"}


def test_unused_tensors_are_rejected_in_the_destination_and_ignored_in_the_source() -> None:
    """Every tensor of the destination needs a value; the source may have unused tensors."""
    source, dest = Scaled(1), Scaled(1)
    dest.unused = nn.Linear(2, 2)

    moved = move(source, dest, size=SIZE)
    assert moved.verdict == "no_partner"
    assert [gap.names for gap in moved.map.gaps] == [("unused.weight",), ("unused.bias",)]

    back = move(dest, source, size=SIZE)
    assert_moved(back, dest, source)
    assert back.map.unused == ("unused.weight", "unused.bias")
    assert any("2 tensors of the source were not moved" in note for note in port_document(_request(Path()), back).notes)


def test_values_that_are_not_numbers_prove_nothing() -> None:
    """A source with a NaN weight has no results that can be equal."""
    source = Scaled(1)
    with torch.no_grad():
        source.first.weight.fill_(float("nan"))

    moved = move(source, Scaled(1), size=SIZE)

    assert moved.verdict == "unequal"
    assert not any(bit_equal(moved))
    document = port_document(_request(Path()), moved)
    assert document.proof
    assert {run.error for run in document.proof.runs} == {None}


def test_another_network_is_reported_in_one_sentence() -> None:
    """The sentence has the evidence; there is no list of missing layers."""
    moved = move(trained(in_form("norm"), 1), nn.Sequential(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 4, 5)), size=SIZE)

    assert moved.verdict == "another_network"
    assert moved.reason.startswith("this is another network: ")
    assert not moved.map.moves


def test_the_proof_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed weight is detected before and after rounding."""
    source, dest = trained(in_form("norm"), 1), trained(in_form("folded"), 2)
    original = port_proof.load

    def changed(side: Any, tensors: Any) -> None:
        original(side, tensors)
        side.module.saved[f"{dest.names['n1']}.weight"][0, 0, 0, 0] += 0.01

    monkeypatch.setattr(port_proof, "load", changed)
    moved = move(source, dest, size=SIZE)

    assert moved.verdict == "unequal"
    assert moved.proof
    assert [run.equal for run in moved.proof.runs] == [False] * 4
    assert moved.proof.first
    assert moved.proof.first.path == dest.names["n1"]


def test_a_network_does_not_move_into_itself() -> None:
    """Source and destination must be different modules."""
    with pytest.raises(SpecError, match="must be another network than the source"):
        move(module := Scaled(1), module)


def test_a_size_that_one_network_does_not_accept_is_one_line() -> None:
    """The line names the network."""
    with pytest.raises(TargetError, match="destination: cannot be read at 17x14: "):
        move(Scaled(1), nn.Sequential(nn.Conv2d(3, 4, 30)), size=SIZE)


def test_files_are_moved_at_their_own_size() -> None:
    """No second size is compared, and the file's own tensors change."""
    source, dest = File(small()), File(trained(in_form("norm"), 3))

    moved = move(source, dest)

    assert moved.verdict == "moved"
    assert bit_equal(moved) == (True, True)
    expected = {frozenset(tensor.flatten().tolist()) for tensor in source.tensors.values()}
    assert {frozenset(tensor.flatten().tolist()) for tensor in dest.tensors.values()} == expected
    assert {tensor.dtype for tensor in dest.tensors.values()} == {torch.float32, torch.int64}


def _request(output: Path, **fields: Any) -> PortRequest:
    targets = {
        "source": Target(name="tests.support.port_networks:narrow"),
        "dest": Target(name="tests.support.port_networks:narrow_shuffled"),
    }
    return PortRequest(**{**targets, "output": output, "classes": 5, "size": WIDE, **fields})


def test_names_and_order_of_definition_do_not_matter(tmp_path: Path) -> None:
    """Both engines are bit-equal; the file loads strictly into a new destination."""
    output = tmp_path / "weights.safetensors"

    document = port(_request(output))

    assert document.verdict == "moved"
    assert document.proof
    assert [run.bit_equal for run in document.proof.runs] == [True, True, True]
    assert {entry.action for entry in document.parameters} == {Action.COPIED.value}
    again = narrow_shuffled(16, 5)
    again.load_state_dict(load_file(output), strict=True)
    sample = torch.randn(1, 3, *WIDE)
    with torch.no_grad():
        assert torch.equal(again.eval()(sample), narrow(16, 5).eval()(sample))


def _rewritten() -> nn.Module:
    overrides = {**NARROW, "aspp_order": "pool_first", "decoder_order": "low_first", "conv_bias": "none"}
    return randomise_weights(build("notebook", 16, 5, overrides), 4)


def test_a_rewritten_reference_gets_its_own_weights_back(tmp_path: Path) -> None:
    """With other orders of concatenation and without dead biases, the proof holds."""
    other = _rewritten()
    moved = move(narrow(), other, size=WIDE)
    assert moved.verdict == "moved"
    document = port_document(_request(tmp_path), moved)
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in other.modules())
    assert (document.counts.permuted, document.counts.shifted) == (2, norms)


@pytest.mark.deep
def test_a_rewritten_reference_gets_its_weights_back_when_folded() -> None:
    """The normalisations are folded into the convolutions."""
    source = _rewritten()
    plain = folded(copy.deepcopy(source), torch.zeros(1, 3, *WIDE))
    randomise_weights(plain, 5)
    moved = move(source, plain, size=WIDE)
    assert moved.verdict == "moved"
    assert moved.proof
    assert moved.proof.runs[0].error < 1e-13


def test_a_wrong_rate_is_rejected_at_its_node_and_nothing_is_written(tmp_path: Path) -> None:
    """Every weight has a partner, and the image is too small to show the rate; an existing file stays."""
    output = tmp_path / "weights.safetensors"
    output.write_text("before", encoding="utf-8")
    rates = Target(name="reference:notebook", choices={**NARROW, "aspp_rates": (12, 24, 36)})

    document = port(_request(output, dest=rates))

    assert document.verdict == "different"
    assert document.reason == "the first difference is at aspp.atrous1.conv: its rate"
    assert "aspp_rates" not in document.advice.partition("--dest-choose")[2]
    assert [(entry.attribute, entry.destination) for entry in document.differences] == [
        ("rate", "12"),
        ("rate", "24"),
        ("rate", "36"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
    assert output.read_text(encoding="utf-8") == "before"


@pytest.mark.deep
def test_the_source_documents_network_moves_to_the_reference_and_back() -> None:
    """At full width every tensor is copied, and both engines are bit-equal."""
    original = randomise_weights(source_document.build(16, 21), 1)
    reference = build("notebook", 16, 21)
    there = move(original, reference, size=WIDE)
    assert there.verdict == "moved"
    assert len(there.map.moves) == len(reference.state_dict()) == 970

    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    back = move(reference, randomise_weights(original, 2), size=WIDE)
    assert back.verdict == "moved"
    assert bit_equal(there) == bit_equal(back) == (True, True, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())
