"""Which check decides which clause."""

from typing import Final

from deeplab_spec.checks import interface, numerics, structure, training
from deeplab_spec.checks.evidence import Check

CHECKS: Final[dict[str, Check]] = {**interface.CHECKS, **structure.CHECKS, **numerics.CHECKS, **training.CHECKS}
