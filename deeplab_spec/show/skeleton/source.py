"""The file of a network: plain PyTorch, from its first line to its last, with the helpers that it calls."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from deeplab_spec.show.skeleton import forward
from deeplab_spec.show.skeleton.layers import WIDTH, Call, written
from deeplab_spec.show.skeleton.parts import Part, Tree
from deeplab_spec.show.skeleton.templates import Parameter, Template, Templates
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import written as chosen
from deeplab_spec.spec.distributions import initials


def skeleton(subject: Subject) -> str:
    """Return a network as the text of a PyTorch module, which conforms as it is."""
    rows = subject.rows()
    tree = Tree(subject.network())
    named = rows.named_results or rows.auxiliary is not None
    templates = Templates(tree, initials(rows), named_results=named)
    parts = ["\n".join(_template(templates, template)) for template in templates.named]
    parts[-1] = _whole(parts[-1], subject, named=named)
    body = "\n\n\n".join(parts)
    body = "\n\n\n".join([*_used(body), body])
    return f"{_heading(subject)}\n\n{_imports(body)}\n\n\n{body}"


def _heading(subject: Subject) -> str:
    options = [f"--variant {subject.variant.name}"]
    options += [f"--choose {name}={chosen(value)}" for name, value in subject.overrides.items()]
    options += [f"--output-stride {subject.output_stride}", f"--classes {subject.classes}"]
    title = f"{subject.variant.title}; output stride {subject.output_stride}, {subject.classes} classes."
    words = f"{title[0].upper()}{title[1:]} Source: {subject.variant.source}."
    return "\n".join(
        [
            *textwrap.wrap(f'"""{words}', WIDTH, break_on_hyphens=False),
            "",
            "Written by, and to be checked after every change with:",
            "",
            f"    deeplab-spec show {' '.join(options)} --format skeleton",
            f"    deeplab-spec certify FILE.py:DeepLab {' '.join(options)}",
            '"""',
        ]
    )


def _template(templates: Templates, template: Template) -> Iterator[str]:
    if template.forward:
        yield from _class(templates, template, template.forward)
    else:
        yield from _function(templates, template)


def _function(templates: Templates, template: Template) -> Iterator[str]:
    yield written(_signature(template.name, [], template.parameters), "", "def ", " -> nn.Sequential:")
    yield f'    """{_docstring(template.parts)}"""'
    yield written(templates.chain(template.parts[0], templates.columns(template)), "    ", "return ")


def _class(templates: Templates, template: Template, flow: forward.Forward) -> Iterator[str]:
    yield f"class {template.name}(nn.Module):"
    yield f'    """{_docstring(template.parts)}"""'
    yield ""
    yield written(_signature("__init__", ["self"], template.parameters), "    ", "def ", " -> None:")
    yield "        super().__init__()"
    for name, call in templates.children(template.parts[0], templates.columns(template)).items():
        yield written(call, "        ", f"self.{name} = ")
    yield ""
    yield from (f"    {line}" for line in forward.lines(flow))


def _signature(name: str, first: list[str], parameters: tuple[Parameter, ...]) -> Call:
    """Return the head of a function as a call of its arguments: those without a default first."""
    arguments = list(first)
    for parameter in sorted(parameters, key=lambda parameter: parameter.default is not None):
        default = "" if parameter.default is None else f" = {parameter.default}"
        arguments.append(f"{parameter.name}: {parameter.type}{default}")
    return Call(callee=name, arguments=tuple(("", argument) for argument in arguments))


def _docstring(parts: list[Part]) -> str:
    if not parts[0].path:
        return "The whole network."
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return f"``{parts[0].path}``{more}."


def _whole(text: str, subject: Subject, *, named: bool) -> str:
    """Add to the class of the whole network what an image must be."""
    rows = subject.rows()
    rule = f"image.ndim != 4 or image.shape[1] != {rows.backbone.channels_in}"
    expected = f"(n, {rows.backbone.channels_in}, h, w)"
    if rows.size_multiple > 1:
        rule += f" or image.shape[2] % {rows.size_multiple} or image.shape[3] % {rows.size_multiple}"
        expected += f", h and w multiples of {rows.size_multiple}"
    check = f'        if {rule}:\n            raise ValueError(f"image must be {expected}, not {{tuple(image.shape)}}")'
    head, _, body = text.partition("def forward(self, image: Tensor) -> Tensor:\n")
    returns = "dict[str, Tensor]" if named else "Tensor"
    return f"{head}def forward(self, image: Tensor) -> {returns}:\n{check}\n{body}"


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


_HELPERS: Final = {
    "named": _NAMED,
    "zero_bias": _ZERO_BIAS,
    "same_margins": _SAME,
    "SameConv2d": _SAME_CONV,
    "SameMaxPool2d": _SAME_POOL,
    **{name: _draw(name, *parts) for name, parts in _DRAWS.items()},
}


def _used(text: str) -> Iterator[str]:
    """Yield the helpers that a text calls, and those that these call."""
    wanted = [name for name in _HELPERS if re.search(rf"\b{name}\(", text)]
    wanted += [name for name in _HELPERS if any(re.search(rf"\b{name}\(", _HELPERS[other]) for other in wanted)]
    yield from (_HELPERS[name] for name in _HELPERS if name in wanted)


def _imports(text: str) -> str:
    """Return the imports that a text needs."""
    lines = "".join(line for line, pattern in _IMPORTS if re.search(pattern, text))
    lines += "".join(f"from torch.nn import {name}\n" for name, pattern in _OF_NN if re.search(pattern, text))
    return lines.strip()
