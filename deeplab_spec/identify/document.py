"""The JSON document and the text of ``identify``."""

import shlex
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from deeplab_spec.judge.certificate import Nearest
from deeplab_spec.judge.finding import Finding, Json
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.spec.choices import about, written
from deeplab_spec.spec.variants import variant
from deeplab_spec.views.document import Document, Model, Sparse

MOST_FINDINGS: Final = 24
"""The number of findings in the text; the JSON document has all."""


class NearestHead(Model):
    """The head of a different architecture, and what it is nearest to."""

    features: str = Field(description="The value that it reads, by the target's own name.")
    taps: tuple[str, ...] = Field(description="The values that its decoder reads beside.")
    nearest: Nearest
    distance: int = Field(description="Nodes of both heads without an equal node with equal inputs.")
    unexplained: tuple[Finding, ...] = Field(description="Differences that no choice explains, node by node.")


class IdentifyDocument(Result, Sparse, Document):
    """The nearest published network, and the differences that no choice explains."""

    left_out: ClassVar = ("head",)

    target: str
    output_strides: tuple[int, ...] = Field(description="The output strides at which the network was captured.")
    size: tuple[int, int] = Field(description="Height and width of the image that it was captured with.")
    classes: int
    arguments: dict[str, str] = Field(description="Keyword arguments of its builder, as text.")
    nearest: Nearest | None = Field(description="Null for a different architecture.")
    distance: int = Field(
        description="Nodes of both graphs without an equal node with equal inputs; 0 if nothing differs."
    )
    unexplained: tuple[Finding, ...] = Field(description="Differences that no choice explains, node by node.")
    another_network: str | None = Field(description="Why this is a different architecture.")
    head: NearestHead | None = Field(default=None, description="Its head, if that is of this family.")

    @property
    def explained(self) -> bool:
        """Whether choices explain every difference."""
        return self.nearest is not None and not self.distance

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``identify``."""
        return ExitCode.DONE if self.explained else ExitCode.DIFFERENT

    @property
    def text(self) -> str:
        """The report that ``identify`` prints."""
        return text(self)

    @property
    def summary(self) -> str:
        """The network, and the network that it is or is nearest to."""
        return f"{self.target} {self.text.splitlines()[1].strip()}"


def text(document: IdentifyDocument, most: int | None = MOST_FINDINGS) -> str:
    """Return the report of an identification, with so many findings, or all."""
    return "\n".join(_lines(document, most))


def _lines(document: IdentifyDocument, most: int | None) -> Iterator[str]:
    strides = " and ".join(map(str, document.output_strides))
    height, width = document.size
    yield f"{document.target}, {document.classes} classes, read at output stride {strides} with {height}x{width}"
    nearest = document.nearest
    if nearest is None:
        yield f"  {document.another_network}"
        if document.head:
            reads = " and ".join((document.head.features, *document.head.taps))
            yield from _near(f"its head, which reads {reads},", document, document.head, most)
            yield f"  to judge it: {_certify(document, document.head.nearest, '--part', 'head')}"
        return
    yield from _near("", document, document, most)
    yield f"  to confirm: {_certify(document, nearest)}"


def _near(
    subject: str, document: IdentifyDocument, found: "IdentifyDocument | NearestHead", most: int | None
) -> Iterator[str]:
    """Say which network something is, or is nearest to, and what no choice explains."""
    nearest = found.nearest
    if nearest is None:
        return
    count = len(nearest.choices)
    choices = f"with {count} choice{'s' * (count != 1)}" if count else "as published"
    verb = "is nearest to" if found.distance else "is"
    yield (
        f"  {subject} {verb} that of {nearest.variant} {choices}"
        if subject
        else f"  {verb} {nearest.variant} {choices}"
    )
    entry = variant(nearest.variant)
    names = max(map(len, nearest.choices), default=0)
    values = max((len(_value(value)) for value in nearest.choices.values()), default=0)
    for name, value in nearest.choices.items():
        usual = written(getattr(entry.choices, name))
        yield f"    {name:<{names}} = {_value(value):<{values}}  not {usual}: {about(name, entry.family).meaning}"
    if found.distance:
        yield from _unexplained(document, found, most)


def _unexplained(
    document: IdentifyDocument, found: "IdentifyDocument | NearestHead", most: int | None
) -> Iterator[str]:
    findings = found.unexplained
    yield f"  {found.distance} nodes have no equal; no choice explains:"
    several = len(document.output_strides) > 1
    places = [f"[{finding.output_stride}] {finding.path}" if several else finding.path for finding in findings]
    room = max(map(len, places[:most]), default=0)
    for place, finding in list(zip(places, findings, strict=True))[:most]:
        other = f" ({finding.candidate_path})" if finding.candidate_path not in {None, finding.path} else ""
        yield f"    {place:<{room}}  {_difference(finding)}{other}"
    if most is not None and len(findings) > most:
        yield f"    and {len(findings) - most} more (--all lists them)"


def _difference(finding: Finding) -> str:
    expected, actual = _value(finding.expected), _value(finding.actual)
    if finding.attribute == "node":
        return f"missing: {expected}" if actual == "absent" else f"followed by: {actual}"
    if finding.attribute == "inputs":
        return f"takes its input from {actual}, not {expected}"
    return f"{finding.attribute} is {actual}, not {expected}"


def _certify(document: IdentifyDocument, nearest: Nearest, *options: str) -> str:
    words = ["deeplab-spec", "certify", document.target, "--variant", nearest.variant, *options]
    for name, value in nearest.choices.items():
        words += ["--choose", f"{name}={_value(value)}"]
    for output_stride in document.output_strides:
        words += ["--output-stride", str(output_stride)]
    words += ["--classes", str(document.classes)]
    for name, value in document.arguments.items():
        words += ["--arg", f"{name}={value}"]
    return shlex.join(words)


def _value(value: Json) -> str:
    return written(tuple(value) if isinstance(value, list) else value)  # type: ignore[arg-type]  # JSON data
