"""Says what differences follow from: a missing or further block, another layer in the place of one, a changed skip.

Each cause is one line; the differences that follow from it are folded into it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from deeplab_spec.align.differences import ABSENT, Aspect, Origins, describe, differences
from deeplab_spec.align.identify import Key, key
from deeplab_spec.align.match import Alignment
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Dropout, Pad

_MOST_WORDS = 3
"""So many operations in the place of another are described one by one."""


def causes(alignment: Alignment) -> Mapping[Key, str]:
    """Return the cause of every difference that has one."""
    found = {**_of_gaps(alignment), **_of_skips(alignment)}
    return {
        key(each): found[each.path, each.candidate_path, each.attribute]
        for each in differences(alignment)
        if key(each) in found
    }


def _of_gaps(alignment: Alignment) -> dict[Key, str]:
    """Return the cause of every missing and every extra node."""
    expected = alignment.expected.network
    missing, origins = set(alignment.missing), Origins(alignment)
    blocks = Counter(stage for path in {block_of(node.path) for node in expected} if (stage := _stage(path)))
    changes: Counter[str] = Counter()
    causes: list[tuple[list[Key], str, str]] = []
    for before, left, right in _gaps(alignment):
        keys: list[Key] = [(path, None, "node") for path in left]
        anchors = [origins.anchor(alignment.candidate.network[path]) for path in right]
        keys += [(anchor, path, "node") for anchor, path in zip(anchors, right, strict=True)]
        wholes = list(dict.fromkeys(_whole(path, expected, missing) for path in left))
        stage = _stage(block_of(left[0] if left else before))
        sums = sum(isinstance(alignment.candidate.network[path].op, Add) for path in right)
        lost = [whole for whole in wholes if _stage(whole)]
        words = _words(wholes, _described(alignment.candidate.network, right), anchors)
        if stage and not (left and right) and (lost if left else sums):
            changes[stage] += len(lost) if left else -sums
            words = ""
        if len(keys) > 1 or not words:
            causes.append((keys, stage, words))
    named = {
        stage: f"{blocks[stage] - lost} blocks instead of {blocks[stage]} in {stage}" for stage, lost in changes.items()
    }
    return {each: words or named[stage] for keys, stage, words in causes for each in keys}


def _words(wholes: Sequence[str], there: str, anchors: Sequence[str]) -> str:
    """Describe what is missing, what is there in its place, or what is there beside."""
    if wholes and anchors:
        return f"{there} instead of {_and(wholes)}"
    if wholes:
        return f"{_and(wholes)} {'is' if len(wholes) == 1 else 'are'} missing"
    return f"{there} more after {anchors[0]}"


def _gaps(alignment: Alignment) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each stretch of nodes without a partner: the expected node before it, expected nodes, the candidate's."""
    before = ""
    left: list[str] = []
    right: list[str] = []
    for expected, actual in (*alignment.pairs, ("", "")):
        if expected is not None and actual is not None:
            if left or right:
                yield before, left, right
            before, left, right = expected, [], []
        elif expected is not None:
            left.append(expected)
        elif actual is not None:
            right.append(actual)


def _stage(block: str) -> str:
    """Return the part of the backbone that a numbered block is one of; empty for anything else.

    >>> _stage("backbone.layer3.block18"), _stage("backbone.block3"), _stage("aspp.atrous1")
    ('backbone.layer3', 'backbone', '')
    """
    stage, _, last = block.rpartition(".")
    return stage if block.startswith("backbone.") and re.fullmatch(r"block\d+", last) else ""


def _whole(path: str, expected: Network, missing: set[str]) -> str:
    """Return the outermost unit of a missing node of which every node is missing."""
    names = path.split(".")
    for length in range(1, len(names)):
        prefix = ".".join(names[:length])
        if all(node.path in missing for node in expected if f"{node.path}.".startswith(f"{prefix}.")):
            return prefix
    return path


def _described(network: Network, paths: Sequence[str]) -> str:
    """Describe operations: those that are no normalisation or activation, if there are such."""
    if not paths:
        return ""
    ops = [network[path].op for path in paths]
    main = [op for op in ops if not isinstance(op, BatchNorm | Activation | Dropout | Pad)] or ops
    return _and([describe(op) for op in main]) if len(main) <= _MOST_WORDS else f"{len(paths)} operations"


def _and(words: Iterable[str]) -> str:
    """Join words; of many, the first.

    >>> _and(["a", "b"]), _and(["a", "b", "c", "d"])
    ('a and b', 'a and 3 more')
    """
    first, *rest = words
    return f"{first} and {len(rest)} more" if len(rest) >= _MOST_WORDS else " and ".join([first, *rest])


def _of_skips(alignment: Alignment) -> dict[Key, str]:
    """Return the cause of every sum and skip that takes the value after an activation instead of before it."""
    found = [(each, after) for each in differences(alignment) if (after := _activated(alignment, each))]
    if not found:
        return {}
    blocks = len({block_of(each.path) for each, _ in found})
    several = f" ({blocks} blocks)" if blocks > 1 else ""
    path = alignment.partner.get(found[0][1], found[0][1])
    words = f"{path} changes what {found[0][0].path} reads, as an activation in place does{several}"
    return {key(each): words for each, _ in found}


def _activated(alignment: Alignment, difference: Aspect) -> str:
    """Return the activation after which a value is read that must be read before it; empty if that is not so."""
    if difference.attribute != "inputs" or ABSENT in {difference.expected, difference.actual}:
        return ""
    expected, actual = (
        Counter(map(str, paths) if isinstance(paths, tuple) else ())
        for paths in (difference.expected, difference.actual)
    )
    before, after = list((expected - actual).elements()), list((actual - expected).elements())
    if len(before) != 1 or len(after) != 1 or after[0] not in alignment.expected.network:
        return ""
    node = alignment.expected.network[after[0]]
    return node.path if isinstance(node.op, Activation) and node.inputs == (before[0],) else ""
