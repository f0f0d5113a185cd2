"""Observes the effect of dropout on the results over several seeds, for the candidate and for the oracle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.training import train
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, Dropout
from deeplab_spec.judge.training.candidate import BATCH, ELEMENTS, CandidateInTraining, DropoutCall, TrainingInputs
from deeplab_spec.judge.training.evidence import DropoutEffect, Site

SEEDS: Final = 10
"""Calls of the candidate with its dropout active."""

ORACLE_SEEDS: Final = 40
"""Runs of the oracle; only the nodes downstream of a dropout are re-run."""

QUIET: Final = 2
"""Calls if no dropout is expected."""

VALUES: Final = 2000
"""The least number of values at a dropout, so that the dropped share is known to a tenth."""

MOST_IMAGES: Final = 24

SAME_RESULT: Final = 0.01
"""Largest relative difference of two results in float32 that is rounding, amplified over the depth of the network."""

SAME_VALUE: Final = 1e-9
"""Largest relative difference of two equal values in float64; different values differ by a tenth or more."""

_SCALED: Final = (Activation(),)
"""Operations that keep zeros and factors, so that dropout before and after them is the same."""

DIFFERS: Final = "its values differ from the specified ones already without dropout"


def dropout_effect(
    candidate: CandidateInTraining,
    training: TrainingInputs,
    calls: Sequence[DropoutCall],
    values: Mapping[str, Tensor],
    reads: Sequence[str | None],
    own: "OracleDropout",
    *,
    repeatable: bool,
) -> DropoutEffect:
    """Run a candidate with active dropout, and compare it with the oracle.

    Args:
        candidate: The candidate.
        training: The training inputs.
        calls: The candidate's recorded calls of dropout.
        values: The oracle's values, to find the inputs of those calls.
        reads: The nodes whose values are dropped, in order, as its graph shows them; used where the values do not.
        own: The oracle's results.
        repeatable: Whether two calls without the recorded dropout agree; if not, the candidate draws random numbers
            by hand.
    """
    network = training.network
    inputs, quiet = training.small(images_for(training)), own.quiet
    silent, found, error = _active(candidate, training, inputs, None if repeatable else quiet)
    owners = [_owner(network, value, values) for _, value in calls]
    return DropoutEffect(
        expected=expected_sites(network),
        actual=_sites(
            network, calls, [owner or read for owner, read in zip(owners, _known(reads, calls), strict=True)]
        ),
        oracle=own.effects,
        candidate=_by_name(found),
        reason=error or _reason(training, silent, quiet, repeatable=repeatable),
    )


def _active(
    candidate: CandidateInTraining,
    training: TrainingInputs,
    inputs: Sequence[Tensor],
    quiet: Mapping[str, Tensor] | None,
) -> tuple[Mapping[str, Tensor], list[dict[str, float]], str]:
    """Call a candidate with active dropout, in float32; return its results without, the effects, and the first error.

    The effect of every call is relative to ``quiet``, or else to the results without; after an error there are none.
    """
    candidate.module.float()
    candidate.load(training.weights)
    taps = training.taps(inputs)
    silent = candidate.call(inputs, taps, training.seed)
    error, found = silent.error, []
    for number in range(SEEDS if expected_sites(training.network) else QUIET):
        answer = candidate.call(inputs, taps, training.seed + number, dropout=True)
        error = error or answer.error
        if not error:
            found.append(_measured(answer.results, quiet or silent.results))
    candidate.module.double()
    return silent.results, [] if error else found, error


def _reason(
    training: TrainingInputs, silent: Mapping[str, Tensor], quiet: Mapping[str, Tensor], *, repeatable: bool
) -> str:
    """Return why the results of a candidate and of the oracle cannot be compared; empty if they can."""
    if not expected_sites(training.network) or not repeatable:
        return ""
    apart = max(relative_error(silent[tap], value) for tap, value in quiet.items())
    return "" if apart <= SAME_RESULT else DIFFERS


def images_for(training: TrainingInputs) -> int:
    """Return the number of small images that shows the rate of every dropout."""
    sizes = training.shapes(training.small(1))
    sites = [prod(sizes[node.path]) for node in training.network if isinstance(node.op, Dropout)]
    return min(max(BATCH, -(-VALUES // min(sites, default=VALUES))), MOST_IMAGES)


def dropout_of_itself(
    candidate: CandidateInTraining,
    training: TrainingInputs,
    calls: Sequence[DropoutCall],
    reads: Sequence[str | None],
    reason: str,
) -> DropoutEffect:
    """Run a candidate with active dropout, if its results cannot be compared with the oracle's for some reason."""
    _, found, error = _active(candidate, training, training.small(BATCH), None)
    return DropoutEffect(
        expected=expected_sites(training.network),
        actual=_sites(training.network, calls, _known(reads, calls)),
        candidate=_by_name(found),
        reason=error or reason,
    )


def _known(reads: Sequence[str | None], calls: Sequence[DropoutCall]) -> Sequence[str | None]:
    """Return the nodes whose values are dropped; None for each if the graph shows another number of dropouts."""
    return reads if len(reads) == len(calls) else [None] * len(calls)


def _sites(network: Network, calls: Sequence[DropoutCall], reads: Sequence[str | None]) -> tuple[Site, ...]:
    return tuple(_placed(network, site, node) for (site, _), node in zip(calls, reads, strict=True))


def expected_sites(network: Network) -> tuple[Site, ...]:
    """Return the dropouts of a network."""
    return tuple(
        _placed(network, Site(path=node.path, kind=ELEMENTS, probability=node.op.probability), node.inputs[0])
        for node in network
        if isinstance(node.op, Dropout)
    )


def _placed(network: Network, site: Site, follows: str | None) -> Site:
    return replace(site, follows=follows, reads=None if follows is None else _before(network, follows))


def _owner(network: Network, value: Tensor, values: Mapping[str, Tensor]) -> str | None:
    """Return the node that has a value; None if no node has it."""
    known = ((node.path, values[node.path]) for node in network if node.path in values)
    alike = (path for path, own in known if own.shape == value.shape and relative_error(value, own) <= SAME_VALUE)
    return next(alike, None)


def _before(network: Network, path: str) -> str:
    """Return the node before any ReLU: dropout before and after a ReLU is the same."""
    while isinstance(network[path].op, Dropout) or network[path].op in _SCALED:
        path = network[path].inputs[0]
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleDropout:
    """The oracle's results in training, on small images in float32.

    Attributes:
        quiet: Its results without dropout, by tap.
        effects: The statistics of its results with dropout, one number for each seed, by name.
    """

    quiet: Mapping[str, Tensor]
    effects: Mapping[str, tuple[float, ...]]


def dropout_of_oracle(training: TrainingInputs) -> OracleDropout:
    """Run the oracle with and without active dropout."""
    inputs = training.named(training.small(images_for(training)))
    weights = {name: tensor.float() for name, tensor in training.weights.items()}
    with torch.no_grad():
        base = train(training.network, weights, inputs).values
    quiet = {tap: base[path] for tap, path in training.outputs.items()}
    effects = list(_effects(training, weights, base, quiet)) if expected_sites(training.network) else []
    return OracleDropout(quiet=quiet, effects=_by_name(effects))


def _effects(
    training: TrainingInputs, weights: Mapping[str, Tensor], base: Mapping[str, Tensor], quiet: Mapping[str, Tensor]
) -> Iterator[dict[str, float]]:
    """Re-run the nodes downstream of each dropout, once per seed."""
    touched: set[str] = set()
    for node in training.network:
        if isinstance(node.op, Dropout) or touched.intersection(node.inputs):
            touched.add(node.path)
    known = {path: value for path, value in base.items() if path not in touched}
    for seed in range(ORACLE_SEEDS):
        generator = torch.Generator().manual_seed(training.seed + seed)
        with torch.no_grad():
            values = train(training.network, weights, {}, generator=generator, known=known).values
        yield _measured({tap: values[path] for tap, path in training.outputs.items()}, quiet)


def _measured(results: Mapping[str, Tensor], quiet: Mapping[str, Tensor]) -> dict[str, float]:
    """Return statistics that show how much is dropped, in elements or channels, and how the rest is scaled.

    All are energies, over that of the results without dropout: of the difference that dropout makes, of the mean of
    that difference over each map, and of the results.
    """
    scale = sum(float(value.double().square().sum()) for value in quiet.values())
    differences = [results[tap].double() - value.double() for tap, value in quiet.items()]
    means = [value.mean(dim=(2, 3)) * (value.shape[2] * value.shape[3]) ** 0.5 for value in differences]
    return {
        "spread": sum(float(value.square().sum()) for value in differences) / scale,
        "coherence": sum(float(value.square().sum()) for value in means) / scale,
        "level": sum(float(results[tap].double().square().sum()) for tap in quiet) / scale,
    }


def _by_name(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(entry[name] for entry in found) for name in found[0]} if found else {}
