"""Attributes every moment of a step, and every kernel, to a block.

Two mechanisms, neither of which disturbs the timed run:

* *Ranges.* A module whose operations all belong to one block runs inside a ``record_function``
  range with the block's name (``profile.run``): about thirty per step. Everything inside such a
  range belongs to the block, also Python code, waits, and operators that the captured graph does not show.
* *Order.* An operator outside all ranges (a sum, a resize, a concatenation that a larger module
  calls as a function) is identified by its position: a captured graph has the operators in the order in
  which the module calls them. The two sequences of operators are matched, with the ranges as
  anchors; an operator without a counterpart stays unattributed.

A backward function belongs to the block of the forward operator with its sequence number, and an
accumulation of gradients to the block of the function before it. A kernel belongs to the block that
launched it. The rest of a step is ``unattributed``, so that the rows add up to the step.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Final

from deeplab_spec.errors import TargetError
from deeplab_spec.profile.trace import LAUNCHES, ON_DEVICE, OPERATOR, RANGE, STEP, Allocation, Event, Trace

UNATTRIBUTED: Final = "unattributed"
"""The row of the time that belongs to no block."""

_BACKWARD: Final = "autograd::engine::evaluate_function: "
_ACCUMULATE: Final = f"{_BACKWARD}torch::autograd::AccumulateGrad"
_ALIKE: Final = {"convolution": "conv2d", "_native_batch_norm_legit_no_training": "batch_norm", "concat": "cat"}
"""Names of one operator in captured graphs and at run time."""

Token = tuple[str | None, str]
"""The range that an operator is called in, if any, and the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator call of a captured graph, the block that it belongs to, and whether it is in a range of that."""

    operator: str
    block: str
    ranged: bool

    @property
    def token(self) -> Token:
        """The key for matching."""
        return (self.block if self.ranged else None, plain_name(self.operator))


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """Calls of an operator or kernel, and their nanoseconds without nested calls."""

    calls: int = 0
    time: int = 0

    def __add__(self, other: "Uses") -> "Uses":
        """Return the sum."""
        return Uses(calls=self.calls + other.calls, time=self.time + other.time)


@dataclass(slots=True, kw_only=True)
class Slice:
    """A block's part of one step: nanoseconds on the host and of its kernels, operators and kernels by name."""

    host: int = 0
    device: int = 0
    operators: dict[str, Uses] = field(default_factory=dict)
    kernels: dict[str, Uses] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; host and device times of its slices add up to the step's.

    Attributes:
        host: Nanoseconds from its beginning to its end.
        slices: By block, with one for the unattributed rest.
        unmatched: Number of operators of the captured graph without a counterpart.
        peak: The most bytes allocated beyond those at the step's beginning, by block; empty if not recorded.
    """

    host: int
    slices: Mapping[str, Slice]
    unmatched: int
    peak: Mapping[str, int]

    @property
    def device(self) -> int:
        """Nanoseconds of all kernels."""
        return sum(part.device for part in self.slices.values())


def plain_name(operator: str) -> str:
    """Return an operator's name for matching: ``aten::relu_`` becomes ``relu``."""
    name = operator.rpartition("::")[2].removesuffix("_")
    return _ALIKE.get(name, name)


def attribute(trace: Trace, order: Sequence[Call], ranges: frozenset[str], *, on_device: bool = False) -> list[Step]:
    """Attribute every step of a trace, by the calls of the captured graph in order, and the ranges that are blocks.

    Raises:
        TargetError: If the trace has no step.
    """
    bounds = [event for event in trace.events if event.category == RANGE and event.name.startswith(STEP)]
    if not bounds:
        raise TargetError("trace", "has no step")
    expected = tuple(call.token for call in order)
    kernels: dict[int | None, Event] = {
        event.correlation: event for event in trace.events if event.category in ON_DEVICE and event.correlation
    }
    return [_Reader(trace, bound, order, expected, ranges).read(kernels, on_device=on_device) for bound in bounds]


@dataclass(slots=True)
class _Open:
    """An event that contains others."""

    event: Event
    block: str
    own: int


class _Reader:
    """Reads one step."""

    def __init__(
        self, trace: Trace, bound: Event, order: Sequence[Call], expected: Sequence[Token], ranges: frozenset[str]
    ) -> None:
        self.bound = bound
        self.events = [event for event in trace.events if bound.start <= event.start < bound.end]
        self.allocations = trace.allocations
        self.order = order
        self.expected = expected
        self.ranges = ranges
        self.slices: dict[str, Slice] = defaultdict(Slice)
        self.roots: dict[str, list[_Open]] = defaultdict(list)
        self.by_sequence: dict[int, str] = {}
        self.place: dict[int, str] = {}

    def read(self, kernels: Mapping[int | None, Event], *, on_device: bool) -> Step:
        threads: dict[str, list[Event]] = {self.bound.thread: []}
        for event in self.events:
            if event.category == OPERATOR or (event.category == RANGE and event.name in self.ranges):
                threads.setdefault(event.thread, []).append(event)
        main, *others = threads.values()
        unmatched = self._match(main)
        self._walk(main)
        for events in others:
            if any(event.name.startswith(_BACKWARD) for event in events):  # the main thread waits for it
                self._walk(events)
        host = self.bound.end - self.bound.start
        known = sum(part.host for part in self.slices.values())
        self.slices[UNATTRIBUTED].host += host - known
        self._launches(kernels)
        peak = dict(self._peaks([each for each in self.allocations if each.on_device == on_device]))
        return Step(host=host, slices=dict(self.slices), unmatched=unmatched, peak=peak)

    def _match(self, events: Sequence[Event]) -> int:
        """Find the blocks of the outermost operators; return the number of captured calls without a counterpart."""
        outermost: list[tuple[int, Token]] = []
        inside, end = None, 0
        range_end = 0
        for number, event in enumerate(events):
            if event.start >= range_end:
                inside = None
            if event.category == RANGE:
                if inside is None:
                    inside, range_end = event.name, event.end
            elif event.name.startswith(_BACKWARD):
                break
            elif event.start >= end:
                outermost.append((number, (inside, plain_name(event.name))))
                end = event.end
        tokens = tuple(token for _, token in outermost)
        pairs = list(_pairs(tokens, self.expected))
        self.place = {outermost[here][0]: self.order[there].block for here, there in pairs}
        return len(self.expected) - len(pairs)

    def _walk(self, events: Sequence[Event]) -> None:
        """Assign every event of a thread to a block, with its time without nested events."""
        main = bool(events) and events[0].thread == self.bound.thread
        stack: list[_Open] = []
        before = UNATTRIBUTED
        for number, event in enumerate(events):
            while stack and stack[-1].event.end <= event.start:
                self._close(stack.pop())
            if stack:
                block = stack[-1].block
                stack[-1].own -= event.end - event.start
            else:
                block = self._root(event, self.place.get(number, UNATTRIBUTED) if main else UNATTRIBUTED, before)
                before = block
            root = stack[0].event if stack else event
            if event.sequence is not None and not root.name.startswith(_BACKWARD):
                self.by_sequence[event.sequence] = block
            opened = _Open(event, block, event.end - event.start)
            if not stack:
                self.roots[event.thread].append(opened)
                self.slices[block].host += opened.own if block != UNATTRIBUTED else 0
            stack.append(opened)
        while stack:
            self._close(stack.pop())

    def _root(self, event: Event, place: str, before: str) -> str:
        if event.category == RANGE:
            return event.name
        if event.name == _ACCUMULATE:
            return before
        if event.name.startswith(_BACKWARD):
            return self.by_sequence.get(event.sequence, UNATTRIBUTED) if event.sequence is not None else UNATTRIBUTED
        return place

    def _close(self, done: _Open) -> None:
        if done.event.category == OPERATOR:
            uses = self.slices[done.block].operators
            name = done.event.name.removeprefix(_BACKWARD)
            uses[name] = uses.get(name, Uses()) + Uses(calls=1, time=done.own)

    def _launches(self, kernels: Mapping[int | None, Event]) -> None:
        for event in self.events:
            kernel = kernels.get(event.correlation) if event.category in LAUNCHES and event.correlation else None
            if kernel:
                part = self.slices[self._block_at(event.thread, event.start)]
                taken = kernel.end - kernel.start
                part.device += taken
                part.kernels[kernel.name] = part.kernels.get(kernel.name, Uses()) + Uses(calls=1, time=taken)

    def _block_at(self, thread: str, time: int) -> str:
        roots = self.roots.get(thread, [])
        place = bisect_right(roots, time, key=lambda root: root.event.start) - 1
        return roots[place].block if place >= 0 and time < roots[place].event.end else UNATTRIBUTED

    def _peaks(self, allocations: Sequence[Allocation]) -> Iterator[tuple[str, int]]:
        """Return the most bytes that are allocated in every block beyond those at the step's beginning."""
        inside = [each for each in allocations if self.bound.start <= each.time < self.bound.end]
        if not inside:
            return
        beginning = inside[0].total - inside[0].change
        most: dict[str, int] = defaultdict(int)
        for each in inside:
            block = self._block_at(each.thread, each.time)
            most[block] = max(most[block], each.total - beginning)
        yield from most.items()


def _pairs(actual: Sequence[Token], expected: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Match two sequences of operators; yield pairs of positions."""
    if actual == expected:
        yield from ((place, place) for place in range(len(actual)))
        return
    for here, there, length in SequenceMatcher(None, actual, expected, autojunk=False).get_matching_blocks():
        yield from ((here + place, there + place) for place in range(length))
