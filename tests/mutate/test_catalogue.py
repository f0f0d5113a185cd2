"""The catalogue of mutants is complete, and every mutant is wrong or provably equal."""

from dataclasses import fields
from functools import cache

import pytest
import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.weights import Draw
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Resize
from deeplab_spec.judge.numerics.end_to_end import trial
from deeplab_spec.judge.plan import SpecifiedPlan, plan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.observe import decide_graph
from deeplab_spec.mutate.catalogue import Catalogue, catalogue
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.strength.levels import Subject
from tests.support.graphs import with_op

IMAGE = (291, 302)
NETWORKS = pytest.mark.parametrize("variant", ["notebook", "tf-release"])


@cache
def planned(variant: str) -> SpecifiedPlan:
    """Plan a judgement of a small network: narrow, with a short middle flow."""
    overrides = ("width=0.03125", "middle_blocks=2")
    return plan(Request(target=variant, variant=variant, overrides=overrides, classes=5), 16)


@cache
def made(variant: str) -> Catalogue:
    """Return the mutants of a small network."""
    return catalogue(planned(variant).network, IMAGE)


def some(variant: str, shows: Shows) -> list[Mutant]:
    """Return one mutant of every kind that shows in evaluation, in training or nowhere."""
    return list({mutant.kind: mutant for mutant in made(variant).mutants if mutant.shows is shows}.values())


@NETWORKS
def test_every_field_of_every_operation_has_a_mutant(variant: str) -> None:
    """A wrong field of any record has a mutant."""
    changed: dict[str, set[str]] = {}
    for mutant in made(variant).mutants:
        changed.setdefault(mutant.path, set()).add(mutant.attribute)
    for node in planned(variant).network:
        expected = {
            Conv2d: {"kernel", "rate", "groups", "bias", "training"} - ({"groups"} if odd(node.op) else set()),
            BatchNorm: {field.name for field in fields(BatchNorm)} - {"channels"} | {"node", "training"},
            Activation: {"kind", "node"},
            Resize: {"mode", "align_corners"},
            Concat: {"inputs"},
        }.get(type(node.op), set())
        assert expected <= changed.get(node.path, set()), node.path


def odd(op: object) -> bool:
    """Whether a convolution cannot have two groups."""
    return isinstance(op, Conv2d) and not op.depthwise and bool(op.channels_in % 2 or op.channels_out % 2)


@NETWORKS
def test_names_are_unique_and_of_a_full_network_there_are_thousands(variant: str) -> None:
    """Reports name mutants, and interrupted runs resume by name."""
    names = [mutant.name for mutant in made(variant).mutants]

    assert len(set(names)) == len(names) > 1000
    assert any("decoder.low_level.conv" in name for name in names)
    assert set(names).isdisjoint(made(variant).unfit)


@NETWORKS
def test_what_is_proven_equal_computes_the_same(variant: str) -> None:
    """In float64, on an image in which every fault shows; other mutants compute something else."""
    network = planned(variant).network
    drawn = trial(network, IMAGE, Draw.COVERAGE, seed=1)

    def apart(mutant: Mutant) -> float:
        values = run(mutant.network, drawn.weights, drawn.inputs, keep=())
        result: Tensor = values[mutant.network.outputs[0].path]
        return float(torch.dist(result, drawn.oracle) / torch.linalg.vector_norm(drawn.oracle))

    proven = [mutant for mutant in made(variant).mutants if mutant.proof and mutant.kind != "operands turned"]
    assert max(map(apart, proven)) <= 1e-12
    shown = [mutant for mutant in some(variant, Shows.EVALUATION) if mutant.kind in {"leaky ReLU", "nearest", "ReLU6"}]
    assert min(map(apart, shown)) >= 1e-6


@NETWORKS
def test_the_structure_refuses_one_of_every_kind_at_its_node_and_accepts_what_is_proven(variant: str) -> None:
    """With nothing run."""
    for mutant in some(variant, Shows.EVALUATION):
        found = decide_graph(planned(variant), mutant.network, IMAGE)
        assert found.failed, mutant.name
        assert found.first, mutant.name
    for mutant in some(variant, Shows.NOWHERE):
        assert decide_graph(planned(variant), mutant.network, IMAGE).failed == (), mutant.name


@pytest.mark.deep
@NETWORKS
def test_the_structure_refuses_every_mutant(variant: str) -> None:
    """And the first finding names the node with the fault, in 98 of 100 cases."""
    faulty = [mutant for mutant in made(variant).mutants if mutant.shows is Shows.EVALUATION]
    found = [decide_graph(planned(variant), mutant.network, IMAGE) for mutant in faulty]

    assert [mutant.name for mutant, entry in zip(faulty, found, strict=True) if not entry.failed] == []
    named = [
        entry.first is not None and entry.first.path in mutant.paths
        for mutant, entry in zip(faulty, found, strict=True)
    ]
    assert sum(named) >= 0.98 * len(named)


@pytest.mark.deep
@NETWORKS
def test_the_structure_accepts_every_mutant_that_is_proven_equal(variant: str) -> None:
    """With nothing run."""
    equal = [mutant for mutant in made(variant).mutants if mutant.shows is Shows.NOWHERE]

    assert [mutant.name for mutant in equal if decide_graph(planned(variant), mutant.network, IMAGE).failed] == []


def test_a_network_that_cannot_run_is_no_mutant() -> None:
    """Without padding in a residual branch, the operands of the sum have different sizes."""
    network = planned("notebook").network
    path = "backbone.middle_flow.block1.sepconv1.depthwise.conv"

    assert f"no padding at {path}" in made("notebook").unfit
    assert isinstance(with_op(network, path, padding=(0, 0, 0, 0)), Network)


@pytest.mark.parametrize(
    "kind", ["momentum 0.1", "no gradient passes", "initial weights of twice the scale", "dropout lost"]
)
def test_what_shows_in_training_only_is_refused_by_training_only(kind: str) -> None:
    """The graph is right, or differs in nodes without effect in evaluation."""
    subject = Subject(variant="tf-release", output_stride=16, width=1 / 32, overrides=("middle_blocks=1",))
    mutant = [mutant for mutant in subject.mutants.mutants if mutant.kind == kind][-1]

    entry = subject.judge(mutant.name, lower=False)

    assert entry.training
    assert decide_graph(subject.plan, mutant.network, subject.image).failed == ()
