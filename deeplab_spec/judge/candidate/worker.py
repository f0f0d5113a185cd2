"""The process in which a candidate runs: reads a request from stdin and sends events.

A candidate that crashes ends this process only, not the one that reports it.
"""

import sys
from collections.abc import Callable, Mapping

from deeplab_spec.child_process import answers
from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.build import candidate, reference_reader
from deeplab_spec.judge.judge import judge
from deeplab_spec.judge.request import ADAPTER, Request


def work(request: Request, send: Callable[[Mapping[str, object]], None]) -> None:
    """Judge, and send what happens as events."""

    def progress(stage: str, done: int, total: int) -> None:
        send({"event": "progress", "stage": stage, "done": done, "total": total})

    try:
        request, references = reference_reader(request)
        completed, build = candidate(request)
        certificate = judge(completed, build, progress, references)
    except DeepLabSpecError as error:
        send({"event": "could not run", "message": str(error)})
    else:
        send({"event": "certificate", "certificate": certificate.model_dump(mode="json")})


if __name__ == "__main__":
    with answers() as send_event:
        work(ADAPTER.validate_json(sys.stdin.readline()), send_event)
