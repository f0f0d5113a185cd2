"""Reads the options of pytest into a request of the judge."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from deeplab_spec.errors import SpecError
from deeplab_spec.judge.request import Request, request_from
from deeplab_spec.judge.waivers import Waivers, load_waivers

_STATES_ITS_OWN: Final = {".pt2", ".onnx", ".lock"}
"""Suffixes of files that have an output stride of their own."""


def request_of(config: pytest.Config) -> Request:
    """Return the request that the options describe.

    Raises:
        SpecError: If an option has a value that it cannot have.
    """
    return request_from(
        config.getoption("deeplab_target"),
        variant=config.getoption("deeplab_variant"),
        against=config.getoption("deeplab_against"),
        overrides=config.getoption("deeplab_choose") or (),
        arguments=_arguments(config.getoption("deeplab_arg") or ()),
        part=config.getoption("deeplab_part"),
        output_strides=config.getoption("deeplab_output_stride") or (),
        classes=config.getoption("deeplab_classes"),
        levels=config.getoption("deeplab_level") or None,
        dtypes=config.getoption("deeplab_dtype") or None,
        device=config.getoption("deeplab_device"),
        seed=config.getoption("deeplab_seed"),
        prefix="--deeplab-",
    )


def waivers_of(config: pytest.Config) -> Waivers | None:
    """Return the waivers, if there are any.

    Raises:
        SpecError: If the file is wrong, or a waiver has expired.
    """
    file, today = config.getoption("deeplab_waivers"), config.getoption("deeplab_today")
    return load_waivers(Path(file), _day(today)) if file else None


def strides_of(request: Request) -> tuple[int | None, ...]:
    """Return the output strides of the tests; None for a file, which has its own."""
    named = (request.target, request.against or "")
    states = any(Path(name).suffix.lower() in _STATES_ITS_OWN for name in named)
    return (None,) if states and not request.output_strides else request.strides


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise SpecError("--deeplab-today", "must be a date such as 2027-01-31", text) from error


def _arguments(arguments: Iterable[str]) -> dict[str, str]:
    """Read keyword arguments.

    >>> _arguments(["encoder=xception"])
    {'encoder': 'xception'}
    """
    read = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise SpecError("--deeplab-arg", "must be NAME=VALUE", argument)
        read[name] = value
    return read
