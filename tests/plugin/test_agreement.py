"""The plugin and ``certify`` find the same, of a real network that they both judge."""

import xml.etree.ElementTree as ET
from pathlib import Path

import deeplab_spec
from deeplab_spec.judge.certificate import ClauseRecord
from tests.support.pytest_runs import run

MODEL = """
import deeplab_spec
CHOICES = {"width": 0.03, "middle_blocks": 2, "aspp_rates": (12, 24, 36), "decoder_convs": "separable_1"}

def build(output_stride, num_classes):
    return deeplab_spec.build("tf-release", output_stride, num_classes, CHOICES)
"""
CHOICES = {"width": 0.03, "middle_blocks": 2}


def test_the_plugin_finds_what_certify_finds(tmp_path: Path) -> None:
    """Every finding, its place on both sides and its explanation; the module lies in a source folder."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my_model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = src\n", encoding="utf-8")
    choices = [word for name, value in CHOICES.items() for word in ("--deeplab-choose", f"{name}={value}")]
    target = ("--deeplab-target", "my_model:build", "--deeplab-variant", "tf-release", "--deeplab-level", "structure")
    done = run(tmp_path, *target, *choices, "--junitxml", "report.xml")
    found = _records(tmp_path / "report.xml")

    names: dict[str, object] = {}
    exec(MODEL, names)  # noqa: S102 - the module above
    certificate = deeplab_spec.certify(names["build"], "tf-release", choices=CHOICES, levels=["structure"])  # type: ignore[arg-type]

    assert done.returncode == 1, done.stderr
    assert found == list(certificate.clauses)
    assert {finding.choice for record in found for finding in record.findings} == {"aspp_rates", "decoder_convs"}
    assert sum(record.verdict == "failed" for record in found) > 1


def _records(file: Path) -> list[ClauseRecord]:
    """Read what each test says of its clause."""
    entries = ET.parse(file).iter("property")  # noqa: S314 - made here
    texts = [entry.get("value") or "" for entry in entries if entry.get("name") == "deeplab_spec_clause"]
    return [ClauseRecord.model_validate_json(text) for text in texts]
