"""How long a certificate of every level takes at full size, in a process of its own."""

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

SECONDS = {16: 45, 8: 150}
"""Target by output stride, on two cores."""


@pytest.mark.parametrize("output_stride", SECONDS)
@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_certificate_of_the_reference(variant: str, output_stride: int, benchmark: BenchmarkFixture) -> None:
    """Building, reading the graph, aligning, two draws of weights, float64 and float32."""
    command = [sys.executable, "-m", "deeplab_spec", "certify", f"reference:{variant}"]

    def certify() -> int:
        return subprocess.run([*command, "--output-stride", str(output_stride)], check=False).returncode

    assert benchmark.pedantic(certify, rounds=1) == 0
    assert benchmark.stats["max"] <= SECONDS[output_stride]
