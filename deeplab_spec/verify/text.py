"""The text of ``verify``."""

from typing import Final

from deeplab_spec.verify.document import VerifyDocument

MOST_PROBLEMS: Final = 20
"""The number of problems in the text; the JSON document has all."""


def text(document: VerifyDocument) -> str:
    """Return what was checked, and every reason to refuse."""
    lines = [f"{document.certificate}: {document.target or 'no certificate'}"]
    lines += [f"  checked: {each}" for each in document.checked]
    lines += [f"  {each.where}: {each.problem}" for each in document.problems[:MOST_PROBLEMS]]
    if len(document.problems) > MOST_PROBLEMS:
        lines.append(f"  and {len(document.problems) - MOST_PROBLEMS} more")
    if document.problems:
        return "\n".join([*lines, "REFUSED: the certificate does not prove what it says."])
    return "\n".join([*lines, f"VERIFIED: {document.target} {document.verdict}."])
