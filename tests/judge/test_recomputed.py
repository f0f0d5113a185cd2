"""A network that computes a part twice is the same function: it costs more, and its normalisations move twice."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import deeplab_spec
from deeplab_spec.align import lock_file
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import capture
from deeplab_spec.errors import TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.reference.forward import resize
from deeplab_spec.reference.network import DeepLabV3Plus, build
from deeplab_spec.strength.modules import small
from tests.support.modules import CHANNELS, Wrapped, assert_capture_runs

SMALL = small("notebook")
TWICE = ("backbone.entry_flow.stem.conv1", "backbone.entry_flow.stem.conv2", "backbone.entry_flow.block1")


class Recomputed(nn.Module):
    """A network whose stem and first block run once for the decoder, and once for the rest of the backbone."""

    def __init__(self, output_stride: int = 16, num_classes: int = 21, **choices: object) -> None:
        super().__init__()
        self.net: DeepLabV3Plus = build("notebook", output_stride, num_classes, choices or SMALL)  # type: ignore[arg-type]  # values of choices

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        net, flow = self.net, self.net.backbone.get_submodule("entry_flow")
        later = (net.backbone.get_submodule("middle_flow"), net.backbone.get_submodule("exit_flow"))
        stem = flow.get_submodule("stem")

        def first(x: Tensor) -> Tensor:
            for name in ("conv1", "conv2"):
                x = stem.get_submodule(name)(x)
            value: Tensor = flow.get_submodule("block1")(x)
            return value

        low, x = first(image), first(image)
        for block in [block for part in (flow, *later) for block in part.children()][2:]:
            x = block(x)
        return resize(net.decoder(net.aspp(x), low), image, net.output_resize)


@cache
def judged() -> Certificate:
    """Judge it at every level."""
    return deeplab_spec.certify(Recomputed, "notebook", choices=SMALL)


def test_only_its_cost_and_its_training_differ() -> None:
    """Every node is found, and every value right; the cost of both runs is at the nodes that run twice."""
    findings = {clause.id: clause.findings for clause in judged().clauses if clause.verdict is not Verdict.PASSED}

    assert set(findings) == {"BLOCK-COUNTS", "BN-MOMENTUM"}
    costs = {(finding.attribute, finding.actual) for finding in findings["BLOCK-COUNTS"]}
    assert costs == {("multiply-adds", 2 * int(str(finding.expected))) for finding in findings["BLOCK-COUNTS"]}
    assert all(finding.path.startswith(TWICE) for each in findings.values() for finding in each)
    assert {finding.actual for finding in findings["BN-MOMENTUM"]} == {round(1 - (1 - 3e-4) ** 2, 9)}


def test_its_cost_is_what_is_counted() -> None:
    """In all, and of every block that runs twice."""
    (costs,) = judged().counts
    counted = deeplab_spec.count(Recomputed(), size=costs.size, output_stride=16)

    assert counted.total.macs == costs.macs[1] > costs.macs[0]
    assert {block.path: block.macs[1] - block.macs[0] for block in costs.differing}.keys() == set(TWICE)
    assert all(block.macs[1] == 2 * block.macs[0] for block in costs.differing)


def test_what_runs_twice_is_counted_in_its_block() -> None:
    """Under the published network's names, with the whole depth and width."""
    size = (65, 97)
    counts = (
        deeplab_spec.count(Recomputed(middle_blocks=16), size=size),
        deeplab_spec.count("reference:notebook", size=size),
    )
    twice, once = ({row.path: row.macs for row in document.blocks} for document in counts)

    assert {path: macs // once[path] for path, macs in twice.items() if macs != once[path]} == dict.fromkeys(TWICE, 2)


def test_it_is_identified_and_conforms_to_its_own_lock(tmp_path: Path) -> None:
    """A lock states how often a value is computed, and the momentum of a normalisation that runs twice."""
    assert deeplab_spec.identify(Recomputed()).unexplained == ()
    file = tmp_path / "twice.lock"
    deeplab_spec.lock(Recomputed()).save(file)

    certificate = deeplab_spec.certify(Recomputed(), against=str(file))

    assert [clause.id for clause in certificate.clauses if clause.findings or clause.verdict is Verdict.UNDECIDED] == []
    edited = file.read_text().replace('"times": 2', '"times": 3', 1)
    with pytest.raises(TargetError, match="edited"):
        lock_file.read(edited, "twice.lock")


def _drops(module: Wrapped, x: Tensor) -> Tensor:
    first, second = (functional.dropout(x, 0.5, training=module.training) for _ in range(2))
    conv = module.get_submodule("conv")
    return torch.add(conv(first), conv(second))


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (lambda module, x: module.conv(x) + module.conv(x), {"Input": 1, "Conv2d": 1, "Add": 1, "Output": 1}),
        (lambda module, x: module.conv(x) + module.other(x), {"Input": 1, "Conv2d": 2, "Add": 1, "Output": 1}),
        (
            lambda module, x: module.conv(x) + module.conv(x * 2),
            {"Input": 1, "Opaque": 1, "Conv2d": 2, "Add": 1, "Output": 1},
        ),
        (_drops, {"Input": 1, "Dropout": 2, "Conv2d": 2, "Add": 1, "Output": 1}),
    ],
)
def test_equal_values_are_merged_and_others_are_not(function: object, kept: dict[str, int]) -> None:
    """The same tensors and inputs; two dropouts of one value drop other elements."""
    layers = {name: nn.Conv2d(CHANNELS, CHANNELS, 1) for name in ("conv", "other")}
    module, image = Wrapped(function, **layers).eval(), torch.randn(1, CHANNELS, 5, 6)
    merged = merge_recomputed(capture(module, (image,)))
    kinds = [type(node.op).__name__ for node in merged.network]

    assert {kind: kinds.count(kind) for kind in kinds} == kept
    assert_capture_runs(module, merged, image, tolerance=1e-6)
