"""A captured graph is used only if its values equal the results of the candidate."""

import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict
from tests.support.candidates import SMALL, Wrapped, right

CHECK = "checking the captured graph by running it"


class TwoFaced(Wrapped):
    """A network that computes something else than it shows to the exporter."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; twice the logits outside of a capture."""
        logits: Tensor = self.network(image)
        return logits if torch.compiler.is_exporting() else 2 * logits


def judged(candidate: nn.Module) -> tuple[Certificate, list[str]]:
    """Judge the numerics; return the certificate and the stages."""
    stages: list[str] = []
    certificate = deeplab_spec.certify(
        candidate,
        "notebook",
        choices=SMALL,
        levels=["numerics"],
        progress=lambda stage, _done, _total: stages.append(stage),
    )
    return certificate, stages


def test_a_graph_that_differs_from_the_candidates_results_decides_nothing() -> None:
    """Steps and structure are right, results are not: the graph is run, and is another network."""
    certificate, stages = judged(TwoFaced(16, 21))

    assert any(stage.endswith(CHECK) for stage in stages)
    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    assert {clause.reason.partition(" is off by ")[0] for clause in certificate.clauses} == {"the captured graph"}


def test_a_graph_whose_every_step_and_result_agree_is_not_run_again() -> None:
    """The counter-test: run step by step it has given the candidate's results already."""
    certificate, stages = judged(right())

    assert certificate.verdict is RunVerdict.CONFORMS
    assert not any(stage.endswith(CHECK) for stage in stages)
