"""Shows the examples of docstrings as code, also where no section announces them."""

import re

import griffe

_EXAMPLE = re.compile(r"(?:(?<=\n\n)|^)(>>> .*?)(?=\n\n|\Z)", re.DOTALL)


class Doctests(griffe.Extension):
    """Puts fences around each example of a docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of an object once it is loaded."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\1\n```", obj.docstring.value)
