"""``optimize``: a new module in a mode, certified equal, or a clear refusal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.errors import NotEqualError, SpecError, TargetError
from deeplab_spec.measure import modes, parts
from deeplab_spec.measure.modes import APPLY, Apply
from deeplab_spec.optimize import service
from deeplab_spec.optimize.service import optimize, random_images
from tests.support.networks import Named, Small, draw, images, norms

REWRITES = ("eager", "channels_last", "folded", "shifted", "folded+shifted+channels_last")


def change(monkeypatch: pytest.MonkeyPatch, name: str, apply: Apply) -> None:
    """Replace the function of a part."""
    monkeypatch.setattr(modes, "APPLY", {**APPLY, name: apply})


@pytest.mark.parametrize("mode", REWRITES)
def test_optimized_module_computes_the_same_in_its_mode(mode: str) -> None:
    """It is equal on the example, and on an image of another size."""
    module = Small()

    result = optimize(module, mode, example=images())

    other = torch.randn(1, 3, 31, 12)
    torch.testing.assert_close(result(other), module(other).detach(), rtol=1e-4, atol=1e-5)
    assert result.mode == mode
    assert result.agreement.equal
    assert not result(other).requires_grad


def test_argument_is_not_changed() -> None:
    """Its weights, layers, layout, training mode and gradient flags stay."""
    module = Small().train()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in module.state_dict().items()}

    result = optimize(module, "folded+shifted+channels_last", example=images())

    assert module.training
    assert norms(module) == 4
    assert type(module.depthwise) is nn.Conv2d
    assert all(
        torch.equal(tensor, before[name][0]) and tensor.stride() == before[name][1]
        for name, tensor in module.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert norms(result) == 1


def test_a_dictionary_stays_a_dictionary() -> None:
    """The output has the structure of the module's output."""
    result = optimize(Named(), "folded", example=images())

    assert list(result(images())) == ["out"]


@pytest.mark.filterwarnings("ignore")  # what the compiler warns of is its own code
def test_compiled_module_computes_the_same() -> None:
    """With the weights as constants, after both rewrites. The setting of the process is restored."""
    import torch._inductor.config as inductor

    module = Small()
    before = inductor.freezing

    result = optimize(module, "folded+shifted+channels_last+compiled_frozen", example=images())

    torch.testing.assert_close(result(images()), module(images()).detach(), rtol=1e-4, atol=1e-5)
    assert inductor.freezing == before


def test_mode_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a thousandth is detected, and the message has its size."""

    def wrong(module: nn.Module, _example: Tensor) -> nn.Module:
        return nn.Sequential(module, Scale(1.001))

    change(monkeypatch, "folded", wrong)

    with pytest.raises(NotEqualError, match=r"folded: does not compute what the module computes: its error is 0\.001"):
        optimize(Small(), "folded", example=images())


class Scale(nn.Module):
    """Multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self.factor * x


def test_mode_that_cannot_be_prepared_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any exception of a compiler."""

    def broken(_module: nn.Module, _example: Tensor) -> nn.Module:
        raise RuntimeError("no compiler\nat line 7")

    change(monkeypatch, "compiled", broken)

    with pytest.raises(TargetError, match=r"^compiled: cannot be prepared: RuntimeError: no compiler$"):
        optimize(Small(), "compiled", example=images())


def test_auto_takes_the_fastest_of_those_that_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode that does nothing is the fastest, but wrong: it is refused and listed."""

    def nothing(_module: nn.Module, _example: Tensor) -> nn.Module:
        return nn.Identity()

    clock = {"folded": 1.0, "eager": 2.0, "channels_last": 3.0}
    monkeypatch.setattr(service, "timed_warm", lambda work, _device: clock[_mode_of(work.func)])
    change(monkeypatch, "shifted", nothing)

    result = optimize(Small(), example=images(), candidates=("eager", "channels_last", "folded", "shifted"), runs=3)

    assert result.mode == "folded"
    assert result.seconds == clock
    assert list(result.refused) == ["shifted"]
    assert "does not compute" in result.refused["shifted"]


def _mode_of(module: nn.Module) -> str:
    weight = next(parameter for parameter in module.parameters() if parameter.ndim == 4)
    if weight.is_contiguous(memory_format=torch.channels_last):
        return "channels_last"
    return "eager" if norms(module) == 4 else "folded"


def test_auto_without_an_equal_mode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only certified modes are returned."""
    change(monkeypatch, "shifted", lambda _module, _example: nn.Identity())

    with pytest.raises(TargetError, match="shifted: does not compute"):
        optimize(Small(), example=images(), candidates=("shifted",))


def test_impossible_modes_and_examples_are_refused() -> None:
    """One line has the argument, the rule and the value."""
    with pytest.raises(SpecError, match="mode: must be eager, or some of"):
        optimize(Small(), "quick", example=images())
    with pytest.raises(SpecError, match="runs: must be 1 or more, but got 0"):
        optimize(Small(), example=images(), runs=0)
    with pytest.raises(SpecError, match="example: must be given for a module without a convolution"):
        optimize(nn.ReLU())
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match=r"must be able to run here \(no CUDA device\), but got 'cuda_graph'"):
            optimize(Small(), "cuda_graph", example=images())


def test_example_has_the_channels_of_the_first_kernel() -> None:
    """The same example is drawn every time."""
    module = nn.Conv2d(5, 2, 3)

    assert random_images(module, (7, 9), 2).shape == (2, 5, 7, 9)
    assert torch.equal(random_images(module, (7, 9)), random_images(module, (7, 9)))


@pytest.mark.parametrize("variant", [pytest.param("notebook", marks=pytest.mark.deep), "tf-release"])
def test_every_normalisation_of_the_reference_is_folded(variant: str) -> None:
    """Each is the only user of a convolution."""
    module = draw(deeplab_spec.build(variant, choices={"width": 0.125}))

    result = optimize(module, "folded+channels_last", example=torch.randn(1, 3, 33, 49))

    assert norms(module) > 100
    assert norms(result) == 0


@pytest.mark.deep
def test_reference_with_its_channels_last_is_certified_by_the_judge() -> None:
    """By all clauses of structure and numerics.

    The released network does not amplify rounding with these weights; that of the source document does.
    """
    choices = {"width": 0.125}
    module = draw(deeplab_spec.build("tf-release", choices=choices))

    result = optimize(module, "channels_last", example=torch.randn(1, 3, 33, 49))

    certificate = deeplab_spec.certify(result, "tf-release", choices=choices, levels=("structure", "numerics"))
    assert certificate.verdict == "conforms"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: not run")
@pytest.mark.parametrize("mode", [name for name in modes.DEFAULTS["cuda"] if "compiled" not in name])
def test_modes_of_a_gpu_compute_the_same(mode: str) -> None:
    """Each within three times the module's own error in its precision."""
    module = Small().cuda()

    assert optimize(module, mode, example=images().cuda()).agreement.equal


@pytest.mark.parametrize("mode", ["onnxruntime", "openvino", "folded+openvino"])
@pytest.mark.parametrize("kind", [Small, Named])
def test_engine_is_called_like_the_original(mode: str, kind: type[nn.Module]) -> None:
    """Also at another size and batch. A later call does not overwrite an earlier output."""
    module = kind()
    result = optimize(module, mode, example=images(), runs=1)

    first = _tensor(result(images()))
    before = first.clone()
    other = torch.randn(1, 3, 31, 12)
    strided = torch.randn(1, 3, 34, 23)[:, :, ::2]

    for x in (other, strided, images().neg()):
        torch.testing.assert_close(_tensor(result(x)), _tensor(module(x)).detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(first, before)


def test_engine_refuses_another_dtype() -> None:
    """It computes in float32 only."""
    result = optimize(Small(), "onnxruntime", example=images(), runs=1)

    with pytest.raises(SpecError, match="OnnxRuntime: takes a batch of float32 images on the CPU, but got 'float64"):
        result(images().double())


def _tensor(result: Tensor | dict[str, Tensor]) -> Tensor:
    return result["out"] if isinstance(result, dict) else result


def test_auto_tries_the_installed_engines_and_lists_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing engine is not a failure; its extra is listed."""
    monkeypatch.setattr(parts, "find_spec", lambda name: None if name == "openvino" else object())
    monkeypatch.setattr(service, "AUTOMATIC", {"cpu": ("eager", "onnxruntime", "openvino")})

    result = optimize(Small(), example=images(), runs=1)

    assert set(result.seconds) == {"eager", "onnxruntime"}
    assert result.not_installed == {"openvino": "it needs the extra 'openvino': pip install 'deeplab-spec[openvino]'"}
    assert "may be faster: openvino, it needs the extra 'openvino'" in repr(result)


def test_repr_shows_mode_error_and_time_against_eager() -> None:
    """Also for a single named mode."""
    result = optimize(Small(), "folded", example=images(), runs=1)

    assert set(result.seconds) == {"eager", "folded"}
    assert result.speedup == result.seconds["eager"] / result.seconds["folded"]
    for part in ("mode folded", "error ", "times as fast as eager", " ms a run"):
        assert part in repr(result)


def test_long_preparation_shows_progress() -> None:
    """Every mode is named before its preparation, with its expected time."""
    stages: list[tuple[str, int, int]] = []

    optimize(
        Small(),
        example=images(),
        candidates=("eager", "folded"),
        runs=1,
        progress=lambda *stage: stages.append(stage),
    )

    assert [stage for stage, _, _ in stages] == [
        "float64 reference",
        "preparing eager, about 0 s",
        "preparing folded, about 8 s",
        "timing",
    ]
    assert all(done < total == 3 for _, done, total in stages)


def test_modes_near_the_fastest_are_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbed first run does not decide between two modes that take the same time."""
    clock = {"eager": [9.0, 9.0], "channels_last": [1.0, 2.0, 2.0], "folded": [1.1, 1.0, 1.0]}
    monkeypatch.setattr(service, "timed_warm", lambda work, _device: clock[_mode_of(work.func)].pop(0))

    result = optimize(Small(), example=images(), candidates=("eager", "channels_last", "folded"), runs=1)

    assert result.mode == "folded"
    assert clock["eager"] == [9.0]


@pytest.mark.parametrize("mode", ["float16", "autocast-float16"])
def test_a_module_whose_float16_overflows_is_refused(mode: str) -> None:
    """Infinite values cannot be compared."""
    module = Small()
    with torch.no_grad():
        module.pointwise.weight.mul_(1e6)

    with pytest.raises(NotEqualError, match=f"^{mode}: cannot be certified: the module's own values are not finite"):
        optimize(module, mode, example=images())


def test_openvino_is_run_without_its_telemetry(tmp_path: Path) -> None:
    """With telemetry every import is reported to Intel, with an identity in the home directory."""
    code = (
        "import deeplab_spec; from tests.support.networks import Small, images; "
        "print(deeplab_spec.optimize(Small(), 'openvino', example=images(), runs=1))"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment, check=True
    )

    assert "mode openvino" in result.stdout
    assert not (tmp_path / "intel").exists()
