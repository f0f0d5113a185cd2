"""Finds a part in a whole network, and judges it there: its graph is cut out, and the rest is left alone.

The part cannot be called alone. Its graph runs on the judge's side, and the whole network shows that the graph is the
network's own: with the same weights, it must return what its graph computes.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Final, Self

import torch
from torch import Tensor

from deeplab_spec.align.parts import Head, find_head
from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned
from deeplab_spec.capture.cut import cut
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.errors import CaptureError, one_line
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import MAP_RANK, Activation, Dropout, Input
from deeplab_spec.judge.certificate import PartPlace
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.outputs import call_candidate, double, executed
from deeplab_spec.judge.plan import SpecifiedPlan, plan
from deeplab_spec.judge.precision.run import stored
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.judge.structure.observe import RUNTIME, limits_of, with_taps

INSIDE: Final = "it is part of a whole network, which is called and trained whole"
"""Why nothing is decided about the calls and the training of a part of a whole network."""

CAPTURE_LIMIT: Final = 1e-9
"""Largest relative difference between a module and its captured graph, both in float64."""

_TRIES: Final = 100
"""Channels of inputs that a part is called with to find its own."""

_USUAL: Final = ((224, 224), (256, 256), (384, 384), (512, 512))
"""Image sizes of networks that accept no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A part that was found in a whole network.

    Attributes:
        image: The image that the network was captured with.
        whole: Its graph, with the output of the logits only.
        head: Where the head begins and ends.
    """

    image: Tensor
    whole: Capture
    head: Head


def find_part(module: Candidate, request: Request, output_stride: int) -> Found | None:
    """Find the head of a whole network, built with an output stride; None if it takes no image, or has no such head."""
    if len(module.shapes) > 1:
        return None
    whole = plan(replace(request, part=None), output_stride, replace(limits_of(module), channels=()))
    refused = False
    for size in dict.fromkeys((*whole.telling, *_USUAL)):
        (image,) = images(whole, whole.inputs_at(size), whole.batch, torch.float32, request.seed)
        if refused and call_candidate(module, [image], ()).error:
            continue  # a part alone takes no image of any size: a call says so sooner than an export
        try:
            captured = with_taps(merge_recomputed(module.read([image])), whole, size)
        except CaptureError:
            refused = True
            continue
        normal = in_normal_form(captured).network
        head = find_head(normal)
        return Found(image=image, whole=captured, head=_after_no_ops(captured.network, normal, head)) if head else None
    return None


def _after_no_ops(network: Network, normal: Network, head: Head) -> Head:
    """Return a head whose values are those after the operations that change nothing there."""
    readers = network.readers()

    def last(path: str) -> str:
        while len(readers[path]) == 1:
            reader = network[readers[path][0]]
            if reader.path in normal or not isinstance(reader.op, Activation | Dropout):
                break
            path = reader.path
        return path

    return replace(head, features=last(head.features), taps=tuple(map(last, head.taps)), pyramid=last(head.pyramid))


def channels_read(module: Candidate, planned: SpecifiedPlan) -> tuple[int, ...]:
    """Return the channels of the inputs of a part alone, which are its backbone's; empty for the specification's.

    A module does not state them. Those of the specification hold, unless no kernel in it reads as many.
    """
    stored = _kernel_channels(module)
    expected = [node.op.channels for node in planned.network.inputs if isinstance(node.op, Input)]
    if planned.request.part == "backbone" or module.shapes or set(expected) <= stored.keys():
        return ()
    sizes = planned.small[0]
    taps = planned.taps(sizes, 1)
    for channels in islice(product(stored, repeat=len(expected)), _TRIES):
        sides = zip(channels, sizes.values(), strict=True)
        if not call_candidate(module, [torch.zeros(1, count, *side) for count, side in sides], taps).error:
            return channels
    return ()


def _kernel_channels(module: Candidate) -> dict[int, None]:
    """Return the channels that the kernels of a module read, in the order in which they are stored."""
    kernels = (tensor for tensor in module.tensors.values() if tensor.ndim == MAP_RANK)
    return dict.fromkeys(kernel.shape[1] if kernel.shape[1] > 1 else kernel.shape[0] for kernel in kernels)


def part_inside(module: Candidate, request: Request, output_stride: int) -> "PartCandidate | None":
    """Return the requested part of a whole network; None if the candidate is no whole network with a head."""
    found = find_part(module, request, output_stride) if request.part else None
    return PartCandidate(module, found, plan(request, output_stride)) if found else None


class PartCandidate(Candidate):
    """A part of a whole network.

    Attributes:
        place: Where the part is, for the certificate.
    """

    kind = "part"
    inference_only = INSIDE

    def __init__(self, whole: Candidate, found: Found, planned: SpecifiedPlan) -> None:
        self.part = planned.request.part or ""
        captured = self._cut(found)
        shapes = [captured.shapes[node.path] for node in captured.network.inputs]
        sizes = planned.inputs_at((found.image.shape[2], found.image.shape[3]))
        for node in planned.network.inputs[len(shapes) :]:  # the candidate does not read it
            channels = node.op.channels if isinstance(node.op, Input) else 0
            shapes.append((found.image.shape[0], channels, *sizes[node.path]))
        super().__init__(whole.name, shapes, {})
        self.whole, self.found, self.planned, self.remote = whole, found, planned, whole.remote
        self.place = _place(self.part, found, captured)
        self._take(captured)

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph of the part, at the size that the whole network was read at."""
        if any(tuple(value.shape) != shape for value, shape in zip(inputs, self.shapes, strict=False)):
            raise CaptureError("a part of a whole network is read at the size of the whole")
        captured = self._cut(self.found)
        self._take(captured)
        return captured

    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:  # noqa: ARG002, B008 - of every candidate
        """Run the graph of the part with the current tensors; an error is in the answer."""
        captured = self._cut(self.found)
        given = [*inputs, *(torch.zeros(captured.shapes[node.path]) for node in captured.network.inputs[len(inputs) :])]
        try:
            tensors = {name: double(tensor) for name, tensor in self.tensors.items()}
            values = executed(captured, tensors, given[: len(captured.network.inputs)])
        except (RuntimeError, IndexError, KeyError, ValueError) as error:
            return Returned(error=one_line(error))
        results = {name: values[path] for name, path in captured.network.results.items()}
        return Returned(kind="dict", tensors={f"[{name!r}]": value for name, value in results.items()})

    def check(self) -> None:
        """Compare what the whole network returns with what its graph computes, with its current tensors.

        Raises:
            CaptureError: If it returns something else, so that its graph says nothing about it.
        """
        dtype = torch.float32 if self.whole.float32_only else torch.float64
        allowed = RUNTIME if self.whole.float32_only else CAPTURE_LIMIT
        captured, image = self.found.whole, self.found.image.to(dtype)
        (end,) = captured.network.outputs
        with stored(self, dtype):
            answer = call_candidate(self.whole, [image], [("logits", captured.shapes[end.path])])
            values = executed(captured, {name: double(value) for name, value in self.whole.tensors.items()}, [image])
        if answer.error:
            raise CaptureError(f"the whole network cannot be called: {answer.error}")
        off = relative_error(answer.results["logits"], values[end.path])
        if not off <= allowed:
            raise CaptureError(f"the captured graph is off by {off:.2g} from what the whole network computes")

    def give_biases(self, weights: Collection[str]) -> bool:
        """Add a bias of zeros to convolutions of the whole network."""
        if not self.whole.give_biases(weights):
            return False
        self.found = find_part(self.whole, self.planned.request, self.planned.output_stride) or self.found
        return True

    def _cut(self, found: Found) -> Capture:
        return cut(found.whole, found.head.inputs(self.part), found.head.outputs(self.part))

    def _take(self, captured: Capture) -> None:
        """Hold the tensors of the part; they are those of the whole network."""
        stored = set(captured.parameters.values())
        stored |= {part.name for parts in captured.parts.values() for part in parts}
        self.tensors = {name: tensor for name, tensor in self.whole.tensors.items() if name in stored}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - the framework's signature
        if fn(torch.zeros(1)).device.type == "cpu":  # its graph runs on the CPU
            self.whole._apply(fn, recurse)  # noqa: SLF001 - as the framework does
            self.tensors = {name: self.whole.tensors[name] for name in self.tensors}
        return self


def _place(part: str, found: Found, captured: Capture) -> PartPlace:
    """Say where a part is: the modules that have its nodes alone, what it reads, and what it returns."""
    inside = [where.rpartition(".")[0] for where in (*captured.parameters, *captured.parts)]
    outside = {node.path for node in found.whole.network} - {node.path for node in captured.network}
    modules = dict.fromkeys(_outermost(path, outside) for path in inside)
    return PartPlace(
        part=part,
        modules=tuple(modules),
        inputs=found.head.inputs(part),
        outputs=tuple(found.head.outputs(part).values()),
    )


def _outermost(path: str, outside: Collection[str]) -> str:
    """Return the outermost module of a node that has no node of the rest of the network."""
    prefixes = (path[: found.start()] for found in re.finditer(r"[./]", path) if found.start())
    return next((each for each in prefixes if not any(_is_inside(other, each) for other in outside)), path)


def _is_inside(path: str, module: str) -> bool:
    """Tell whether a node is one of a module.

    >>> _is_inside("/decoder/conv/Conv", "/decoder"), _is_inside("decoder2.conv", "decoder")
    (True, False)
    """
    return path.startswith(module) and path[len(module) : len(module) + 1] in {"", ".", "/"}
