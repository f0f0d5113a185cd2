"""What is judged, and what it is held against, built as a request names them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.align import lock_file as lock_text
from deeplab_spec.align.lock import Lock
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.target import REFERENCE, Target, is_file, load, parse_target
from deeplab_spec.errors import CaptureError, SpecError, TargetError
from deeplab_spec.judge.reference import classes_of, locked, output_stride_of, read_whole
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.nearest_form import in_normal_form

LOCK: Final = ".lock"
"""Ending of the name of a lock."""

Built = Callable[[int], nn.Module]
Standards = Callable[[int], Lock]


def is_lock(name: str) -> bool:
    """Tell whether what a user named is a lock."""
    return Path(name).suffix == LOCK


def target_of(request: Request) -> Target:
    """Return what a request wants built."""
    name = request.target
    reference = name.partition(":")[0] == REFERENCE
    if reference and ":" not in name and request.variant:
        name = f"{REFERENCE}:{request.variant}"
    return Target(
        name=name,
        arguments={} if reference else request.arguments,
        part=request.part,
        choices=request.target_choices if reference else {},
    )


def settled(request: Request, module: nn.Module) -> Request:
    """Fill in what a file says of itself: its output stride, and its classes.

    Raises:
        TargetError: If its graph cannot be read.
    """
    known = request.output_strides and request.classes is not None
    if known or request.part or not isinstance(module, FileModule):
        return request
    try:
        found = in_normal_form(read_whole(module)[0])
        stride, classes = output_stride_of(found), classes_of(found)
    except CaptureError as error:
        raise TargetError(module.name, f"cannot be read: {error}") from error
    return replace(
        request,
        output_strides=request.output_strides or (stride,),
        classes=classes if request.classes is None else request.classes,
    )


def candidate(request: Request) -> tuple[Request, Built]:
    """Return the request, with what a file says of itself, and what builds the candidate.

    Raises:
        TargetError: If a file cannot be read.
    """
    target = target_of(request)

    def built(output_stride: int) -> nn.Module:
        return load(target, output_stride, request.class_count)

    if not is_file(target.name):
        return request, built
    ready = [built(request.strides[0])]
    return settled(request, ready[0]), lambda stride: ready.pop() if ready else built(stride)


def standards(request: Request) -> tuple[Request, Standards | None]:
    """Return the request, with what the other network says of itself, and what reads it; None without one.

    Raises:
        TargetError: If it cannot be built or read.
    """
    if request.against is None:
        return request, None
    if is_lock(request.against):
        return _with(request, lock_text.load(Path(request.against)))
    target = parse_target(request.against, request.against_arguments)
    stated = is_file(target.name)

    def read(output_stride: int) -> Lock:
        module = load(target, output_stride, request.class_count).eval()
        try:
            return locked(module, target.name, None if stated else output_stride)
        except CaptureError as error:
            raise TargetError(target.name, f"nothing can be held against it: {error}") from error

    return _with(request, read(request.strides[0])) if stated else (request, read)


def _with(request: Request, lock: Lock) -> tuple[Request, Standards]:
    """Return a request at the output stride and with the classes of a lock."""
    stated = request.output_strides
    if stated and stated != (lock.output_stride,):
        rule = f"must be {lock.output_stride}, that of {request.against}"
        raise SpecError("output_stride", rule, ", ".join(map(str, stated)))
    return replace(request, output_strides=(lock.output_stride,), classes=lock.classes), lambda _stride: lock
