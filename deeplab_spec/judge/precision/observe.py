"""Observes a candidate in lower precisions, and plants faults to measure what they can show.

How much of a fault shows in a lower precision depends on the fault, the weights and the node. So a fault is planted in
every block, every normalisation and every activation, and judged with the same limit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.errors import one_line
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import error_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Output, Resize
from deeplab_spec.judge.evidence import Evidence, PlantedFault
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.load_weights import UNMATCHED
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.outputs import Answer, Overflow, call_candidate
from deeplab_spec.judge.plan import Taps
from deeplab_spec.judge.precision.blocks import NEGLIGIBLE, Region, Regions, blocks, constants, deviation_of, undecided
from deeplab_spec.judge.precision.run import OnDevice, cast, moved, stored
from deeplab_spec.mutate.faults.operators import planted_node, planted_operator
from deeplab_spec.mutate.mutant import with_node

BLOCKS: Final = "VALUES-LOWER-PRECISION-BLOCKS"
NORMS: Final = "VALUES-LOWER-PRECISION-NORMS"
ACTIVATIONS: Final = "VALUES-LOWER-PRECISION-ACTIVATIONS"
END_TO_END: Final = "VALUES-LOWER-PRECISION-END-TO-END"


def compare_regions(
    loaded: Loaded, weights: Mapping[str, Tensor], oracle: Values, precisions: Sequence[OnDevice]
) -> Iterator[tuple[str, Deviation | PlantedFault]]:
    """Compare every block, normalisation and activation on the oracle's values, in lower precisions.

    Args:
        loaded: The candidate, with these weights loaded.
        weights: The weights of the oracle.
        oracle: Its values.
        precisions: The precisions.

    Returns:
        Comparisons and planted faults, by clause.
    """
    for precision in precisions:
        try:
            yield from list(_regions(Regions(loaded, weights, oracle, precision)))
        except RuntimeError as reason:
            yield from ((clause, _refused(clause, precision, reason)) for clause in (BLOCKS, NORMS, ACTIVATIONS))


def _regions(regions: Regions) -> Iterator[tuple[str, Deviation | PlantedFault]]:
    for region in blocks(regions.loaded):
        yield from ((BLOCKS, found) for found in _region(regions, region, BLOCKS))
    for region in constants(regions.loaded):
        norm = isinstance(regions.network[region.outputs[0]].op, BatchNorm)
        clause = NORMS if norm else ACTIVATIONS
        yield from ((clause, found) for found in _region(regions, region, clause))


def _refused(clause: str, precision: OnDevice, reason: RuntimeError) -> Deviation:
    """Return a comparison that could not be made, because the specification does not run in a precision."""
    return undecided(clause, f"{precision.name} does not run on {precision.device.type}: {one_line(reason)}", precision)


def _region(regions: Regions, region: Region, clause: str) -> Iterator[Deviation | PlantedFault]:
    """Compare a region, and plant a fault in it; the output that shows the fault most is used."""
    references = regions.specified(region)
    yield from regions.compare(region, references)
    fault = _wrong(regions.network, region, clause)
    if fault is None or references.overflow:
        return
    words, node = fault
    wrong = regions.specified(region, {node.path: node})
    planted = [regions.ratio(end, wrong.values[end], references.values[end]) for end in region.outputs]
    worst = max(planted, key=lambda deviation: deviation.error or 0.0, default=None)
    if worst:
        yield planted_fault(clause, f"{words} in {regions.precision.name}", worst)


def _wrong(network: Network, region: Region, clause: str) -> tuple[str, Node] | None:
    """Return a fault at the first possible node of a region: the nodes after it hide the fault most."""
    for node in network:
        if node.path not in region.nodes:
            continue
        attribute = _attribute(node, clause)
        fault = planted_node(node, attribute) if attribute else None
        if fault:
            return fault
        if isinstance(node.op, Concat) and clause == BLOCKS:
            return f"parts in another order at {node.path}", replace(node, inputs=node.inputs[::-1])
    return None


def _attribute(node: Node, clause: str) -> str:
    """Return the attribute to change in a node for a clause; empty for none."""
    match node.op:
        case Conv2d() as op if clause == BLOCKS and not op.pointwise:
            return "rate"
        case Resize() if clause == BLOCKS and node.path != "aspp.pool.resize":
            return "align_corners"
        case BatchNorm() if clause == NORMS:
            return "eps"
        case Activation() if clause == ACTIVATIONS:
            return "slope"
        case _:
            return ""


def planted_fault(clause: str, fault: str, planted: Deviation) -> PlantedFault:
    """Return a planted fault; its comparison replaces the candidate's."""

    def plant(evidence: Evidence) -> Evidence:
        mine = evidence.lower.get(clause, ())
        same = (planted.path, planted.dtype)
        kept = tuple(planted if (each.path, each.dtype) == same else each for each in mine)
        return replace(evidence, lower={**evidence.lower, clause: kept})

    return PlantedFault(clause=clause, fault=fault, path=planted.path, plant=plant, needs="float64")


def compare_whole_runs(
    loaded: Loaded,
    weights: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    oracle: Values,
    taps: Taps,
    precisions: Sequence[OnDevice],
) -> Iterator[tuple[str, Deviation | PlantedFault]]:
    """Compare whole runs in lower precisions, and plant faults in the middle of the network.

    Args:
        loaded: The candidate, with these weights loaded in float64; it is unchanged afterwards.
        weights: The weights of the oracle.
        inputs: Its inputs.
        oracle: Its outputs, by path.
        taps: The shapes of the outputs.
        precisions: The precisions.
    """
    for precision in precisions:
        try:
            yield from list(_whole(loaded, weights, inputs, oracle, taps, precision))
        except RuntimeError as reason:
            yield END_TO_END, _refused(END_TO_END, precision, reason)


def _whole(
    loaded: Loaded,
    weights: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    oracle: Values,
    taps: Taps,
    precision: OnDevice,
) -> Iterator[tuple[str, Deviation | PlantedFault]]:
    images = [value.to(precision.device, precision.storage) for value in inputs]
    own = cast(weights, precision.storage, precision.device)
    named = {node.path: value for node, value in zip(loaded.expected.inputs, images, strict=True)}
    outputs = [node.path for node in loaded.expected.outputs]

    def specified(network: Network, watch: Overflow | None = None) -> Values:
        with torch.no_grad(), precision.active():
            return run(network, own, named, keep=outputs, watch=watch)

    overflow = Overflow()
    reference = specified(loaded.expected, overflow)
    if overflow.path:
        yield from ((END_TO_END, undecided(path, overflow.reason(precision.name), precision)) for path in outputs)
        return
    answer = _called(loaded, images, taps, precision)
    for node in loaded.expected.outputs:
        yield END_TO_END, _end(loaded, node, answer, oracle, reference, precision)
    for path in outputs:
        for words, network in _in_the_middle(loaded.expected, path):
            wrong = specified(network)[path]
            planted = deviation_of(path, wrong, oracle[path], reference[path], precision)
            yield END_TO_END, planted_fault(END_TO_END, f"{words} in {precision.name}", planted)


def _called(loaded: Loaded, inputs: Sequence[Tensor], taps: Taps, precision: OnDevice) -> Answer:
    """Run the candidate in a lower precision; its weights are unchanged afterwards."""
    module = loaded.module
    if module.float32_only:
        return Answer(results={}, error="the file's runtime computes in its own precision")
    with stored(module, precision.storage), moved(module, precision.device):
        return call_candidate(module, inputs, taps, device=precision.device, settings=precision.call)


def _end(
    loaded: Loaded, node: Node, answer: Answer, oracle: Values, reference: Values, precision: OnDevice
) -> Deviation:
    tap = node.op.name if isinstance(node.op, Output) else ""
    reason = answer.error
    if loaded.unmatched:
        reason = UNMATCHED
    elif not answer.error and tap not in answer.results:
        reason = f"the candidate does not return {tap}"
    elif error_of(reference[node.path].cpu(), oracle[node.path]).mean < precision.rounding / NEGLIGIBLE:
        reason = (
            f"the specification's error is below one rounding of {precision.name}, so it did not run in that precision"
        )
    if reason:
        found = undecided(node.path, reason, precision)
    else:
        path = node.path
        found = deviation_of(path, answer.results[tap], oracle[path], reference[path], precision)
    return replace(found, candidate_path=loaded.reading.alignment.partner.get(node.path))


def _in_the_middle(network: Network, output: str) -> list[tuple[str, Network]]:
    """Return networks with a wrong rate, eps or slope, at the middle one of the possible nodes before an output."""
    before = {output}
    for node in reversed(network.nodes):
        if node.path in before:
            before.update(node.inputs)
    wrong = []
    for attribute in ("rate", "eps", "slope"):
        found = [node for node in network if node.path in before and planted_operator(node.op, attribute) is not None]
        fault = planted_node(found[len(found) // 2], attribute) if found else None
        if fault:
            words, faulty = fault
            wrong.append((words, with_node(network, faulty)))
    return wrong


def collected(
    found: Iterable[tuple[str, Deviation | PlantedFault]],
) -> tuple[dict[str, tuple[Deviation, ...]], list[PlantedFault]]:
    """Return comparisons by clause, and planted faults."""
    ratios: dict[str, tuple[Deviation, ...]] = {}
    planted_faults: list[PlantedFault] = []
    for clause, entry in found:
        if isinstance(entry, PlantedFault):
            planted_faults.append(entry)
        else:
            ratios[clause] = (*ratios.get(clause, ()), entry)
    return ratios, planted_faults
