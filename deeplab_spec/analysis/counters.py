"""Conventions of other counters, as rows of prices: what each charges for every element, in data.

Each row charges one for a multiply-add of a convolution, and its own price for everything else. Prices of tools are
those of the networks in :mod:`deeplab_spec.reference`: what a tool finds depends on how a network is written, because
most of them see modules and miss functions. ``tests/count/test_counters.py`` executes every tool.
"""

from dataclasses import dataclass
from typing import Final

from deeplab_spec.analysis.conventions import CONVENTIONS, Convention, opaque
from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms, conv_weights
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Node, Source
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, GlobalAveragePool, Pool, PoolKind, Resize, ResizeMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a counter charges beside multiply-adds.

    Attributes:
        bias: For every output element of a convolution with a bias.
        norm: For every element of a normalisation with scale and offset; one without costs half.
        norm_vectors: For every number of scale and offset, once for an image.
        activation: For every element of an activation.
        mean: For every element that a global mean reads.
        mean_result: For every element of its result.
        max_pool: For every element that a maximum reads.
        resize: For every element of a bilinear result.
        nearest: For every element of a result by nearest neighbours.
    """

    bias: int = 0
    norm: int = 0
    norm_vectors: int = 0
    activation: int = 0
    mean: int = 0
    mean_result: int = 0
    max_pool: int = 0
    resize: int = 0
    nearest: int = 0

    def __call__(self, node: Node, around: Surroundings, mode: Mode) -> Terms:
        """Return the terms of a node."""
        del mode
        path = node.path
        match node.op:
            case Conv2d() as op:
                return (Term(conv_weights(op) + (self.bias * op.channels_out if op.bias else 0), path),)
            case BatchNorm(channels=channels, affine=affine):
                vectors = (Term(2 * self.norm_vectors * channels),) if affine and self.norm_vectors else ()
                return (around.elements(path, self.norm if affine else self.norm // 2), *vectors)
            case Activation():
                return (around.elements(path, self.activation),)
            case GlobalAveragePool():
                return (around.elements(node.inputs[0], self.mean), around.elements(path, self.mean_result))
            case Pool(kind=PoolKind.MAX):
                return (around.elements(node.inputs[0], self.max_pool),)
            case Resize(mode=mode_of_resize):
                nearest = mode_of_resize is ResizeMode.NEAREST
                return (around.elements(path, self.nearest if nearest else self.resize),)
            case _:
                return ()


def _of(name: str, title: str, prices: Prices, source: Source) -> Convention:
    return Convention(
        name=name, title=title, unit="operations", formula=prices, modes=(Mode.FORWARD,), skipped=opaque, source=source
    )


_PTFLOPS: Final = Source(work="ptflops 0.7.5", place="pytorch_ops.py and aten_ops.py")
_THOP: Final = Source(work="thop 0.1.1.post2209072238", place="vision/basic_hooks.py")
_HAND: Final = Source(work="this specification", place="analysis/counters.py")

_MMCV: Final = Source(work="ptflops 0.7.5 and mmcv 2.2.0", place="pytorch_ops.py and cnn/utils/flops_counter.py")
_TORCHINFO: Final = Source(work="torchinfo 1.8.0", place="layer_info.py")
_VECTORS: Final = Prices(bias=1, norm_vectors=1)
_MODULES: Final = Prices(norm=4, mean=1, mean_result=1, resize=11, nearest=1)
_DOUBLED: Final = Prices(bias=1, norm=2, activation=2, mean=1, max_pool=2, resize=1, nearest=1)
_NO_NORM: Final = Prices(bias=1, activation=1, mean=1, max_pool=1)
_ONCE: Final = Prices(bias=1, norm=2, activation=1, mean=1, max_pool=1)

# fmt: off
COUNTERS: Final = (
    _of("ptflops-aten", "ptflops on operators: multiply-adds, biases", Prices(bias=1), _PTFLOPS),
    _of("torchinfo", "torchinfo: multiply-adds, biases, vectors of normalisations", _VECTORS, _TORCHINFO),
    _of("thop", "thop: multiply-adds, normalisations (4)", Prices(norm=4), _THOP),
    _of("thop-modules", "thop, all modules: as thop, a mean, resizes (11)", _MODULES, _THOP),
    _of("ptflops", "ptflops: multiply-adds, biases, normalisations (2), activations (2), resizes", _DOUBLED, _PTFLOPS),
    _of("mmcv", "mmcv, ptflops without functions: as ptflops, activations once, no resizes", _ONCE, _MMCV),
    _of("mmcv-sync", "mmcv with SyncBatchNorm, which it misses: as mmcv, no normalisations", _NO_NORM, _MMCV),
    _of("mac+norm", "multiply-adds, normalisations (2 an element)", Prices(norm=2), _HAND),
    _of("mac+norm+relu", "multiply-adds, normalisations (2), activations (1)", Prices(norm=2, activation=1), _HAND),
    _of("mac+4norm+relu", "multiply-adds, normalisations (4), activations (1)", Prices(norm=4, activation=1), _HAND),
)
# fmt: on

EVERY: Final = (*CONVENTIONS, *COUNTERS)
"""Every convention that ``count`` knows."""


def convention(name: str) -> Convention:
    """Return the convention of a name, those of other counters included.

    Raises:
        SpecError: If there is none.
    """
    for candidate in EVERY:
        if candidate.name == name:
            return candidate
    raise SpecError("convention", f"must be one of {', '.join(entry.name for entry in EVERY)}", name)
