"""Where in a network a rewrite applies: the nodes of a kind, and what stands around them."""

from collections.abc import Callable, Iterator

from torch import nn

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Op
from deeplab_spec.mutate.rewrites.convolutions import split_sources
from deeplab_spec.mutate.rewrites.other_operators import joined_first
from deeplab_spec.mutate.rewrites.subject import Form, Rewritten, Subject

Make = Callable[[Subject], nn.Module]
Wanted = Callable[[Conv2d], bool]
OfConv = Callable[[Subject, Node, Conv2d], Form]


def dense(op: Conv2d) -> bool:
    """Tell whether a convolution mixes channels and space."""
    return op.groups == 1 and not op.pointwise


def mixing(op: Conv2d) -> bool:
    """Tell whether a convolution mixes channels alone, and reads every pixel."""
    return op.groups == 1 and op.pointwise and op.stride == (1, 1)


def spatial(op: Conv2d) -> bool:
    """Tell whether a kernel has more than one tap."""
    return not op.pointwise


def keeping(op: Conv2d) -> bool:
    """Tell whether a kernel has more than one tap and reads every pixel."""
    return not op.pointwise and op.stride == (1, 1)


def atrous(op: Conv2d) -> bool:
    """Tell whether a kernel has a distance between its taps."""
    return keeping(op) and min(op.rate) > 1


def at_convs(wanted: Wanted, form: OfConv, every: int = 1) -> Make:
    """Return what rewrites the convolutions of a kind: each, or every so many."""

    def make(subject: Subject) -> nn.Module:
        found = list(subject.convs(wanted))[::every]
        return Rewritten(subject, *(form(subject, node, op) for node, op in found))

    return make


def at_nodes(kind: type[Op], form: Callable[[Node], Form]) -> Make:
    """Return what rewrites the nodes of one operation."""
    return lambda subject: Rewritten(subject, *(form(node) for node in subject.network if isinstance(node.op, kind)))


def at_paths(form: Callable[[Node], Form], *paths: str) -> Make:
    """Return what rewrites nodes at paths, of those that the network has."""
    return lambda subject: Rewritten(
        subject, *(form(subject.network[path]) for path in paths if path in subject.network)
    )


def with_rest(wanted: Wanted, form: Callable[[Subject, list[Node], Conv2d], Form], rest: int) -> Make:
    """Return what rewrites convolutions together with as many nodes after each, where they normalise and activate."""

    def make(subject: Subject) -> nn.Module:
        readers = subject.network.readers()
        forms = []
        for node, op in subject.convs(wanted):
            run = [node]
            while len(run) <= rest and len(readers[run[-1].path]) == 1:
                after = subject.network[readers[run[-1].path][0]]
                if not isinstance(after.op, BatchNorm | Activation):
                    break
                run.append(after)
            if len(run) > rest:
                forms.append(form(subject, run, op))
        return Rewritten(subject, *forms)

    return make


def at_sources(subject: Subject) -> nn.Module:
    """Convolve what a concatenation joins before it is joined, where only a dense convolution reads it."""
    readers = subject.network.readers()
    forms = []
    for node, op in subject.convs(lambda op: op.groups == 1):
        concat = subject.network[node.inputs[0]]
        if isinstance(concat.op, Concat) and readers[concat.path] == (node.path,):
            forms.append(split_sources(subject, concat, node, op))
    return Rewritten(subject, *forms)


def ends_together(*kinds: type[Op]) -> Make:
    """Return what computes the ends of the pyramid's branches together, of those that end alike.

    Args:
        kinds: The operations of an end, the last last.
    """

    def make(subject: Subject) -> nn.Module:
        concat = subject.network["aspp.concat"]
        ends = {path: tuple(_ending(subject, path, len(kinds))) for path in concat.inputs}
        alike = {
            path: end
            for path, end in ends.items()
            if [type(node.op) for node in end] == list(kinds) and (Conv2d not in kinds or "pointwise" in end[0].path)
        }
        return Rewritten(subject, joined_first(subject, concat, alike))

    return make


def _ending(subject: Subject, path: str, count: int) -> Iterator[Node]:
    """Return the last nodes that lead to a value, in order."""
    run = [subject.network[path]]
    while len(run) < count and run[-1].inputs:
        run.append(subject.network[run[-1].inputs[0]])
    return reversed(run)
