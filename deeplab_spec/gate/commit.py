"""What a stored measurement says of where and when it was made."""

import platform
import subprocess
from datetime import UTC, datetime


def commit() -> dict[str, object]:
    """Return what git says of the working directory; an ``error`` where it is no repository."""
    identity = _git("rev-parse", "HEAD")
    if not identity:
        return {"id": "unknown", "time": None, "author_time": None, "dirty": False, "error": "no git", "branch": ""}
    return {
        "id": identity,
        "time": _git("show", "-s", "--format=%cI", "HEAD"),
        "author_time": _git("show", "-s", "--format=%aI", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
    }


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def node() -> str:
    """Return the name of the machine as far as a stored file needs it: its kind, not its host."""
    return f"{platform.system()}-{platform.machine()}"


def now() -> str:
    """Return the time, in ISO 8601."""
    return datetime.now(UTC).isoformat()


def storage_name() -> str:
    """Return the directory that pytest-benchmark would store in, on this interpreter."""
    bits = platform.architecture()[0]
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.system()}-{platform.python_implementation()}-{version}-{bits}"
