"""The effect of each erratum of the source document on costs, computed from the graphs with and without it."""

from dataclasses import dataclass

from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.errata import Erratum
from deeplab_spec.spec.network import DEFAULT_CLASSES, network
from deeplab_spec.spec.variants import NOTEBOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The cost that an erratum adds to the corrected network at one output stride.

    Attributes:
        output_stride: Input pixels per pixel of the backbone's result.
        parameters: Parameters of the document's network minus those of the corrected one.
        macs: The same difference of convolution multiply-adds.
    """

    output_stride: int
    parameters: int
    macs: int


def effects(erratum: Erratum, size: Pair = (513, 513), classes: int = DEFAULT_CLASSES) -> tuple[Effect, ...]:
    """Return the effect of an erratum at every output stride of the document.

    Args:
        erratum: The erratum; the document's other errata stay uncorrected.
        size: Height and width of the input.
        classes: Channels of the logits.

    Returns:
        One effect per output stride; none if the erratum does not change the network.

    >>> from deeplab_spec.spec.errata import erratum
    >>> effects(erratum("ERRATUM-DEAD-BIASES"))[-1]
    Effect(output_stride=16, parameters=93928, macs=0)
    """
    if not erratum.corrections:
        return ()
    corrected = choose(NOTEBOOK.choices, dict(erratum.corrections))
    effects_by_stride = []
    for stride in NOTEBOOK.output_strides:
        verbatim = Evaluator(network(NOTEBOOK.choices, stride, classes))(*size)
        fixed = Evaluator(network(corrected, stride, classes))(*size)
        parameters = verbatim.sizes.parameters - fixed.sizes.parameters
        macs = int(verbatim.operations - fixed.operations)
        effects_by_stride.append(Effect(output_stride=stride, parameters=parameters, macs=macs))
    return tuple(effects_by_stride)
