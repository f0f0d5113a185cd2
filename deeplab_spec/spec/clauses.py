"""The clauses: sentences that are true or false of an implementation.

A clause has a stable id that names its subject, never its position in this file. The check that decides it has
the same id in ``deeplab_spec.judge.decisions``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.spec.sources import DEEPLAB_V3, XCEPTION, library, paper, release


class Level(StrEnum):
    """A group of clauses that are decided together."""

    INTERFACE = "interface"
    STRUCTURE = "structure"
    NUMERICS = "numerics"
    TRAINING = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One decidable sentence.

    Attributes:
        id: Stable mnemonic, used in reports, tests and code.
        level: Its level.
        sentence: What is true of a conforming implementation.
        source: Where it is published.
        choices: The choices that it depends on.
        parts: The parts of the network for which it can be decided; empty for all.
        on_request: Whether it is decided only if a lower precision is requested.
        family: The family of backbones that it is about; ``other`` for those without clauses of their own, empty for all.
    """

    id: str
    level: Level
    sentence: str
    source: Source
    choices: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    on_request: bool = False
    family: str = ""


_XCEPTION_ONLY: Final = "xception"
_OTHER: Final = "other"

_CONTRACT: Final = Source(work="this specification", place="interface of a network in evaluation")
_NUMERICS: Final = Source(work="this specification", place="numerics")
_TRAINING: Final = Source(work="this specification", place="a step of training in float64")
_COUNTS: Final = Source(work="this specification", place="costs of every block")
_ROWS: Final = Source(work="the source of every row", place="as the rows of the variant name it")
_FIGURE_4: Final = paper("figure 4")
_XCEPTION: Final = release("core/xception.py")
_MODEL: Final = release("model.py")
_AUXILIARY: Final = library("torchvision", "models/segmentation/fcn.py")
_PYRAMID: Final = Source(work=DEEPLAB_V3, place="section 3.3")
_SEPARABLE: Final = Source(work=XCEPTION, place="section 2")
_REFINEMENT: Final = paper("section 3.2 and figure 2")

_BACKBONE: Final = ("backbone",)
_ASPP: Final = ("aspp",)
_DECODER: Final = ("decoder",)
_HEAD: Final = ("aspp", "decoder")


def _interface(name: str, sentence: str, *choices: str) -> Clause:
    return Clause(id=name, level=Level.INTERFACE, sentence=sentence, source=_CONTRACT, choices=choices)


def _structure(name: str, sentence: str, source: Source, parts: tuple[str, ...], *choices: str) -> Clause:
    return Clause(id=name, level=Level.STRUCTURE, sentence=sentence, source=source, choices=choices, parts=parts)


def _xception(name: str, sentence: str, source: Source, *choices: str) -> Clause:
    return replace(_structure(name, sentence, source, _BACKBONE, *choices), family=_XCEPTION_ONLY)


def _backbone(name: str, sentence: str, *choices: str) -> Clause:
    return replace(_structure(name, sentence, _ROWS, _BACKBONE, *choices), family=_OTHER)


def _numerics(name: str, sentence: str, *parts: str) -> Clause:
    return Clause(id=name, level=Level.NUMERICS, sentence=sentence, source=_NUMERICS, parts=parts)


def _lower(name: str, sentence: str) -> Clause:
    identity = f"VALUES-LOWER-PRECISION-{name}"
    return Clause(id=identity, level=Level.NUMERICS, sentence=sentence, source=_NUMERICS, on_request=True)


def _training(name: str, sentence: str, *choices: str) -> Clause:
    return Clause(id=name, level=Level.TRAINING, sentence=sentence, source=_TRAINING, choices=choices)


# fmt: off
CLAUSES: Final = (
    _interface("OUTPUT-TENSOR", "The result of evaluation is one tensor (of a part: one for each of its taps); of a variant that returns results by name, one for each name.", "results"),
    _interface("OUTPUT-SHAPE", "Logits have the batch of the image, its height and width unless the variant leaves them at the decoder's size, and one channel per class; taps have their specified sizes.", "output_resize"),
    _interface("OUTPUT-DTYPE", "The result has the dtype of the image."),
    _interface("OUTPUT-FINITE", "A finite image gives a finite result."),
    _interface("SIZES-ACCEPTED", "Every height and width that the variant allows is accepted: odd, even, not a multiple of the output stride, a single pixel.", "sizes_accepted"),
    _interface("BATCHES-ACCEPTED", "A batch of any length from one is accepted."),
    _interface("DETERMINISM", "The same image gives the same result again."),
    _interface("LAYOUTS-ACCEPTED", "An image gives the same result whatever its memory layout."),
    _interface("BATCH-INDEPENDENCE", "An image gives the same result alone and in a batch."),
    _interface("INPUT-UNCHANGED", "Evaluation does not change its input image."),
    _interface("STATE-UNCHANGED", "Evaluation changes no parameter and no buffer."),
    _interface("BAD-INPUT-REFUSED", "An image of the wrong rank or with the wrong number of channels is refused with an error."),
    _interface("VALUES-EVERY-CALL", "With the same weights, every call gives the specification's values: at every size and batch, for every range of values, in every layout and mode, after many calls, and for copies."),

    _structure("SAME-FAMILY", "The implementation is a network of this family: at least half of its convolutions have a counterpart.", _FIGURE_4, ()),
    _structure("GRAPH-KNOWN", "Every operation is of a kind that the specification knows.", _XCEPTION, ()),
    _structure("DATAFLOW", "Every operation takes its inputs directly from the specified operations.", _XCEPTION, ()),
    _xception("STEM-CONVS", "The stem is a 3x3 convolution with stride 2 and a 3x3 convolution with stride 1.", _FIGURE_4, "stride_padding"),
    _xception("XCEPTION-LAYERS", "The backbone has exactly the specified blocks, and each block its three separable layers.", _FIGURE_4, "entry_blocks", "middle_blocks"),
    _xception("XCEPTION-CHANNELS", "The convolutions of the backbone have the specified channels.", _FIGURE_4, "width"),
    _xception("SEPCONV-FACTORS", "A separable layer is a depthwise 3x3 convolution, then a pointwise 1x1 convolution.", _SEPARABLE),
    _xception("XCEPTION-STRIDES", "A block subsamples in its last layer and its skip, until the output stride is reached.", _FIGURE_4, "unstrided_rate"),
    _xception("XCEPTION-RATES", "The rate of a layer compensates for the strides removed before it.", _XCEPTION),
    _xception("XCEPTION-UNSTRIDED-RATE", "A block that loses its stride has the specified rates.", _XCEPTION, "unstrided_rate"),
    _xception("EXIT2-RATES", "The last block has rate 2 at output stride 16 and rate 4 at output stride 8.", _XCEPTION, "exit2_rates"),
    _xception("XCEPTION-PADDING", "The padding of a backbone convolution is as specified for its rate and stride.", _XCEPTION, "atrous_padding", "stride_padding"),
    _xception("XCEPTION-NORMS", "Every convolution of a separable layer is normalised.", paper("section 3.2, change (3)"), "depthwise_norm"),
    _xception("XCEPTION-ACTIVATIONS", "ReLUs stand in the specified places of the backbone and nowhere else.", paper("section 3.2, change (3)"), "activation_placement", "depthwise_activation", "exit2_input"),
    _backbone("BACKBONE-STEM", "The stem has the specified convolutions.", "stride_padding"),
    _backbone("BACKBONE-LAYERS", "The backbone has exactly the specified layers."),
    _backbone("BACKBONE-CHANNELS", "The convolutions of the backbone have the specified channels.", "width"),
    _backbone("BACKBONE-KERNELS", "The convolutions of the backbone have the specified kernels and groups."),
    _backbone("BACKBONE-STRIDES", "The layers subsample in the specified places, until the output stride is reached.", "unstrided_rate"),
    _backbone("BACKBONE-RATES", "The rate of a layer compensates for the strides removed before it."),
    _backbone("BACKBONE-UNSTRIDED-RATE", "A block that loses its stride has the specified rates.", "unstrided_rate"),
    _backbone("BACKBONE-PADDING", "The padding of a backbone layer is as specified for its rate and stride.", "stride_padding"),
    _backbone("BACKBONE-NORMS", "Normalisations stand in the specified places of the backbone."),
    _backbone("BACKBONE-ACTIVATIONS", "Activations of the specified kind stand in the specified places of the backbone and nowhere else."),
    _backbone("BACKBONE-POOLING", "The pooling windows of the backbone are as specified."),
    _structure("SKIP-UNIT", "The skip of a block that changes channels or size is a 1x1 convolution followed as specified; no other skip has a layer.", _FIGURE_4, _BACKBONE, "skip_unit"),
    _structure("SKIP-INPUT", "The skip of a block reads the block's input, and the sum adds it to the last layer.", _FIGURE_4, _BACKBONE, "skip_reads"),
    _structure("BACKBONE-BIAS", "The convolutions of the backbone have a bias exactly where specified.", _XCEPTION, _BACKBONE, "conv_bias"),
    _structure("BACKBONE-NORM-EPS", "Every normalisation of the backbone has the specified eps.", _XCEPTION, _BACKBONE, "backbone_norm_eps"),
    _structure("LOW-LEVEL-TAP", "The decoder reads the specified value of the entry flow.", _REFINEMENT, ("backbone", "network"), "low_level_tap"),
    _structure("ASPP-BRANCHES", "The pyramid has a 1x1 branch, three atrous branches and an image-pooling branch, and concatenates exactly these.", _PYRAMID, _ASPP, "aspp_convs"),
    _structure("ASPP-RATES", "The atrous branches have the specified rates, and the padding that keeps the map.", _PYRAMID, _ASPP, "aspp_rates"),
    _structure("ASPP-CONVS", "The convolutions of the pyramid have the specified kernels, groups and channels.", _PYRAMID, _ASPP, "aspp_convs", "width"),
    _structure("ASPP-UNITS", "Normalisations and ReLUs stand in the specified places of the pyramid.", _PYRAMID, _ASPP, "aspp_depthwise"),
    _structure("ASPP-POOL", "The image-pooling branch is the mean of the map, a 1x1 convolution followed as specified, and a broadcast to the map.", _PYRAMID, _ASPP, "pool_norm", "pool_resize"),
    _structure("ASPP-PROJECTION", "One normalised convolution with a ReLU reduces the concatenated branches to 256 channels, and nothing follows it.", _PYRAMID, _ASPP, "projection"),
    _structure("DECODER-LOW-LEVEL", "A normalised 1x1 convolution with a ReLU reduces the low-level features to 48 channels.", _REFINEMENT, _DECODER, "decoder"),
    _structure("DECODER-RESIZE", "The output of the pyramid is resized to the low-level map and concatenated with it.", _REFINEMENT, _DECODER, "decoder", "decoder_resize"),
    _structure("DECODER-CONVS", "The specified convolutions refine the concatenated features.", _REFINEMENT, _DECODER, "decoder_convs"),
    _structure("DECODER-UNITS", "Normalisations and ReLUs stand in the specified places of the decoder.", _REFINEMENT, _DECODER, "decoder_depthwise"),
    _structure("LOGITS-CONV", "One convolution, neither normalised nor activated, gives one channel per class.", _MODEL, _DECODER, "logits_conv"),
    _structure("HEAD-BIAS", "The convolutions of pyramid and decoder have a bias exactly where specified.", _MODEL, _HEAD, "conv_bias", "pool_norm"),
    _structure("HEAD-NORM-EPS", "Every normalisation of pyramid and decoder has the specified eps.", _MODEL, _HEAD, "head_norm_eps"),
    _structure("OUTPUT-RESIZE", "The logits are resized to the size of the image.", _MODEL, ("network",), "output_resize"),
    replace(_structure("AUXILIARY-HEAD", "The second head, where there is one, has the specified layers.", _AUXILIARY, ("network",)), family=_OTHER),
    _structure("BLOCK-COUNTS", "A block whose operations and inputs are as specified has the specified parameters and multiply-adds.", _COUNTS, ()),

    _numerics("WEIGHTS-FIT", "Every parameter of the specification has exactly one counterpart in the implementation, of the same shape."),
    _numerics("VALUES-BACKBONE", "Each step of the backbone, run on the specification's values, gives the specification's value.", "backbone"),
    _numerics("VALUES-ASPP", "Each step of the pyramid, run on the specification's values, gives the specification's value.", "aspp"),
    _numerics("VALUES-DECODER", "Each step of decoder and output, run on the specification's values, gives the specification's value.", "decoder"),
    _numerics("VALUES-END-TO-END", "With the same weights, the result in float64 is the specification's."),
    _numerics("VALUES-FLOAT32", "With the same weights, the error of a float32 run is at most three times that of the specification in float32."),
    _lower("BLOCKS", "In a lower precision, the error of each block, run on the specification's values, is at most three times that of the specification."),
    _lower("NORMS", "In a lower precision, the error of each normalisation, run on the specification's values, is at most three times that of the specification."),
    _lower("ACTIVATIONS", "In a lower precision, the error of each activation, run on the specification's values, is at most three times that of the specification."),
    _lower("END-TO-END", "In a lower precision, the error of the whole run is at most three times that of the specification."),

    _training("BN-MOMENTUM", "In training, every running mean and variance moves towards the batch's by the specified momentum.", "norm_momentum"),
    _training("RUNNING-STATISTICS", "In training, every normalisation uses the statistics of the batch, and its running ones follow their mean and unbiased variance."),
    _training("DROPOUT", "In training, single values are dropped at random in the specified places, at the specified rate, and nowhere else.", "aspp_dropout", "decoder_dropout"),
    _training("INITIALISATION", "Initial weights are drawn from the specified distributions; a new normalisation is the identity.", "init"),
    _training("GRADIENT-REACHES", "Every parameter gets a finite gradient, and a nonzero one where the specification's gradient is nonzero."),
    _training("TRAIN-STEP", "From the same weights, one step of gradient descent in float64 gives the specification's weights."),
    _training("BATCH-OF-ONE", "A batch of one is accepted in training, unless a normalisation would have a single value per channel.", "pool_norm"),
)
# fmt: on


def clause(name: str) -> Clause:
    """Return the clause with an id.

    Raises:
        SpecError: If there is none.
    """
    for candidate in CLAUSES:
        if candidate.id == name:
            return candidate
    raise SpecError("clause", "must be the id of a clause", name)


def clauses_of(part: str | None, family: str = _XCEPTION_ONLY, *, on_request: bool = False) -> tuple[Clause, ...]:
    """Return the clauses that can be decided for the whole network, or for one part.

    ``part`` is ``backbone``, ``aspp``, ``decoder`` or ``head``, or None for the whole network. Clauses of lower
    precisions are included on request.
    """
    own = {clause.family for clause in CLAUSES}
    about = {"", family if family in own else _OTHER}
    requested = (clause for clause in CLAUSES if clause.family in about and (on_request or not clause.on_request))
    parts = {"aspp", "decoder"} if part == "head" else {part}
    return tuple(clause for clause in requested if part is None or not clause.parts or parts.intersection(clause.parts))
