"""Puts what became of moving weights into a document."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import torch

from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.port.document import (
    CountsModel,
    DifferenceModel,
    FirstModel,
    GapModel,
    MoveModel,
    PortDocument,
    ProofModel,
    RunModel,
)
from deeplab_spec.port.equivalent_forms import BIAS, MEAN, VARIANCE, Action
from deeplab_spec.port.parameter_map import ParameterMap
from deeplab_spec.port.proof import Proof
from deeplab_spec.port.service import Moved, PortRequest
from deeplab_spec.port.sides import Side

_NOTES: Final = (
    (Action.FOLDED, BIAS, "normalisations of the source were folded into their convolutions, in float64"),
    (
        Action.UNFOLDED,
        VARIANCE,
        "normalisations, which the source has folded, only add a bias: training from here starts with them so",
    ),
    (Action.SHIFTED, MEAN, "biases before a normalisation moved into its running mean"),
    (Action.INITIALISED, BIAS, "biases before a normalisation, which the source lacks, are zero"),
)


def port_document(request: PortRequest, moved: Moved, notes: tuple[str, ...]) -> PortDocument:
    """Return the document of what was asked for and what became of it."""
    moves = moved.map.moves.values()
    actions = Counter(move.action for move in moves)
    return PortDocument(
        source=request.source.name,
        destination=request.dest.name,
        weights=str(request.weights) if request.weights else None,
        output_stride=request.output_stride,
        classes=request.classes,
        size=moved.pair.source.image,
        torch=torch.__version__.partition("+")[0],
        verdict=moved.verdict,
        reason=moved.reason,
        written=str(request.output) if request.output and moved.verdict == "moved" else None,
        dtypes=tuple(sorted({_dtype(dtype) for dtype in moved.map.dtypes.values()})),
        counts=CountsModel(
            **{action.value: actions[action] for action in Action}, permuted=sum(move.permuted for move in moves)
        ),
        notes=(*notes, *_notes(moved.map), *_blind(moved.pair.source)),
        gaps=tuple(
            GapModel(side=gap.side, path=gap.path, names=gap.names, reason=gap.reason) for gap in moved.map.gaps
        ),
        differences=tuple(
            DifferenceModel(
                path=found.candidate_path,
                source_path=found.path,
                attribute=found.attribute,
                source=str(found.expected),
                destination=str(found.actual),
            )
            for found in moved.differences
        ),
        proof=_proof(moved.proof) if moved.proof else None,
        parameters=tuple(
            MoveModel(name=move.name, sources=move.sources, action=move.action.value, permuted=move.permuted)
            for move in moves
        ),
    )


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _notes(found: ParameterMap) -> Iterator[str]:
    for action, role, text in _NOTES:
        count = sum(move.action is action and move.role == role for move in found.moves.values())
        if count:
            yield f"{count} {text}"
    if found.unread:
        count = len(found.unread)
        yield f"{count} tensors of the source stay behind, as no result depends on them (first {found.unread[0]!r})"


def _blind(side: Side) -> Iterator[str]:
    """Say if the image is too small for a rate: the outer taps of the kernel read padding only."""
    found = [
        max(node.op.rate)
        for node in side.captured.network
        if isinstance(node.op, Conv2d)
        and node.op.kernel != (1, 1)
        and max(node.op.rate) >= min(side.captured.shapes[node.inputs[0]][2:])
    ]
    if found:
        rates = ", ".join(map(str, sorted(set(found))))
        yield f"the image is too small for the results to show rates of {rates} ({len(found)} convolutions)"


def _proof(proof: Proof) -> ProofModel:
    runs = tuple(
        RunModel(
            engine=run.engine,
            size=run.image,
            rounded=run.rounded,
            bit_equal=run.bit_equal,
            error=_finite(run.error),
            largest=_finite(run.largest),
            allowed=run.allowed,
            equal=run.equal,
        )
        for run in proof.runs
    )
    first = proof.first
    return ProofModel(
        equal=proof.equal,
        runs=runs,
        refused=proof.refused,
        first=FirstModel(path=first.path, source_path=first.source_path, error=_finite(first.error)) if first else None,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
