"""The package's public surface: found lazily, complete, and without a framework until it is needed."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

import deeplab_spec


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a new interpreter has loaded after a statement."""
    program = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_and_asking_for_a_graph_loads_no_torch() -> None:
    """The specification is data; only a module needs the framework, which shows that this test can fail."""
    assert "torch" not in loaded_after("import deeplab_spec; deeplab_spec.network('notebook')")
    assert "torch" in loaded_after("import deeplab_spec; deeplab_spec.build")


@pytest.mark.parametrize("name", deeplab_spec.__all__)
def test_every_public_name_is_found(name: str) -> None:
    """Listed, and there."""
    if name == "__version__" and not _installed():
        pytest.skip("not run: the package is not installed, so it has no version")
    assert getattr(deeplab_spec, name)
    assert name in dir(deeplab_spec)


def _installed() -> bool:
    try:
        importlib.metadata.version("deeplab-spec")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_another_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'deeplab_spec' has no attribute 'biuld'"):
        deeplab_spec.biuld  # noqa: B018 - the access is the test
