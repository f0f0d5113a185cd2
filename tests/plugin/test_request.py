"""The plugin's options mean what the options of ``certify`` mean, and both give the same findings."""

import xml.etree.ElementTree as ET
from datetime import date
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import deeplab_spec
from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.cli.certify import certify
from deeplab_spec.errors import RenamedWarning, SpecError
from deeplab_spec.judge.certificate import ClauseRecord
from deeplab_spec.judge.request import Request
from deeplab_spec.pytest_plugin import pytest_addoption
from deeplab_spec.pytest_plugin.session import process_of, request_of, strides_of, waivers_of
from deeplab_spec.spec.clauses import Level
from tests.support.pytest_runs import run

TARGET = ("--deeplab-target", "my_model:build", "--deeplab-variant", "notebook")
MATRIX = {"matrix", "shard", "pieces", "costs", "ray", "piece_cpus", "piece_gpus", "again"}
NOT_JUDGED = {
    *(
        "context",
        "everything",
        "against_arg",
        "accept_waivers",
        "as_json",
        "file",
        "json_schema",
        "report",
        "statement",
    ),
    *MATRIX,
}
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

    def getini(self, name: str) -> list[Path]:
        """Return the value in the file of the configuration."""
        return {"pythonpath": [Path("src")]}[name]


def requested(*arguments: str) -> Request:
    """Return the request that arguments describe."""
    return request_of(Configured(*arguments))  # type: ignore[arg-type]


def test_every_option_is_a_part_of_the_request() -> None:
    """No option is dropped; repeated options are combined without duplicates."""
    request = requested(
        *TARGET,
        *("--deeplab-choose", "width=0.5", "--deeplab-choose", "middle_blocks=8", "--deeplab-part", "backbone"),
        *("--deeplab-output-stride", "8", "--deeplab-output-stride", "16", "--deeplab-output-stride", "8"),
        *("--deeplab-classes", "19", "--deeplab-arg", "a=1", "--deeplab-arg", "b={classes}", "--deeplab-seed", "7"),
        *("--deeplab-level", "structure", "--deeplab-dtype", "autocast-bfloat16", "--deeplab-device", "cuda"),
    )

    assert request == Request(
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


def test_pytest_has_every_option_of_certify() -> None:
    """Except for the options of the output, of the exit status, and of many targets at once."""
    of_command = {name for name in signature(certify).parameters if name not in NOT_JUDGED}
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    of_pytest = {name.removeprefix("deeplab_") for name in vars(parser.parse([])) if name.startswith("deeplab_")}

    assert of_command - of_pytest == set()


def started(*arguments: str) -> ProcessSettings:
    """Return how arguments start the target's process."""
    return process_of(Configured(*arguments))  # type: ignore[arg-type]


def test_the_process_of_the_target_has_the_options_of_certify() -> None:
    """The folders of ``pythonpath`` are searched too, as for tests."""
    arguments = ("--deeplab-python", "env/python", "--deeplab-search", "lib", "--deeplab-timeout", "2.5")

    assert started(*TARGET) == ProcessSettings(search=("src",))
    assert started(*TARGET, *arguments, "--deeplab-memory", "0.5") == ProcessSettings(
        python="env/python", search=("src", "lib"), timeout=2.5, memory=2**29
    )


@pytest.mark.parametrize(("name", "least"), [("timeout", "0.1"), ("memory", "0")])
@pytest.mark.parametrize("value", ["-1", "nan"])
def test_a_limit_of_the_process_is_a_number_that_can_be_kept(name: str, least: str, value: str) -> None:
    """The error has the rule and the value."""
    with pytest.raises(SpecError, match=f"^--deeplab-{name}: must be {least} or more, but got {value}"):
        started(*TARGET, f"--deeplab-{name}", value)


def test_an_old_name_of_a_precision_is_accepted() -> None:
    """The warning gives the new name."""
    with pytest.warns(RenamedWarning, match="^'amp_fp16' is now called 'autocast-float16'$"):
        assert requested(*TARGET, "--deeplab-dtype", "amp_fp16").dtypes == ("autocast-float16",)


def test_defaults_are_those_of_certify() -> None:
    """A reference matches itself by default, and another target replaces the published network."""
    assert requested(*TARGET) == Request(target="my_model:build", variant="notebook")
    assert requested("--deeplab-target", "reference:tf-release").variant == "tf-release"
    assert requested("--deeplab-target", "reference").shared_choices
    assert requested(*TARGET[:2], "--deeplab-against", "my.lock") == Request(target="my_model:build", against="my.lock")


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
def test_a_file_has_its_own_output_stride(arguments: tuple[str, ...], strides: tuple[int | None, ...]) -> None:
    """Its tests have none in their names, unless one is requested."""
    assert strides_of(requested(*arguments)) == strides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (TARGET[:2], "variant: say which network my_model:build is: --variant with one of notebook"),
        ((*TARGET, "--deeplab-output-stride", "7"), "output_stride: notebook has output strides 8, 16, but got 7"),
        ((*TARGET, "--deeplab-level", "speed"), "--deeplab-level: must be one of interface, structure, "),
        ((*TARGET, "--deeplab-dtype", "int8"), "--deeplab-dtype: must be one of float64, float32"),
        ((*TARGET, "--deeplab-device", "tpu"), "device: must be one of cpu, cuda, but got 'tpu'"),
        ((*TARGET, "--deeplab-arg", "depth"), "--deeplab-arg: must be NAME=VALUE, but got 'depth'"),
        ((*TARGET, "--deeplab-choose", "colour=red"), "choice: must be one of "),
        ((*TARGET, "--deeplab-part", "tail"), "part: must be one of backbone, aspp, decoder, head, but got 'tail'"),
    ],
)
def test_an_option_with_an_invalid_value_is_rejected(arguments: tuple[str, ...], message: str) -> None:
    """The error has the rule and the value."""
    with pytest.raises(SpecError, match=f"^{message}"):
        requested(*arguments)


def test_waivers_are_read_with_a_date(tmp_path: Path) -> None:
    """An invalid date and a missing file are rejected."""
    path = tmp_path / "w.toml"
    path.write_text(WAIVER, encoding="utf-8")

    def waivers(*arguments: str) -> Any:
        return waivers_of(Configured(*TARGET, *arguments))  # type: ignore[arg-type]

    loaded = waivers("--deeplab-waivers", str(path), "--deeplab-today", "2027-01-31")
    assert (loaded.today, loaded.entries[0].clause) == (date(2027, 1, 31), "ASPP-RATES")
    assert waivers() is None
    with pytest.raises(SpecError, match="--deeplab-today: must be a date such as 2027-01-31, but got 'soon'"):
        waivers("--deeplab-waivers", str(path), "--deeplab-today", "soon")
    with pytest.raises(SpecError, match=r"none.toml: must be a readable file of waivers"):
        waivers("--deeplab-waivers", "none.toml")


MODEL = """
import deeplab_spec
CHOICES = {"width": 0.03, "decoder_convs": "separable_1", "head_norm_eps": 1e-3}

def build(output_stride, num_classes):
    return deeplab_spec.build("tf-release", output_stride, num_classes, CHOICES).decoder
"""
SMALL = {"width": 0.03}


def test_the_plugin_has_the_findings_of_certify(tmp_path: Path) -> None:
    """All findings are equal, with paths and explanations; the module is in a source folder."""
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
        "--deeplab-part",
        "decoder",
    )
    done = run(tmp_path, *structure, *choices, "--junitxml", "report.xml")
    records = _records(tmp_path / "report.xml")

    names: dict[str, object] = {}
    exec(MODEL, names)  # noqa: S102 - the module above
    settings: dict[str, Any] = {"choices": SMALL, "levels": ["structure"], "part": "decoder"}
    certificate = deeplab_spec.certify(names["build"], "tf-release", **settings)  # type: ignore[arg-type]

    assert done.returncode == 1, done.stderr
    assert records == list(certificate.clauses)
    assert {finding.choice for record in records for finding in record.findings} == {"head_norm_eps", "decoder_convs"}
    assert sum(record.verdict == "failed" for record in records) > 1


def _records(file: Path) -> list[ClauseRecord]:
    """Read the clause record of each test."""
    entries = ET.parse(file).iter("property")  # noqa: S314 - made here
    texts = [entry.get("value") or "" for entry in entries if entry.get("name") == "deeplab_spec_clause"]
    return [ClauseRecord.model_validate_json(text) for text in texts]
