"""The published networks that tests go through: those of one family, and one of every kind."""

from typing import Final

from deeplab_spec.spec.variants import (
    NOTEBOOK,
    SMP_RESNET34,
    TF_MOBILENET_V2,
    TF_RELEASE,
    TF_RELEASE_DENSE,
    TF_RESNET50,
    TF_XCEPTION71_DPC,
    TORCHVISION_MOBILENET_V3_LARGE,
    VARIANTS,
)

VARIANT_NAMES: Final = ", ".join(variant.name for variant in VARIANTS)
"""All names, as messages list them."""

XCEPTIONS: Final = (NOTEBOOK, TF_RELEASE, TF_RELEASE_DENSE)
"""The document's network and the release's, whose backbone is xception_65."""

OTHERS: Final = (TF_XCEPTION71_DPC, TF_RESNET50, SMP_RESNET34, TF_MOBILENET_V2, TORCHVISION_MOBILENET_V3_LARGE)
"""One network of every other kind of layer: a cell, bottlenecks, basic units, inverted residuals, gates."""

KINDS: Final = (*XCEPTIONS, *OTHERS)
"""Networks with every kind of layer."""

CASES: Final = (
    *((variant.name, output_stride) for variant in XCEPTIONS for output_stride in variant.output_strides),
    *((variant.name, output_stride) for variant, output_stride in zip(OTHERS, (16, 8, 16, 8, 16), strict=True)),
)
"""Names with output strides: all of one family, and one of every other kind."""
