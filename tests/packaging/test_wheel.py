"""The wheel: what is in it, and what a user's type checker sees of the installed package."""

import importlib.util
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER = """\
import deeplab_spec

reveal_type(deeplab_spec.build("notebook", output_stride=16))
reveal_type(deeplab_spec.network("notebook"))
reveal_type(deeplab_spec.certify("reference:notebook"))
reveal_type(deeplab_spec.certify("reference:notebook").verdict)
reveal_type(deeplab_spec.count("reference:notebook"))
reveal_type(deeplab_spec.identify("model.onnx"))
reveal_type(deeplab_spec.lock("model.onnx"))
reveal_type(deeplab_spec.port("a:b", "c:d").exit_code)
reveal_type(deeplab_spec.show("notebook").svg)
reveal_type(deeplab_spec.conformance.Conformance.output_strides)
"""

NEEDS = ("hatchling", "mypy", "torch")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDS),
    reason=f"not run: needs {', '.join(NEEDS)}; `tox -e types` has them",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    """Run pip without a registry."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--no-index", "--quiet"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


def test_the_wheel_has_its_marker_its_templates_and_nothing_beside_the_package(wheel: Path) -> None:
    """``py.typed`` tells type checkers that the package is typed; templates are no Python files."""
    names = zipfile.ZipFile(wheel).namelist()

    assert "deeplab_spec/py.typed" in names
    assert any(name.endswith(".j2") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"deeplab_spec"}


def test_a_users_program_is_typed_against_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """Under ``mypy --strict``, no public function is ``Any``: the wheel is typed, and says so."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True, with_pip=False)
    python = environment / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    (site,) = environment.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others), encoding="utf-8")  # torch and pydantic, after the wheel
    program = tmp_path / "user.py"
    program.write_text(USER, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), program.name]

    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "MYPYPATH"}},
        capture_output=True,
        text=True,
        check=False,
    )

    revealed = re.findall(r'Revealed type is "([^"]*)"', result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [re.sub(r"\b\w+\.", "", name) for name in revealed] == [
        "DeepLabV3Plus",
        "Network",
        "Certificate",
        "RunVerdict",
        "CountDocument",
        "IdentifyDocument",
        "Locked",
        "ExitCode",
        "str",
        "Sequence[int]",
    ]
