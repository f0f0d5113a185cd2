"""A target is imported and built, or refused with a reason in one line."""

import sys
from pathlib import Path

import pytest
from torch import nn

from deeplab_spec.capture.target import Target, build_here
from deeplab_spec.errors import SpecError, TargetError, one_line
from deeplab_spec.reference.network import DeepLabV3Plus
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.variants import NOTEBOOK
from tests.support.strategies import NARROW

SOURCE = '''
"""Builders, good and bad."""
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments


class Zoo:
    build = Model


def build(output_stride, num_classes):
    return Model(output_stride=output_stride, num_classes=num_classes)


def anything(**arguments):
    return Model(**arguments)


def plain():
    return Model()


def raises():
    raise ValueError("no weights\\nsecond line")


def exits():
    raise SystemExit(2)


def text():
    return "not a module"


ready = Model(ready=True)
number = 7
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Put modules into the working directory; return the name of the good one."""
    name = f"subject_{abs(hash(request.node.name))}"
    files = {name: SOURCE, f"{name}_raises": "raise RuntimeError('broken')", f"{name}_exits": "raise SystemExit(3)"}
    for module, text in files.items():
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return name


def built(name: str, arguments: dict[str, str] | None = None) -> dict[str, object]:
    """Load a target; return the arguments of its builder."""
    module = build_here(Target(name=name, arguments=arguments or {}), 8, 19)
    passed: dict[str, object] = module.arguments  # type: ignore[assignment]
    return passed


@pytest.mark.parametrize(
    ("attribute", "arguments", "passed"),
    [
        ("build", {}, {"output_stride": 8, "num_classes": 19}),
        ("build", {"num_classes": "2"}, {"output_stride": 8, "num_classes": 2}),
        ("plain", {}, {}),
        ("anything", {}, {}),
        ("Zoo.build", {"a": "1"}, {"a": 1}),
        ("ready", {}, {"ready": True}),
        ("anything", {"os": "{output_stride}", "c": "{classes}"}, {"os": 8, "c": 19}),
        (
            "anything",
            {"a": "(1, 2)", "b": "None", "c": "resnet50", "d": "'8'"},
            {"a": (1, 2), "b": None, "c": "resnet50", "d": "8"},
        ),
        ("anything", {"name": "model_{output_stride}"}, {"name": "model_8"}),
    ],
)
def test_builders_get_the_arguments_of_their_signature(
    here: str, attribute: str, arguments: dict[str, str], passed: dict[str, object]
) -> None:
    """Output stride and classes if the signature names them; arguments as Python literals, else as text."""
    assert built(f"{here}:{attribute}", arguments) == passed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere:build", "cannot import 'nowhere': ModuleNotFoundError: No module named 'nowhere'"),
        ("{here}_raises:build", "cannot import '{here}_raises': RuntimeError: broken"),
        ("{here}_exits:build", "cannot import '{here}_exits': SystemExit: 3"),
        ("{here}:nothing", "module '{here}' has no attribute 'nothing'"),
        ("{here}:Zoo.nothing", "module '{here}' has no attribute 'Zoo.nothing'"),
        ("{here}:raises", "cannot be built: ValueError: no weights"),
        ("{here}:exits", "cannot be built: SystemExit: 2"),
        ("{here}:number", "must be callable, but is a int"),
        ("{here}:text", "must return a torch.nn.Module, but returned a str"),
        ("{here}", "must be reference:VARIANT or MODULE:CALLABLE"),
        (":build", "must be reference:VARIANT or MODULE:CALLABLE"),
        ("{here}:", "must be reference:VARIANT or MODULE:CALLABLE"),
    ],
)
def test_a_target_that_cannot_be_built_is_refused_in_one_line(here: str, name: str, reason: str) -> None:
    """The error names the target and the reason; foreign exceptions are wrapped."""
    target = name.format(here=here)
    with pytest.raises(TargetError) as caught:
        build_here(Target(name=target), 16, 21)

    assert str(caught.value) == f"{target}: {reason.format(here=here)}"


def test_an_argument_that_the_builder_does_not_know_is_refused(here: str) -> None:
    """With the builder's own error."""
    with pytest.raises(TargetError, match=r"cannot be built: TypeError: .*unexpected keyword argument 'depth'"):
        built(f"{here}:plain", {"depth": "65"})


def test_a_reference_is_built_with_its_choices_and_its_part() -> None:
    """The prefix ``reference`` selects it."""
    choices = {"width": NARROW}
    module = build_here(Target(name="reference:notebook", choices=choices), 8, 7)
    part = build_here(Target(name="reference:notebook", choices=choices, part="decoder"), 8, 7)

    assert isinstance(module, DeepLabV3Plus)
    assert choose(NOTEBOOK.choices, choices).width == NARROW
    assert part.logits.conv.out_channels == 7  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="variant: must be one of"):
        build_here(Target(name="reference:unknown"), 16, 21)
    assert isinstance(part, nn.Module)


def test_a_module_without_members_is_a_module() -> None:
    """As a source it is asked for no truth value: a compiled module raises then."""

    class Compiled(nn.Linear):
        def __len__(self) -> int:
            raise TypeError("it does not support len()")

    assert isinstance(build_here(Target(name="compiled", source=Compiled(1, 1)), 16, 21), Compiled)


def test_an_error_becomes_one_line_that_a_terminal_can_hold() -> None:
    """The first line with text, truncated if it is too long."""
    assert one_line(ValueError("\n  first \nsecond")) == "ValueError: first"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("x" * 1000))) == 300
