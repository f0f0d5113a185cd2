"""How fast the closed-form evaluator is, under every convention, and compared with the tools."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from deeplab_spec.analysis.conventions import CONVENTIONS, FVCORE, TORCH, Convention
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.reference.network import build
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import VARIANTS, Variant
from tests.support.counters import count_with_fvcore, count_with_torch

EVALUATIONS_PER_SECOND = 1_000
NETWORKS_PER_SECOND = 100
SIZE = (513, 513)
RUNS_OF_A_TOOL = 3

BY_VARIANT = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
BY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)


@BY_CONVENTION
@BY_VARIANT
def test_evaluations_of_a_built_network(variant: Variant, convention: Convention, benchmark: BenchmarkFixture) -> None:
    """Another height, width and number of classes every time."""
    evaluator = Evaluator(network(variant.choices), convention)
    sizes = itertools.cycle((height, height + height % 97, height % 150 + 1) for height in range(65, 1100))

    benchmark(lambda: evaluator(*next(sizes)))

    assert 1 / benchmark.stats["median"] >= EVALUATIONS_PER_SECOND


@BY_CONVENTION
@BY_VARIANT
def test_evaluations_with_new_choices(variant: Variant, convention: Convention, benchmark: BenchmarkFixture) -> None:
    """Another width every time, so that rows, graph and evaluator are made again: the most expensive choice."""
    widths = (1 + number / 10_000 for number in itertools.count())

    benchmark(lambda: Evaluator(network(replace(variant.choices, width=next(widths))), convention)(*SIZE))

    assert 1 / benchmark.stats["median"] >= NETWORKS_PER_SECOND


@pytest.mark.parametrize("output_stride", [16, 8])
@BY_VARIANT
def test_totals_beside_the_tools(variant: Variant, output_stride: int, benchmark: BenchmarkFixture) -> None:
    """The totals of a network at 513x513 by three computations: they are equal, and timed in the same run.

    The closed form is timed with a new evaluator and with an existing one; the tools get a built
    module, which is not timed.
    """
    graph = network(variant.choices, output_stride)
    with torch.device("meta"):
        weightless, nothing = build(variant.name, output_stride), torch.empty(1, 3, *SIZE)
    module, image = build(variant.name, output_stride), torch.zeros(1, 3, *SIZE)
    evaluators = {convention.name: Evaluator(graph, convention) for convention in (TORCH, FVCORE)}

    by_torch, torch_seconds = _timed(lambda: count_with_torch(weightless, (nothing,), Mode.FORWARD).total)
    by_fvcore, fvcore_seconds = _timed(lambda: count_with_fvcore(module, (image,)).total)
    compiled, compile_seconds = _timed(lambda: Evaluator(graph, FVCORE)(*SIZE).operations)
    closed = benchmark(lambda: evaluators["fvcore"](*SIZE).operations)

    assert closed == compiled == by_fvcore
    assert evaluators["torch"](*SIZE).operations == by_torch
    seconds = benchmark.stats["median"]
    times = {"FlopCounterMode (meta)": torch_seconds, "fvcore (real forward)": fvcore_seconds}
    benchmark.extra_info["closed form, evaluator made afresh, s"] = compile_seconds
    print(f"\n{variant.name} at output stride {output_stride}: closed form {_written(seconds)}", end="")  # noqa: T201
    print(f" (evaluator made afresh {_written(compile_seconds)})", end="")  # noqa: T201 - read in the log
    for name, taken in times.items():
        benchmark.extra_info[f"{name}, s"] = taken
        benchmark.extra_info[f"{name} / closed form"] = taken / seconds
        benchmark.extra_info[f"{name} / evaluator made afresh"] = taken / compile_seconds
        ratios = f"{taken / seconds:,.0f} times ({taken / compile_seconds:,.0f} times)"
        print(f"; {name} {_written(taken)}, {ratios}", end="")  # noqa: T201
    print()  # noqa: T201


def _timed(count: Callable[[], float]) -> tuple[float, float]:
    """Return a result and the median time of some runs, in seconds, after a warm-up run."""
    result, taken = count(), []
    for _ in range(RUNS_OF_A_TOOL):
        start = time.perf_counter()
        count()
        taken.append(time.perf_counter() - start)
    return result, median(taken)


def _written(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.1f} ms"
