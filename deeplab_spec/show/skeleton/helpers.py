"""The helpers that a written module may use, as text; a file gets those that it calls."""

import re
from collections.abc import Iterator
from typing import Final

_IMPORTS: Final = (
    ("import math\n", r"\bmath\."),
    ("from collections import OrderedDict\n", "OrderedDict"),
    ("\nimport torch\n", r"\btorch\.cat"),
    ("from torch import Tensor, nn\n", ""),
)
_OF_NN: Final = (("functional as F", r"\bF\."), ("init", r"\binit\."))

_SAME: Final = '''\
def same_margins(x: Tensor, kernel: int, stride: int, rate: int = 1) -> list[int]:
    """Return the margins that make a side ``ceil(side / stride)``; the odd pixel is the last one."""
    margins = []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + rate * (kernel - 1) + 1 - side, 0)
        margins += [total // 2, total - total // 2]
    return margins'''

_SAME_CONV: Final = '''\
class SameConv2d(nn.Conv2d):
    """A convolution with the padding SAME, which depends on the size of the map."""

    def forward(self, x: Tensor) -> Tensor:
        margins = same_margins(x, self.kernel_size[0], self.stride[0], self.dilation[0])
        return super().forward(F.pad(x, margins))'''

_SAME_POOL: Final = '''\
class SameMaxPool2d(nn.MaxPool2d):
    """A maximum with the padding SAME, which depends on the size of the map."""

    def forward(self, x: Tensor) -> Tensor:
        margins = same_margins(x, self.kernel_size, self.stride)
        return super().forward(F.pad(x, margins, value=-math.inf))'''

_NAMED: Final = '''\
def named(**layers: nn.Module) -> nn.Sequential:
    """Return layers that run one after another, under their names."""
    return nn.Sequential(OrderedDict(layers))'''

_ZERO_BIAS: Final = '''\
def zero_bias(conv: nn.Conv2d) -> nn.Conv2d:
    """Let a bias, if there is one, start at zero."""
    if conv.bias is not None:
        init.zeros_(conv.bias)
    return conv'''


_DRAWS: Final = {
    "truncated_normal": (
        "normal ones, cut off at two deviations",
        "init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)",
    ),
    "normal": ("normal ones", "init.normal_(conv.weight, std=std)"),
    "xavier_uniform": ("Glorot's uniform ones", "init.xavier_uniform_(conv.weight)"),
    "kaiming_uniform": ("He's uniform ones", 'init.kaiming_uniform_(conv.weight, nonlinearity="relu")'),
    "kaiming_fan_in": ("He's normal ones", 'init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")'),
    "kaiming_fan_out": (
        "He's normal ones, by the outputs",
        'init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")',
    ),
    "variance_scaling": (
        "TensorFlow slim's variance scaling",
        "std = math.sqrt(1.3 * 2 / conv.weight[0].numel())",
        "init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)",
    ),
}
"""What the helper of every distribution draws, and its lines."""


def _draw(name: str, says: str, *lines: str) -> str:
    arguments = "conv: nn.Conv2d, std: float" if "std=std" in lines[0] else "conv: nn.Conv2d"
    returned = "conv" if name == "kaiming_fan_in" else "zero_bias(conv)"
    body = "\n".join(f"    {line}" for line in (*lines, f"return {returned}"))
    return f'def {name}({arguments}) -> nn.Conv2d:\n    """Draw initial weights: {says}."""\n{body}'


HELPERS: Final = {
    "named": _NAMED,
    "zero_bias": _ZERO_BIAS,
    "same_margins": _SAME,
    "SameConv2d": _SAME_CONV,
    "SameMaxPool2d": _SAME_POOL,
    **{name: _draw(name, *parts) for name, parts in _DRAWS.items()},
}


def used(text: str) -> Iterator[str]:
    """Yield the helpers that a text calls, and those that these call."""
    wanted = [name for name in HELPERS if re.search(rf"\b{name}\(", text)]
    wanted += [name for name in HELPERS if any(re.search(rf"\b{name}\(", HELPERS[other]) for other in wanted)]
    yield from (HELPERS[name] for name in HELPERS if name in wanted)


def imports(text: str) -> str:
    """Return the imports that a text needs."""
    lines = "".join(line for line, pattern in _IMPORTS if re.search(pattern, text))
    lines += "".join(f"from torch.nn import {name}\n" for name, pattern in _OF_NN if re.search(pattern, text))
    return lines.strip()
