"""The public functions that do what a command does: ``count``, ``identify``, ``lock``, ``port`` and ``show``.

Each returns a result that is typed, prints as one line, shows its report in a notebook, and has the
exit status of the command as ``exit_code``. What needs torch is loaded when it is called.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from deeplab_spec.analysis.conventions import MAC
from deeplab_spec.analysis.counters import convention
from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.graph.ops import Pair
from deeplab_spec.result import Result
from deeplab_spec.show.document import show_document
from deeplab_spec.show.drawing import drawing
from deeplab_spec.show.rows import network_rows
from deeplab_spec.show.text import show_grid
from deeplab_spec.spec.api import Override, Subject, overridden, written_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.spec.variants import NOTEBOOK
from deeplab_spec.spec.variants import variant as named
from deeplab_spec.views.document import write_whole
from deeplab_spec.views.table import markdown, plain

if TYPE_CHECKING:
    from deeplab_spec.align.lock import Lock
    from deeplab_spec.capture.target import TargetLike
    from deeplab_spec.count.document import CountDocument
    from deeplab_spec.count.side_by_side import SideBySideDocument
    from deeplab_spec.identify.document import IdentifyDocument
    from deeplab_spec.lock.service import LockDocument
    from deeplab_spec.port.document import PortDocument

_SIZE: Pair = (513, 513)


@dataclass(frozen=True, slots=True, repr=False)
class Shown(Result):
    """A network of the specification, shown as a table, Markdown, JSON or a drawing.

    Attributes:
        subject: The variant, its choices, output stride, size and classes.
    """

    subject: Subject

    @property
    def summary(self) -> str:
        """The network in one line."""
        return self.subject.title

    @property
    def text(self) -> str:
        """A table with one row per block."""
        return plain(show_grid(network_rows(self.subject)))

    @property
    def markdown(self) -> str:
        """The table as Markdown."""
        return markdown(show_grid(network_rows(self.subject)))

    @property
    def svg(self) -> str:
        """A drawing, as a self-contained SVG file."""
        return drawing(self.subject)

    @property
    def json(self) -> dict[str, Any]:
        """The whole graph, as ``show --format json`` writes it."""
        return show_document(self.subject).model_dump(mode="json")

    def _repr_html_(self) -> str:
        return self.svg


@dataclass(frozen=True, slots=True, repr=False)
class Locked(Result):
    """A network that was locked.

    Attributes:
        lock: The normal form, counts and choices that were written down.
        document: The same without its nodes, as ``lock --json`` prints it.
    """

    lock: "Lock"
    document: "LockDocument"

    @property
    def summary(self) -> str:
        """What was locked, and what it costs."""
        return self.document.summary

    @property
    def text(self) -> str:
        """The lock, as it is written to a file."""
        from deeplab_spec.align.lock_file import text

        return text(self.lock)

    def save(self, path: str | Path) -> None:
        """Write the lock; ``certify(other, against=path)`` compares another network with it.

        Raises:
            TargetError: If the file cannot be written.
        """
        write_whole(Path(path), self.text)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{block.path}</td><td>{block.parameters:,}</td><td>{block.macs:,}</td></tr>"
            for block in self.document.blocks
        )
        head = "<tr><th>block</th><th>parameters</th><th>multiply-adds</th></tr>"
        return f"<p>{self.summary}</p><table>{head}{rows}</table>"


def show(
    variant: str = NOTEBOOK.name,
    output_stride: int = DEFAULT_OUTPUT_STRIDE,
    num_classes: int = DEFAULT_CLASSES,
    choices: Mapping[str, Override] | None = None,
    *,
    size: Pair = _SIZE,
) -> Shown:
    """Show a network of the specification, block by block.

    Args:
        variant: Name of the variant.
        output_stride: Input pixels per pixel of the backbone's features.
        num_classes: Channels of the logits.
        choices: Decisions that differ from the variant's.
        size: Height and width of the image, in pixels.

    Raises:
        SpecError: A ValueError, if an argument has a value that it cannot have.

    >>> show("tf-release", output_stride=8)
    Shown(tf-release, output stride 8, 513x513, 21 classes)
    """
    published = named(variant)
    return Shown(
        Subject(
            variant=published,
            choices=overridden(published.choices, choices),
            output_stride=output_stride,
            size=size,
            classes=num_classes,
        )
    )


class CountOptions(TypedDict, total=False):
    """What is counted, and how.

    Attributes:
        choices: Decisions of a variant that differ from the published ones.
        arguments: Keyword arguments of what builds the target; text may hold ``{output_stride}`` and ``{classes}``.
        output_stride: Input pixels per pixel of the backbone's features; 16 by default.
        size: Height and width of the image, in pixels; 513x513 by default.
        num_classes: Channels of the logits; 21 by default.
        convention: What counts as one operation: ``mac`` (the default), ``full``, ``fvcore``, ``torch``, ``tfprof``.
        mode: ``forward`` (the default) or ``train``.
        scales: Scales at which the image is evaluated; ``(1,)`` by default.
        flip: Whether the mirrored image is evaluated, too.
        by_node: Whether nodes are listed beside blocks.
    """

    choices: Mapping[str, Override]
    arguments: Mapping[str, object]
    output_stride: int
    size: Pair
    num_classes: int
    convention: str
    mode: str
    scales: Sequence[float]
    flip: bool
    by_node: bool


@overload
def count(
    target: "TargetLike | None" = ...,
    variant: str | None = ...,
    *,
    against: None = ...,
    **options: Unpack[CountOptions],
) -> "CountDocument": ...


@overload
def count(
    target: "TargetLike | None" = ...,
    variant: str | None = ...,
    *,
    against: "TargetLike",
    **options: Unpack[CountOptions],
) -> "SideBySideDocument": ...


def count(
    target: "TargetLike | None" = None,
    variant: str | None = None,
    *,
    against: "TargetLike | None" = None,
    **options: Unpack[CountOptions],
) -> "CountDocument | SideBySideDocument":
    """Count what a network costs, block by block: parameters, operations, bytes, receptive fields.

    Args:
        target: The network; None for the variant.
        variant: The published network that is counted, or whose paths the target's blocks get; by default
            ``notebook``, or the one that the target is most like.
        against: Another network, to put the two side by side.
        **options: See :class:`CountOptions`.

    Returns:
        The counts; with ``against``, both networks' counts and what explains their difference.

    Raises:
        SpecError: A ValueError, if an argument has a value that it cannot have.
        TargetError: If a target cannot be built or read.

    >>> count("reference:tf-release")
    CountDocument(tf-release, output stride 16, 513x513: 41,055,413 parameters, 54,035,303,024 operations (mac))
    """
    from deeplab_spec.count.service import CountRequest

    request = CountRequest(
        variant=variant,
        overrides=written_overrides(options.get("choices")),
        arguments={name: str(value) for name, value in options.get("arguments", {}).items()},
        output_stride=options.get("output_stride", DEFAULT_OUTPUT_STRIDE),
        size=options.get("size", _SIZE),
        classes=options.get("num_classes", DEFAULT_CLASSES),
        convention=convention(options.get("convention", MAC.name)),
        mode=Mode(options.get("mode", Mode.FORWARD)),
        protocol=Protocol(
            scales=tuple(Fraction(str(scale)) for scale in options.get("scales", (1,))), flip=options.get("flip", False)
        ),
        by_node=options.get("by_node", False),
    )
    request.convention.require(request.mode)
    return request.document(target) if against is None else request.side_by_side(target, against)


def identify(
    target: "TargetLike",
    *,
    arguments: Mapping[str, object] | None = None,
    output_strides: Sequence[int] = (),
    num_classes: int | None = None,
) -> "IdentifyDocument":
    """Find the published network that a network is nearest to, and the choices on top of it.

    Args:
        target: The network.
        arguments: Keyword arguments of what builds it; text may hold ``{output_stride}`` and ``{classes}``.
        output_strides: The output strides to build it for; by default 16, or what a file says of itself.
        num_classes: Channels of the logits; by default 21, or what a file says of itself.

    Raises:
        SpecError: A ValueError, if no published network has these output strides.
        TargetError: If the target cannot be imported, built or read.
    """
    from deeplab_spec.capture.target import Target
    from deeplab_spec.identify.service import identify as identified

    return identified(Target.of(target, arguments), output_strides, num_classes)


def lock(
    target: "TargetLike",
    *,
    arguments: Mapping[str, object] | None = None,
    output_stride: int | None = None,
    num_classes: int | None = None,
) -> Locked:
    """Record everything that a network is, so that others can be compared with it.

    Args:
        target: The network.
        arguments: Keyword arguments of what builds it; text may hold ``{output_stride}`` and ``{classes}``.
        output_stride: The output stride to build it for; by default 16, or what a file says of itself.
        num_classes: Channels of the logits; by default 21, or what a file says of itself.

    Returns:
        The lock; its ``save`` writes the file that ``certify(other, against=...)`` takes.

    Raises:
        TargetError: If it cannot be imported, built or read, or has operations that are not known.
    """
    from deeplab_spec.capture.target import Target
    from deeplab_spec.lock.service import lock_document, lock_target

    locked = lock_target(Target.of(target, arguments), output_stride, num_classes)
    return Locked(locked, lock_document(locked))


def port(
    source: "TargetLike",
    destination: "TargetLike",
    output: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    source_arguments: Mapping[str, object] | None = None,
    destination_arguments: Mapping[str, object] | None = None,
    output_stride: int = DEFAULT_OUTPUT_STRIDE,
    num_classes: int = DEFAULT_CLASSES,
    size: Pair | None = None,
    seed: int = 0,
) -> "PortDocument":
    """Move weights from one implementation to another, by structure, and prove in float64 that both compute the same.

    Args:
        source: The network that has the weights.
        destination: The network that gets them; a module is not changed, its weights are in the file.
        output: The ``.safetensors`` file of the destination's state dict; None to prove and write nothing.
        weights: A file of weights that is loaded into the source first.
        source_arguments: Keyword arguments of what builds the source.
        destination_arguments: Keyword arguments of what builds the destination.
        output_stride: Passed to what builds both.
        num_classes: Passed to what builds both.
        size: Height and width of the image, in pixels; None for one that both accept.
        seed: Seed of the images.

    Returns:
        What was moved, what has no partner, and the proof. Nothing is written without one.

    Raises:
        SpecError: A ValueError, if a file's name has another ending than it must have.
        TargetError: If a target cannot be built or read, or a file not read or written.
        CaptureError: If a graph does not compute what its module computes.
    """
    from deeplab_spec.capture.target import Target
    from deeplab_spec.port.service import PortRequest
    from deeplab_spec.port.service import port as moved

    request = PortRequest(
        source=Target.of(source, source_arguments),
        dest=Target.of(destination, destination_arguments),
        output=None if output is None else Path(output),
        weights=None if weights is None else Path(weights),
        output_stride=output_stride,
        classes=num_classes,
        size=size,
        seed=seed,
    )
    return moved(request)
