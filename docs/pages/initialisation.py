"""The page of initial weights: every distribution as the call that draws it, and who uses it."""

from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.show.document import initial_tensors
from deeplab_spec.spec.choices import Initialisation
from deeplab_spec.spec.distributions import initials
from deeplab_spec.spec.network import network, rows
from deeplab_spec.spec.rows import Init, InitKind
from deeplab_spec.spec.variants import VARIANTS, Variant
from pages.markup import choice_link, page, plain, table, variant_link

_CONV = Conv2d(channels_in=64, channels_out=128, kernel=(3, 3), bias=True)


def text() -> str:
    """Return the page."""
    kinds = [(f"`{kind}`", *_calls(Init(kind=kind, std=_std(kind), zero_bias=_zero(kind)))) for kind in InitKind]
    return page(
        "# Initial weights",
        "How a tensor `w` starts, as the call of `torch.nn.init`. The numbers are those of a 3x3 convolution from 64 "
        "to 128 channels, with a bias; every convolution of every variant is in `deeplab-spec show --format json`.",
        table(("distribution", "weight", "bias"), kinds),
        "A new normalisation is the identity: weight 1, bias 0, running mean 0, running variance 1.",
        "## By variant",
        f"The choices are {choice_link('init', '')} and {choice_link('backbone_init', '')}; their values are "
        f"{', '.join(f'`{value}`' for value in Initialisation)}.",
        table(("variant", "weights of the backbone", "weights of pyramid and decoder"), map(_row, VARIANTS)),
    )


def _calls(init: Init) -> tuple[str, str]:
    found = initial_tensors(_CONV, init)
    return f"`{found['weight'].torch}`", f"`{found['bias'].torch}`"


def _std(kind: InitKind) -> float:
    return {InitKind.TRUNCATED_NORMAL: 0.09, InitKind.NORMAL: 0.02}.get(kind, 0.0)


def _zero(kind: InitKind) -> bool:
    return kind not in {InitKind.FRAMEWORK, InitKind.KAIMING_FAN_IN, InitKind.KAIMING_FAN_OUT}


def _row(entry: Variant) -> tuple[str, str, str]:
    table_of = rows(entry.choices, entry.output_strides[-1], 21)
    graph = network(entry.choices, entry.output_strides[-1])
    calls: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for path, init in initials(table_of).items():
        call = initial_tensors(graph[path].op, init)["weight"].torch
        shown = "`trunc_normal_(w, std=s, a=-2 * s, b=2 * s)` with `s = math.sqrt(2.6 / fan_in)`"
        calls[path.startswith("backbone.")][shown if init.kind is InitKind.VARIANCE_SCALING else f"`{call}`"] = None
    return variant_link(entry.name, ""), *("; ".join(calls[where]) or plain("-") for where in (True, False))
