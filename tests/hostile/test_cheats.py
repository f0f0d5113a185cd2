"""No wrong network gets ``conforms`` because it knows that it is judged: see the package ``cheats`` here."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from deeplab_spec.capture.candidate.connection import ProcessConnection
from deeplab_spec.capture.candidate.module import Remote
from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.capture.capture import CallSettings
from deeplab_spec.errors import TargetError
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.judge.judge import run
from deeplab_spec.judge.request import request_from
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.progress import silent

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SEARCH = (str(HERE), str(ROOT))
SMALL = ("width=0.03125", "middle_blocks=2")
KINDS = ("surroundings", "inputs", "history", "wrappers", "patches", "pipe")
SECONDS = 60
ELSEWHERE = {"in_evaluation", "without_autocast"}
"""Conditions that the level of training fails, and a precision that is asked for."""

SAMPLE = {
    "inputs:values_up_to_10",
    "history:first_300_calls",
    "history:Initial",
    "history:not_the_hundredth_call",
    "wrappers:returns_subclass_of_tensor",
    "patches:program_in_memory",
    "pipe:serves_itself",
}
"""One of each kind, and two that remember, whose interface is judged; the deep run judges every one at every level."""


def names(kind: str) -> list[str]:
    """Return the cheats of a kind."""
    sys.path.append(str(HERE))
    try:
        return list(importlib.import_module(f"cheats.{kind}").CHEATS)
    finally:
        sys.path.remove(str(HERE))


def all_cheats() -> Iterator[object]:
    """Yield every cheat of every kind; those that are not in the sample are deep tests."""
    for kind in KINDS:
        for name in names(kind):
            cheat = f"{kind}:{name}"
            marks = [pytest.mark.cold_start] if kind == "surroundings" else []
            yield pytest.param(cheat, marks=marks if cheat in SAMPLE else [*marks, pytest.mark.deep])


def verdict(target: str, levels: tuple[str, ...] = tuple(Level), **arguments: str) -> RunVerdict | None:
    """Judge a candidate; None if it cannot be built."""
    request = request_from(target, variant="notebook", overrides=SMALL, levels=levels, arguments=arguments)
    try:
        return run(request, silent, ProcessSettings(search=SEARCH, timeout=SECONDS)).verdict
    except TargetError:
        return None


def test_the_network_of_the_cheats_conforms_without_a_cheat() -> None:
    """The tests below could otherwise pass for another reason."""
    assert verdict("cheats.base:honest") is RunVerdict.CONFORMS


def test_the_plainly_wrong_network_deviates() -> None:
    """What the cheats hide is wrong."""
    assert verdict("cheats.base:wrong", ("interface",)) is RunVerdict.DEVIATES


@pytest.mark.parametrize("cheat", list(all_cheats()))
def test_no_cheat_conforms(cheat: str, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> None:
    """It deviates, is undecided, or cannot be built; and what it raises is no traceback."""
    kind, _, name = cheat.partition(":")
    levels = tuple(Level) if request.config.getoption("--deep") else (Level.INTERFACE,)
    found = verdict(f"cheats.{kind}:CHEATS.{name}", levels)

    assert found in {RunVerdict.DEVIATES, RunVerdict.INCONCLUSIVE, None}
    assert "Traceback" not in capfd.readouterr().err


def test_the_calls_of_the_interface_fail_every_condition_on_inputs(tmp_path: Path) -> None:
    """A network that is right under one of these conditions only is wrong in a call whose values are compared."""
    path = tmp_path / "failed"

    assert verdict("cheats.inputs:recorded", ("interface",), path=str(path)) is RunVerdict.CONFORMS
    assert set(names("inputs")) - set(path.read_text().split()) == ELSEWHERE


# What surrounds a call


@pytest.fixture(name="connection", scope="module")
def connection_to_one_process() -> Iterator[ProcessConnection]:
    """Yield a connection to the process in which all the networks below are built."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "DEEPLAB_SPEC_DOCUMENT", "OMP_WAIT_POLICY"):
            patch.delenv(name, raising=False)
        connection = ProcessConnection(ProcessSettings(timeout=SECONDS))
        connection.ensure()
    yield connection
    connection.close()


def called(connection: ProcessConnection, target: str) -> torch.Tensor:
    """Build a network, and call it once in evaluation."""
    module, _, attribute = target.partition(":")
    build = {
        "do": "build",
        "seed": 0,
        "module": module,
        "attribute": attribute,
        "texts": {},
        "filled": {"output_stride": 16, "num_classes": 21},
        "search": SEARCH,
    }
    returned = Remote(target, connection, lambda: build).call([torch.ones(1, 3, 65, 65)], CallSettings())
    assert not returned.error
    return returned.tensors[""]


@pytest.mark.cold_start
@pytest.mark.parametrize("name", names("surroundings"))
def test_nothing_around_a_call_tells_that_the_network_is_judged(connection: ProcessConnection, name: str) -> None:
    """The stack, modules, arguments, the environment and PyTorch's state are those of any program that calls it."""
    expected = called(connection, "cheats.base:honest")
    result = called(connection, f"cheats.surroundings:CHEATS.{name}")

    assert torch.allclose(result, 0.5 * expected + 1)
    assert not torch.allclose(result, expected)
