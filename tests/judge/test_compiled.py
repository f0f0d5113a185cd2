"""The graph of a compiled network is that of the original module; its values are those of the compiled one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import deeplab_spec
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.reference.network import build
from tests.support.candidates import SMALL

pytestmark = pytest.mark.usefixtures("without_shape_checks")
"""A compiler traces the checks of shapes too, with tensors that have none."""
FAULTY = "backbone.middle_flow.block2.sepconv2.depthwise.conv"

Compiled = Callable[..., Any]


def _plain(graph: fx.GraphModule, _: Sequence[Tensor]) -> Compiled:
    """A compiler that changes nothing."""
    return graph.forward


def _scaling(graph: fx.GraphModule, _: Sequence[Tensor]) -> Compiled:
    """A compiler whose code is off by a tenth of a per cent."""

    def run(*values: Tensor) -> list[Tensor]:
        return [value * 1.001 for value in graph.forward(*values)]

    return run


def _compiled(backend: Any, *, faulty: bool = False) -> Callable[[int, int], nn.Module]:
    def made(output_stride: int, num_classes: int) -> nn.Module:
        torch.compiler.reset()
        network = build("tf-release", output_stride, num_classes, SMALL)
        if faulty:
            conv = network.get_submodule(FAULTY)
            assert isinstance(conv, nn.Conv2d)
            conv.dilation, conv.padding = (3, 3), (3, 3)
        compiled: nn.Module = torch.compile(network, backend=backend)  # type: ignore[assignment]  # a module in, a module out
        return compiled

    return made


@pytest.mark.deep
def test_a_compiled_network_conforms() -> None:
    """The compiler wraps the module; its graph and its weights are those of what it wraps, which is trained too."""
    certificate = deeplab_spec.certify(_compiled(_plain), "tf-release", choices=SMALL)

    others = {clause.id: clause.verdict for clause in certificate.clauses if clause.verdict is not Verdict.PASSED}
    assert others == {"BATCH-OF-ONE": Verdict.NOT_APPLICABLE}


def test_a_fault_of_the_compiler_only_is_refused_end_to_end() -> None:
    """Every node computes what is specified, so none is named; the reason is given instead."""
    certificate = deeplab_spec.certify(_compiled(_scaling), "tf-release", choices=SMALL, levels=["numerics"])

    assert certificate.verdict is RunVerdict.DEVIATES
    failed = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.FAILED}
    assert failed == {"VALUES-FLOAT32"}
    assert certificate.first_divergence is None
    assert "compiler" in certificate.first_divergence_reason


@pytest.mark.deep
def test_a_fault_in_the_compiled_module_is_named() -> None:
    """As in the module itself."""
    certificate = deeplab_spec.certify(_compiled(_plain, faulty=True), "tf-release", choices=SMALL)

    structure = [clause for clause in certificate.clauses if clause.level == "structure"]
    assert {(finding.path, finding.attribute) for clause in structure for finding in clause.findings} == {
        (FAULTY, "rate")
    }
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.path == FAULTY


@pytest.mark.deep
@pytest.mark.parametrize(("variant", "output_stride"), [("notebook", 16), ("tf-release", 8)])
def test_a_network_compiled_by_inductor_conforms(variant: str, output_stride: int) -> None:
    """The default compiler, with its own kernels; compiling takes most of the time."""

    def compiled(output_stride: int, num_classes: int) -> nn.Module:
        torch.compiler.reset()
        made: nn.Module = torch.compile(build(variant, output_stride, num_classes, SMALL))  # type: ignore[assignment]  # as above
        return made

    certificate = deeplab_spec.certify(compiled, variant, choices=SMALL, output_strides=[output_stride])

    assert certificate.verdict is RunVerdict.CONFORMS
