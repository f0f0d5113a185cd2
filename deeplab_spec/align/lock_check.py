"""What must be true of a lock that came as a file, before anything is computed from it."""

from typing import Final

from deeplab_spec.align.lock import Lock
from deeplab_spec.analysis.sizes import shape_of
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Add, Concat, Input, Op, Opaque, Resize

_MANY: Final = 10**6
_SIDES: Final = 3


def check(lock: Lock) -> None:
    """Check that the nodes of a lock read as many values as they need, and that all shapes agree.

    Raises:
        GraphError: If not.
    """
    normal = lock.normal
    for node in normal.network:
        least, most = _reads(node.op)
        if not least <= len(node.inputs) <= most:
            raise GraphError(node.path, f"must read {least} values", len(node.inputs))
        _check_shape(node, normal.shapes[node.path], [normal.shapes[path] for path in node.inputs])
    for path, like in normal.likes.items():
        if like not in normal.network or not isinstance(normal.network[path].op, Resize):
            raise GraphError(path, "must be a resize to the size of a node", like)
    for node in normal.network.inputs[: len(normal.network.inputs) == 1]:
        if normal.shapes[node.path][1:] != lock.image:
            raise GraphError(node.path, f"must have the image's size {lock.image}", normal.shapes[node.path])


def _reads(op: Op) -> tuple[int, int]:
    """Return how many values an operation reads, at least and at most."""
    match op:
        case Input():
            return 0, 0
        case Add():
            return 2, 2
        case Concat():
            return 1, _MANY
        case Opaque():
            return 0, _MANY
        case Resize(size=None):
            return 2, 2
        case _:
            return 1, 1


def _check_shape(node: Node, stated: tuple[int, ...], inputs: list[tuple[int, ...]]) -> None:
    if stated and (len(stated) != _SIDES or min(stated) < 1):
        raise GraphError(node.path, "a shape must be channels, height and width, none of them empty", stated)
    match node.op:
        case Opaque():
            return
        case Input(channels=channels):
            follows: tuple[int, ...] = (channels, *stated[1:])
        case _ if stated and all(inputs):
            maps = [(channels, height, width) for channels, height, width in inputs]
            follows = shape_of(node, maps)
        case _:
            return  # a value that is no batch of maps: nothing follows from it
    if follows != stated:
        raise GraphError(node.path, f"the shape must be {follows}, which follows from what it reads", stated)
