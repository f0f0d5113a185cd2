"""The figures that papers and libraries print for the other members, each with the network and the convention."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from deeplab_spec.analysis.conventions import MAC, TFPROF, Convention
from deeplab_spec.analysis.costs import Number, node_costs, total_cost
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol
from deeplab_spec.analysis.published import Configuration
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import AuxiliaryHead, ChoiceValue, Decoder
from deeplab_spec.spec.network import CLASSIFIER
from deeplab_spec.spec.sources import library, paper, release
from deeplab_spec.spec.variants import variant

_CONVENTIONS: Final = {MAC.name: MAC, TFPROF.name: TFPROF}
PARAMETERS: Final = "parameters"
WITH_STATISTICS: Final = "parameters and running statistics, without the logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A figure as it is printed, with the network that it is about.

    Attributes:
        configuration: The network and its evaluation.
        counts: What is counted: a convention's name, ``parameters``, or these with running statistics.
        figure: The figure: multiply-adds in billions, or parameters.
        source: Who prints it.
        note: What is known of a figure that does not come out.
    """

    configuration: Configuration
    counts: str
    figure: str
    source: Source
    note: str = ""

    @property
    def computed(self) -> Number:
        """The figure of the specification: multiply-adds, or parameters."""
        if self.counts in _CONVENTIONS:
            return self.configuration.operations(_CONVENTIONS[self.counts])
        graph = self.configuration.subject().network()
        costs = node_costs(graph, shapes(graph, self.configuration.size), MAC)
        sizes = total_cost(costs).sizes
        if self.counts == PARAMETERS:
            return sizes.parameters
        logits = sum(cost.sizes.parameters for cost in costs if cost.path == CLASSIFIER)
        return sizes.parameters + sizes.buffers - logits

    @property
    def residual(self) -> float:
        """The relative difference from the printed figure."""
        unit = 1e9 if self.counts in _CONVENTIONS else 1
        return self.computed / unit / float(self.figure.replace(",", "")) - 1


def _figure(
    source: Source,
    name: str,
    output_stride: int,
    figure: str,
    *,
    overrides: Mapping[str, ChoiceValue] | None = None,
    counts: Convention | str = TFPROF,
    size: Pair = (513, 513),
    classes: int = 21,
    protocol: Protocol = SINGLE,
    note: str = "",
) -> Printed:
    configuration = Configuration(
        variant=variant(name),
        overrides=tuple((overrides or {}).items()),
        output_stride=output_stride,
        protocol=protocol,
        size=size,
        classes=classes,
        source=source,
    )
    named = counts if isinstance(counts, str) else counts.name
    return Printed(configuration=configuration, counts=named, figure=figure, source=source, note=note)


_TABLE_3: Final = paper("table 3")
_ZOO: Final = release("model zoo")
_TORCHVISION: Final = library("torchvision", "weights")
_SMP: Final = library("segmentation-models-pytorch", "public logs")
_KERAS: Final = library("keras-hub", "presets")

_101: Final = "tf-resnet101-dense"
_V3: Final = "torchvision-mobilenet-v3-large"
_PLAIN: Final = {"decoder": Decoder.NONE}
_FCN: Final = {"auxiliary": AuxiliaryHead.FCN}
_HALF: Final = {"depth_multiplier": 0.5, "channel_divisor": 1}
_SCALES: Final = Protocol(scales=MULTI_SCALE)
_FLIP: Final = Protocol(scales=MULTI_SCALE, flip=True)
_CITY_SCALES: Final = Protocol(scales=(Fraction(3, 4), Fraction(1), Fraction(5, 4)), flip=True)
_CITY: Final = (1025, 2049)
_UNRESOLVED: Final = "does not come out"

# fmt: off
PRINTED: Final = (
    _figure(_TABLE_3, _101, 16, "81.02", overrides=_PLAIN),
    _figure(_TABLE_3, _101, 8, "276.18", overrides=_PLAIN),
    _figure(_TABLE_3, _101, 16, "101.28", note="an erratum of the paper: its own accounting gives 102.78"),
    _figure(_TABLE_3, _101, 8, "297.92"),
    _figure(_TABLE_3, _101, 32, "52.43", overrides=_PLAIN),
    _figure(_TABLE_3, _101, 32, "74.20"),
    _figure(_TABLE_3, _101, 8, "2435.37", overrides=_PLAIN, protocol=_SCALES),
    _figure(_TABLE_3, _101, 16, "898.69", protocol=_SCALES),
    _figure(_TABLE_3, _101, 8, "2623.61", protocol=_SCALES),
    _figure(_TABLE_3, _101, 8, "4870.59", overrides=_PLAIN, protocol=_FLIP),
    _figure(_TABLE_3, _101, 16, "1797.23", protocol=_FLIP),
    _figure(_TABLE_3, _101, 8, "5247.07", protocol=_FLIP),
    _figure(_ZOO, "tf-xception71-dpc", 16, "502.07", size=_CITY, classes=19),
    _figure(_ZOO, "tf-mobilenet-v2", 16, "2.75"),
    _figure(_ZOO, "tf-mobilenet-v2", 8, "152.59", protocol=_FLIP),
    _figure(_ZOO, "tf-mobilenet-v2", 16, "21.27", size=_CITY, classes=19, note="0.06 % low"),
    _figure(_ZOO, "tf-mobilenet-v2", 8, "433.24", size=_CITY, classes=19, protocol=_CITY_SCALES),
    _figure(_ZOO, "tf-mobilenet-v2", 16, "0.88", overrides=_HALF, note=_UNRESOLVED),
    _figure(_ZOO, "tf-mobilenet-v2", 8, "2.84", overrides=_HALF, note=_UNRESOLVED),
    _figure(_TORCHVISION, "torchvision-resnet50", 8, "178.722", overrides=_FCN, counts=MAC, size=(520, 520)),
    _figure(_TORCHVISION, "torchvision-resnet101", 8, "258.743", overrides=_FCN, counts=MAC, size=(520, 520)),
    _figure(_TORCHVISION, "torchvision-resnet50", 8, "42,004,074", overrides=_FCN, counts=PARAMETERS),
    _figure(_TORCHVISION, "torchvision-resnet101", 8, "60,996,202", overrides=_FCN, counts=PARAMETERS),
    _figure(_TORCHVISION, _V3, 16, "10.452", overrides=_FCN, counts=MAC, size=(520, 520)),
    _figure(_TORCHVISION, _V3, 16, "11,029,328", overrides=_FCN, counts=PARAMETERS),
    _figure(_SMP, "smp-resnet34", 16, "22,437,457", counts=PARAMETERS, size=(512, 512), classes=1),
    _figure(_SMP, "smp-resnet101", 16, "45,669,713", counts=PARAMETERS, size=(512, 512), classes=1),
    _figure(_KERAS, "keras-hub-resnet50", 32, "39,190,656", counts=WITH_STATISTICS),
)
# fmt: on
"""Every printed figure of the members beside those of the paper's table 5."""
