"""A network of another architecture gets one sentence, not a thousand findings."""

from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.judge.text import text


class Plain(nn.Module):
    """Some convolutions in a row."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 21, 3, padding=1)]
        for _ in range(8):
            layers += [nn.ReLU(), nn.Conv2d(21, 21, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of a sort."""
        logits: Tensor = self.layers(image)
        return logits


def test_a_row_of_convolutions_is_another_network() -> None:
    """It has no decoder and no depthwise convolution, and the report says just that."""
    certificate = deeplab_spec.certify(Plain(), "notebook")

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.nearest is None
    assert sum(len(clause.findings) for clause in certificate.clauses) == 1
    report = " ".join(text(certificate).split())
    assert "this is another network: it has no decoder" in report
    assert "no depthwise convolution" in report
