"""Whether, and with what, a candidate is trained."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.graph.ops import Dropout, Pair
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.plan import Plan, SpecifiedPlan
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.training.check_initial import SPECIFIED
from deeplab_spec.judge.training.evidence import Initial, Trained
from deeplab_spec.judge.training.initial_weights import Inits, sampled
from deeplab_spec.judge.training.observe import observe
from deeplab_spec.spec.choices import Initialisation, choose
from deeplab_spec.spec.distributions import initials
from deeplab_spec.spec.network import rows


def untrainable(loaded: Loaded) -> str:
    """Say why a candidate is not trained; empty if it can be."""
    if isinstance(loaded.module, FileModule):
        return f"an {loaded.module.kind} is for inference only"
    if loaded.reading.folded:
        return "its normalisations are folded into its convolutions, for inference only"
    return ""


def initial(loaded: Loaded, plan: SpecifiedPlan, again: nn.Module) -> Initial:
    """Take samples of the weights that a candidate has as it was built.

    Args:
        loaded: The candidate; no weights were loaded into it yet.
        plan: What it is held against.
        again: The candidate, built a second time.
    """
    return sampled(plan.network, specified_inits(plan), loaded.places, state_of(loaded.module), state_of(again))


def specified_inits(plan: SpecifiedPlan) -> Inits:
    """Return how weights are drawn, by decision: the specified one, and every other."""
    of = {SPECIFIED: plan.choices, **{value.value: choose(plan.choices, {"init": value}) for value in Initialisation}}
    classes = plan.request.class_count
    return {name: initials(rows(choices, plan.output_stride, classes)) for name, choices in of.items()}


def trained(loaded: Loaded, plan: Plan, first: Initial | None) -> Trained:
    """Train a candidate.

    Args:
        loaded: The candidate; its weights are lost.
        plan: What it is held against.
        first: The weights that it was built with.
    """
    reason = untrainable(loaded)
    if reason:
        return Trained(not_applicable=reason)

    def draw(image: Pair, batch: int, seed: int) -> list[Tensor]:
        return images(plan, plan.inputs_at(image), batch, torch.float64, seed)

    found = observe(
        loaded.module,
        loaded.expected,
        loaded.places,
        misfits=loaded.misfits,
        dropped=dropped(loaded.reading),
        draw=draw,
        seed=plan.request.seed,
    )
    stated = isinstance(plan, SpecifiedPlan)
    noise = found.noise if stated or found.noise is None else replace(found.noise, stated=False)
    unstated = Initial(not_applicable="what it is held against does not state how weights are drawn")
    return replace(found, noise=noise, initial=first if stated else unstated)


def dropped(reading: Reading) -> tuple[str | None, ...]:
    """Return the specification's nodes whose values the dropouts of a candidate's graph read, in order."""
    network = reading.capture.network
    back = {right: left for left, right in reading.alignment.partner.items()}

    def owner(path: str) -> str | None:
        while path not in back and network[path].inputs:
            path = network[path].inputs[0]
        return back.get(path)

    return tuple(owner(node.inputs[0]) for node in network if isinstance(node.op, Dropout) and node.op.probability > 0)
