"""Judges equal networks, one at a time: each must be accepted."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.errors import DeepLabSpecError, one_line
from deeplab_spec.judge.api import certify
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.plan import telling_sizes
from deeplab_spec.mutate.rewrites.catalogue import Rewrite, rewrite
from deeplab_spec.mutate.rewrites.subject import Subject, subject
from deeplab_spec.spec.api import Override, network
from deeplab_spec.spec.clauses import Level

SMALL: Final[Mapping[str, Override]] = {"width": 0.125, "middle_blocks": 2}
"""A network that asks what the published one asks: narrow, and with a short middle flow of blocks that are alike."""

CLASSES: Final = 5

UNASKED: Final = frozenset({"INITIALISATION", "BATCH-OF-ONE"})
"""Clauses that may be not applicable of any rewrite: it comes with weights, and the network may have a
normalisation of a single pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRewrite:
    """What became of an equal network.

    Attributes:
        id: The rewrite.
        refused: Why it was not accepted; empty if it was.
        float32_ratio: Its error in float32 over that of the specification; None if it was not run.
        float64_error: Its relative error in float64; None if it was not run.
        certificate: What was decided; None if it could not be judged.
    """

    id: str
    refused: str
    float32_ratio: float | None = None
    float64_error: float | None = None
    certificate: Certificate | None = None

    @property
    def accepted(self) -> bool:
        """Whether every clause was passed, but for those that the rewrite leaves nothing to decide about."""
        return not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How far equal networks are from what they equal.

    Attributes:
        float32_ratio: The largest error in float32 over that of the specification.
        float64_error: The largest relative error in float64.
    """

    float32_ratio: float
    float64_error: float


def prepared(one: Rewrite, directory: Path, choices: Mapping[str, Override] = SMALL, seed: int = 0) -> Subject:
    """Return what a rewrite starts from: its published network at some choices, with drawn weights.

    Args:
        one: The rewrite.
        directory: Where it may write a file.
        choices: Decisions that differ from the variant's.
        seed: Seed of the weights.
    """
    graph = network(one.variant, one.output_stride, CLASSES, choices)
    image = telling_sizes(graph, one.output_stride)[0]
    return subject(one.variant, one.output_stride, CLASSES, choices, image, directory, seed)


def judged(name: str, choices: Mapping[str, Override] = SMALL, levels: Iterable[Level] = tuple(Level)) -> JudgedRewrite:
    """Judge one rewrite; what it raises is recorded.

    Args:
        name: Its id.
        choices: Decisions that differ from the variant's, on both sides.
        levels: The levels to decide; a rewrite for evaluation is not asked about training.

    Raises:
        SpecError: If there is no such rewrite.
    """
    one = rewrite(name)
    wanted = [level for level in levels if level.value != "training" or not one.way.evaluation]
    with tempfile.TemporaryDirectory() as directory:
        try:
            made = one.way.make(prepared(one, Path(directory), choices))
            certificate = judge(made, one, choices, wanted)
        except (DeepLabSpecError, RuntimeError, TypeError, ValueError) as error:
            return JudgedRewrite(id=name, refused=one_line(error))
    drawn = certificate.conditioning
    return JudgedRewrite(
        id=name,
        refused=_refused(certificate, one.way.not_applicable),
        float32_ratio=max((each.float32_ratio for each in drawn if each.float32_ratio is not None), default=None),
        float64_error=max((each.float64_error for each in drawn if each.float64_error is not None), default=None),
        certificate=certificate,
    )


def judge(
    made: nn.Module | Path, one: Rewrite, choices: Mapping[str, Override], levels: Iterable[Level] = tuple(Level)
) -> Certificate:
    """Judge what a rewrite made against the published network that it equals."""
    return certify(
        str(made) if isinstance(made, Path) else made,
        one.variant,
        choices=choices,
        output_strides=() if isinstance(made, Path) else (one.output_stride,),
        num_classes=CLASSES,
        levels=tuple(levels),
    )


def margins(found: Iterable[JudgedRewrite]) -> Margins:
    """Return the largest errors of accepted rewrites; 0 where none was run."""
    accepted = [one for one in found if one.accepted]
    return Margins(
        float32_ratio=max((one.float32_ratio for one in accepted if one.float32_ratio is not None), default=0.0),
        float64_error=max((one.float64_error for one in accepted if one.float64_error is not None), default=0.0),
    )


def _refused(certificate: Certificate, not_applicable: frozenset[str]) -> str:
    """Return the first clause that was not passed although it must be, with the reason; empty if there is none."""
    for clause in certificate.clauses:
        if clause.verdict is Verdict.NOT_APPLICABLE and clause.id in not_applicable | UNASKED:
            continue
        if clause.verdict is not Verdict.PASSED:
            finding = next((f"{f.path} {f.attribute}: {f.actual}, must be {f.expected}" for f in clause.findings), "")
            return f"{clause.id} is {clause.verdict}: {clause.reason or finding}"
    return "" if certificate.verdict is RunVerdict.CONFORMS else f"it {certificate.verdict}"
