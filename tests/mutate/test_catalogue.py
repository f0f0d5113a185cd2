"""The catalogue of wrong networks: made by rules, complete, and wrong."""

from dataclasses import fields
from functools import cache

import pytest
import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.weights import Draw
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Resize
from deeplab_spec.judge.numerics.numerics_only import trial
from deeplab_spec.judge.plan import SpecifiedPlan, plan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.observe import decide_graph
from deeplab_spec.mutate.catalogue import Catalogue, catalogue
from deeplab_spec.mutate.faults.graph_edits import with_op
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.strength.levels import Subject

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
    """Return one mutant of every kind that shows somewhere."""
    return list({mutant.kind: mutant for mutant in made(variant).mutants if mutant.shows is shows}.values())


@NETWORKS
def test_every_field_of_every_operation_has_a_mutant(variant: str) -> None:
    """Nothing of a record can be wrong without a network that is wrong in it."""
    changed: dict[str, set[str]] = {}
    for mutant in made(variant).mutants:
        changed.setdefault(mutant.path, set()).add(mutant.attribute)
    for node in planned(variant).network:
        wanted = {
            Conv2d: {"kernel", "rate", "groups", "bias", "training"} - ({"groups"} if odd(node.op) else set()),
            BatchNorm: {field.name for field in fields(BatchNorm)} - {"channels"} | {"node", "training"},
            Activation: {"kind", "node"},
            Resize: {"mode", "align_corners"},
            Concat: {"inputs"},
        }.get(type(node.op), set())
        assert wanted <= changed.get(node.path, set()), node.path


def odd(op: object) -> bool:
    """Tell whether a convolution cannot be done in two groups."""
    return isinstance(op, Conv2d) and not op.depthwise and bool(op.channels_in % 2 or op.channels_out % 2)


@NETWORKS
def test_names_are_unique_and_of_a_full_network_there_are_thousands(variant: str) -> None:
    """A name is what a report says and what a run goes on with."""
    names = [mutant.name for mutant in made(variant).mutants]

    assert len(set(names)) == len(names) > 1000
    assert any("decoder.low_level.conv" in name for name in names)
    assert set(names).isdisjoint(made(variant).unfit)


@NETWORKS
def test_what_is_proven_equal_computes_the_same(variant: str) -> None:
    """In float64, on an image on which everything shows; what is not proven computes something else."""
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
    """And names a node that the fault was made at, but for one in a hundred."""
    wrong = [mutant for mutant in made(variant).mutants if mutant.shows is Shows.EVALUATION]
    found = [decide_graph(planned(variant), mutant.network, IMAGE) for mutant in wrong]

    assert [mutant.name for mutant, entry in zip(wrong, found, strict=True) if not entry.failed] == []
    named = [
        entry.first is not None and entry.first.path in mutant.paths for mutant, entry in zip(wrong, found, strict=True)
    ]
    assert sum(named) >= 0.98 * len(named)


@pytest.mark.deep
@NETWORKS
def test_the_structure_accepts_every_mutant_that_is_proven_equal(variant: str) -> None:
    """With nothing run."""
    equal = [mutant for mutant in made(variant).mutants if mutant.shows is Shows.NOWHERE]

    assert [mutant.name for mutant in equal if decide_graph(planned(variant), mutant.network, IMAGE).failed] == []


def test_a_network_that_nobody_can_run_is_no_mutant() -> None:
    """A border lost in a residual branch: the two operands have other sizes."""
    network = planned("notebook").network
    path = "backbone.middle_flow.block1.sepconv1.depthwise.conv"

    assert f"no padding at {path}" in made("notebook").unfit
    assert isinstance(with_op(network, path, padding=(0, 0, 0, 0)), Network)


@pytest.mark.parametrize(
    "kind", ["momentum 0.1", "no gradient passes", "initial weights of twice the scale", "dropout lost"]
)
def test_what_shows_in_training_only_is_refused_by_training_alone(kind: str) -> None:
    """The graph of evaluation is right, or differs in what evaluation leaves out."""
    subject = Subject(variant="tf-release", output_stride=16, width=1 / 32, overrides=("middle_blocks=1",))
    mutant = [mutant for mutant in subject.mutants.mutants if mutant.kind == kind][-1]

    entry = subject.judge(mutant.name, lower=False)

    assert entry.training
    assert decide_graph(subject.plan, mutant.network, subject.image).failed == ()
