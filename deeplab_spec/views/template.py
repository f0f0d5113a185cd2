"""Fills the Jinja templates of SVG files and HTML pages."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def times(text: str) -> str:
    """Write sizes with a multiplication sign.

    >>> times("3 x separable 3x3") == "3 \N{MULTIPLICATION SIGN} separable 3\N{MULTIPLICATION SIGN}3"
    True
    """
    return re.sub(r"(?<=\d)( ?)x(?= ?\w)|^x(?= \d)", "\\1\N{MULTIPLICATION SIGN}", text)


def render(
    template: str,
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    shown: Callable[[Any], Any] | None = None,
    **values: object,
) -> str:
    """Return a template filled with values, which are escaped; a name without a value is an error.

    ``filters`` are those that the template needs, and ``shown`` changes every value before it is written.
    """
    environment = Environment(
        loader=PackageLoader("deeplab_spec.views"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"times": times, **(filters or {})}
    return environment.get_template(template).render(**values).rstrip("\n")
