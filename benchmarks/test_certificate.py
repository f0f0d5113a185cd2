"""How long a certificate takes at full size, in a process of its own."""

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

EVALUATION = ("interface", "structure", "numerics")
SECONDS = {(16, EVALUATION): 45, (8, EVALUATION): 150, (16, ()): 60, (8, ()): 180}
"""Target by output stride and levels, on two cores; no level named is every level."""


@pytest.mark.parametrize(("output_stride", "levels"), SECONDS, ids=lambda value: str(value or "every level"))
@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_certificate_of_the_reference(
    variant: str, output_stride: int, levels: tuple[str, ...], benchmark: BenchmarkFixture
) -> None:
    """Building, reading the graph, aligning, two draws of weights, float64 and float32; then training."""
    command = [sys.executable, "-m", "deeplab_spec", "certify", f"reference:{variant}"]
    options = [word for level in levels for word in ("--level", level)]

    def certify() -> int:
        line = [*command, "--output-stride", str(output_stride), *options]
        return subprocess.run(line, check=False).returncode

    assert benchmark.pedantic(certify, rounds=1) == 0
    assert benchmark.stats["max"] <= SECONDS[output_stride, levels]
