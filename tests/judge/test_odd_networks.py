"""Networks that differ in ways no choice or only one choice has: every difference is named, and none is invented."""

from collections.abc import Callable, Mapping

import pytest
from torch import Tensor, nn
from torch.nn import functional

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Finding
from deeplab_spec.spec.clauses import Level

NARROW = {"width": 0.03125}


class Then(nn.Module):
    """A layer and what follows it."""

    def __init__(self, first: nn.Module, *rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, nn.Sequential(*rest)

    def forward(self, x: Tensor, *others: object) -> Tensor:
        """Run both."""
        result: Tensor = self.rest(self.first(x, *others))
        return result


class Nothing(nn.Module):
    """Passes its input on."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        """Return the input."""
        return x


class Largest(nn.Module):
    """Takes the largest value around each pixel."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        """Return the largest values."""
        return functional.max_pool2d(x, 3, 1, 1)


class Mirrored(nn.Module):
    """Pads with mirrored values instead of zeros."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.margin = conv, int(conv.padding[0])
        conv.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, and convolve."""
        result: Tensor = self.conv(functional.pad(x, (self.margin,) * 4, mode="reflect"))
        return result


def wide(conv: nn.Module) -> nn.Module:
    """Return a 5x5 convolution like a 3x3 one."""
    assert isinstance(conv, nn.Conv2d)
    return nn.Conv2d(conv.in_channels, conv.out_channels, 5, int(conv.stride[0]), 2, bias=False)


def grouped(norm: nn.Module) -> nn.Module:
    """Return a normalisation over the channels of each image."""
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.GroupNorm(1, norm.num_features)


def changed(variant: str, path: str, change: Callable[[nn.Module], nn.Module], **choices: object) -> nn.Module:
    """Return a narrow network with one layer changed."""
    network = deeplab_spec.build(variant, choices={**NARROW, **choices})  # type: ignore[dict-item]
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, change(network.get_submodule(path)))
    return network


def judged(network: nn.Module, variant: str) -> tuple[Certificate, list[Finding]]:
    """Judge the structure; return the certificate and its findings."""
    certificate = deeplab_spec.certify(network, variant, choices=NARROW, levels=(Level.STRUCTURE,))  # type: ignore[arg-type]
    return certificate, [finding for clause in certificate.clauses for finding in clause.findings]


def usual(cases: Mapping[str, object]) -> list[object]:
    """Return the names of cases: the first two, and the others in the deep run."""
    first, second, *others = cases
    return [first, second, *(pytest.param(name, marks=pytest.mark.deep) for name in others)]


RESNET = "tf-resnet50"
ODD = {
    "a padding is no rate": (
        "aspp.atrous1.depthwise.conv",
        Mirrored,
        {("aspp.atrous1.depthwise.conv", "node"), ("aspp.atrous1.depthwise.conv", "padding")},
    ),
    "a pool branch with neither a normalisation nor a bias": (
        "aspp.pool.norm",
        lambda _: Nothing(),
        {("aspp.pool.norm", "node")},
    ),
    "another kernel in the stem": ("backbone.stem.conv1.conv", wide, {("backbone.stem.conv1.conv", "kernel")}),
    "an unknown normalisation": (
        "aspp.atrous2.pointwise.norm",
        grouped,
        {("aspp.atrous2.pointwise.norm", "node"), ("aspp.atrous2.pointwise.conv", "node")},
    ),
    "another activation in the decoder": (
        "decoder.conv1.pointwise.norm",
        lambda norm: Then(norm, nn.LeakyReLU(0.1)),
        {("decoder.conv1.pointwise.norm", "node")},
    ),
    "a shortcut with an activation": (
        "backbone.layer1.block1.skip",
        lambda skip: Then(skip, nn.ReLU()),
        {("backbone.layer1.block1.skip.norm", "node")},
    ),
}


@pytest.mark.parametrize("name", usual(ODD))
def test_what_no_choice_explains_is_named_at_its_node(name: str) -> None:
    """And no choice is named for it, also not as the nearest network's."""
    path, change, places = ODD[name]
    certificate, findings = judged(changed(RESNET, path, change), RESNET)

    assert {(finding.path, finding.attribute) for finding in findings} == places
    assert {finding.choice for finding in findings} == {None}
    assert certificate.nearest is not None
    assert certificate.nearest.choices == NARROW


CHOSEN = {
    "multi-grid": ({"multi_grid": (1, 2, 1)}, "multi_grid"),
    "rates": ({"aspp_rates": (4, 8, 12)}, "aspp_rates"),
    "a fourth branch": ({"aspp_rates": (6, 12, 18, 24)}, "aspp_rates"),
    "fewer blocks in a stage": ({"stage_units": (3, 4, 5, 3)}, "stage_units"),
    "one separable 3x3 in the decoder": ({"decoder_convs": "separable_1"}, "decoder_convs"),
    "one dense 3x3 in the decoder": ({"decoder_convs": "dense_1"}, "decoder_convs"),
}


@pytest.mark.parametrize("name", usual(CHOSEN))
def test_what_one_choice_explains_is_that_choice_alone(name: str) -> None:
    """With its value, and with nothing beside it."""
    choices, explained = CHOSEN[name]
    certificate, findings = judged(deeplab_spec.build(RESNET, choices={**NARROW, **choices}), RESNET)  # type: ignore[dict-item]
    value = choices[explained]

    assert {finding.choice for finding in findings} == {explained}
    assert certificate.nearest is not None
    assert certificate.nearest.choices == {**NARROW, explained: list(value) if isinstance(value, tuple) else value}


def test_consequences_are_folded_into_one_line() -> None:
    """The cause comes first; every finding is in the document, and listed on request."""
    path = "backbone.layer2.block2.conv2"
    certificate, findings = judged(changed(RESNET, path, lambda _: Largest()), RESNET)
    cause = f"max pooling instead of {path}"

    assert len(findings) > 1
    assert {finding.cause for finding in findings} == {cause}
    assert f"    {cause} ({len(findings)} findings)" in certificate.text.splitlines()
    assert not any(f"      {finding.path} " in certificate.text for finding in findings)


FIRST, BLOCKS = "backbone.entry_flow.block2", ", as an activation in place does (19 blocks)"


@pytest.mark.parametrize(
    ("choices", "cause"),
    [
        ({"middle_blocks": 8}, "8 blocks instead of 16 in backbone.middle_flow"),
        ({"middle_blocks": 18}, "18 blocks instead of 16 in backbone.middle_flow"),
        (
            {"skip_reads": "activated_input"},
            f"{FIRST}.sepconv1.activation changes what {FIRST}.skip.conv reads{BLOCKS}",
        ),
    ],
    ids=["fewer blocks", "more blocks", "skips that read an activation"],
)
def test_the_cause_of_what_a_choice_explains_is_one_line(choices: dict[str, object], cause: str) -> None:
    """Below the choice and its value."""
    certificate, _ = judged(deeplab_spec.build("tf-release", choices={**NARROW, **choices}), "tf-release")  # type: ignore[dict-item]

    assert f"      {cause}" in certificate.text.splitlines()
