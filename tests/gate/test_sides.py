"""The forms of a side: a directory, a git ref, a wheel, a reference or a target."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate.sides import PACKAGES, opened


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("nowhere", TargetError, "there is no such directory"),
        ("nothing.whl", TargetError, "the wheel cannot be read"),
        ("ref:no-such-ref", TargetError, "no-such-ref"),
        ("ref:--output=x", SpecError, "must name a commit"),
        ("reference:xception", SpecError, "variant"),
        ("module:not a name", SpecError, "must be MODULE:CALLABLE"),
        ("", TargetError, "there is no such directory"),
    ],
)
def test_a_missing_side_is_an_error(name: str, error: type[Exception], reason: str) -> None:
    """A missing baseline never gives a PASS."""
    with pytest.raises(error, match=reason), opened(name):
        pass


def test_each_form_of_a_side_says_where_it_is_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a wheel and a commit come first on the path; what was unpacked is removed."""
    plain = tmp_path / "plain"
    (plain / "src").mkdir(parents=True)
    (plain / "tiny_network.py").touch()
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as wheel:
        wheel.writestr("tiny_network.py", "")
    _commit(plain)
    monkeypatch.chdir(plain)

    with opened(str(plain), "tiny_network:build") as side:
        assert (side.target, side.within, side.paths) == ("tiny_network:build", plain, (plain / "src", plain))
    for name in (str(tmp_path / "tiny.whl"), "ref:HEAD"):
        with opened(name, "tiny_network:build") as side:
            assert side.within
            assert side.paths == (side.within,)
            assert (side.within / "tiny_network.py").exists()
        assert not side.within.exists()
    with opened("reference:tf-release") as side:
        assert (side.target, side.variant, side.within) == ("deeplab_spec:build", "tf-release", None)
        assert side.paths == (PACKAGES,)
    with opened("tiny_network:build") as side:
        assert (side.target, side.paths[0]) == ("tiny_network:build", plain)


def _commit(folder: Path) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "Add a network"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - the user's git


def test_a_missing_git_is_a_target_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line shows it in one line."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TargetError, match="git cannot be run"), opened("ref:HEAD"):
        pass


def test_a_side_that_was_imported_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """With an empty directory as a side, the installed package would be compared with itself, and pass."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with opened(str(empty)) as side, pytest.raises(TargetError, match=r"'deeplab_spec' was imported from .*, not"):
        side.require_origin(str(PACKAGES / "deeplab_spec" / "__init__.py"))
    with opened(str(empty)) as side, pytest.raises(TargetError, match="from nowhere"):
        side.require_origin("")
