"""The public strategies draw networks of the specification without torch, and name missing packages."""

import subprocess
import sys

from hypothesis import given

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.conformance import strategies
from deeplab_spec.graph.network import Network
from deeplab_spec.spec.choices import ChoiceValue, OutputResize, names, seen_values
from deeplab_spec.spec.variants import TF_RELEASE, VARIANTS, Variant

BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name)
sys.meta_path.insert(0, Blocker())
"""


def interpreter(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@given(drawn=strategies.configurations())
def test_a_configuration_is_a_network_whose_values_have_sizes(drawn: strategies.Configuration) -> None:
    """The variant has the output stride; the output has the classes and the size of the image."""
    variant = next(entry for entry in VARIANTS if entry.name == drawn.variant)

    assert drawn.output_stride in variant.output_strides
    channels, *sides = shapes(drawn.graph, drawn.size)["output"]
    resized = drawn.choices.get("output_resize", variant.choices.output_resize) is not OutputResize.NONE
    assert channels == drawn.classes
    assert tuple(sides) == drawn.size or not resized


@given(network=strategies.networks(), case=strategies.cases())
def test_networks_and_cases_can_be_drawn_alone(network: Network, case: tuple[Variant, int]) -> None:
    """A network has logits, and a case is a variant with one of its output strides."""
    assert network.tap("logits")
    assert case[1] in case[0].output_strides


@given(drawn=strategies.overrides(TF_RELEASE.family, most=2))
def test_overrides_have_known_values(drawn: dict[str, ChoiceValue]) -> None:
    """At most ``most`` choices, and never the width, which is drawn separately."""
    assert len(drawn) <= 2
    assert set(drawn) <= set(names(TF_RELEASE.family)) - {"width"}
    assert all(value in seen_values(name, TF_RELEASE.family) for name, value in drawn.items())


def test_drawing_needs_no_torch() -> None:
    """In a fresh interpreter; the check detects a module named torch."""
    draw = "from deeplab_spec.conformance import strategies as s\ns.networks().validate()\n"
    seen = "import sys; print('torch' in sys.modules)"

    assert interpreter(f"{draw}{seen}").stdout == "False\n"
    assert interpreter(f"{draw}import sys, types; sys.modules['torch'] = types\n{seen}").stdout == "True\n"


def test_a_missing_package_is_one_clear_line() -> None:
    """It names the extra; another failed import keeps its own error."""
    rule = "deeplab_spec.conformance needs the extra 'torch': pip install 'deeplab-spec[torch]'"
    for name in ("pytest", "hypothesis"):
        error = interpreter(f"{BLOCK.format(name=name)}\nimport deeplab_spec.conformance").stderr
        assert error.splitlines()[-1] == f"deeplab_spec.errors.MissingExtraError: {rule}"
        assert "During handling" not in error
    other = interpreter(f"{BLOCK.format(name='pydantic')}\nimport deeplab_spec.conformance").stderr
    assert other.splitlines()[-1].startswith("ModuleNotFoundError: No module named 'pydantic")
