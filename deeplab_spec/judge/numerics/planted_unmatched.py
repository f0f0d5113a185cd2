"""Plants unmatched parameters: one of another shape, and one that is stored where another is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from deeplab_spec.align.channels import channel_orders
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.judge.evidence import Evidence, UnmatchedParameter
from deeplab_spec.judge.load_weights import Place, places
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.planted import PlantedFault

CLAUSE = "WEIGHTS-FIT"


def of_parameters(loaded: Loaded) -> Iterator[PlantedFault]:
    """Plant unmatched parameters in a candidate.

    Args:
        loaded: The candidate, whose weights have their places.
    """
    state, captured = state_of(loaded.module), loaded.reading.capture
    own = [place for place in loaded.places if place.view is None and _where(loaded, place) in captured.parameters]
    if not own:
        return
    last = own[-1]
    longer = torch.empty((*state[last.name].shape, 2), device="meta")
    yield _planted_fault(loaded, captured, {**state, last.name: longer}, last, f"another shape of {last.source}")
    like = [place for place in own[:-1] if state[place.name].shape == state[last.name].shape]
    if like:
        shared = {**captured.parameters, _where(loaded, last): like[-1].name}
        words = f"{last.source} and {like[-1].source} in one place"
        yield _planted_fault(loaded, replace(captured, parameters=shared), state, last, words)


def _where(loaded: Loaded, place: Place) -> str:
    """Return path and role of a tensor in the candidate."""
    path, _, role = place.source.rpartition(".")
    return f"{loaded.reading.alignment.partner[path]}.{role}"


def _planted_fault(
    loaded: Loaded, captured: Capture, state: Mapping[str, Tensor], place: Place, words: str
) -> PlantedFault:
    alignment = loaded.reading.alignment
    orders = channel_orders(alignment, captured.network)
    found, unmatched = places(loaded.expected, alignment.partner, captured, state, orders)
    return PlantedFault(
        clause=CLAUSE, fault=words, path=place.source.rpartition(".")[0], plant=_with_unmatched(len(found), unmatched)
    )


def _with_unmatched(parameters: int, unmatched: tuple[UnmatchedParameter, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, parameters=parameters, unmatched=unmatched)
