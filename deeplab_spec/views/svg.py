"""The drawing of a network as a self-contained SVG file."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from deeplab_spec.analysis.subject import Subject
from deeplab_spec.views.drawing import lay_out


def times(text: str) -> str:
    """Write sizes with a multiplication sign.

    >>> times("3 x separable 3x3") == "3 \N{MULTIPLICATION SIGN} separable 3\N{MULTIPLICATION SIGN}3"
    True
    """
    return re.sub(r"(?<=\d)( ?)x(?= ?\w)|^x(?= \d)", "\\1\N{MULTIPLICATION SIGN}", text)


def drawing(subject: Subject) -> str:
    """Return a drawing of a network.

    Raises:
        GraphError: If the choices do not fit together at the subject's size.
    """
    return filled("network.svg.j2", lay_out(subject))


def filled(template: str, drawn: object) -> str:
    """Return a template of this package with everything that is drawn in its places."""
    environment = Environment(
        loader=PackageLoader("deeplab_spec.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["times"] = times
    return environment.get_template(template).render(d=drawn).rstrip("\n")
