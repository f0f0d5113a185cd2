"""The certificates of this repository are complete, and are verified."""

from pathlib import Path

import pytest

from deeplab_spec.align.lock_file import load
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.spec.variants import VARIANTS
from deeplab_spec.verify.service import verify
from tests.support.made_certificates import CHOICES, FOLDER, commands

ROOT = Path(__file__).parents[2]
AGAIN = "make them again: python -m tests.support.made_certificates"


def test_there_is_a_certificate_of_every_variant_and_kind() -> None:
    """No file is left over."""
    stated = {Path(command[-1]).name for command in commands()}
    assert {f"{variant.name}.json" for variant in VARIANTS} <= stated
    assert {path.name for path in (ROOT / FOLDER).glob("*.json")} == stated, AGAIN


def test_the_lock_states_the_choices_that_it_was_made_with() -> None:
    """To the last digit: other widths have the same channels."""
    nearest = load(ROOT / FOLDER / "narrow.lock").nearest

    assert nearest
    assert dict(nearest.choices) == CHOICES, AGAIN


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: Path(command[-1]).name)
def test_a_certificate_is_verified(command: tuple[str, ...]) -> None:
    """It conforms; that of a file is about the file beside it."""
    file = ROOT / command[-1]
    artefact = file.with_suffix("") if file.stem.endswith((".onnx", ".pt2")) else None
    document = verify(file, artefact)

    assert document.problems == (), f"{document.text}\n{AGAIN}"
    assert document.verdict is RunVerdict.CONFORMS
