"""The file of a network: plain PyTorch, from its first line to its last."""

import textwrap
from collections.abc import Iterator

from deeplab_spec.show.skeleton import forward, helpers
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
    body = "\n\n\n".join([*helpers.used(body), body])
    return f"{_heading(subject)}\n\n{helpers.imports(body)}\n\n\n{body}"


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
