"""The strength of the judge is counted and kept; an interrupted run resumes; a judge that accepts all has survivors."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deeplab_spec.cli.app import main
from deeplab_spec.errors import SpecError
from deeplab_spec.judge.numerics import end_to_end
from deeplab_spec.mutate.mutant import TrainingFault
from deeplab_spec.pieces import folder as pieces
from deeplab_spec.pieces.folder import Folder, file_name
from deeplab_spec.pieces.plan import WHOLE
from deeplab_spec.spec.distributions import Distribution, Shape
from deeplab_spec.strength import processes
from deeplab_spec.strength import service as services
from deeplab_spec.strength.document import JudgedMutant, MutantsDocument
from deeplab_spec.strength.levels import Subject
from deeplab_spec.strength.modules import with_initial_fault
from deeplab_spec.strength.service import MutantsRequest, local, mutants, planned, summed
from deeplab_spec.strength.text import MEASURED, headline, page, text

SMALL = ("middle_blocks=1",)
FEW = MutantsRequest(variants=("notebook",), output_strides=(16,), sample=6, lower_every=2, overrides=SMALL)
REWRITES = ["notebook/16/rectifier/product", "notebook/16/1x1 as a product/einsum"]


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


@pytest.fixture(scope="module")
def document() -> MutantsDocument:
    """Judge a few mutants, and two rewrites."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "_rewrites", lambda _request: REWRITES)
        return mutants(FEW, silent)


def test_every_level_refuses_what_it_must(document: MutantsDocument) -> None:
    """Each without the others; provably equal mutants are counted separately."""
    assert document.survivors == ()
    assert document.killed == document.total == FEW.sample - sum(entry.total for entry in document.equal)
    assert document.by_level["structure"].killed == document.by_level["structure"].shown > 0
    assert document.by_dtype["float64"].killed == document.by_dtype["float64"].tried
    assert document.localised.exact <= document.localised.total
    assert document.rewrites is not None
    assert document.rewrites.rejected == ()
    assert document.margins is not None
    assert document.margins.float64 > document.margins.float64_limit


def test_the_report_says_the_rates_and_what_survives(document: MutantsDocument) -> None:
    """As text for a terminal, and as a page with the kill matrix."""
    assert text(document).splitlines()[-1] == headline(document)
    assert "wrong networks of notebook refused, 100.00 %" in headline(document)
    assert MEASURED in text(document).splitlines()
    shown = page(document, "deeplab-spec mutants")
    assert "In bfloat16 and float16, weights and images are cast; mixed precision is not tried." in shown
    assert "Made by `deeplab-spec mutants`." in shown
    assert all(clause in shown for clause in document.by_clause)


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: MutantsDocument) -> None:
    """Finished pieces are not judged again; one that is lost is."""
    monkeypatch.setattr(processes, "MUTANTS_PER_UNIT", 1)
    request, folder = replace(FEW, rewrites=False), Folder(tmp_path)
    plan = planned(request, silent)
    whole = summed(plan, pieces.run(plan, WHOLE, folder, local(request), silent))
    lost = plan.pieces[-1]
    (tmp_path / file_name(plan, lost.id)).unlink()
    judged: list[str] = []
    judge = Subject.judge

    def noted(subject: Subject, name: str, *, lower: bool) -> JudgedMutant:
        judged.append(name)
        return judge(subject, name, lower=lower)

    monkeypatch.setattr(Subject, "judge", noted)

    again = summed(plan, pieces.run(plan, WHOLE, folder, local(request), silent))
    assert again == whole == document.model_copy(update={"rewrites": None})
    assert judged == [name for name, _lower in lost.work["names"]]


def test_a_judge_that_accepts_everything_has_survivors(monkeypatch: pytest.MonkeyPatch) -> None:
    """If every result is accepted, values refuse nothing, and the command ends with 1."""
    monkeypatch.setattr(end_to_end, "END_TO_END_LIMIT", float("inf"))

    found = mutants(replace(FEW, rewrites=False), silent)

    assert {survivor.level for survivor in found.survivors} == {"numerics"}
    assert found.killed < found.total
    assert "survives numerics" in text(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": 0}, "--sample: must be 1 or more"),
        ({"processes": 0}, "--processes: must be 1 or more"),
        ({"variants": ("none",)}, "none"),
        ({"variants": ("notebook",), "output_strides": (32,)}, "32"),
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    """The message says what the value must be, and what it is."""
    with pytest.raises(SpecError, match=message):
        MutantsRequest(**changes)  # type: ignore[arg-type]


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs read the document by it."""
    with pytest.raises(SystemExit) as ended:
        main(["mutants", "--json-schema"])

    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["title"] == "MutantsDocument"


@pytest.mark.parametrize("shape", [Shape.UNIFORM, Shape.TRUNCATED])
def test_initial_weights_of_another_distribution_have_another_shape(shape: Shape) -> None:
    """Of the same deviation: a uniform kernel is drawn from a normal distribution, every other from a uniform one."""
    subject = Subject(variant="tf-mobilenet-v2", output_stride=16, width=1 / 32)
    mutant = next(each for each in subject.mutants.mutants if each.training_fault is TrainingFault.FLAT)
    weight = torch.rand(50_000, generator=torch.Generator().manual_seed(0)) - 0.5

    wrong = with_initial_fault(weight, Distribution(shape=shape, scale=0.5), mutant, seed=1)

    assert float(wrong.std()) == pytest.approx(float(weight.std()), rel=0.02)
    assert (float(wrong.abs().max()) > 1.0) is (shape is Shape.UNIFORM)


def test_a_small_kernel_is_judged_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A depthwise kernel of 16 channels has too few weights for a test of their distribution."""
    subject = Subject(variant="torchvision-mobilenet-v3-large", output_stride=16, width=1 / 32)
    widths: list[float] = []
    plan_at = Subject.plan_at
    monkeypatch.setattr(Subject, "plan_at", lambda self, width: widths.append(width) or plan_at(self, width))

    for block in ("block1", "block12"):
        name = f"initial weights of another distribution at backbone.{block}.depthwise.conv"
        assert subject.judge(name, lower=False).training
    assert max(widths) == 4.0
    assert widths[-1] == 1.0
