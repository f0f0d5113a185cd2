"""How initial weights are drawn, as the rows say."""

from torch import nn

from deeplab_spec.spec.rows import Init, InitKind

TRUNCATED_AT = 2.0
"""Standard deviations at which the release's truncated normal distribution is cut."""


def draw(conv: nn.Conv2d, init: Init) -> None:
    """Draw the weight of a convolution, in place.

    Args:
        conv: The convolution, as the framework made it.
        init: The distribution; the framework's own leaves the weight as it is.
    """
    match init.kind:
        case InitKind.KAIMING_FAN_IN:
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
        case InitKind.KAIMING_FAN_OUT:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        case InitKind.TRUNCATED_NORMAL:
            cut = TRUNCATED_AT * init.std
            nn.init.trunc_normal_(conv.weight, std=init.std, a=-cut, b=cut)
        case InitKind.XAVIER_UNIFORM:
            nn.init.xavier_uniform_(conv.weight)
        case InitKind.FRAMEWORK:
            pass
    if init.zero_bias and conv.bias is not None:
        nn.init.zeros_(conv.bias)


def draw_all(module: nn.Module, init: Init) -> None:
    """Draw every convolution of a module, and make every normalisation the identity, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            draw(layer, init)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
