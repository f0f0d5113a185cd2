"""Comma-separated values: a table as other programs read it, and a link that holds one.

Numbers are raw, in the unit that the header names; a cell without a value is empty.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from urllib.parse import quote

Value = str | float | None


def comma_separated(headers: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Return a table, without a line break at its end.

    >>> print(comma_separated(("block", "time (ns)"), (("a,b", 1.5), ("c", None))))
    block,time (ns)
    "a,b",1.5
    c,
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def data_link(text: str) -> str:
    """Return a link that holds a table itself, so that a page can offer it without a network or a script.

    >>> data_link("block,time (ns)")
    'data:text/csv;charset=utf-8,block%2Ctime%20%28ns%29%0A'
    """
    content = quote(f"{text}\n", safe="")
    return f"data:text/csv;charset=utf-8,{content}"
