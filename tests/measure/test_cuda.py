"""Tests that need a CUDA device: its clock, memory, graphs and TF32, and files that run on it."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.errors import SpecError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.measure.device import megahertz, peak_bytes, reset_peak, timed_warm
from deeplab_spec.measure.modes import read_mode
from tests.support.networks import Small, images

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: not run"),
]


def test_tf32_rounds_the_factors_of_products_and_ieee_does_not() -> None:
    """4097 needs twelve bits after its leading one; with ten it becomes 4096."""
    factor = torch.full((64, 64), 4097.0, device="cuda")
    image, kernel = factor.view(1, 64, 8, 8).contiguous(), factor.view(64, 64, 1, 1)

    for tf32, expected in ((False, 4097.0), (True, 4096.0)):
        with float32_products(tf32=tf32):
            results = factor @ factor, torch.nn.functional.conv2d(image, kernel)
        for result in results:
            assert set((result / 64).sqrt().round().unique().tolist()) == {expected}


def test_a_recorded_graph_replays_new_images_and_refuses_another_size() -> None:
    """A later call does not overwrite an earlier output."""
    module = Small().cuda().eval()
    x, y = images().cuda(), images().neg().cuda()
    running = read_mode("cuda_graph").apply(module, x)

    first, second = running(x), running(y)

    torch.testing.assert_close(first, module(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second, module(y).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(SpecError, match="takes the recorded size"):
        running(x[:1])


def test_the_pool_of_a_graph_counts_as_its_memory() -> None:
    """A graph needs at least as much memory as the network alone."""
    module = nn.Sequential(*(nn.Conv2d(3 if number == 0 else 64, 64, 3, padding=1) for number in range(4))).cuda()
    x, device = torch.randn(4, 3, 256, 256, device="cuda"), torch.device("cuda")
    peaks = {}
    for name in ("eager", "cuda_graph"):
        running = read_mode(name).apply(module, x)
        reset_peak(device)
        running(x)
        peaks[name] = peak_bytes(device)
        del running

    assert peaks["cuda_graph"] >= 0.9 * peaks["eager"]


def test_a_call_is_timed_by_the_devices_events_and_its_clock_is_read() -> None:
    """Ten times the work takes longer."""
    factor = torch.randn(2048, 2048, device="cuda")

    def work(times: int) -> None:
        for _ in range(times):
            factor @ factor

    one, ten = (timed_warm(partial(work, times), torch.device("cuda"), 5) for times in (1, 10))

    assert 0 < one < ten
    clock = megahertz(torch.device("cuda"))
    assert clock is None or clock > 0


@pytest.mark.filterwarnings("ignore")  # what exporting warns of is the framework's own
def test_an_exported_file_is_judged_on_the_device(tmp_path: Path) -> None:
    """It has no module parameters from which its device could be found."""
    choices = {"width": 0.125, "middle_blocks": 1}
    module = deeplab_spec.build("notebook", choices=choices).eval()
    file = tmp_path / "network.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 289, 297),)), file)

    certificate = deeplab_spec.certify(
        str(file), "notebook", choices=choices, levels=("numerics",), dtypes=("float64", "float32"), device="cuda"
    )

    assert {clause.verdict.value for clause in certificate.clauses if clause.findings} == set()
    assert certificate.verdict != "deviates"
