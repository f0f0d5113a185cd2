"""How fast the closed-form evaluator answers: sizes and classes, and new choices."""

import itertools
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import VARIANTS, Variant

EVALUATIONS_PER_SECOND = 1_000
NETWORKS_PER_SECOND = 100

BY_VARIANT = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@BY_VARIANT
def test_evaluations_of_a_built_network(variant: Variant, benchmark: BenchmarkFixture) -> None:
    """Another height, width and number of classes every time."""
    evaluator = Evaluator(network(variant.choices))
    sizes = itertools.cycle((height, height + height % 97, height % 150 + 1) for height in range(65, 1100))

    benchmark(lambda: evaluator(*next(sizes)))

    assert 1 / benchmark.stats["median"] >= EVALUATIONS_PER_SECOND


@BY_VARIANT
def test_evaluations_with_new_choices(variant: Variant, benchmark: BenchmarkFixture) -> None:
    """Another width every time, so that rows, graph and evaluator are made afresh; the worst case of a choice."""
    widths = (1 + number / 10_000 for number in itertools.count())

    benchmark(lambda: Evaluator(network(replace(variant.choices, width=next(widths))))(513, 513))

    assert 1 / benchmark.stats["median"] >= NETWORKS_PER_SECOND
