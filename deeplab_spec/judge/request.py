"""The request for a judgement: what is judged, against what, and how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.precision import (
    AUTOCAST_BFLOAT16,
    BFLOAT16,
    FLOAT32,
    FLOAT64,
    LOWER,
    NAMES,
    Precision,
    read_precision,
)
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, read_overrides
from deeplab_spec.spec.clauses import Clause, Level, clauses_of
from deeplab_spec.spec.head import check_classes
from deeplab_spec.spec.layer_choices import OUTPUT_STRIDES
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE, PARTS, check_output_stride
from deeplab_spec.spec.variants import REFERENCE, VARIANTS, Variant, family_of, variant

DTYPES: Final = (FLOAT64.name, FLOAT32.name)
"""The default precisions: faults stand out in float64, and networks run in float32."""

HOW: Final = (
    f"{BFLOAT16.name}: weights and images cast; {AUTOCAST_BFLOAT16.name}: weights in float32, automatic mixed precision"
)
"""How lower precisions are measured, in one line."""

DEVICES: Final = ("cpu", "cuda")
SEEDS: Final = 2**63
"""So many seeds PyTorch's generators tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that determines a judgement.

    Attributes:
        target: The target, as the user named it.
        variant: Name of the published network to judge it against; None if ``against`` is given.
        against: The other target to judge it against; None if ``variant`` is given.
        overrides: Choices that differ from the variant's, as ``NAME=VALUE``.
        arguments: Keyword arguments of the target, as text; for a reference, its choices.
        against_arguments: Keyword arguments of the other target.
        shared_choices: Whether the overrides apply to a reference target too.
        part: The part that the target implements; None for the whole network.
        output_strides: The output strides to build and judge; empty for the default, or a file's own.
        classes: Channels of the logits; None for the default, or a file's own.
        levels: The levels to decide.
        dtypes: Names of the precisions of the numerics.
        device: Where the target runs; its captured graph and the oracle run on the CPU.
        seed: Seed of weights and images, and of the random numbers drawn while the candidate is built.
        existing: Whether the target is a module, which was built before and cannot be built again.
        family: Name of the family of the other network; that of the variant if there is none.

    Raises:
        SpecError: If a value is not allowed, or not exactly one of ``variant`` and ``against`` is given.
    """

    target: str
    variant: str | None = None
    against: str | None = None
    overrides: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    against_arguments: Mapping[str, str] = field(default_factory=dict)
    shared_choices: bool = False
    part: str | None = None
    output_strides: tuple[int, ...] = ()
    classes: int | None = None
    levels: tuple[Level, ...] = tuple(Level)
    dtypes: tuple[str, ...] = DTYPES
    device: str = "cpu"
    seed: int = 0
    existing: bool = False
    family: str = VARIANTS[0].family.family

    def __post_init__(self) -> None:
        if (self.variant is None) == (self.against is None):
            raise SpecError("against", "must name either a published network or another target", self.against)
        if self.against is not None and (self.part or self.overrides):
            raise SpecError("against", "must not be combined with a part or with choices", self.against)
        if self.part is not None and self.part not in PARTS:
            raise SpecError("part", f"must be one of {', '.join(PARTS)}", self.part)
        if self.classes is not None:
            check_classes(self.classes)
        if not 0 <= self.seed < SEEDS:
            raise SpecError("seed", "must be from 0 to 2^63 - 1", self.seed)
        self._check_runs()
        for output_stride in self.output_strides:
            if self.variant is not None:
                check_output_stride(self.published, output_stride)
            elif output_stride not in OUTPUT_STRIDES:
                raise SpecError("output_stride", f"must be one of {', '.join(map(str, OUTPUT_STRIDES))}", output_stride)
        if self.variant is not None:
            _ = self.choices

    def _check_runs(self) -> None:
        if not self.levels or not self.dtypes:
            raise SpecError("request", "must name a level and a dtype", "none")
        for dtype in self.dtypes:
            if dtype not in NAMES:
                raise SpecError("dtype", f"must be one of {', '.join(NAMES)}", dtype)
        if self.device not in DEVICES:
            raise SpecError("device", f"must be one of {', '.join(DEVICES)}", self.device)

    @property
    def strides(self) -> tuple[int, ...]:
        """The output strides to build and judge."""
        return self.output_strides or (DEFAULT_OUTPUT_STRIDE,)

    @property
    def lower(self) -> tuple[Precision, ...]:
        """The requested lower precisions."""
        return tuple(each for name in self.dtypes for each in LOWER if each.name == name)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The clauses to decide; those about lower precisions only if one is requested."""
        family = self.published.family.family if self.variant else self.family
        found = clauses_of(self.part, family, on_request=asks_for_lower(self.dtypes))
        return tuple(clause for clause in found if clause.level in self.levels)

    @property
    def class_count(self) -> int:
        """Channels of the logits."""
        return DEFAULT_CLASSES if self.classes is None else self.classes

    @property
    def reference(self) -> str:
        """Name of the network that the target is judged against."""
        return self.variant or self.against or ""

    @property
    def published(self) -> Variant:
        """The published network; raises SpecError if the target is judged against another target."""
        return variant(self.variant or "")

    @property
    def overridden(self) -> dict[str, ChoiceValue]:
        """The choices that differ from the variant's."""
        return read_overrides(self.overrides, self.published.family) if self.overrides else {}

    @property
    def target_choices(self) -> dict[str, ChoiceValue]:
        """The choices of a reference target."""
        own = read_overrides((f"{name}={value}" for name, value in self.arguments.items()), family_of(self.target))
        return {**(self.overridden if self.shared_choices else {}), **own}

    @property
    def choices(self) -> Choices:
        """Every choice of the specification that the target is judged against."""
        return choose(self.published.choices, self.overridden)


def request_from(
    target: str,
    *,
    variant: str | None = None,
    against: str | None = None,
    overrides: Iterable[str] = (),
    arguments: Mapping[str, str] | None = None,
    against_arguments: Mapping[str, str] | None = None,
    part: str | None = None,
    output_strides: Iterable[int] = (),
    classes: int | None = None,
    levels: Iterable[str] | None = None,
    dtypes: Iterable[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    prefix: str = "",
) -> Request:
    """Return the request of a user: defaults are filled in, and repeated values are dropped.

    The arguments are those of :class:`Request`; None stands for the default. Without ``variant`` and ``against``, a
    reference is judged against its own variant, and the overrides apply to both sides. ``prefix`` is put before the
    name of an option in messages, e.g. ``--``.

    Raises:
        SpecError: If a value is not allowed, or it is not given what to judge the target against.
    """
    return Request(
        target=target,
        variant=None if against else variant or default_variant(target),
        against=against,
        overrides=tuple(overrides),
        arguments=dict(arguments or {}),
        against_arguments=dict(against_arguments or {}),
        shared_choices=variant is None and against is None,
        part=part,
        output_strides=tuple(dict.fromkeys(output_strides)),
        classes=classes,
        levels=tuple(dict.fromkeys(_level(each, f"{prefix}level") for each in (Level if levels is None else levels))),
        dtypes=DTYPES if dtypes is None else read_dtypes(dtypes, f"{prefix}dtype"),
        device=device,
        seed=seed,
    )


def _level(name: str, where: str) -> Level:
    if name not in set(Level):
        raise SpecError(where, f"must be one of {', '.join(Level)}", name)
    return Level(name)


def read_dtypes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the names of precisions, each once; an old name is accepted with a warning that names the new one.

    Raises:
        SpecError: If there is no such precision; it names the argument or option.

    >>> read_dtypes(["float32", "bfloat16", "float32"], "--dtype")
    ('float32', 'bfloat16')
    """
    return tuple(dict.fromkeys(read_precision(name, where).name for name in names))


def asks_for_lower(names: Iterable[str]) -> bool:
    """Tell whether names include a lower precision.

    >>> asks_for_lower(["float64", "tf32"])
    True
    """
    return not {each.name for each in LOWER}.isdisjoint(names)


def default_variant(target: str) -> str:
    """Return the variant of a reference.

    Raises:
        SpecError: If the target is not a reference, so that the user must name a variant.
    """
    kind, _, name = target.partition(":")
    if kind == REFERENCE:
        return name or VARIANTS[0].name
    names = ", ".join(entry.name for entry in VARIANTS)
    rule = f"say which network {target} is: --variant with one of {names}"
    raise SpecError("variant", rule, "none")
