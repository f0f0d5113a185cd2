"""Float32 products have the requested precision whatever a program set before; its settings are restored."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.finding import RunVerdict
from tests.support.candidates import SMALL

NEW = {
    "all": torch.backends,
    "CUDA": torch.backends.cudnn,
    "convolutions": torch.backends.cudnn.conv,
    "recurrent layers": torch.backends.cudnn.rnn,
    "matrices": torch.backends.cuda.matmul,
    "matrices of the processor": torch.backends.mkldnn.matmul,
}


def _new(**values: str) -> Callable[[], None]:
    """Return what sets new switches."""

    def setting() -> None:
        for name, value in values.items():
            NEW[name.replace("_", " ")].fp32_precision = value

    return setting


def _old(*, convolutions: bool, matrices: bool) -> Callable[[], None]:
    """Return what sets old switches."""

    def setting() -> None:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = matrices

    return setting


def _both() -> None:
    _old(convolutions=False, matrices=True)()
    _new(all="ieee", convolutions="tf32", matrices="ieee")()


SETTINGS = {
    "nothing": lambda: None,
    "a new switch": _new(convolutions="ieee"),
    "a new switch of matrices": _new(matrices="tf32"),
    "a new switch above others": _new(all="tf32", CUDA="ieee", convolutions="none"),
    "both old switches": _old(convolutions=False, matrices=True),
    "the other old ones": _old(convolutions=True, matrices=False),
    "a medium precision of matrices": lambda: torch.set_float32_matmul_precision("medium"),
    "old and new ones": _both,
}


def readable_switches() -> dict[str, object]:
    """Return the readable values of the switches; an error as text."""

    def said(read: Callable[[], object]) -> object:
        try:
            return read()
        except RuntimeError as error:
            return f"refused: {str(error)[:40]}"

    old: dict[str, Callable[[], object]] = {
        "old convolutions": lambda: torch.backends.cudnn.allow_tf32,
        "old matrices": lambda: torch.backends.cuda.matmul.allow_tf32,
        "old precision": torch.get_float32_matmul_precision,
    }
    new = {name: said(lambda holder=holder: holder.fp32_precision) for name, holder in NEW.items()}  # type: ignore[misc]
    return {**new, **{name: said(read) for name, read in old.items()}}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Restore the switches of the tests' process."""
    yield
    for holder in NEW.values():
        holder.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for name in ("matrices", "matrices of the processor"):
        NEW[name].fp32_precision = "none"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("tf32", [True, False])
def test_products_have_the_precision_and_switches_are_restored(setting: Callable[[], None], *, tf32: bool) -> None:
    """The old switches cannot be read once a new one disagrees with them, so they alone cannot be saved.

    Inside, old and new ones agree: a compiler that reads an old one there gets an answer.
    """
    setting()
    before = readable_switches()
    with float32_products(tf32=tf32):
        inside = readable_switches()
        NEW["convolutions"].fp32_precision = "ieee" if tf32 else "tf32"  # a candidate may set one while it runs

    assert inside["old convolutions"] is inside["old matrices"] is tf32
    assert (inside["convolutions"] == "tf32") is (inside["matrices"] == "tf32") is tf32
    assert inside["matrices of the processor"] != "bf16"
    assert readable_switches() == before


def test_an_unset_switch_stays_unset() -> None:
    """An unset switch is not restored to the value of its parent."""
    _new(CUDA="ieee", convolutions="none")()
    with float32_products(tf32=True):
        pass
    _new(CUDA="tf32")()

    assert NEW["convolutions"].fp32_precision == "tf32"


@pytest.mark.parametrize("name", ["a new switch", "old and new ones", "both old switches"])
def test_a_candidate_that_sets_switches_is_judged(name: str) -> None:
    """It may set them at import or when it is built; the run continues, and nothing stays set."""
    setting = SETTINGS[name]
    setting()
    before = readable_switches()

    def build(**_: object) -> nn.Module:
        setting()
        return deeplab_spec.build("tf-release", choices=SMALL).get_submodule("aspp")

    certificate = deeplab_spec.certify(
        build, "tf-release", choices=SMALL, part="aspp", levels=["numerics"], dtypes=["float64", "float32"]
    )

    assert certificate.verdict is RunVerdict.CONFORMS
    assert readable_switches() == before
