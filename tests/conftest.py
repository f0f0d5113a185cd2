"""What every test runs under: one Hypothesis profile in three sizes, and the rule for deep tests."""

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

import pytest
from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,  # the first example pays for what torch sets up
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=15, **_COMMON)
settings.register_profile("ci", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("deep", max_examples=200, **_COMMON)
settings.load_profile("dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that brings the deep tests in, the shard, and the environment of candidates."""
    parser.addoption("--deep", action="store_true", help="run the tests marked deep too")
    parser.addoption("--shard", default="1/1", help="NUMBER/COUNT: run every COUNT-th test, from the NUMBER-th on")
    parser.addoption("--candidate-python", help="Python of an environment with another torch, for tests of candidates")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect deep tests unless they are selected, and those of other shards: they end in about equal times."""
    deep, (number, count) = config.getoption("--deep"), map(int, config.getoption("--shard").split("/"))
    if not 1 <= number <= count:
        raise pytest.UsageError(f"--shard must be of 1/{count} to {count}/{count}, but is {number}/{count}")
    selected = [item for item in items if deep or not item.get_closest_marker("deep")][number - 1 :: count]
    kept = set(selected)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = selected


def pytest_collection_finish() -> None:
    """Exclude all that exists from garbage collection: every export collects, and there is much to look at."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Exclude what the files before have imported and cached, too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """Leave the other cores to other workers of the same run, unless the environment asks for more threads."""
    if importlib.util.find_spec("torch") and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def targets_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run targets in the test process where a test is about something else: a process takes seconds to start."""
    if request.node.get_closest_marker("in_process") and not request.node.get_closest_marker("own_process"):
        from deeplab_spec.capture import target
        from deeplab_spec.capture.candidate.connection import LocalConnection

        monkeypatch.setattr(target, "_connection", lambda _: LocalConnection())


@pytest.fixture(autouse=True)
def warm_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start candidates as copies of a process that has imported PyTorch."""
    if importlib.util.find_spec("torch") and not request.node.get_closest_marker("cold_start"):
        from deeplab_spec.capture.candidate import start
        from tests.support.warm_start import WarmProcess

        monkeypatch.setattr(start, "ChildProcess", WarmProcess)


CHECKED = {"conformance", "execute", "properties", "reference"}
"""Folders of the tests about layers. In the others, run-time checks of shapes would take an eighth of the time."""


@pytest.fixture(scope="module", autouse=True)
def shape_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check the shapes of layers in the tests about layers."""
    if request.path.parent.name in CHECKED or not importlib.util.find_spec("jaxtyping"):
        yield
    else:
        with _unchecked():
            yield


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Switch the run-time checks of shapes off, so that a layer's own refusal is seen."""
    with _unchecked():
        yield


@contextmanager
def _unchecked() -> Iterator[None]:
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # noqa: FBT003 - the library's signature
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the program in this process, which saves its start, and returns what it printed."""
    from deeplab_spec.cli.app import main

    def run(*arguments: object) -> CompletedProcess[str]:
        capfd.readouterr()
        line = tuple(map(str, arguments))
        monkeypatch.setattr(sys, "argv", ["deeplab-spec", *line])
        with pytest.raises(SystemExit) as end:
            main(line)
        return CompletedProcess(line, int(end.value.code or 0), *capfd.readouterr())

    return run
