"""The public functions: what a command does, as a typed result that prints as one line."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.result import ExitCode, Result

pytestmark = pytest.mark.in_process

SMALL = {"width": 0.03125, "middle_blocks": 1}
MOST_CHARACTERS = 400
"""So long may one result be as text in a console."""


def small(variant: str = "notebook", **choices: Any) -> nn.Module:
    """Return a narrow network."""
    return deeplab_spec.build(variant, choices={**SMALL, **choices})


def results(module: nn.Module) -> dict[str, Any]:
    """Return a result of every public function."""
    return {
        "build": module,
        "network": deeplab_spec.network("notebook", choices=SMALL),
        "certify": deeplab_spec.certify(module, "notebook", choices=SMALL, levels=("structure",)),
        "identify": deeplab_spec.identify(module),
        "count": deeplab_spec.count(module, size=(65, 65)),
        "count against": deeplab_spec.count(module, against="reference:notebook", size=(65, 65)),
        "lock": deeplab_spec.lock(module),
        "port": deeplab_spec.port(module, small()),
        "optimize": deeplab_spec.optimize(module, "folded", example=torch.zeros(1, 3, 65, 65)),
        "show": deeplab_spec.show("notebook", choices=SMALL),
    }


@pytest.fixture(scope="module", name="before")
def weights_before() -> dict[str, Tensor]:
    """Return the weights of a module before any function gets it."""
    return copy.deepcopy(small().state_dict())


@pytest.fixture(scope="module", name="every")
def every_result(before: dict[str, Tensor]) -> dict[str, Any]:
    """Make them once."""
    module = small()
    module.load_state_dict(before)
    return results(module)


def test_every_public_function_has_a_result_here(every: dict[str, Any]) -> None:
    """A function that is added gets its result, too."""
    functions = set(deeplab_spec.__all__) - {"__version__", "conformance"}
    assert {name.split()[0] for name in every} == functions


def test_every_result_is_short_in_a_console_and_has_a_form_for_notebooks(every: dict[str, Any]) -> None:
    """A graph of hundreds of nodes does not fill the console."""
    for name, result in every.items():
        text, page = repr(result), result._repr_html_()
        assert len(text) < MOST_CHARACTERS, name
        assert page.startswith(("<pre", "<table", "<p>", "<svg", "<?xml")), name
        assert len(page) > len("<pre></pre>"), name


def test_results_have_the_exit_status_of_their_command(every: dict[str, Any]) -> None:
    """Equal is 0; two networks that differ are 1."""
    codes = {name: result.exit_code for name, result in every.items() if isinstance(result, Result)}
    different = codes.pop("count against")
    assert different is ExitCode.DIFFERENT
    assert codes.pop("certify") is ExitCode.DONE
    assert set(codes.values()) == {ExitCode.DONE}
    assert deeplab_spec.certify(small(aspp_rates=(1, 2, 3)), "notebook", choices=SMALL, levels=("structure",)).exit_code
    assert deeplab_spec.port(small(), small(middle_blocks=2)).exit_code is ExitCode.DIFFERENT


def test_a_module_is_not_changed(every: dict[str, Any], before: dict[str, Tensor]) -> None:
    """It stays in training, and keeps its weights: functions work on a copy."""
    module = every["build"]
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_lock_that_was_saved_is_what_another_network_is_compared_with(tmp_path: Path) -> None:
    """The file is that of the command."""
    file = tmp_path / "net.lock"
    deeplab_spec.lock(small()).save(file)
    assert deeplab_spec.certify(small(), against=str(file), levels=("structure",)).exit_code is ExitCode.DONE
    other = deeplab_spec.certify(small(middle_blocks=2), against=str(file), levels=("structure",))
    assert other.exit_code is ExitCode.DIFFERENT


def test_show_has_every_form_of_the_command() -> None:
    """Table, Markdown, drawing and the whole graph."""
    shown = deeplab_spec.show("tf-release", output_stride=8)
    assert shown.text.splitlines()[0].startswith("path")
    assert shown.markdown.startswith("| path")
    assert "<svg" in shown.svg
    assert shown.json["output_stride"] == 8
    assert json.dumps(shown.json)


def test_a_folder_of_the_package_does_not_hide_a_function_of_the_same_name() -> None:
    """Importing ``deeplab_spec.count.service`` leaves ``deeplab_spec.count`` a function."""
    from deeplab_spec.count import service

    assert service.CountRequest
    assert callable(deeplab_spec.count)
