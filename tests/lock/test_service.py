"""The lock of a library's network: equal networks conform, and a fault is reported at its node."""

from pathlib import Path

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.align import lock_file as lock_text
from deeplab_spec.align.differences import differences
from deeplab_spec.align.lock import Lock
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped, for_any_size, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.target import parse_target
from deeplab_spec.cli.app import main
from deeplab_spec.errors import TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.lock.service import lock_target
from deeplab_spec.measure.rewrites import folded
from tests.support.faults import faults
from tests.support.peers import smp_deeplab

pytestmark = pytest.mark.in_process

SIZE = (320, 352)
DRAWN = 60
NARROW = ("--arg", "width=0.03", "--arg", "middle_blocks=12")


class Nested(nn.Module):
    """A network one level further down, under another name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"renamed": network})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Call the network."""
        logits: torch.Tensor = self.inner["renamed"](image)
        return logits


@pytest.fixture(scope="module")
def lock() -> Lock:
    """Lock segmentation_models_pytorch's network, which is a member of its own."""
    return lock_target(parse_target("tests.support.peers:smp_deeplab", {}))


@pytest.fixture(scope="module")
def file(lock: Lock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the lock to its file."""
    path = tmp_path_factory.mktemp("locks") / "smp.lock"
    path.write_text(lock_text.text(lock), encoding="utf-8")
    return path


def _normal(network: Network) -> Shaped:
    return normal_form(shaped(network, SIZE))


def test_a_lock_says_what_the_library_does_otherwise(lock: Lock) -> None:
    """Its own member explains everything, and the lock records the sizes that it refuses."""
    assert lock.parameters == 41_042_005
    assert lock.nearest is not None
    assert lock.nearest.variant == "smp-xception65"
    assert lock.nearest.unexplained == 0
    assert lock.nearest.choices == {}
    assert any(not response.results for response in lock.responses)
    assert lock_text.read(lock_text.text(lock), "again") == lock


@pytest.mark.deep
def test_single_faults_in_the_locked_graph_are_refused_each_at_its_node(lock: Lock) -> None:
    """A sample of all faults, evenly over the network, in the graph of the library's own network."""
    network = for_any_size(lock.normal)
    expected = _normal(network)
    assert differences(align(expected, expected)) == ()
    found = faults(network, SIZE)
    assert len(found) > 500
    for fault in found[:: len(found) // DRAWN]:
        first = differences(align(expected, _normal(fault.network)))[0]
        assert first.path in fault.paths, fault.name


@pytest.mark.deep
@pytest.mark.parametrize("form", ["folded", "nested", "program"])
def test_other_forms_of_the_locked_network_conform(form: str, file: Path, tmp_path: Path) -> None:
    """Folded, re-nested under other names, or exported: it is still the network it was."""
    torch.manual_seed(0)
    network = smp_deeplab(16, 21).eval()
    image = torch.randn(1, 3, 512, 512)
    target: nn.Module | str = Nested(network)
    if form == "folded":
        target = folded(network, torch.zeros(1, 3, 64, 64))
    elif form == "program":
        path = tmp_path / "smp.pt2"
        torch.export.save(torch.export.export(network, (image,), strict=False), path)
        target = str(path)

    certificate = deeplab_spec.certify(target, against=str(file))

    bad = {Verdict.FAILED, Verdict.UNDECIDED}
    assert [clause.id for clause in certificate.clauses if clause.verdict in bad] == []
    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.against == str(file)
    assert certificate.nearest is None


def test_the_commands_lock_a_network_and_judge_it_against_the_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A narrow reference conforms to its lock; the same with other rates and another momentum does not."""
    path = tmp_path / "narrow.lock"
    with pytest.raises(SystemExit) as locked:
        main(["lock", "reference:tf-release", *NARROW, "-o", str(path), "--json"])
    assert locked.value.code in {0, None}
    assert '"variant": "tf-release"' in capsys.readouterr().out

    certificate = deeplab_spec.certify(
        "reference:tf-release",
        against=str(path),
        arguments={"width": 0.03, "middle_blocks": 12, "aspp_rates": "12,24,36", "norm_momentum": "0.1"},
        levels=["structure", "training"],
    )

    assert certificate.verdict is RunVerdict.DEVIATES
    structure = [clause for clause in certificate.clauses if clause.level == "structure"]
    found = {finding.path for clause in structure for finding in clause.findings}
    assert found == {f"aspp.atrous{branch}.depthwise.conv" for branch in (1, 2, 3)}
    training = {clause.id: clause for clause in certificate.clauses if clause.level == "training"}
    assert {(finding.expected, finding.actual) for finding in training["BN-MOMENTUM"].findings} == {(0.0003, 0.1)}
    for unstated in ("DROPOUT", "INITIALISATION"):
        assert training[unstated].verdict is Verdict.NOT_APPLICABLE
        assert "does not state" in training[unstated].reason
    assert {clause.id for clause in training.values() if clause.verdict is Verdict.FAILED} == {"BN-MOMENTUM"}


@pytest.mark.parametrize("name", ["network.txt", "network"])
def test_a_lock_has_its_ending(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its ending it is known again."""
    with pytest.raises(SystemExit) as refused:
        main(["lock", "reference", "-o", name])

    assert refused.value.code == 2
    assert ".lock" in capsys.readouterr().err


def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    """A lock that is damaged is refused in one line."""
    path = tmp_path / "damaged.lock"
    path.write_text("deeplab-spec lock, schema 1\n", encoding="utf-8")

    with pytest.raises(TargetError) as refused:
        deeplab_spec.certify("reference:notebook", against=str(path))
    assert "\n" not in str(refused.value)
