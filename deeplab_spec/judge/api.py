"""``deeplab_spec.certify``: judges a candidate in this process."""

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from torch import nn

from deeplab_spec.capture.target import Target, build
from deeplab_spec.errors import SpecError
from deeplab_spec.judge.build import candidate, reference_reader
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.judge import judge
from deeplab_spec.judge.request import DTYPES, request_from
from deeplab_spec.judge.waivers import apply_waivers, load_waivers
from deeplab_spec.spec.api import Override, written_overrides
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.progress import Progress, silent


def certify(
    target: str | nn.Module | Callable[..., nn.Module],
    variant: str | None = None,
    *,
    against: str | None = None,
    choices: Mapping[str, Override] | None = None,
    output_strides: Sequence[int] = (),
    num_classes: int | None = None,
    part: str | None = None,
    arguments: Mapping[str, object] | None = None,
    levels: Sequence[str] = tuple(Level),
    dtypes: Sequence[str] = DTYPES,
    device: str = "cpu",
    seed: int = 0,
    waivers: str | Path | None = None,
    accept_waivers: bool = False,
    today: date | None = None,
    progress: Progress = silent,
) -> Certificate:
    """Decide every clause of the specification for one implementation.

    Args:
        target: A module, what builds one, ``module:callable``, ``reference:VARIANT`` or the path of
            a file. A module is copied, and judged at one output stride.
        variant: The published network that it shall be; a reference is by default itself.
        against: Another target that it shall equal instead: as ``target``, or a file of ``lock``.
        choices: Decisions in which it shall differ from the variant.
        output_strides: The output strides to build it for; by default 16, or what a file says of itself.
        num_classes: Channels of the logits; by default 21, or what a file says of itself.
        part: ``backbone``, ``aspp`` or ``decoder``, where it implements only that.
        arguments: Keyword arguments of what builds it; text may hold ``{output_stride}`` and
            ``{classes}``.
        levels: The levels to decide.
        dtypes: The precisions of the numerics: ``float64``, ``float32``, ``tf32``; ``bfloat16`` and ``float16``, with
            weights and images cast; ``autocast-bfloat16`` and ``autocast-float16``, with weights in float32 and
            automatic mixed precision.
        device: Where the target itself runs: ``cpu`` or ``cuda``.
        seed: Seed of weights and images, and of what the candidate draws while it is built.
        waivers: A TOML file of findings that are accepted, each with a reason and an expiry.
        accept_waivers: Whether a run in which something is waived shall count as accepted.
        today: The day on which waivers are held against their expiry; by default the present one, in UTC.
        progress: Told the stage, how many are done, and how many there are.

    Returns:
        The certificate.

    Raises:
        SpecError: A ValueError, if an argument has a value that it cannot have, or a waiver has expired
            or covers nothing.
        TargetError: If the target cannot be imported or built, or the device is not there.
    """
    held = None if waivers is None else load_waivers(Path(waivers), today)
    name = target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__qualname__)
    if variant is None and against is None and not isinstance(target, str):
        raise SpecError("variant", f"say which network {name} shall be", None)
    request = request_from(
        name,
        variant=variant,
        against=against,
        overrides=written_overrides(choices),
        arguments={key: str(value) for key, value in (arguments or {}).items()},
        part=part,
        output_strides=output_strides,
        classes=num_classes,
        levels=levels,
        dtypes=dtypes,
        device=device,
        seed=seed,
    )
    if isinstance(target, nn.Module) and len(request.strides) > 1:
        raise SpecError("output_strides", "a module is judged at one output stride", request.output_strides)
    asked, others = reference_reader(request)
    if isinstance(target, str):
        settled, built = candidate(asked)
        return apply_waivers(judge(settled, built, progress, others), held, accepted=accept_waivers)

    def build_module(output_stride: int) -> nn.Module:
        found = copy.deepcopy(target) if isinstance(target, nn.Module) else target
        return build(Target(name=name, arguments=request.arguments), found, output_stride, asked.class_count)

    return apply_waivers(judge(asked, build_module, progress, others), held, accepted=accept_waivers)
