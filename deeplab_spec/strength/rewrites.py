"""Judges rewrites, one at a time: each is equal to a published network and must be accepted."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.errors import DeepLabSpecError, one_line
from deeplab_spec.judge.api import certify
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.plan import telling_sizes
from deeplab_spec.mutate.rewrites.catalogue import Rewrite, rewrite
from deeplab_spec.mutate.rewrites.original import Original, published
from deeplab_spec.spec.api import Override, network
from deeplab_spec.spec.clauses import Level
from deeplab_spec.strength.document import JudgedRewrite

SMALL: Final[Mapping[str, Override]] = {"width": 0.125, "middle_blocks": 2}
"""Choices of a small network that every clause applies to: narrow, with a short middle flow of alike blocks."""

CLASSES: Final = 5

NEVER_APPLICABLE: Final = frozenset({"INITIALISATION", "BATCH-OF-ONE"})
"""Clauses that may be not applicable to any rewrite: it comes with weights, and the network may normalise a single
pixel."""


def original_of(one: Rewrite, directory: Path, choices: Mapping[str, Override] = SMALL, seed: int = 0) -> Original:
    """Return the published network that a rewrite starts from, with random weights.

    Args:
        one: The rewrite.
        directory: Folder for a file of the rewrite.
        choices: Choices that differ from the variant's.
        seed: Seed of the weights.
    """
    graph = network(one.variant, one.output_stride, CLASSES, choices)
    image = telling_sizes(graph, one.output_stride)[0]
    return published(one.variant, one.output_stride, CLASSES, choices, image, directory, seed)


def judged(name: str, choices: Mapping[str, Override] = SMALL, levels: Iterable[Level] = tuple(Level)) -> JudgedRewrite:
    """Judge one rewrite; an error is a reason to refuse it.

    Args:
        name: Id of the rewrite.
        choices: Choices that differ from the variant's, of the rewrite and of the specification.
        levels: The levels to decide; training is left out where the rewrite is equal in evaluation only.

    Raises:
        SpecError: If there is no such rewrite.
    """
    one = rewrite(name)
    levels = [level for level in levels if level is not Level.TRAINING or not one.method.evaluation_only]
    with tempfile.TemporaryDirectory() as directory:
        try:
            rewritten = one.method.apply(original_of(one, Path(directory), choices))
            certificate = judge(rewritten, one, choices, levels)
        except (DeepLabSpecError, RuntimeError, TypeError, ValueError) as error:
            return JudgedRewrite(name=name, kind=one.kind, refused=one_line(error))
    errors = certificate.conditioning
    return JudgedRewrite(
        name=name,
        kind=one.kind,
        refused=_reason(certificate, one.method.not_applicable),
        float32_ratio=max((each.float32_ratio for each in errors if each.float32_ratio is not None), default=None),
        float64_error=max((each.float64_error for each in errors if each.float64_error is not None), default=None),
    )


def judge(
    rewritten: nn.Module | Path,
    one: Rewrite,
    choices: Mapping[str, Override],
    levels: Iterable[Level] = tuple(Level),
) -> Certificate:
    """Judge a rewritten network against the published network that it equals."""
    return certify(
        str(rewritten) if isinstance(rewritten, Path) else rewritten,
        one.variant,
        choices=choices,
        output_strides=() if isinstance(rewritten, Path) else (one.output_stride,),
        num_classes=CLASSES,
        levels=tuple(levels),
    )


def _reason(certificate: Certificate, not_applicable: frozenset[str]) -> str:
    """Return the first clause that must be passed and was not, with the reason; empty if there is none."""
    for clause in certificate.clauses:
        if clause.verdict is Verdict.NOT_APPLICABLE and clause.id in not_applicable | NEVER_APPLICABLE:
            continue
        if clause.verdict is not Verdict.PASSED:
            finding = next((f"{f.path} {f.attribute}: {f.actual}, must be {f.expected}" for f in clause.findings), "")
            return f"{clause.id} is {clause.verdict}: {clause.reason or finding}"
    return "" if certificate.verdict is RunVerdict.CONFORMS else f"it {certificate.verdict}"
