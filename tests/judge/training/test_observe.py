"""A candidate is built with the run's seed, and training is observed also where its weights do not fit."""

from types import SimpleNamespace
from typing import cast

import torch
from torch import nn

from deeplab_spec.align.match import align, channel_orders
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.graph.ops import BatchNorm
from deeplab_spec.judge.load_weights import places
from deeplab_spec.judge.observe import build_with_seed
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.training.check import dropout, momentum, train_step
from deeplab_spec.judge.training.evidence import Trained
from deeplab_spec.judge.training.observe import dropout_inputs, observe
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import TF_RELEASE_DENSE
from tests.support import tf_release_port as ports
from tests.support.graphs import normal, normal_capture
from tests.support.strategies import NARROW, narrow

SIZE = (97, 65)


def trained_port() -> tuple[Trained, set[str]]:
    """Train a narrow port, one of whose convolutions has another shape; return its aligned normalisations too."""
    expected = network(narrow(TF_RELEASE_DENSE), 16, 21)
    module = ports.build(16, 21, NARROW)
    captured = capture(module, (torch.zeros(1, 3, *SIZE),))
    alignment = align(normal(expected, SIZE), normal_capture(captured))
    reading = cast("Reading", SimpleNamespace(capture=captured, alignment=alignment))
    module.double()
    orders = channel_orders(alignment, captured.network)
    found, unmatched = places(expected, alignment.partner, captured, state_of(module), orders)
    assert [parameter.path for parameter in unmatched] == ["decoder.low_level.conv"]
    trained = observe(local(module), expected, found, unmatched=unmatched, dropped=dropout_inputs(reading))
    return trained, {path for path in alignment.partner if isinstance(expected[path].op, BatchNorm)}


def test_a_candidate_is_built_with_the_seed_of_the_run() -> None:
    """Its initial weights are the same in another run, and the state of the random numbers is restored."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (
        build_with_seed(lambda *_: nn.Conv2d(3, 4, 3), 16, seed).tensors["weight"] for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_whose_weights_do_not_fit_is_judged_where_no_weights_are_needed() -> None:
    """Its momentum, at every normalisation, and its dropout, at its places; the rest is undecided, with the reason."""
    trained, norms = trained_port()

    assert {finding.path for finding in momentum(trained).findings} == norms
    assert {(finding.path, finding.actual) for finding in dropout(trained).findings} == {
        ("aspp.dropout", 0.5),
        ("decoder.conv1.activation", "dropout at rate 0.5"),
        ("decoder.conv2.activation", "dropout at rate 0.1"),
    }
    decision = train_step(trained)
    assert decision.findings == ()
    assert "has a place" in decision.undecided
