"""Independent implementations agree with the specification."""

import re

import pytest
import torch
from torch import nn

from deeplab_spec.reference.network import build
from tests.support.assertions import assert_near, terms_of
from tests.support.peers import smp_deeplab, timm_backbone, torchvision_deeplab
from tests.support.weights import randomise_norms

RENAMED = (
    (r"^entry_flow\.stem\.conv(\d)\.conv", lambda m: f"stem_{int(m[1]) - 1}.conv"),
    (r"^entry_flow\.stem\.conv(\d)\.norm", lambda m: f"stem_{int(m[1]) - 1}.bn"),
    (r"^entry_flow\.block(\d+)", lambda m: f"blocks_{int(m[1]) - 1}"),
    (r"^middle_flow\.block(\d+)", lambda m: f"blocks_{int(m[1]) + 2}"),
    (r"^exit_flow\.block(\d+)", lambda m: f"blocks_{int(m[1]) + 18}"),
    (r"\.skip\.conv", lambda _: ".shortcut.conv"),
    (r"\.skip\.norm", lambda _: ".shortcut.bn"),
    (r"\.sepconv(\d)\.(depth|point)wise\.conv", lambda m: f".stack.conv{m[1]}.conv_{m[2][0]}w"),
    (r"\.sepconv(\d)\.(depth|point)wise\.norm", lambda m: f".stack.conv{m[1]}.bn_{m[2][0]}w"),
)


def name_in_timm(name: str) -> str:
    """Return timm's name of a weight of the backbone."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def parameters(module: nn.Module) -> int:
    """Count the trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_releases_backbone_has_as_many_parameters_as_timms() -> None:
    """Two independent programs agree on 37,867,312."""
    with torch.device("meta"):
        assert parameters(timm_backbone()) == parameters(build("tf-release").backbone) == 37_867_312


@pytest.mark.parametrize("output_stride", [8, *(pytest.param(stride, marks=pytest.mark.deep) for stride in (16, 32))])
@torch.no_grad()
def test_the_releases_backbone_computes_what_timms_computes(output_stride: int) -> None:
    """Same weights, same features to the order of sums; timm's stride-4 feature is taken after the ReLU."""
    theirs = timm_backbone(output_stride).double().eval()
    ours = build("tf-release", output_stride)
    randomise_norms(ours, 1)
    weights = {name_in_timm(name): value for name, value in ours.backbone.state_dict().items()}
    theirs.load_state_dict(weights)
    image = torch.rand(1, 3, 64, 49, dtype=torch.float64)
    values = ours.intermediate(image, "backbone", "low_level")
    found = theirs(image)
    assert_near(found[-1], values["backbone"], "features", terms=terms_of(ours.backbone))
    assert values["low_level"].min() < 0
    assert_near(found[1], values["low_level"].relu(), "stride-4 features", terms=terms_of(ours.backbone))


@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_peers_have_their_known_sizes(output_stride: int) -> None:
    """Other tests rely on these being the expected modules."""
    with torch.device("meta"):
        assert parameters(smp_deeplab(output_stride)) == 41_042_005
        assert hasattr(torchvision_deeplab(), "classifier")
