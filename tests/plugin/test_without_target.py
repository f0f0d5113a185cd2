"""Without a target the plugin is a few options: it imports nothing, adds nothing, and changes no outcome."""

from pathlib import Path

import pytest

from tests.support.pytest_runs import PLUGIN, TARGET, fake, run

WATCH = """
import atexit, sys
OWN = {"deeplab_spec", "torch", "pydantic", "hypothesis", "numpy"}
loaded = lambda: sorted(name for name in sys.modules if name.partition(".")[0] in OWN)
atexit.register(lambda: sys.stderr.write("LOADED " + " ".join(loaded()) + "\\n"))
"""


def loaded(folder: Path, *arguments: str, plugin: tuple[str, ...] = PLUGIN) -> set[str]:
    """Return the modules of this package, and of those that take their time, that a run has loaded at its end."""
    (folder / "watch.py").write_text(WATCH, encoding="utf-8")
    done = run(folder, "-p", "watch", *arguments, plugin=plugin)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


def test_a_run_without_a_target_loads_the_options_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, it loads what collects, and still no framework: that is for the process which judges."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fake(tmp_path)
    (tmp_path / "conftest.py").unlink()
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")

    assert loaded(tmp_path) == {"deeplab_spec", "deeplab_spec.pytest_plugin"}
    asked = loaded(tmp_path, *TARGET, "--collect-only")
    assert {"deeplab_spec.pytest_plugin.session", "pydantic"} <= asked
    assert not {"torch", "numpy", "hypothesis"} & asked


def test_torch_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the same watch, on a project that does import a module of this name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "torch.py").touch()
    (tmp_path / "test_own.py").write_text("import torch\ndef test_own(): assert torch\n", encoding="utf-8")

    assert "torch" in loaded(tmp_path)


def test_a_run_without_a_target_ends_as_it_would_without_the_plugin(tmp_path: Path) -> None:
    """The same tests, the same statuses: passed, failed, and none at all."""
    (tmp_path / "test_own.py").write_text("def test_own(): pass\ndef test_wrong(): assert 0\n", encoding="utf-8")

    for arguments in (("-k", "own"), (), ("-k", "nothing")):
        with_it, without = (run(tmp_path, *arguments, plugin=plugin) for plugin in (PLUGIN, ()))
        assert with_it.returncode == without.returncode
        assert _counts(with_it.stdout) == _counts(without.stdout)


def _counts(report: str) -> str:
    """Return the last line of a report, but for the time."""
    return report.splitlines()[-1].rpartition(" in ")[0]
