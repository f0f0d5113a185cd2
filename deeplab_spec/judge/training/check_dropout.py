"""Decides DROPOUT by the candidate's calls of dropout, and by the effect of dropout on its results.

Calls of the framework's dropout are recorded, with their position and rate. Dropout that is written by hand is not
recorded, but the results show it: over several seeds they must vary as the oracle's do.
"""

import math
import re
from collections.abc import Iterator
from statistics import fmean
from typing import Final

from deeplab_spec.align.differences import ABSENT
from deeplab_spec.judge.finding import Decision, Finding
from deeplab_spec.judge.training.evidence import DropoutEffect, Site, Trained
from deeplab_spec.spec.choices import ChoiceValue

LIMIT: Final = 6.0
"""Standard errors by which two means of logarithms may differ. With 10 and 40 calls, Student's distribution has 48
degrees of freedom: one correct dropout in 4 million exceeds the limit, and one in 1.3 million over three statistics."""

SILENT: Final = 1e-8
"""Largest energy of a difference, over that of the results, that is rounding in float32."""

_CHOICES: Final = {"aspp_dropout": r"aspp\.(dropout|projection|refinement)", "decoder_dropout": r"decoder\.conv(\d+)"}
"""Patterns of the nodes whose values are dropped, by choice."""


def dropout(trained: Trained) -> Decision:
    """Decide DROPOUT."""
    effect = trained.dropout_effect
    if effect is None:
        return Decision(undecided=trained.reason or trained.error or trained.incomparable)
    if not effect.stated:
        return Decision(not_applicable="the other network does not state its dropout")
    from_calls = tuple(_from_calls(effect))
    if effect.reason:
        return Decision(findings=from_calls, decisions=len(from_calls), undecided=effect.reason)
    decisions = len(effect.expected) + len(effect.candidate.get("spread", ()))
    findings = from_calls or ((_from_results(effect),) if _differs(effect) else ())
    return Decision(findings=findings, decisions=decisions)


def _differs(effect: DropoutEffect) -> bool:
    """Tell whether the results vary in another way than the oracle's."""
    silent = all(value <= SILENT for value in effect.candidate.get("spread", ()))
    if silent or not effect.expected:
        return silent == bool(effect.expected)
    return any(_apart(effect.candidate[name], effect.oracle[name]) for name in effect.oracle)


def _apart(mine: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    """Tell whether two samples have different means of their logarithms, given equal deviations."""
    if min(mine) <= 0 or not all(map(math.isfinite, mine)):
        return True
    left, right = ([math.log(value) for value in values] for values in (mine, theirs))
    squares = sum((value - fmean(values)) ** 2 for values in (left, right) for value in values)
    deviation = math.sqrt(squares / (len(left) + len(right) - 2))
    error = deviation * math.sqrt(1 / len(left) + 1 / len(right))
    return abs(fmean(left) - fmean(right)) > LIMIT * error


def _from_results(effect: DropoutEffect) -> Finding:
    """Return the finding that the results vary in another way; with a single dropout, estimate its rate."""
    if not effect.expected:
        return _finding("output", None, "dropout", ABSENT, "results that differ from call to call")
    site = effect.expected[0]
    spread = effect.candidate["spread"]
    if max(spread) <= SILENT:
        return _finding(site.path, None, "node", _worded(site), ABSENT)
    if len(effect.expected) > 1:
        return _finding(site.path, None, "dropout", "results that vary as specified", "they vary in another way")
    odds = site.probability / (1 - site.probability) * fmean(spread) / fmean(effect.oracle["spread"])
    return _finding(site.path, None, "rate that the results show", site.probability, f"about {odds / (1 + odds):.2g}")


def _from_calls(effect: DropoutEffect) -> Iterator[Finding]:
    """Find dropouts at another node, of another kind or at another rate."""
    missing, extra = list(effect.expected), []
    for call in effect.actual:
        site = next((site for site in missing if site.reads == call.reads is not None), None)
        if site is None:
            extra.append(call)
        else:
            missing.remove(site)
            yield from _otherwise(site, call)
    if len(missing) == len(extra) and all(call.reads is None for call in extra):
        for site, call in zip(missing, extra, strict=True):
            yield from _otherwise(site, call)
        return
    if effect.actual:
        yield from (_finding(site.path, None, "node", _worded(site), ABSENT) for site in missing)
    yield from (_finding(call.follows or "output", call.path, "node", ABSENT, _worded(call)) for call in extra)


def _otherwise(site: Site, call: Site) -> Iterator[Finding]:
    if call.kind != site.kind:
        yield _finding(site.path, call.path, "kind", site.kind, call.kind)
    if call.probability != site.probability:
        yield _finding(site.path, call.path, "probability", site.probability, call.probability)


def _worded(site: Site) -> str:
    return f"{site.kind} at rate {site.probability:g}"


def _finding(
    path: str, candidate_path: str | None, attribute: str, expected: str | float, actual: str | float
) -> Finding:
    choice = next((name for name, pattern in _CHOICES.items() if re.match(pattern, path)), None)
    return Finding(
        path=path,
        candidate_path=candidate_path,
        attribute=attribute,
        choice=None if attribute == "kind" else choice,
        expected=expected,
        actual=actual,
        output_stride=0,
    )


def dropout_choices(effect: DropoutEffect) -> dict[str, ChoiceValue]:
    """Return the rates of the candidate's dropout calls, by choice."""
    rates: dict[str, dict[int, float]] = {name: {} for name in _CHOICES}
    unlocated = [call for call in effect.actual if call.reads is None]
    places = [call.reads or "" for call in effect.actual]
    if len(unlocated) == len(effect.actual) == len(effect.expected):
        places = [site.reads or "" for site in effect.expected]
    for place, call in zip(places, effect.actual, strict=True):
        for name, pattern in _CHOICES.items():
            if found := re.match(pattern, place):
                number = int(found[1]) if name == "decoder_dropout" else 0
                rates[name][number] = call.probability
    convs = rates["decoder_dropout"]
    after = tuple(convs.get(number, 0.0) for number in range(1, max(convs, default=0) + 1))
    return {"aspp_dropout": rates["aspp_dropout"].get(0, 0.0), "decoder_dropout": after}
