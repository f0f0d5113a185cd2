"""``show --format json`` holds every number that a port takes: one that is built from it alone conforms."""

import json
import math

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.show.document import initial_tensors
from deeplab_spec.spec.api import network, table
from deeplab_spec.spec.choices import Initialisation
from deeplab_spec.spec.clauses import Level
from tests.cli.test_commands import printed
from tests.support import json_port


def shown(capsys: pytest.CaptureFixture[str], variant: str, *choices: str) -> json_port.Port:
    """Return the port of what the command prints."""
    chosen = [word for choice in choices for word in ("--choose", choice)]
    text = printed(capsys, "show", "--variant", variant, "--format", "json", "--size", "512", *chosen)
    document = json.loads(text)
    port = json_port.Port(document)
    assert sum(parameter.numel() for parameter in port.parameters()) == document["parameters"]
    return port


@pytest.mark.parametrize(
    ("variant", "choices", "levels"),
    [
        ("tf-release", {"width": "0.125", "middle_blocks": "2"}, tuple(Level)),
        pytest.param("smp-resnet34", {"width": "0.03125"}, tuple(Level), marks=pytest.mark.deep),
        pytest.param("hf-mobilenet-v2", {"width": "0.03125"}, tuple(Level), marks=pytest.mark.deep),
        pytest.param("torchvision-mobilenet-v3-large", {"width": "0.03125"}, tuple(Level), marks=pytest.mark.deep),
    ],
)
def test_a_port_of_the_document_alone_conforms_at_every_level(
    variant: str, choices: dict[str, str], levels: tuple[Level, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Initial weights, momentum and dropout too."""
    port = shown(capsys, variant, *(f"{name}={value}" for name, value in choices.items()))
    certificate = deeplab_spec.certify(port, variant, choices=choices, output_strides=[16], levels=levels)

    failed = [
        clause for clause in certificate.clauses if clause.verdict not in {Verdict.PASSED, Verdict.NOT_APPLICABLE}
    ]
    assert not failed
    assert certificate.verdict is RunVerdict.CONFORMS


@pytest.mark.parametrize("init", Initialisation)
def test_the_call_of_torch_draws_the_distribution_that_stands_beside_it(init: Initialisation) -> None:
    """For every initialisation: deviation and largest magnitude, of weights and biases."""
    rows, graph = table("notebook", choices={"init": init}), network("notebook", choices={"init": init})
    row = next(row for row in rows.convolutions if row.kernel == 3 and row.bias and row.groups == 1)
    op = graph[f"{row.path}.conv"].op
    assert isinstance(op, Conv2d)
    layer = nn.Conv2d(op.channels_in, op.channels_out, op.kernel)
    initial = initial_tensors(op, row.init)
    torch.manual_seed(0)
    json_port._draw(layer, {role: {"torch": how.torch} for role, how in initial.items()})

    for role, how in initial.items():
        drawn = getattr(layer, role).detach().double()
        expected = {"normal": 1, "truncated normal": 0.8796, "uniform": math.sqrt(1 / 3), "constant": 1}[how.shape]
        assert drawn.square().mean().sqrt() == pytest.approx(how.scale * expected, rel=0.3 if role == "bias" else 0.05)
        assert how.bound is None or drawn.abs().max() <= how.bound * (1 + 1e-6)
