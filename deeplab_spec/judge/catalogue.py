"""Which check decides which clause."""

from typing import Final

from deeplab_spec.judge.evidence import Check
from deeplab_spec.judge.interface import check as interface
from deeplab_spec.judge.numerics import check as numerics
from deeplab_spec.judge.structure import check as structure
from deeplab_spec.judge.training import check as training

CHECKS: Final[dict[str, Check]] = {**interface.CHECKS, **structure.CHECKS, **numerics.CHECKS, **training.CHECKS}
