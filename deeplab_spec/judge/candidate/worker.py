"""The process in which a candidate runs: reads a request, writes events, one JSON document a line.

What the candidate prints goes to stderr; what happens to the process, happens to this one only.
"""

import json
import os
import sys
import warnings
from collections.abc import Mapping
from typing import TextIO

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.build import candidate, standards
from deeplab_spec.judge.judge import judge
from deeplab_spec.judge.request import ADAPTER, Request


def work(request: Request, events: TextIO) -> None:
    """Judge, and write what happens as events."""

    def send(event: str, facts: Mapping[str, object]) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")
        events.flush()

    def progress(stage: str, done: int, total: int) -> None:
        send("progress", {"stage": stage, "done": done, "total": total})

    try:
        asked, others = standards(request)
        settled, build = candidate(asked)
        certificate = judge(settled, build, progress, others)
    except DeepLabSpecError as error:
        send("could not run", {"message": str(error)})
    else:
        send("certificate", {"certificate": certificate.model_dump(mode="json")})


def main() -> None:
    """Read the request from stdin and write events to the file descriptor that is the argument."""
    warnings.simplefilter("ignore")
    request = ADAPTER.validate_json(sys.stdin.read())
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as events:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        work(request, events)


if __name__ == "__main__":
    main()
