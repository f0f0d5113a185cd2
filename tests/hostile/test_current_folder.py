"""Files in the current folder stand in for no module: they are imported only where the user names them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
SHADOWING = (
    "typer.py",
    "torch.py",
    "json.py",
    "pydantic.py",
    "deeplab_spec/__init__.py",
    "deeplab_spec/judge/judge.py",
)
NOTE = "import pathlib; pathlib.Path({note!r}).open('a').write(__file__ + '\\n')\n"
MODULE = "import deeplab_spec\n\n\ndef build(output_stride):\n    return {returned}\n"
RETURNED = "deeplab_spec.build('notebook', output_stride, choices={'width': 0.03125, 'middle_blocks': 2})"
SMALL = ("--choose", "width=0.03125", "--choose", "middle_blocks=2", "--level", "structure")


@pytest.fixture(name="folder")
def folder_with_shadowing_files(tmp_path: Path) -> Path:
    """Return a folder of files that are called like modules, each of which would write a note."""
    folder = tmp_path / "current"
    for name in SHADOWING:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(NOTE.format(note=str(tmp_path / "note")), encoding="utf-8")
    (folder / "mine.py").write_text(MODULE.format(returned=RETURNED), encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, as its console script does: that folder is not searched by the interpreter."""
    program = "from deeplab_spec.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["mine:build", "good.pt2"])
def test_no_file_of_the_current_folder_is_imported_but_the_one_that_is_named(folder: Path, target: str) -> None:
    """A file could otherwise end the program with 0, or write a certificate of its own."""
    if target.endswith(".pt2"):
        export = (
            "import torch, mine; module = mine.build(16).eval(); image = torch.zeros(1, 3, 65, 65)\n"
            "torch.export.save(torch.export.export(module, (image,)), 'good.pt2')"
        )
        code = f"import sys; sys.path.append('.'); {export}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", code], cwd=folder, env=environment, check=True)

    done = run(folder, "certify", target, "--variant", "notebook", *SMALL)

    assert not (folder.parent / "note").exists()
    assert "CONFORMS" in done.stdout, done.stderr
    assert done.returncode == 0


def test_a_file_of_the_current_folder_would_be_seen(folder: Path) -> None:
    """The test above can fail: an interpreter that searches the folder imports the file, which writes the note."""
    subprocess.run([sys.executable, "-c", "import typer"], cwd=folder, check=True)

    assert (folder.parent / "note").exists()


def test_the_package_run_as_a_module_searches_the_current_folder_last(folder: Path) -> None:
    """``python -m deeplab_spec`` puts the current folder first; the package puts it last again."""
    (folder / "deeplab_spec" / "judge" / "judge.py").unlink()
    (folder / "deeplab_spec" / "__init__.py").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deeplab_spec", "--version"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not (folder.parent / "note").exists()
