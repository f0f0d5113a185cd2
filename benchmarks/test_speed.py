"""How fast the reference runs: the whole network and each distinct block, forward and in a training step.

The network has a quarter of the width and an input of 257x257, so that the whole run takes minutes; use
``deeplab-spec bench`` for the full size. Every mode is certified equal before it is timed. Each record has
operations, bytes, peak memory, the clock and versions; that of a forward pass has the fraction of the roofline,
which is the time of the least work at the ceilings of the mode's precision.
"""

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from deeplab_spec.analysis.costs import BatchCost, batch_costs, block_of
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.bench.plan import LeastWork, least_work
from deeplab_spec.bench.worker import calibrated
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.measure.device import ceilings, device_name, megahertz, peak_bytes, reset_peak, timed_warm
from deeplab_spec.measure.modes import read_mode
from deeplab_spec.measure.statistics import CeilingsModel
from deeplab_spec.optimize.service import optimize, random_images
from deeplab_spec.precision import Precision
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network

CHOICES = {"width": 0.25}
SIZE = (257, 257)
BATCH = {Mode.FORWARD: 1, Mode.TRAIN: 2}
ROUNDS = 5
VARIANTS = ("notebook", "tf-release")
WHOLE = ""

BEST = {
    "cpu": "folded+channels_last+compiled_frozen",
    "cuda": "folded+channels_last+autocast-float16+cuda_graph",
}
"""The fastest of the modes that need no engine, by device."""

FLOWS = ("stem.conv1", "stem.conv2", "block1", "block2", "block3")
BLOCKS = (
    *(f"backbone.entry_flow.{name}" for name in FLOWS),
    "backbone.middle_flow.block1",
    "backbone.exit_flow.block1",
    "backbone.exit_flow.block2",
    "aspp",
    "decoder",
)
"""Every distinct block; one for the sixteen of the middle flow."""

DEVICES = (
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: not run")),
)
ON_DEVICES = pytest.mark.parametrize("device", DEVICES)


class WithLowLevel(nn.Module):
    """The decoder as a function of its first input.

    Args:
        decoder: The decoder.
        low_level: Its second input.
    """

    def __init__(self, decoder: nn.Module, low_level: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("low_level", low_level)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the decoder."""
        result: Tensor = self.decoder(x, self.low_level.to(x.dtype))
        return result


def subject(variant: str, path: str, device: str, mode: Mode) -> tuple[nn.Module, Tensor]:
    """Return a block, or the whole network, with the input that it has in the network."""
    torch.manual_seed(0)
    module = build(variant, choices=CHOICES).to(device).eval()
    module = calibrated(module, random_images(module, SIZE, 2, seed=1))
    images = random_images(module, SIZE, BATCH[mode])
    if path == WHOLE:
        return module, images
    seen: list[Tensor] = []
    block = module.get_submodule(path)
    handle = block.register_forward_pre_hook(
        lambda _module, arguments: seen.extend(each for each in arguments if isinstance(each, Tensor))
    )
    with torch.no_grad():
        module(images)
    handle.remove()
    inner = mode is Mode.TRAIN and path != BLOCKS[0]  # no gradient is computed of the image
    first, *others = (value.detach().requires_grad_(inner) for value in seen)
    return (WithLowLevel(block, others[0]) if others else block), first


def nodes_of(variant: str, path: str) -> dict[str, str]:
    """Return the nodes of a block, or of the whole network, with the block's path."""
    graph = network(variant, choices=CHOICES)
    return {node.path: path for node in graph if path in {WHOLE, block_of(node.path), node.path.partition(".")[0]}}


def cost(variant: str, path: str, mode: Mode) -> BatchCost:
    """Return the work of a block from the specification, with every operator run alone."""
    graph = network(variant, choices=CHOICES)
    return batch_costs(graph, shapes(graph, SIZE), mode, BATCH[mode], nodes_of(variant, path))[path]


def least(variant: str, path: str, images: Tensor, result: Tensor) -> LeastWork:
    """Return the least work of a block's forward pass: its convolutions, its input and its output."""
    graph = network(variant, choices=CHOICES)
    inside = [node for node in graph if node.path in nodes_of(variant, path)]
    work = least_work(inside, shapes(graph, SIZE), BATCH[Mode.FORWARD])
    whole = work.numbers if path == WHOLE else work.numbers + images.numel() + result.numel()
    return LeastWork(flops=work.flops, numbers=whole)


@cache
def ceilings_of(device: str, precision: Precision) -> CeilingsModel:
    """Measure the ceilings of a precision once."""
    return ceilings(torch.device(device), precision)


def measure(
    benchmark: BenchmarkFixture, work: Callable[[], object], device: str, costs: BatchCost, batch: int
) -> float:
    """Time some work, and record its circumstances; return the seconds."""
    place = torch.device(device)
    reset_peak(place)
    work()
    peak = peak_bytes(place)

    def waited() -> None:
        work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    benchmark.pedantic(waited, rounds=ROUNDS, warmup_rounds=1)
    seconds: float = benchmark.stats["median"] if device == "cpu" else timed_warm(work, place, ROUNDS)
    benchmark.extra_info.update(
        device=device_name(place),
        batch=batch,
        seconds=seconds,
        images_per_second=batch / seconds,
        flops=costs.flops,
        bytes=costs.moved,
        peak_memory_bytes=peak,
        megahertz=megahertz(place),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    return seconds


def step(module: nn.Module, images: Tensor) -> None:
    """Compute the gradient of the mean square of the result, in IEEE float32."""
    with float32_products(tf32=False):
        module.zero_grad(set_to_none=True)
        module(images).square().mean().backward()


@ON_DEVICES
@pytest.mark.parametrize("kind", ["eager", "best"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_network_forward(variant: str, kind: str, device: str, benchmark: BenchmarkFixture) -> None:
    """Images per second of a forward pass."""
    _forward(variant, WHOLE, kind, device, benchmark)


@ON_DEVICES
@pytest.mark.parametrize("kind", ["eager", "best"])
@pytest.mark.parametrize("path", BLOCKS)
def test_block_forward(path: str, kind: str, device: str, benchmark: BenchmarkFixture) -> None:
    """The time of every block in a forward pass."""
    _forward("tf-release", path, kind, device, benchmark)


def _forward(variant: str, path: str, kind: str, device: str, benchmark: BenchmarkFixture) -> None:
    module, images = subject(variant, path, device, Mode.FORWARD)
    running = optimize(module, BEST[device] if kind == "best" else "eager", example=images, runs=1)
    benchmark.extra_info.update(mode=running.mode, error=running.agreement.error.mean)
    batch = BATCH[Mode.FORWARD]
    seconds = measure(benchmark, partial(running, images), device, cost(variant, path, Mode.FORWARD), batch)
    precision = read_mode(running.mode).precision
    work = least(variant, path, images, running(images))
    shortest = ceilings_of(device, precision).least_seconds(work.flops, work.numbers * precision.bytes)
    benchmark.extra_info.update(precision=precision.name, roofline_fraction=shortest / seconds)


@ON_DEVICES
@pytest.mark.parametrize("layout", ["eager", "channels_last"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_network_training_step(variant: str, layout: str, device: str, benchmark: BenchmarkFixture) -> None:
    """Images per second of a forward and a backward pass."""
    _train(variant, WHOLE, layout, device, benchmark)


@ON_DEVICES
@pytest.mark.parametrize("layout", ["eager", "channels_last"])
@pytest.mark.parametrize("path", BLOCKS)
def test_block_training_step(path: str, layout: str, device: str, benchmark: BenchmarkFixture) -> None:
    """The time of every block in a training step."""
    _train("tf-release", path, layout, device, benchmark)


def _train(variant: str, path: str, layout: str, device: str, benchmark: BenchmarkFixture) -> None:
    module, images = subject(variant, path, device, Mode.TRAIN)
    module.train()
    if layout == "channels_last":
        module, images = module.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    benchmark.extra_info.update(mode=layout)
    measure(benchmark, partial(step, module, images), device, cost(variant, path, Mode.TRAIN), BATCH[Mode.TRAIN])
