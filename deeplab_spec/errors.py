"""The errors that the package raises, one class per kind.

Each class is also a built-in exception. Its attributes hold the facts, and its text says where the error
happened, which rule was broken, and what the value was.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from unicodedata import category

Pattern = tuple[str | int, ...]
"""A shape rule; a string stands for any size, e.g. ``("n", 728, "h", "w")``."""


_ONE_OF = "must be one of "
"""Rules that begin so list the names that are known."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the known name that is most similar; empty if none is similar.

    >>> did_you_mean("tf-relase", ["notebook", "tf-release"])
    "; did you mean 'tf-release'?"
    """
    from difflib import get_close_matches

    similar = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {similar[0]!r}?" if similar else ""


class RenamedWarning(FutureWarning):
    """A name of an earlier release was used; the message gives the new name."""


class DeepLabSpecError(Exception):
    """The base of every error that this package raises on purpose."""


class RuleError(DeepLabSpecError, ValueError):
    """A value breaks a rule.

    Attributes:
        where: Path of the node or row, or name of the choice or argument.
        rule: The rule that the value breaks.
        actual: The value.
        known: Names that the value may have; a message has the most similar one.
    """

    def __init__(self, where: str, rule: str, actual: object, known: Iterable[str] = ()) -> None:
        self.known = tuple(known)
        super().__init__(where, rule, actual, *([self.known] if known else []))
        self.where = where
        self.rule = rule
        self.actual = actual

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}, but got {self.actual!r}{self._hint()}"

    def _hint(self) -> str:
        """Return the most similar of the names that are known, or that the rule lists, if there are any."""
        _, listed, names = self.rule.partition(_ONE_OF)
        known = self.known or (names.split(", ") if listed else ())
        return did_you_mean(self.actual, known) if isinstance(self.actual, str) else ""


class GraphError(RuleError):
    """A network is not a well-formed graph."""


class SpecError(RuleError):
    """A row of the specification, a choice or an argument has an invalid value."""


class ShapeError(DeepLabSpecError, ValueError):
    """A tensor does not have the shape that its layer requires.

    Attributes:
        layer: Dotted path or name of the layer.
        expected: Shape pattern; a string stands for any positive size.
        actual: The shape of the tensor.
    """

    def __init__(self, layer: str, expected: Pattern, actual: tuple[int, ...]) -> None:
        super().__init__(layer, expected, actual)
        self.layer = layer
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        pattern = ", ".join(map(str, self.expected))
        return f"{self.layer}: input must have shape ({pattern}) with no empty side, but has {self.actual}"


class BackboneError(DeepLabSpecError, RuntimeError):
    """The backbone of a DeepLab module is not a backbone module.

    Attributes:
        actual: Name of its type.
    """

    def __init__(self, actual: str) -> None:
        super().__init__(actual)
        self.actual = actual

    def __str__(self) -> str:
        return f"DeepLab: backbone must be a BackboneModule, but is a {self.actual}"


class TargetError(DeepLabSpecError, RuntimeError):
    """A target cannot be imported, built or read.

    Attributes:
        target: The target that the user named.
        reason: Why it cannot run, in one line.
    """

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.target}: {self.reason}"


class ChildError(DeepLabSpecError, RuntimeError):
    """A child process ended before it answered, or sent something that is no answer.

    Attributes:
        reason: What happened, in one line that begins with "the process".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CaptureError(DeepLabSpecError, RuntimeError):
    """A module's graph cannot be captured, or does not compute what the module computes.

    Attributes:
        reason: The cause, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MissingExtraError(DeepLabSpecError, ImportError):
    """A command needs packages that are not installed.

    Attributes:
        what: The command or module.
        extra: The extra of this package that installs them.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.what} needs the extra {self.extra!r}: pip install 'deeplab-spec[{self.extra}]'"


def require_torch(what: str) -> None:
    """Check that torch is installed, without importing it.

    Args:
        what: The command that needs it.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    if find_spec("torch") is None:
        raise MissingExtraError(what, "torch")


class NotEqualError(TargetError):
    """A rewritten network does not compute what the original computes."""


class NotFiniteError(NotEqualError):
    """A network's own values are not finite in a precision, so that it cannot be compared in it.

    Attributes:
        precision: Name of the precision.
        largest: The largest finite number of the precision.
        value: The largest value of the network in float32.
        layer: The layer with that value; empty if unknown.
    """

    def __init__(self, precision: str, largest: float, value: float, layer: str) -> None:
        where = (
            f": {layer or 'a value'} reaches {value:.2g}, the largest number in {precision} is {largest:.6g}"
            if value > largest
            else ""
        )
        super().__init__(precision, f"the module's own values are not finite in {precision}{where}")
        self.args = (precision, largest, value, layer)
        self.precision = precision
        self.largest = largest
        self.value = value
        self.layer = layer


def printable(text: str) -> str:
    """Return untrusted text in one line, without characters that a terminal would obey.

    >>> printable("conv" + chr(10) + "1")
    'conv?1'
    """
    return "".join(letter if letter.isprintable() or category(letter) == "Zs" else "?" for letter in text)


def one_line(error: BaseException) -> str:
    """Return the text of another package's error in one line."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:  # noqa: BLE001 - foreign code's errors may have no text
        lines = []
    text = printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
    return text if len(text) <= 300 else f"{text[:297]}..."  # noqa: PLR2004 - the length of a readable line
