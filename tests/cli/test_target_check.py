"""A misspelled module or callable is refused from the text of the module, with the most similar name."""

from pathlib import Path

import pytest

from deeplab_spec.capture.candidate.start import HERE, ProcessSettings
from deeplab_spec.cli.app import main
from deeplab_spec.cli.target_check import check_targets
from deeplab_spec.errors import SpecError, TargetError, did_you_mean

MODEL = """
from torch import nn as layers

if True:
    alias = maker = None


def build(num_classes=21):
    global late
    late = 1


class Network(layers.Module):
    inner = 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a module, a package and modules that make names as they run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "segmenter.py").write_text(MODEL)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "__init__.py").write_text("from .parts import *\n")
    (tmp_path / "bundle" / "parts.py").write_text(MODEL)
    (tmp_path / "lazy.py").write_text("def __getattr__(name):\n    raise AttributeError(name)\n")
    (tmp_path / "broken.py").write_text("def build(:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("segmenter:biuld", "module 'segmenter' has no attribute 'biuld'; did you mean 'build'?"),
        ("segmenter.py:biuld", "module 'segmenter.py' has no attribute 'biuld'; did you mean 'build'?"),
        ("segmenter:inner", "module 'segmenter' has no attribute 'inner'"),
        ("segmenter:num_classes", "module 'segmenter' has no attribute 'num_classes'"),
        (
            "segmentr:build",
            "cannot import 'segmentr': ModuleNotFoundError: No module named 'segmentr'; did you mean 'segmenter'?",
        ),
        ("segmentr.py:build", "cannot import 'segmentr.py': there is no such file; did you mean 'segmenter.py'?"),
        (
            "bundle.prats:build",
            "cannot import 'bundle.prats': ModuleNotFoundError: No module named 'bundle.prats'; did you mean 'parts'?",
        ),
        ("bundle.parts:bulid", "module 'bundle.parts' has no attribute 'bulid'; did you mean 'build'?"),
        ("nowhere_at_all.py:build", "there is no such file"),
        ("deeplab_spec.reference.network:biuld", "has no attribute 'biuld'; did you mean 'build'?"),
    ],
)
def test_what_certainly_does_not_exist_is_refused_with_the_most_similar_name(target: str, reason: str) -> None:
    """Nothing is imported: the text of the module says which names it has."""
    with pytest.raises(TargetError) as caught:
        check_targets(HERE, target)

    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        *(f"segmenter:{name}" for name in ("build", "Network", "Network.inner", "layers", "alias", "late", "maker")),
        *("segmenter.py:build", "./segmenter.py:build", "bundle:anything", "bundle.parts:build", "lazy:anything"),
        *("broken:build", "json:dumps", "json.decoder:JSONDecoder", "os.path:join", "torch:anything", "builtins:print"),
        *("reference:tf-release", "reference", "model.pt2", ":", "not a module:build"),
    ],
)
def test_what_may_exist_is_left_to_the_process_that_imports_it(target: str) -> None:
    """Modules that make their names as they run, stars, other syntax, and what is no module."""
    check_targets(HERE, target, None)


def test_a_search_folder_is_looked_at_and_another_python_is_not(folder: Path) -> None:
    """The check knows the folders of this Python only."""
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "hidden_away.py").write_text(MODEL)
    there = ProcessSettings(search=(str(folder / "elsewhere"),))

    check_targets(there, "hidden_away:build")
    check_targets(ProcessSettings(python="/usr/bin/python3"), "hidden_away:biuld")
    with pytest.raises(TargetError, match="did you mean 'build'"):
        check_targets(there, "hidden_away:biuld")
    with pytest.raises(TargetError, match="No module named"):
        check_targets(HERE, "hidden_away:build")


@pytest.mark.parametrize(
    "command",
    [
        ("certify", "segmenter:biuld", "--variant", "tf-release"),
        ("certify", "reference:tf-release", "--against", "segmenter:biuld"),
        ("identify", "segmenter:biuld"),
        ("count", "segmenter:biuld"),
        ("count", "--against", "segmenter:biuld"),
        ("lock", "segmenter:biuld", "-o", "network.lock"),
        ("port", "segmenter:biuld", "reference", "-o", "weights.safetensors"),
        ("bench", "segmenter:biuld"),
        ("profile", "segmenter.py:biuld", "-o", "reports"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_refuses_a_misspelled_callable_in_one_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 3, before a process is started."""
    monkeypatch.setenv("DEEPLAB_SPEC_APART", "1")  # profile would start a process of its own
    monkeypatch.setattr("deeplab_spec.cli.app.end_with_parent", lambda: None)
    monkeypatch.setattr("os.write", lambda *_: 0)
    with pytest.raises(SystemExit) as exited:
        main(command)

    assert exited.value.code == 3
    assert capsys.readouterr().err.endswith("has no attribute 'biuld'; did you mean 'build'?\n")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("show", "--variant", "tf-relase"), "did you mean 'tf-release'?"),
        (("certify", "reference:notebok"), "did you mean 'notebook'?"),
        (("count", "--choose", "aspp_rate=6,12,18"), "did you mean 'aspp_rates'?"),
        (("count", "--choose", "decoder=low_levl"), "did you mean 'low_level'?"),
        (("count", "--convention", "fvcor"), "did you mean 'fvcore'?"),
    ],
)
def test_names_of_the_specification_have_the_same_question(
    command: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Variants, choices, their values and conventions: every rule that lists names."""
    with pytest.raises(SystemExit) as exited:
        main(command)

    assert exited.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(hint)


def test_what_is_like_no_known_name_has_no_question() -> None:
    """A guess that does not help is left out."""
    assert did_you_mean("zzz", ["notebook", "tf-release"]) == ""
    assert str(SpecError("part", "must be one of backbone, aspp", "zzz")) == (
        "part: must be one of backbone, aspp, but got 'zzz'"
    )
