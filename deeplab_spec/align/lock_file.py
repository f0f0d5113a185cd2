"""The file of a lock: text that a reviewer reads in a diff, and that cannot be edited unnoticed.

It holds no time and nothing of the machine. What follows from the nodes (totals, the table of blocks)
is written for the reader; a file is accepted only if writing it again gives the same text.
"""

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from deeplab_spec.align.lock import Answer, Lock, NearestNetwork, Result
from deeplab_spec.align.lock_check import check
from deeplab_spec.align.network_at_size import Shaped, Size
from deeplab_spec.errors import GraphError, SpecError, TargetError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Pair
from deeplab_spec.graph.text import (
    NAME,
    node_line,
    read_name,
    read_node,
    read_tap,
    shown,
    tap_lines,
    write_name,
)
from deeplab_spec.spec.choices import NAMES, ChoiceValue, read_overrides, written
from deeplab_spec.spec.variants import variant

SCHEMA: Final = 1
MOST_BYTES: Final = 64 * 2**20
"""A larger file is no lock, and is not read."""

MOST_NODES: Final = 20_000
"""A network of more nodes is none of this family, and none that can be compared."""

_FIRST: Final = "deeplab-spec lock, schema "
_NOTE: Final = (
    "Made by `deeplab-spec lock`; judged against by `deeplab-spec certify TARGET --against FILE`. Not edited."
)
_SHAPE: Final = r"(?:[0-9]{1,9}(?:x[0-9]{1,9})*+|-)"
_BEHIND: Final = re.compile(rf" -> ({_SHAPE})(?: like ({NAME}))?( shared)?", re.ASCII)
_ANSWER: Final = re.compile(rf"({_SHAPE}(?:, {_SHAPE})*+) (\w+) -> (.+)", re.ASCII)
_RESULT: Final = re.compile(rf"({NAME}) ({_SHAPE}) (\w+)(, |$)", re.ASCII)
_REFUSED: Final = "refused"
_EDITED: Final = "was edited by hand, or damaged; lock it again"


def text(lock: Lock) -> str:
    """Write a lock as the text of its file."""
    body = "\n".join(_lines(lock)) + "\n"
    return f"{body}digest sha256:{_digest(body)}\n"


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()


def _lines(lock: Lock) -> Iterator[str]:
    yield f"{_FIRST}{SCHEMA}"
    yield _NOTE
    yield ""
    yield f"target: {write_name(lock.target)}"
    yield f"output stride: {lock.output_stride}"
    yield f"classes: {lock.classes}"
    yield f"image: {_shape(lock.image)}"
    yield f"parameters: {lock.parameters:,}"
    yield f"multiply-adds: {lock.multiply_adds:,}"
    if lock.nearest is None:
        yield "nearest: none"
    else:
        yield f"nearest: {lock.nearest.variant}"
        for name in sorted(lock.nearest.choices, key=NAMES.index):
            yield f"choice: {name}={written(lock.nearest.choices[name])}"
        yield f"unexplained: {lock.nearest.unexplained}"
    yield from ("", "# inputs")
    yield from map(_answer, lock.answers)
    yield from ("", "# blocks")
    for block in lock.blocks:
        costs = f"{block.parameters:,} parameters, {block.multiply_adds:,} multiply-adds"
        yield f"{write_name(block.path)}: {costs}, {_shape(block.output)}"
    yield from ("", "# nodes")
    for node in lock.normal.network:
        like = lock.normal.likes.get(node.path)
        yield (
            f"{node_line(node)} -> {_shape(lock.normal.shapes[node.path])}"
            f"{f' like {write_name(like)}' if like else ''}{' shared' if node.path in lock.shared else ''}"
        )
    yield from tap_lines(lock.normal.network)
    yield ""


def _shape(shape: Size) -> str:
    return "x".join(map(str, shape)) or "-"


def _answer(answer: Answer) -> str:
    results = (f"{write_name(result.tap)} {_shape(result.shape)} {result.dtype}" for result in answer.results)
    return f"{', '.join(map(_shape, answer.inputs))} {answer.dtype} -> {', '.join(results) or _REFUSED}"


def load(path: Path) -> Lock:
    """Read the file of a lock.

    Raises:
        TargetError: If it cannot be read, is too large, or is no lock.
    """
    name = str(path)
    try:
        if not path.is_file():
            raise TargetError(name, "is no file")
        with path.open("rb") as file:
            found = file.read(MOST_BYTES + 1) if path.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror}") from error
    if found is None or len(found) > MOST_BYTES:
        raise TargetError(name, f"is no lock: it is larger than {MOST_BYTES // 2**20} MiB")
    try:
        return read(found.decode(), name)
    except UnicodeDecodeError:
        raise TargetError(name, "is no lock: it is not text") from None


def read(content: str, name: str) -> Lock:
    """Read the text of a lock.

    Args:
        content: The text.
        name: What the user named, for messages.

    Raises:
        TargetError: If it is no lock, of another schema, edited, or contradicts itself.
    """
    content = content.replace("\r\n", "\n")  # as some checkouts end lines
    first = content.partition("\n")[0]
    if not first.startswith(_FIRST):
        raise TargetError(name, "is no lock")
    if first != f"{_FIRST}{SCHEMA}":
        schema = shown(first.removeprefix(_FIRST))
        raise TargetError(name, f"is a lock of schema {schema!r}; this version reads schema {SCHEMA}: lock it again")
    body, _, seal = content.rstrip("\n").rpartition("\n")
    if seal != f"digest sha256:{_digest(body + chr(10))}":
        raise TargetError(name, _EDITED)
    reader = _Reader(body.split("\n"))
    try:
        found = reader.read()
        check(found)
    except (GraphError, SpecError) as error:
        raise TargetError(name, f"{reader.place}{error}") from error
    again = text(found).split("\n")
    given = content.split("\n")
    if again != given:
        number = next((i for i, pair in enumerate(zip(again, given, strict=False)) if pair[0] != pair[1]), len(again))
        wanted = again[number] if number < len(again) else ""
        raise TargetError(name, f"line {number + 1} contradicts the nodes: it must be {shown(wanted)!r}")
    return found


class _Reader:
    """Reads the lines of a lock, in order.

    Attributes:
        place: The line that is read, for messages; empty before and after.
    """

    def __init__(self, lines: list[str]) -> None:
        self.rest = enumerate(lines, start=1)
        self.place = ""

    def read(self) -> Lock:
        header: dict[str, list[str]] = {}
        for line in self._until("# inputs", skip=2):
            key, _, value = line.partition(": ")
            header.setdefault(key, []).append(value)
        answers = tuple(map(_read_answer, self._until("# blocks")))
        for _ in self._until("# nodes"):
            pass  # follows from the nodes
        normal, shared = self._normal()
        return Lock(
            target=read_name(_one(header, "target")),
            output_stride=_count(_one(header, "output stride")),
            classes=_count(_one(header, "classes")),
            image=_image(_one(header, "image")),
            normal=normal,
            shared=shared,
            nearest=_nearest(header),
            answers=answers,
        )

    def _until(self, end: str | None, skip: int = 0) -> Iterator[str]:
        """Yield the lines of a section; ``end`` is the title of the next."""
        for number, line in self.rest:
            self.place = f"line {number}: "
            if line == end:
                self.place = ""
                return
            if line and number > skip:
                yield line
        self.place = ""
        if end is not None:
            raise GraphError("file", f"must have a line {end!r}", "its end")

    def _normal(self) -> tuple[Shaped, frozenset[str]]:
        nodes: list[Node] = []
        taps: list[tuple[str, str]] = []
        shapes: dict[str, Size] = {}
        likes: dict[str, str] = {}
        shared: set[str] = set()
        for line in self._until(None):
            tap = read_tap(line)
            if tap:
                taps.append(tap)
                continue
            node, rest = read_node(line)
            found = _BEHIND.fullmatch(rest)
            if not found:
                raise GraphError(node.path, "behind a node must stand its shape", shown(rest))
            if len(nodes) == MOST_NODES:
                raise GraphError("nodes", f"must be at most {MOST_NODES:,}", "more")
            nodes.append(node)
            shapes[node.path] = _sides(found[1])
            if found[2]:
                likes[node.path] = read_name(found[2])
            if found[3]:
                shared.add(node.path)
        network = Network(nodes=tuple(nodes), taps=tuple(taps))
        return Shaped(network=network, shapes=shapes, likes=likes), frozenset(shared)


def _one(header: dict[str, list[str]], key: str) -> str:
    values = header.get(key, [])
    if len(values) != 1:
        raise GraphError("header", f"must state {key!r} once", len(values))
    return values[0]


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        raise GraphError("header", "must be a number", shown(value))
    return int(value)


def _image(value: str) -> Pair:
    height, width, *rest = [*map(_count, value.split("x")), 0, 0]
    if rest != [0, 0] or min(height, width) < 1:
        raise GraphError("image", "must be HEIGHTxWIDTH", shown(value))
    return (height, width)


def _sides(value: str) -> Size:
    return () if value == "-" else tuple(map(int, value.split("x")))


def _nearest(header: dict[str, list[str]]) -> NearestNetwork | None:
    name = _one(header, "nearest")
    if name == "none":
        return None
    choices: dict[str, ChoiceValue] = read_overrides(header.get("choice", []))
    return NearestNetwork(variant=variant(name).name, choices=choices, unexplained=_count(_one(header, "unexplained")))


def _read_answer(line: str) -> Answer:
    found = _ANSWER.fullmatch(line)
    if not found:
        raise GraphError("inputs", "must be SHAPES DTYPE -> RESULTS", shown(line))
    results: list[Result] = []
    position, given = 0, found[3]
    while given != _REFUSED and position < len(given):
        result = _RESULT.match(given, position)
        if not result:
            raise GraphError("inputs", "a result must be NAME SHAPE DTYPE", shown(given[position:]))
        results.append(Result(tap=read_name(result[1]), shape=_sides(result[2]), dtype=result[3]))
        position = result.end()
    inputs = tuple(map(_sides, found[1].split(", ")))
    return Answer(inputs=inputs, dtype=found[2], results=tuple(results))
