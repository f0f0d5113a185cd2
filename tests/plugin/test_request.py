"""The plugin's options mean what the options of ``certify`` mean, and both give the same findings."""

import xml.etree.ElementTree as ET
from datetime import date
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import deeplab_spec
from deeplab_spec.cli.certify import certify
from deeplab_spec.errors import RenamedWarning, SpecError
from deeplab_spec.judge.certificate import ClauseRecord
from deeplab_spec.judge.request import Request
from deeplab_spec.pytest_plugin import pytest_addoption
from deeplab_spec.pytest_plugin.request import request_of, strides_of, waivers_of
from deeplab_spec.spec.clauses import Level
from tests.support.pytest_runs import run

TARGET = ("--deeplab-target", "my_model:build", "--deeplab-variant", "notebook")
NOT_JUDGED = {"against_arg", "accept_waivers", "as_json", "file", "json_schema"}
WAIVER = '[[waiver]]\nclause = "ASPP-RATES"\nnode = "aspp.atrous1.conv"\nreason = "ours"\nexpires = 2027-01-31\n'


class Configured:
    """A configuration of pytest with options that are parsed by its own parser."""

    def __init__(self, *arguments: str) -> None:
        parser = pytest.Parser(_ispytest=True)
        pytest_addoption(parser)
        self._options = parser.parse(arguments)

    def getoption(self, name: str) -> Any:
        """Return the value of an option."""
        return getattr(self._options, name)


def asked(*arguments: str) -> Request:
    """Return what arguments ask for."""
    return request_of(Configured(*arguments))  # type: ignore[arg-type]


def test_every_option_is_a_part_of_the_request() -> None:
    """None is dropped; repeated ones add up, each once."""
    found = asked(
        *TARGET,
        *("--deeplab-choose", "width=0.5", "--deeplab-choose", "middle_blocks=8", "--deeplab-part", "backbone"),
        *("--deeplab-output-stride", "8", "--deeplab-output-stride", "16", "--deeplab-output-stride", "8"),
        *("--deeplab-classes", "19", "--deeplab-arg", "a=1", "--deeplab-arg", "b={classes}", "--deeplab-seed", "7"),
        *("--deeplab-level", "structure", "--deeplab-dtype", "autocast-bfloat16", "--deeplab-device", "cuda"),
    )

    assert found == Request(
        target="my_model:build",
        variant="notebook",
        overrides=("width=0.5", "middle_blocks=8"),
        part="backbone",
        output_strides=(8, 16),
        classes=19,
        arguments={"a": "1", "b": "{classes}"},
        seed=7,
        levels=(Level.STRUCTURE,),
        dtypes=("autocast-bfloat16",),
        device="cuda",
    )


def test_every_option_of_a_judgement_is_one_of_pytest() -> None:
    """But for those of what is printed, and for what a waiver lets a command end with."""
    of_command = {name for name in signature(certify).parameters if name not in NOT_JUDGED}
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    of_pytest = {name.removeprefix("deeplab_") for name in vars(parser.parse([])) if name.startswith("deeplab_")}

    assert of_command - of_pytest == set()


def test_an_old_name_of_a_precision_is_accepted() -> None:
    """With a line that says the new one."""
    with pytest.warns(RenamedWarning, match="^'amp_fp16' is now called 'autocast-float16'$"):
        assert asked(*TARGET, "--deeplab-dtype", "amp_fp16").dtypes == ("autocast-float16",)


def test_what_is_not_said_is_as_in_certify() -> None:
    """A reference is by default itself, and another target takes the place of a published network."""
    assert asked(*TARGET) == Request(target="my_model:build", variant="notebook")
    assert asked("--deeplab-target", "reference:tf-release").variant == "tf-release"
    assert asked("--deeplab-target", "reference").shared_choices
    assert asked(*TARGET[:2], "--deeplab-against", "my.lock") == Request(target="my_model:build", against="my.lock")


@pytest.mark.parametrize(
    ("arguments", "strides"),
    [
        (TARGET, (16,)),
        ((*TARGET, "--deeplab-output-stride", "8"), (8,)),
        (("--deeplab-target", "model.onnx", *TARGET[2:]), (None,)),
        (("--deeplab-target", "model.PT2", *TARGET[2:], "--deeplab-output-stride", "8"), (8,)),
        ((*TARGET[:2], "--deeplab-against", "my.lock"), (None,)),
    ],
)
def test_a_file_says_its_own_output_stride(arguments: tuple[str, ...], strides: tuple[int | None, ...]) -> None:
    """So its tests have none in their names, unless one is asked for."""
    assert strides_of(asked(*arguments)) == strides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (TARGET[:2], "variant: say which network my_model:build shall be: --variant with one of notebook"),
        ((*TARGET, "--deeplab-output-stride", "7"), "output_stride: notebook has output strides 8, 16, but got 7"),
        ((*TARGET, "--deeplab-level", "speed"), "--deeplab-level: must be one of interface, structure, "),
        ((*TARGET, "--deeplab-dtype", "int8"), "--deeplab-dtype: must be one of float64, float32"),
        ((*TARGET, "--deeplab-device", "tpu"), "device: must be one of cpu, cuda, but got 'tpu'"),
        ((*TARGET, "--deeplab-arg", "depth"), "--deeplab-arg: must be NAME=VALUE, but got 'depth'"),
        ((*TARGET, "--deeplab-choose", "colour=red"), "choice: must be one of "),
        ((*TARGET, "--deeplab-part", "tail"), "part: must be one of backbone, aspp, decoder, but got 'tail'"),
    ],
)
def test_an_option_with_a_value_that_it_cannot_have_is_refused(arguments: tuple[str, ...], message: str) -> None:
    """With the rule and what arrived."""
    with pytest.raises(SpecError, match=f"^{message}"):
        asked(*arguments)


def test_waivers_are_read_with_their_day(tmp_path: Path) -> None:
    """A day that is none is refused, as is a file that is not there."""
    path = tmp_path / "w.toml"
    path.write_text(WAIVER, encoding="utf-8")

    def waivers(*arguments: str) -> Any:
        return waivers_of(Configured(*TARGET, *arguments))  # type: ignore[arg-type]

    found = waivers("--deeplab-waivers", str(path), "--deeplab-today", "2027-01-31")
    assert (found.today, found.entries[0].clause) == (date(2027, 1, 31), "ASPP-RATES")
    assert waivers() is None
    with pytest.raises(SpecError, match="--deeplab-today: must be a date such as 2027-01-31, but got 'soon'"):
        waivers("--deeplab-waivers", str(path), "--deeplab-today", "soon")
    with pytest.raises(SpecError, match=r"none.toml: must be a file of waivers that can be read"):
        waivers("--deeplab-waivers", "none.toml")


MODEL = """
import deeplab_spec
CHOICES = {"width": 0.03, "middle_blocks": 2, "aspp_rates": (12, 24, 36), "decoder_convs": "separable_1"}

def build(output_stride, num_classes):
    return deeplab_spec.build("tf-release", output_stride, num_classes, CHOICES)
"""
SMALL = {"width": 0.03, "middle_blocks": 2}


def test_the_plugin_finds_what_certify_finds(tmp_path: Path) -> None:
    """Every finding, its place on both sides and its explanation; the module lies in a source folder."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my_model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = src\n", encoding="utf-8")
    choices = [word for name, value in SMALL.items() for word in ("--deeplab-choose", f"{name}={value}")]
    structure = (
        "--deeplab-target",
        "my_model:build",
        "--deeplab-variant",
        "tf-release",
        "--deeplab-level",
        "structure",
    )
    done = run(tmp_path, *structure, *choices, "--junitxml", "report.xml")
    found = _records(tmp_path / "report.xml")

    names: dict[str, object] = {}
    exec(MODEL, names)  # noqa: S102 - the module above
    certificate = deeplab_spec.certify(names["build"], "tf-release", choices=SMALL, levels=["structure"])  # type: ignore[arg-type]

    assert done.returncode == 1, done.stderr
    assert found == list(certificate.clauses)
    assert {finding.choice for record in found for finding in record.findings} == {"aspp_rates", "decoder_convs"}
    assert sum(record.verdict == "failed" for record in found) > 1


def _records(file: Path) -> list[ClauseRecord]:
    """Read what each test says of its clause."""
    entries = ET.parse(file).iter("property")  # noqa: S314 - made here
    texts = [entry.get("value") or "" for entry in entries if entry.get("name") == "deeplab_spec_clause"]
    return [ClauseRecord.model_validate_json(text) for text in texts]
