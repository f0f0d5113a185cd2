"""A normalisation written as arithmetic is recognised in any order; with one number changed it is not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.graph.ops import BatchNorm, Opaque
from deeplab_spec.mutate.rewrites.other_operators import NORMALS

CHANNELS, EPS = 5, 3e-4
Formula = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]


class Written(nn.Module):
    """A normalisation by a formula."""

    def __init__(self, formula: Formula, eps: float = EPS) -> None:
        super().__init__()
        self.formula, self.eps = formula, eps
        for name in ("offset", "scale"):
            self.register_parameter(name, nn.Parameter(torch.rand(CHANNELS) + 0.5))
        for name in ("spread", "middle"):
            self.register_buffer(name, torch.rand(CHANNELS) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the formula."""
        return self.formula(x, self.middle, self.spread, self.scale, self.offset, self.eps)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", NORMALS)
def test_every_formula_of_a_normalisation_is_recognised(way: str) -> None:
    """Its parameters have roles by their effect, not by their names."""
    module = Written(NORMALS[way]).eval().double()
    image = torch.randn(2, CHANNELS, 4, 3, dtype=torch.float64)
    captured = capture(module, (image,))
    (norm,) = (node for node in captured.network if isinstance(node.op, BatchNorm))
    (output,) = captured.network.outputs

    assert norm.op == BatchNorm(channels=CHANNELS, eps=EPS, momentum=norm.op.momentum)
    assert not [node for node in captured.network if isinstance(node.op, Opaque)]
    if way != "a function":
        assert {where.rpartition(".")[2]: name for where, name in captured.parameters.items()} == {
            "running_mean": "middle",
            "running_var": "spread",
            "weight": "scale",
            "bias": "offset",
        }
    with torch.no_grad():
        expected = module(image)
        values = captured.run({"input": image}, state_of(module))
        again = captured.step(norm.path, [image], state_of(module))
    torch.testing.assert_close(values[output.path], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(again, expected, rtol=1e-10, atol=1e-10)


def test_the_eps_of_the_formula_is_recognised() -> None:
    """The normalisation has the eps of the formula."""
    captured = capture(Written(NORMALS["a quotient"], eps=1e-5).eval(), (torch.zeros(1, CHANNELS, 2, 2),))

    assert [node.op.eps for node in captured.network if isinstance(node.op, BatchNorm)] == [1e-5]


WRONG: dict[str, Formula] = {
    "eps outside of the root": lambda x, m, v, s, o, eps: (
        _wide(x - _wide(m)) / (_wide(v).sqrt() + eps) * _wide(s) + _wide(o)
    ),
    "no root": lambda x, m, v, s, o, eps: (x - _wide(m)) / (_wide(v) + eps) * _wide(s) + _wide(o),
    "the mean added": lambda x, m, v, s, o, eps: (x + _wide(m)) * (_wide(v) + eps).rsqrt() * _wide(s) + _wide(o),
    "a scale of 1.0001": lambda x, m, v, s, o, eps: (
        (x - _wide(m)) * (_wide(v) + eps).rsqrt() * _wide(s) * 1.0001 + _wide(o)
    ),
    "the offset twice": lambda x, m, v, s, o, eps: (x - _wide(m)) * (_wide(v) + eps).rsqrt() * _wide(s) + _wide(o) * 2,
}


def _wide(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1) if vector.ndim == 1 else vector


@pytest.mark.parametrize("name", WRONG)
def test_other_arithmetic_is_opaque(name: str) -> None:
    """At most a part that is a normalisation without scale and offset is recognised; the rest stays."""
    captured = capture(Written(WRONG[name]).eval(), (torch.zeros(1, CHANNELS, 2, 2),))

    assert not [node for node in captured.network if isinstance(node.op, BatchNorm) and node.op.affine]
    assert [node for node in captured.network if isinstance(node.op, Opaque)]
