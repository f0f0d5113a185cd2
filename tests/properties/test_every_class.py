"""Every public class of the reference has a property test, and every layer names clauses that exist."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplab_spec import reference
from deeplab_spec.spec.clauses import CLAUSES
from tests.support.property_coverage import COVERED, covers


def public_classes() -> set[type]:
    """Return every class that the reference defines under a public name, nested ones too."""
    classes: set[type] = set()
    for module in pkgutil.iter_modules(reference.__path__, f"{reference.__name__}."):
        classes |= set(_defined_in(importlib.import_module(module.name), module.name))
    return classes


def _defined_in(place: object, module: str) -> Iterator[type]:
    for name, value in vars(place).items():
        if inspect.isclass(value) and value.__module__ == module and not name.startswith("_"):
            yield value
            yield from _defined_in(value, module)


def test_every_public_class_has_a_property_test() -> None:
    """The test modules of this folder register their classes when they are imported."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if file != Path(__file__):
            importlib.import_module(f"tests.properties.{file.stem}")
    public = public_classes()
    assert len(public) > 15, "the classes were not found"
    without = {f"{missing.__module__}.{missing.__qualname__}" for missing in public - COVERED.keys()}
    assert not without, "public classes without a property test"
    stale = {tests[0] for covered, tests in COVERED.items() if covered not in public}
    assert not stale, "property tests of what is no public class of the reference"


def test_every_layer_names_clauses_that_exist() -> None:
    """A layer's docstring names the clauses that it realises."""
    ids = {clause.id for clause in CLAUSES}
    layers = [layer for layer in public_classes() if "Source:" in (layer.__doc__ or "")]
    assert len(layers) > 15
    for layer in layers:
        _, _, named = (inspect.getdoc(layer) or "").partition("Clauses:\n    ")
        names = set(named.partition("\n\n")[0].rstrip(".").split(", "))
        assert names <= ids, f"{layer.__qualname__} names clauses that do not exist"


def test_only_property_tests_cover() -> None:
    """An ordinary test has no drawn examples, and is rejected by the decorator."""

    def ordinary() -> None:
        """Decide nothing."""

    with pytest.raises(TypeError, match="only a property test covers a class"):
        covers(int)(ordinary)
