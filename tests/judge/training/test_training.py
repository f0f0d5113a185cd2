"""A network that is wrong in training only is refused by the clause that is about it, at its node."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import deeplab_spec
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.execute.training import NetworkModule
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Dropout
from deeplab_spec.judge.evidence import UnmatchedParameter
from deeplab_spec.judge.finding import Decision, Finding, Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.training.check import CHECKS_OF_TRAINING, choices_seen_in_training
from deeplab_spec.judge.training.check_random import dropout
from deeplab_spec.judge.training.evidence import Trained
from deeplab_spec.judge.training.observe import observe
from deeplab_spec.mutate.mutant import inserted, without
from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import variant
from tests.support.candidates import WIDTH
from tests.support.graphs import with_op
from tests.support.members import XCEPTIONS

SMALL: dict[str, Any] = {"width": WIDTH, "middle_blocks": 1}
BLOCK = "backbone.middle_flow.block1"
NORM = f"{BLOCK}.sepconv2.pointwise.norm"
PROJECTION = "aspp.projection"


def specified(name: str = "tf-release", output_stride: int = 16, **choices: Any) -> Network:
    """Return a small network of a variant."""
    return network(choose(variant(name).choices, {**SMALL, **choices}), output_stride, 5)


def decided(candidate: nn.Module, expected: Network) -> dict[str, Decision]:
    """Decide everything about a candidate that names its tensors as the specification does."""
    return verdicts(observe(local(candidate), expected, own_places(expected)))


def verdicts(trained: Trained) -> dict[str, Decision]:
    """Decide every clause but that of the initial weights."""
    return {name: check(trained) for name, check in CHECKS_OF_TRAINING.items() if name != "INITIALISATION"}


def failed(found: Mapping[str, Decision]) -> set[str]:
    """Return the clauses that are false."""
    return {name for name, decision in found.items() if decision.verdict is Verdict.FAILED}


def only(found: Mapping[str, Decision], clause: str) -> Finding:
    """Return the only finding of a clause."""
    (finding,) = found[clause].findings
    return finding


USUAL = {("notebook", 8), ("tf-release", 16), ("tf-release-dense", 32)}


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        case if case in USUAL else pytest.param(*case, marks=pytest.mark.deep)
        for case in [(entry.name, stride) for entry in XCEPTIONS for stride in entry.output_strides]
    ],
)
def test_a_network_that_trains_as_specified_conforms(name: str, output_stride: int) -> None:
    """Nothing of its graph is known: its tensors are found by their names."""
    expected = specified(name, output_stride)

    found = decided(NetworkModule(expected), expected)

    pooled = Verdict.PASSED if name == "notebook" else Verdict.NOT_APPLICABLE
    verdicts = {clause: pooled if clause == "BATCH-OF-ONE" else Verdict.PASSED for clause in found}
    assert {clause: decision.verdict for clause, decision in found.items()} == verdicts
    norms = [node.path for node in expected if isinstance(node.op, BatchNorm)]
    assert found["BN-MOMENTUM"].decisions == found["RUNNING-STATISTICS"].decisions == 2 * len(norms)
    assert found["TRAIN-STEP"].decisions == found["GRADIENT-REACHES"].decisions > 2 * len(norms)


def test_a_right_dropout_drawn_by_hand_conforms_though_values_cannot_be_compared() -> None:
    """It cannot be made inactive, so it does not repeat itself; what it does to the results is right."""

    class Hand(NetworkModule):
        def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
            if isinstance(node.op, Dropout) and self.training:
                (x,) = inputs
                return x * (torch.rand_like(x) >= rate) / (1 - rate)
            return super()._step(node, inputs, held)

    expected = specified()
    rate = 0.1
    found = decided(Hand(expected), expected)

    assert found["DROPOUT"].verdict is Verdict.PASSED
    assert "from call to call" in found["TRAIN-STEP"].undecided
    assert failed(found) == set()
    assert found["BN-MOMENTUM"].decisions

    rate = 0.5
    finding = only(decided(Hand(expected), expected), "DROPOUT")
    assert (finding.path, finding.expected, finding.choice) == ("aspp.dropout", 0.1, "aspp_dropout")
    assert 0.3 < float(str(finding.actual).removeprefix("about ")) < 0.6


GRAPHS: dict[str, tuple[str, Callable[[Network], Network], str, str, object]] = {
    "momentum of one": ("tf-release", lambda graph: with_op(graph, NORM, momentum=0.1), "BN-MOMENTUM", NORM, 0.1),
    "momentum the wrong way round": (
        "notebook",
        lambda graph: with_op(graph, NORM, momentum=0.9997),
        "BN-MOMENTUM",
        NORM,
        0.9997,
    ),
    "momentum of zero": ("notebook", lambda graph: with_op(graph, NORM, momentum=0.0), "BN-MOMENTUM", NORM, 0.0),
    "rate of dropout": (
        "tf-release",
        lambda graph: with_op(graph, "aspp.dropout", probability=0.11),
        "DROPOUT",
        "aspp.dropout",
        0.11,
    ),
    "dropout missing": (
        "tf-release",
        lambda graph: without(graph, ["aspp.dropout"]),
        "DROPOUT",
        "aspp.dropout",
        "absent",
    ),
    "dropout too many": (
        "notebook",
        lambda graph: inserted(graph, f"{PROJECTION}.activation", Dropout(probability=0.1)),
        "DROPOUT",
        f"{PROJECTION}.activation",
        "dropout at rate 0.1",
    ),
}


@pytest.mark.parametrize("fault", GRAPHS)
def test_a_fault_that_shows_in_training_only_is_found_at_its_node(fault: str) -> None:
    """By the clause that is about it, and by no other."""
    name, edit, clause, path, actual = GRAPHS[fault]
    expected = specified(name)

    found = decided(NetworkModule(edit(expected)), expected)

    assert failed(found) == {clause}
    finding = only(found, clause)
    assert (finding.path, finding.actual) == (path, actual)


def test_a_dropout_elsewhere_is_found_at_both_places() -> None:
    """It is missing where it must be, and one too many where it is."""
    expected = specified()
    moved = inserted(without(expected, ["aspp.dropout"]), "aspp.concat", Dropout(probability=0.1))

    found = decided(NetworkModule(moved), expected)

    assert failed(found) == {"DROPOUT"}
    assert {(finding.path, finding.attribute) for finding in found["DROPOUT"].findings} == {
        ("aspp.dropout", "node"),
        ("aspp.concat", "node"),
    }


def test_a_dropout_before_the_relu_is_the_same_function() -> None:
    """What is dropped is zero on both sides of a ReLU."""
    expected = specified()
    moved = inserted(without(expected, ["aspp.dropout"]), f"{PROJECTION}.norm", Dropout(probability=0.1))

    assert failed(decided(NetworkModule(moved), expected)) == set()


UNFIT = "decoder.low_level.conv"


def dropout_of_unfit(graph: Network, expected: Network, *dropped: str, kind: type = NetworkModule) -> Decision:
    """Decide the dropout of a network, one of whose weights does not fit."""
    places = [place for place in own_places(expected) if not place.source.startswith(UNFIT)]
    lost = UnmatchedParameter(path=UNFIT, candidate_path=UNFIT, role="weight", expected=(1,), actual=(2,))
    return dropout(observe(local(kind(graph)), expected, places, unmatched=(lost,), dropped=dropped))


@pytest.mark.parametrize("name", ["notebook", "tf-release"])
def test_a_right_dropout_is_decided_though_a_weight_does_not_fit(name: str) -> None:
    """Its recorded calls, and its results with and without them, are evidence enough."""
    expected = specified(name)
    dropped = (f"{PROJECTION}.activation",) * (name == "tf-release")

    decision = dropout_of_unfit(expected, expected, *dropped)

    assert (decision.verdict, decision.findings) == (Verdict.PASSED, ())
    assert decision.decisions > len(dropped)


def test_a_dropout_that_is_missing_is_found_though_a_weight_does_not_fit() -> None:
    """Nothing was called, and nothing makes the results vary."""
    expected = specified()
    (finding,) = dropout_of_unfit(without(expected, ["aspp.dropout"]), expected).findings

    assert (finding.path, finding.attribute, finding.actual) == ("aspp.dropout", "node", "absent")


class ByHand(NetworkModule):
    """A network that drops values without the framework's functions."""

    def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
        if isinstance(node.op, Dropout) and self.training:
            return inputs[0] * (torch.rand_like(inputs[0]) >= node.op.probability) / (1 - node.op.probability)
        return super()._step(node, inputs, held)


class Unused(NetworkModule):
    """A network that does not use what it drops."""

    def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
        value = super()._step(node, inputs, held)
        return inputs[0] if isinstance(node.op, Dropout) else value


@pytest.mark.parametrize("kind", [ByHand, Unused])
def test_a_dropout_that_no_call_shows_is_undecided_if_a_weight_does_not_fit(kind: type) -> None:
    """Whether it is right, only a comparison of results would show; so too where the graph does not show its place."""
    expected = specified()

    assert "has a place" in dropout_of_unfit(expected, expected, f"{PROJECTION}.activation", kind=kind).undecided
    assert "has a place" in dropout_of_unfit(expected, expected).undecided


def test_whole_channels_must_not_be_dropped() -> None:
    """At the same rate and place: the mean over a map tells."""

    class Channels(NetworkModule):
        def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
            if isinstance(node.op, Dropout):
                return functional.dropout2d(inputs[0], node.op.probability, self.training)
            return super()._step(node, inputs, held)

    expected = specified()
    found = decided(Channels(expected), expected)

    assert failed(found) == {"DROPOUT"}
    finding = only(found, "DROPOUT")
    assert (finding.path, finding.attribute, finding.actual) == ("aspp.dropout", "kind", "dropout of whole channels")


def test_one_momentum_everywhere_is_the_choice_that_it_is() -> None:
    """Every normalisation has it; the decision explains them all."""
    expected = specified("notebook")
    trained = observe(local(NetworkModule(specified("notebook", norm_momentum=0.1))), expected, own_places(expected))
    findings = verdicts(trained)["BN-MOMENTUM"].findings

    assert {finding.path for finding in findings} == {node.path for node in expected if isinstance(node.op, BatchNorm)}
    assert {(finding.choice, finding.actual) for finding in findings} == {("norm_momentum", 0.1)}
    assert choices_seen_in_training(trained) == {"norm_momentum": 0.1}


class Altered(NetworkModule):
    """A network that does something else at one node."""

    def __init__(self, graph: Network, path: str, alter: Callable[["Altered", list[Tensor]], Tensor]) -> None:
        super().__init__(graph)
        self.path = path
        self.alter = alter

    def tensor(self, role: str) -> Tensor:
        """Return a parameter or a buffer of the node."""
        found: Tensor = getattr(self.get_submodule(self.path), role)
        return found

    def right(self, inputs: list[Tensor]) -> Tensor:
        """Return what the node must give."""
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return super()._step(self.network[self.path], inputs, held)

    def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
        return self.alter(self, inputs) if node.path == self.path else super()._step(node, inputs, held)


def _biased(module: Altered, inputs: list[Tensor]) -> Tensor:
    """Follow the variance over the values, not over one less."""
    running, (x,) = module.tensor("running_var"), inputs
    before = running.clone()
    value = module.right(inputs)
    momentum = module.network[module.path].op.momentum or 0.0  # type: ignore[union-attr]  # a normalisation
    if module.training:
        running.data.copy_((1 - momentum) * before + momentum * x.detach().var(dim=(0, 2, 3), unbiased=False))
    return value


def _frozen(module: Altered, inputs: list[Tensor]) -> Tensor:
    """Normalise with the running statistics, and leave them as they are."""
    mean, variance = module.tensor("running_mean").clone(), module.tensor("running_var").clone()
    scale, offset = module.tensor("weight"), module.tensor("bias")
    return functional.batch_norm(inputs[0], mean, variance, scale, offset, training=False, eps=1e-3)


def _broken(module: Altered, inputs: list[Tensor]) -> Tensor:
    """Leave a running variance that is no number."""
    value = module.right(inputs)
    if module.training:
        module.tensor("running_var").data[0] = float("nan")
    return value


def _detached(module: Altered, inputs: list[Tensor]) -> Tensor:
    return module.right(inputs).detach()


def _steep(module: Altered, inputs: list[Tensor]) -> Tensor:
    """Give the right value with a gradient of a thousandth too much."""
    value = module.right(inputs)
    return value.detach() + 1.001 * (value - value.detach())


ALTERED: dict[str, tuple[str, Callable[[Altered, list[Tensor]], Tensor], str, set[str]]] = {
    "biased variance": (NORM, _biased, NORM, {"RUNNING-STATISTICS"}),
    "no number": (NORM, _broken, NORM, {"BN-MOMENTUM", "RUNNING-STATISTICS"}),
    "frozen normalisation": (NORM, _frozen, NORM, {"RUNNING-STATISTICS", "TRAIN-STEP"}),
    "detached unit": (f"{BLOCK}.sepconv2.pointwise.conv", _detached, "", {"GRADIENT-REACHES", "TRAIN-STEP"}),
    "wrong gradient": (f"{BLOCK}.sepconv2.pointwise.conv", _steep, "", {"TRAIN-STEP"}),
}


@pytest.mark.parametrize("fault", ALTERED)
@pytest.mark.parametrize("name", ["notebook", "tf-release"])
def test_a_node_that_differs_in_training_is_named(name: str, fault: str) -> None:
    """An error of values spreads forward, one of gradients backward: where it begins is named."""
    path, alter, origin, clauses = ALTERED[fault]
    expected = specified(name)

    found = decided(Altered(expected, path, alter), expected)

    assert failed(found) == clauses
    for clause in clauses:
        assert only(found, clause).path == (origin or path), clause


def test_a_parameter_that_is_not_trained_is_found() -> None:
    """Everything else gets its gradient."""
    expected = specified("notebook")
    module = NetworkModule(expected)
    module.get_submodule(NORM).weight.requires_grad = False

    found = decided(module, expected)

    assert failed(found) == {"GRADIENT-REACHES"}
    finding = only(found, "GRADIENT-REACHES")
    assert (finding.path, finding.candidate_path, finding.actual) == (NORM, f"{NORM}.weight", "absent")


def test_a_counter_of_batches_is_no_momentum() -> None:
    """A cumulative average takes over the first batch whole, and the second by half."""

    class Counting(NetworkModule):
        def __init__(self, graph: Network) -> None:
            super().__init__(graph)
            self.register_buffer("count", torch.zeros(()))
            self.count: Tensor

        def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
            if node.path != NORM or not self.training:
                return super()._step(node, inputs, held)
            self.count += 1
            average = replace(node, op=replace(node.op, momentum=float(1 / self.count)))  # type: ignore[type-var,call-arg]  # a normalisation
            return super()._step(average, inputs, held)

    expected = specified("notebook")
    found = decided(Counting(expected), expected)

    assert failed(found) == {"BN-MOMENTUM", "RUNNING-STATISTICS"}
    assert only(found, "BN-MOMENTUM").actual == 1.0
    assert only(found, "RUNNING-STATISTICS").path == NORM


class Raising(NetworkModule):
    """A network that raises in training."""

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the network in evaluation only."""
        if self.training and len(inputs[0]) >= self.least:
            raise RuntimeError("this network\nis for inference")
        return super().forward(*inputs)

    least = 1


def test_a_network_that_raises_in_training_is_refused_in_one_line() -> None:
    """What could not be seen is undecided, with what it raised."""
    expected = specified("notebook")
    found = decided(Raising(expected), expected)

    assert failed(found) == {"TRAIN-STEP"}
    assert only(found, "TRAIN-STEP").actual == "RuntimeError: this network"
    others = {decision.undecided for name, decision in found.items() if name != "TRAIN-STEP"}
    assert others == {"RuntimeError: this network"}


def test_a_network_that_cannot_be_set_to_training_is_refused_in_one_line() -> None:
    """Foreign code runs when a module changes its mode, too."""

    class Stubborn(NetworkModule):
        def train(self, mode: bool = True) -> "Stubborn":  # noqa: FBT001, FBT002 - the framework's signature
            if mode:
                raise NotImplementedError("never")
            return super().train(mode)

    expected = specified("notebook")
    found = decided(Stubborn(expected), expected)

    assert only(found, "TRAIN-STEP").actual == "NotImplementedError: never"


def test_a_network_without_gradients_is_refused() -> None:
    """Its results cannot be differentiated: no parameter gets a gradient."""

    class Inference(NetworkModule):
        @torch.no_grad()
        def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
            return super().forward(*inputs)

    expected = specified("notebook")
    found = decided(Inference(expected), expected)

    assert "GRADIENT-REACHES" in failed(found)
    assert only(found, "GRADIENT-REACHES").path == "decoder.logits.conv"


def test_a_batch_of_one_must_be_accepted_where_nothing_forbids_it() -> None:
    """The source document's image pooling is not normalised."""

    class Many(NetworkModule):
        def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
            if self.training and len(inputs[0]) == 1:
                raise ValueError("Expected more than 1 value per channel when training")
            return super().forward(*inputs)

    expected = specified("notebook")
    found = decided(Many(expected), expected)

    assert failed(found) == {"BATCH-OF-ONE"}
    assert "more than 1 value" in str(only(found, "BATCH-OF-ONE").actual)


def test_a_difference_in_evaluation_is_not_reported_in_training() -> None:
    """Structure and numerics say so; here it is the reason why the values of training are not compared."""
    expected = specified()
    found = decided(NetworkModule(specified(low_level_tap="block2_sepconv2_activated", norm_momentum=0.1)), expected)

    assert failed(found) == {"BN-MOMENTUM"}
    assert found["GRADIENT-REACHES"].verdict is Verdict.PASSED
    assert found["DROPOUT"].verdict is Verdict.PASSED
    for clause in ("RUNNING-STATISTICS", "TRAIN-STEP"):
        assert "already" in found[clause].undecided, clause


def test_momentum_is_measured_on_larger_images_where_the_maps_of_small_ones_shrink_to_nothing() -> None:
    """A kernel without padding needs a map as large as itself; its result is enlarged again."""

    class Unpadded(NetworkModule):
        def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
            if node.path != "aspp.atrous1.conv":
                return super()._step(node, inputs, held)
            value = functional.conv2d(inputs[0], held["aspp.atrous1.conv.weight"], dilation=6)
            return functional.interpolate(value, inputs[0].shape[2:])

    expected = specified("notebook")
    found = decided(Unpadded(with_op(expected, NORM, momentum=0.1)), expected)

    assert failed(found) == {"BN-MOMENTUM"}
    assert only(found, "BN-MOMENTUM").path == NORM
    assert found["BN-MOMENTUM"].undecided == ""


def test_the_candidate_returns_to_evaluation_mode() -> None:
    """It is left in evaluation, without gradients."""
    expected = specified("notebook")
    module = NetworkModule(expected)
    observe(local(module), expected, own_places(expected))

    assert not any(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_recomputation_of_a_checkpoint_has_no_dropout_either() -> None:
    """It runs again in the backward pass, where calls of dropout are not taken for the identity."""

    class Checkpointed(nn.Module):
        def __init__(self, output_stride: int, num_classes: int) -> None:
            super().__init__()
            self.network = build("tf-release", output_stride, num_classes, SMALL)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = checkpoint(self.network, image, use_reentrant=False)
            return logits

    certificate = deeplab_spec.certify(Checkpointed, "tf-release", choices=SMALL, levels=["training"])

    assert [(clause.id, clause.findings) for clause in certificate.clauses if clause.findings] == []


class Quarter(nn.Module):
    """A network whose logits are a quarter of what they must be, high and wide."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return every fourth logit."""
        return functional.interpolate(self.net(x), scale_factor=0.25, mode="nearest")


def test_results_of_another_size_are_a_finding_and_not_the_end_of_the_judgement() -> None:
    """A sum of logits with weights of the expected size could not be made; every clause was lost."""
    certificate = deeplab_spec.certify(Quarter(build("notebook", choices=SMALL)), "notebook", choices=SMALL)

    clauses = {clause.id: clause for clause in certificate.clauses}
    (finding,) = clauses["GRADIENT-REACHES"].findings
    assert "missing, as logits has the shape" in str(finding.actual)
    assert clauses["OUTPUT-SHAPE"].verdict is Verdict.FAILED
    assert clauses["SAME-FAMILY"].verdict is Verdict.PASSED
