"""The badge of a certificate: a picture, and the endpoint that shields.io reads."""

import json
from dataclasses import dataclass
from typing import Final

from deeplab_spec.errors import printable
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.views.template import render

COLOURS: Final = {
    RunVerdict.CONFORMS: "#1a7f37",
    RunVerdict.CONFORMS_WITH_WAIVERS: "#7a5c00",
    RunVerdict.INCONCLUSIVE: "#57606a",
    RunVerdict.DEVIATES: "#b42318",
}
_LETTER, _MARGIN, _LONGEST = 6.6, 10, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A badge of two halves, in pixels."""

    label: str
    message: str
    colour: str

    @property
    def widths(self) -> tuple[float, float]:
        """The widths of both halves."""
        label, message = (round(len(text) * _LETTER + 2 * _MARGIN) for text in (self.label, self.message))
        return label, message


def badge(certificate: Certificate) -> Badge:
    """Return the badge of a certificate."""
    part = f" {certificate.part}" if certificate.part else ""
    label = printable(f"{certificate.reference}{part}")
    return Badge(
        label=label if len(label) <= _LONGEST else f"{label[:_LONGEST]}...",
        message=certificate.verdict.value,
        colour=COLOURS[certificate.verdict],
    )


def badge_svg(certificate: Certificate) -> str:
    """Return the badge as a picture."""
    return render("badge.svg.j2", badge(certificate))


def badge_json(certificate: Certificate) -> str:
    """Return the badge as shields.io reads it from an address."""
    found = badge(certificate)
    endpoint = {"schemaVersion": 1, "label": found.label, "message": found.message, "color": found.colour}
    return json.dumps(endpoint, indent=2)
