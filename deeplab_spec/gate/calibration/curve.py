"""The detection curve as a self-contained SVG file."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from deeplab_spec.gate.document import CalibrationDocument
from deeplab_spec.gate.text import percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 610.0, 40.0, 300.0
_TICKS = 5


def curve(document: CalibrationDocument) -> str:
    """Return the picture: the share of FAIL by planted slowdown."""
    most = max(point.slowdown for point in document.curve)

    def across(slowdown: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * slowdown / most, 1)

    def down(rate: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * rate, 1)

    steps = [number / (_TICKS - 1) for number in range(_TICKS)]
    points = [f"{across(point.slowdown)} {down(point.rate)}" for point in document.curve]
    environment = Environment(
        loader=PackageLoader("deeplab_spec.views"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("gate_curve.svg.j2").render(
        title=f"Share of FAIL on {document.device}, {document.case.name}",
        vertical=[{"at": down(step), "label": percent(step)} for step in steps],
        horizontal=[{"at": across(most * step), "label": percent(most * step)} for step in steps],
        margin=across(document.rule.margin),
        line=f"M{'L'.join(points)}",
        dots=[
            {
                "x": across(entry.slowdown),
                "y": down(entry.resampled.rate),
                "low": down(entry.recordings_low),
                "high": down(entry.recordings_high),
                "title": f"{entry.name}: {percent(entry.resampled.rate)}",
            }
            for entry in document.outcomes
            if entry.slowdown is not None
        ],
    )
