"""Judges a candidate: observes it at every output stride, decides every clause, and writes the certificate."""

import time

from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.conclusion import conclude
from deeplab_spec.judge.decisions import decide_clause
from deeplab_spec.judge.observe import Builder, ReferenceReader, Stages, observe
from deeplab_spec.judge.precision.run import device_of
from deeplab_spec.judge.request import Request
from deeplab_spec.views.progress import Progress


def judge(
    request: Request, build: Builder, progress: Progress, references: ReferenceReader | None = None
) -> Certificate:
    """Judge a candidate in this process.

    Args:
        request: What is judged, against what, and how.
        build: Builds the candidate for an output stride; its errors are not caught here.
        progress: Called with every stage.
        references: Reads the other network for an output stride; None to judge against the specification.

    Raises:
        TargetError: If the requested device is not available.
    """
    started = time.monotonic()
    device_of(request.device)
    stages = Stages(progress, len(request.strides))
    with float32_products(tf32=False):
        strides = [observe(request, output_stride, build, references, stages) for output_stride in request.strides]
    decided = [decide_clause(clause, strides) for clause in request.clauses]
    stages.done()
    return conclude(request, strides, decided, time.monotonic() - started)
