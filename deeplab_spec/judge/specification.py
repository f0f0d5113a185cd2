"""Which specification decides: its release, its commit, and the digest of what it says."""

import json
import shutil
import subprocess
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final

from deeplab_spec.graph.ops import kind
from deeplab_spec.judge.certificate import Specification
from deeplab_spec.judge.plan import specification
from deeplab_spec.judge.request import Request

PACKAGE: Final = "deeplab-spec"


def specification_of(request: Request) -> Specification:
    """Return the specification that a request is decided by."""
    return Specification(version=_release(), commit=_commit(), digest=digest_of(request))


def digest_of(request: Request) -> str:
    """Return the SHA-256 of the requested clauses and of the expected network; of the clauses alone for a lock."""
    clauses = [[clause.id, clause.sentence] for clause in request.clauses]
    networks = [] if request.variant is None else [_nodes(request, stride) for stride in request.strides]
    return sha256(json.dumps([clauses, networks], sort_keys=True).encode()).hexdigest()


def _nodes(request: Request, output_stride: int) -> list[object]:
    network = specification(request, request.choices, output_stride)[1]
    return [[node.path, kind(node.op), asdict(node.op), node.inputs] for node in network]


def _release() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"


@cache
def _commit() -> str:
    """Return the commit that this package was installed from, or that its checkout is at; empty if neither is known."""
    try:
        origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if "vcs_info" in origin:
        return str(origin["vcs_info"].get("commit_id", ""))
    root, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
