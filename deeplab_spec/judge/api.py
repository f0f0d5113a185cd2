"""``deeplab_spec.certify``: judges a candidate in this process."""

import copy
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from deeplab_spec.capture.target import Target, build, load
from deeplab_spec.checks.certificate import Certificate
from deeplab_spec.errors import SpecError
from deeplab_spec.judge.judge import judge
from deeplab_spec.judge.request import DTYPES, Request, default_variant
from deeplab_spec.judge.worker import target_of
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.public import Override, written_overrides


def certify(
    target: str | nn.Module | Callable[..., nn.Module],
    variant: str | None = None,
    *,
    choices: Mapping[str, Override] | None = None,
    output_strides: Sequence[int] = (16,),
    num_classes: int = DEFAULT_CLASSES,
    part: str | None = None,
    arguments: Mapping[str, object] | None = None,
    levels: Sequence[str] = tuple(Level),
    dtypes: Sequence[str] = DTYPES,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> Certificate:
    """Decide every clause of the specification for one implementation.

    Args:
        target: A module, what builds one, or ``module:callable`` or ``reference:VARIANT``. A
            module is copied, and judged at one output stride.
        variant: The published network that it shall be; a reference is by default itself.
        choices: Decisions in which it shall differ from the variant.
        output_strides: The output strides to build it for.
        num_classes: Channels of the logits.
        part: ``backbone``, ``aspp`` or ``decoder``, where it implements only that.
        arguments: Keyword arguments of what builds it; text may hold ``{output_stride}`` and
            ``{classes}``.
        levels: The levels to decide.
        dtypes: The dtypes of the numerics.
        seed: Seed of weights and images.
        progress: Told the stage, how many are done, and how many there are.

    Returns:
        The certificate.

    Raises:
        SpecError: A ValueError, if an argument has a value that it cannot have.
        TargetError: If the target cannot be imported or built.
    """
    name = target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__qualname__)
    if variant is None and not isinstance(target, str):
        raise SpecError("variant", f"say which network {name} shall be", None)
    request = Request(
        target=name,
        variant=variant or default_variant(name),
        overrides=written_overrides(choices),
        arguments={key: str(value) for key, value in (arguments or {}).items()},
        shared_choices=variant is None,
        part=part,
        output_strides=tuple(output_strides),
        classes=num_classes,
        levels=tuple(Level(level) for level in levels),
        dtypes=tuple(dtypes),
        seed=seed,
    )
    if isinstance(target, nn.Module) and len(request.output_strides) > 1:
        raise SpecError("output_strides", "a module is judged at one output stride", request.output_strides)

    def built(output_stride: int) -> nn.Module:
        if isinstance(target, str):
            return load(target_of(request), output_stride, num_classes)
        found = copy.deepcopy(target) if isinstance(target, nn.Module) else target
        return build(Target(name=name, arguments=request.arguments), found, output_stride, num_classes)

    return judge(request, built, progress)
