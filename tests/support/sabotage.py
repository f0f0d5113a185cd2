"""Sabotages of the judge so that it sees less, and candidates whose fault each of them hides."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.align import differences, normal_form, published
from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import Aspect, aspects
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import BatchNorm, Op
from deeplab_spec.judge import expected as required
from deeplab_spec.judge import load_weights as copy_weights
from deeplab_spec.judge.decisions import CHECKS
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.finding import Decision
from deeplab_spec.judge.interface import check as interface_checks
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.interface import planted as calls
from deeplab_spec.judge.numerics import check as numerics_checks
from deeplab_spec.judge.numerics import end_to_end as ends
from deeplab_spec.judge.numerics import planted as steps
from deeplab_spec.judge.numerics.steps import Steps
from deeplab_spec.judge.structure import check as structure_checks
from deeplab_spec.judge.structure import planted as graphs

WIDTH = 0.03
SMALL = {"width": WIDTH, "middle_blocks": 1}
PART = "decoder"

Patch = pytest.MonkeyPatch
Candidate = Callable[[], nn.Module]


def right() -> nn.Module:
    """Build the decoder of the authors' release, narrow."""
    return decided()


def decided(**choices: object) -> nn.Module:
    """Build it with other decisions."""
    network = deeplab_spec.build("tf-release", choices={**SMALL, **choices})  # type: ignore[dict-item]
    module: nn.Module = network.decoder
    return module


class Wrapped(nn.Module):
    """The right decoder behind a call that does one thing wrong."""

    def __init__(self, wrong: Callable[[nn.Module, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.network = right()
        self.wrong = wrong

    def forward(self, aspp: Tensor, low_level: Tensor) -> Any:
        """Return what the fault makes of the logits."""
        return self.wrong(self.network, aspp, low_level)


def _scaled(network: nn.Module, aspp: Tensor, low_level: Tensor) -> Tensor:
    logits: Tensor = network(aspp, low_level) * 1.01
    return logits


def _by_batch(network: nn.Module, aspp: Tensor, low_level: Tensor) -> Tensor:
    logits: Tensor = network(aspp, low_level) * len(aspp)
    return logits


def _overwritten(network: nn.Module, aspp: Tensor, low_level: Tensor) -> Tensor:
    logits: Tensor = network(aspp, low_level)
    low_level.mul_(2)
    return logits


def _small_only(network: nn.Module, aspp: Tensor, low_level: Tensor) -> Tensor:
    if aspp.shape[-1] == 1:
        raise ValueError("a single pixel is refused")
    logits: Tensor = network(aspp, low_level)
    return logits


def wrong_eps() -> nn.Module:
    """Build a decoder whose normalisations have the eps of the framework."""
    return decided(head_norm_eps=1e-3)


def wrong_resize() -> nn.Module:
    """Build a decoder that resizes otherwise."""
    return decided(decoder_resize="half_pixel")


def scaled() -> nn.Module:
    """Build a decoder whose logits are one percent too large."""
    return Wrapped(_scaled)


def mixing() -> nn.Module:
    """Build a decoder whose result depends on the batch."""
    return Wrapped(_by_batch)


def overwriting() -> nn.Module:
    """Build a decoder that changes its input."""
    return Wrapped(_overwritten)


def refusing() -> nn.Module:
    """Build a decoder that refuses the last size."""
    return Wrapped(_small_only)


def in_a_dict() -> nn.Module:
    """Build a decoder that returns a dictionary."""
    return Wrapped(lambda network, aspp, low_level: {"out": network(aspp, low_level)})


def sharing() -> nn.Module:
    """Build a decoder two of whose normalisations share their weights."""
    module = right()
    module.get_submodule("conv2.pointwise").norm = module.get_submodule("conv2.depthwise").norm
    return module


class OtherArchitecture(nn.Module):
    """Takes what a decoder takes, and is none."""

    def forward(self, aspp: Tensor, low_level: Tensor) -> Tensor:
        """Return what is left of one."""
        del low_level
        return aspp.relu()


def everywhere(patch: Patch, original: object, instead: object) -> None:
    """Put something in the place of a function, wherever the judge calls it."""
    found = 0
    for name, module in list(sys.modules.items()):
        if not name.startswith("deeplab_spec."):
            continue
        for attribute, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, attribute, instead)
                found += 1
    assert found, f"nothing calls {original}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """One way to break the judge.

    Attributes:
        name: What is broken.
        level: The level that cannot see the fault then.
        hides: Builds a candidate whose fault it hides.
        apply: Breaks the judge.
    """

    name: str
    level: str
    hides: Candidate
    apply: Callable[[Patch], None]

    def __str__(self) -> str:
        return f"{self.level}: {self.name}"


SABOTAGE: list[Sabotage] = []


def breaks(level: str, hides: Candidate) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a function to the sabotages of the judge; its docstring says what is broken."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = (apply.__doc__ or "").rstrip(".")
        SABOTAGE.append(Sabotage(name=name, level=level, hides=hides, apply=apply))
        return apply

    return add


def _always(decisions: int) -> Callable[[Evidence], Decision]:
    return lambda _evidence: Decision(decisions=decisions)


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """A check returns early with a pass."""
    patch.setitem(CHECKS, "HEAD-NORM-EPS", _always(1))


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """A check returns a pass and claims many decisions."""
    patch.setitem(CHECKS, "HEAD-NORM-EPS", _always(10**6))


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """Only the first facts are compared."""
    everywhere(patch, aspects, lambda alignment: aspects(alignment)[:3])


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """Facts that differ are dropped."""
    everywhere(patch, aspects, lambda alignment: tuple(a for a in aspects(alignment) if a.equal))


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """Every fact is called equal."""
    compare = differences._compare

    def equal(*arguments: Any, **options: Any) -> Iterator[Aspect]:
        return (replace(aspect, equal=True) for aspect in compare(*arguments, **options))

    patch.setattr(differences, "_compare", equal)


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """The normal form forgets eps."""

    def forget(shaped: Shaped) -> Shaped:
        nodes = (
            replace(node, op=replace(node.op, eps=0.0)) if isinstance(node.op, BatchNorm) else node
            for node in shaped.network
        )
        return shaped.with_network(shaped.network.with_nodes(nodes))

    patch.setattr(normal_form, "PASSES", (*normal_form.PASSES, forget))


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """Facts are sorted under another clause."""
    clause_of = structure_checks.clause_of

    def other(path: str, op: Op, attribute: str, unstrided: frozenset[str]) -> str:
        clause = clause_of(path, op, attribute, unstrided)
        return "no clause" if clause == "HEAD-NORM-EPS" else clause

    patch.setattr(structure_checks, "clause_of", other)


@breaks("structure", sharing)
def _(patch: Patch) -> None:
    """Counts are taken from the specification on both sides."""

    def dead(*arguments: Any) -> Any:
        blocks = block_counts(*arguments)
        return tuple(
            replace(block, nodes=tuple(replace(node, actual=node.expected, equal=True) for node in block.nodes))
            for block in blocks
        )

    everywhere(patch, block_counts, dead)


@breaks("structure", OtherArchitecture)
def _(patch: Patch) -> None:
    """No network has another architecture."""
    everywhere(patch, published.different_architecture, lambda _alignment: None)


@breaks("structure", wrong_eps)
def _(patch: Patch) -> None:
    """No fault is planted in a graph, and a check passes all."""
    everywhere(patch, graphs.of_graphs, lambda *_: ())
    patch.setitem(CHECKS, "HEAD-NORM-EPS", _always(10**6))


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """Nothing is ever different."""
    everywhere(patch, relative_error, lambda _actual, _expected: 0.0)


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """Any error of a step is tolerated."""
    patch.setattr("deeplab_spec.judge.numerics.steps.STEP_LIMIT", math.inf)


@breaks("numerics", scaled)
def _(patch: Patch) -> None:
    """Any error at the end is tolerated."""
    patch.setattr(ends, "END_TO_END_LIMIT", math.inf)


@breaks("numerics", scaled)
def _(patch: Patch) -> None:
    """Any error in float32 is tolerated."""
    patch.setattr(ends, "RATIO_LIMIT", math.inf)


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """Only the first steps are compared."""
    compare = Steps.compare

    def prefix(self: Steps, paths: Any = None) -> Any:
        found = compare(self, paths)
        return found if paths is not None else found[:2]

    patch.setattr(Steps, "compare", prefix)


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """The oracle of a step is the candidate's own value."""
    patch.setattr(Steps, "_oracle_value", _own_value)


_HONEST = Steps._oracle_value


def _own_value(self: Steps, path: str, other: str) -> Tensor:
    node = self.capture.network[other]
    if not node.inputs or other not in self.capture.steps:
        return _HONEST(self, path, other)
    inputs = [_HONEST(self, self.back[before], before) for before in node.inputs if before in self.back]
    return (
        self.capture.step(other, inputs, self.state) if len(inputs) == len(node.inputs) else _HONEST(self, path, other)
    )


@breaks("numerics", scaled)
def _(patch: Patch) -> None:
    """The oracle of the results is the candidate's result."""
    compare = ends.compare_outputs

    def dead(loaded: Any, answer: Any, oracle: Any, allowed: Any, first: Any) -> Any:
        own = {node.path: answer.results.get(node.op.name) for node in loaded.expected.outputs}
        return compare(loaded, answer, {**oracle, **own}, allowed, first)

    everywhere(patch, compare, dead)


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """A check of values counts, and decides nothing."""
    patch.setattr(
        numerics_checks, "_decide", lambda _evidence, deviations, _attribute: Decision(decisions=len(deviations))
    )


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """A check of values looks at the first one only."""
    decide = numerics_checks._decide
    patch.setattr(numerics_checks, "_decide", lambda evidence, found, what: decide(evidence, found[:1], what))


@breaks("numerics", sharing)
def _(patch: Patch) -> None:
    """Parameters without a place are forgotten."""
    original = copy_weights.places
    everywhere(patch, original, lambda *arguments: (original(*arguments)[0], ()))


@breaks("numerics", wrong_eps)
def _(patch: Patch) -> None:
    """No fault is planted in a step, and any error is tolerated."""
    everywhere(patch, steps.of_steps, lambda *_, **__: ())
    patch.setattr("deeplab_spec.judge.numerics.steps.STEP_LIMIT", math.inf)


@breaks("numerics", sharing)
def _(patch: Patch) -> None:
    """No unmatched parameter is planted, and every one is forgotten."""
    original = copy_weights.places
    everywhere(patch, steps.of_parameters, lambda _loaded: ())
    everywhere(patch, original, lambda *arguments: (original(*arguments)[0], ()))


@breaks("interface", mixing)
def _(patch: Patch) -> None:
    """Two results never differ."""
    patch.setattr(interface, "largest_error", lambda _left, _right: 0.0)


@breaks("interface", overwriting)
def _(patch: Patch) -> None:
    """Nothing ever changes."""
    changed = interface._changed
    patch.setattr(interface, "_changed", lambda *arguments: replace(changed(*arguments), difference=0.0))


@breaks("interface", mixing)
def _(patch: Patch) -> None:
    """Any rounding is tolerated."""
    patch.setattr(interface, "ROUNDING", dict.fromkeys(interface.ROUNDING, math.inf))


@breaks("interface", refusing)
def _(patch: Patch) -> None:
    """Only the first calls are made."""
    made = interface.calls
    everywhere(patch, made, lambda *arguments: made(*arguments)[:2])


@breaks("interface", refusing)
def _(patch: Patch) -> None:
    """Errors of what must be accepted are not recorded."""
    record = interface._record

    def forgetful(planned: interface.Planned, *arguments: Any) -> Any:
        call = record(planned, *arguments)
        return replace(call, error="") if planned.legal else call

    patch.setattr(interface, "_record", forgetful)


@breaks("interface", in_a_dict)
def _(patch: Patch) -> None:
    """A check of answers counts, and decides nothing."""
    patch.setattr(interface_checks, "_decide", lambda found, _judge: Decision(decisions=len(found)))


@breaks("interface", in_a_dict)
def _(patch: Patch) -> None:
    """No stand-in is called, and a check passes all."""
    everywhere(patch, calls.of_calls, lambda _plan: ())
    patch.setitem(CHECKS, "OUTPUT-TENSOR", _always(10**6))


@breaks("interface", mixing)
def _(patch: Patch) -> None:
    """Comparisons of the candidate are skipped."""
    compared = interface.comparisons

    def skipped(module: nn.Module, *arguments: Any) -> Any:
        made = compared(module, *arguments)
        return made if isinstance(module, calls.StandIn) else tuple(one for one in made if one.purpose != "batch")

    patch.setattr(interface, "comparisons", skipped)


@breaks("interface", in_a_dict)
def _(patch: Patch) -> None:
    """The expected decisions are not counted, and a check passes all."""
    everywhere(patch, required.of_interface, lambda *_, **__: {})
    patch.setitem(CHECKS, "OUTPUT-TENSOR", _always(1))
