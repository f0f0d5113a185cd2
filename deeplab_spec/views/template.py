"""Fills the Jinja templates of SVG files and HTML pages."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined


def times(text: str) -> str:
    """Write sizes with a multiplication sign.

    >>> times("3 x separable 3x3") == "3 \N{MULTIPLICATION SIGN} separable 3\N{MULTIPLICATION SIGN}3"
    True
    """
    return re.sub(r"(?<=\d)( ?)x(?= ?\w)|^x(?= \d)", "\\1\N{MULTIPLICATION SIGN}", text)


def environment() -> Environment:
    """Return the environment of all templates; values are escaped, and an undefined name is an error."""
    made = Environment(
        loader=PackageLoader("deeplab_spec.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["times"] = times
    return made


def render(template: str, drawing: object) -> str:
    """Return a template filled with a drawing, which it knows as ``d``."""
    return environment().get_template(template).render(d=drawing).rstrip("\n")
