"""Which property tests cover which public class; read by ``tests/properties/test_every_class.py``."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])

COVERED: dict[type, list[str]] = {}
"""Names of the property tests, by the class that they cover; filled as test modules are imported."""


def covers(*classes: type) -> Callable[[Test], Test]:
    """Say which classes a property test covers.

    Raises:
        TypeError: If the test has no drawn examples.
    """

    def enter(test: Test) -> Test:
        if not getattr(test, "is_hypothesis_test", False):
            message = f"{test.__name__}: only a property test covers a class; put @covers above @given"
            raise TypeError(message)
        for covered in classes:
            COVERED.setdefault(covered, []).append(f"{test.__module__}.{test.__name__}")
        return test

    return enter
