"""The executable specification of DeepLabV3+ with the modified aligned Xception.

Importing this package loads no framework: each name is imported from its module when it is first
used.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeplab_spec import conformance
    from deeplab_spec.api import count, identify, lock, port, show
    from deeplab_spec.judge.judge import certify
    from deeplab_spec.optimize.service import optimize
    from deeplab_spec.reference.network import build
    from deeplab_spec.spec.api import network

    __version__: str

__all__ = [
    "__version__",
    "build",
    "certify",
    "conformance",
    "count",
    "identify",
    "lock",
    "network",
    "optimize",
    "port",
    "show",
]

_HOMES = {
    "build": "deeplab_spec.reference.network",
    "certify": "deeplab_spec.judge.judge",
    "count": "deeplab_spec.api",
    "identify": "deeplab_spec.api",
    "lock": "deeplab_spec.api",
    "network": "deeplab_spec.spec.api",
    "optimize": "deeplab_spec.optimize.service",
    "port": "deeplab_spec.api",
    "show": "deeplab_spec.api",
}


class _Package(ModuleType):
    """Keeps the public functions where a folder of the package has the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it."""
    if name == "__version__":
        return version("deeplab-spec")
    if name == "conformance":
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
