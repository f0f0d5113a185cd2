"""The clauses: sentences that are true or false of an implementation.

A clause has a stable id that names its subject, never its position in this file. The check that decides it has
the same id in ``deeplab_spec.judge.decisions``. A note says what a reader wants to know beside the sentence.
"""

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Note:
    """A note on one clause.

    Attributes:
        why: What depends on it.
        mistake: How a port typically breaks it.
        torch: How it is written in PyTorch, or a formula; empty where a sentence says all.
    """

    why: str
    mistake: str
    torch: str = ""


_STATISTICS: Final = "running = (1 - momentum) * running + momentum * batch   # momentum in PyTorch's sense"
_RATE: Final = "nn.Conv2d(c, c, 3, stride=1, padding=rate, dilation=rate, groups=c, bias=False)"

# fmt: off
NOTES: Final[Mapping[str, Note]] = {
    "OUTPUT-TENSOR": Note("A caller takes the result without looking into it.", "A list of features, a tuple with the auxiliary logits, or a dictionary is returned.", "return logits"),
    "OUTPUT-SHAPE": Note("A loss compares logits with labels pixel by pixel.", "Logits stay at a quarter of the size, or lose a pixel where a size is odd.", 'F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)'),
    "OUTPUT-DTYPE": Note("A float64 or bfloat16 network must compute in what it is given.", "`.float()` somewhere in the forward pass.", "assert model.double()(image.double()).dtype == torch.float64"),
    "OUTPUT-FINITE": Note("One infinity spoils every pixel that a global mean reaches.", "A division by a size or a variance that may be zero."),
    "SIZES-ACCEPTED": Note("Images are not padded to a multiple before an evaluation.", "Encoder and decoder maps are added or concatenated without a resize to the other's size.", 'x = F.interpolate(x, size=low_level.shape[2:], mode="bilinear", align_corners=True)'),
    "BATCHES-ACCEPTED": Note("The last batch of an epoch is smaller.", "A batch size is fixed in a `view`, or in an exported file."),
    "DETERMINISM": Note("An evaluation that cannot be repeated proves nothing.", "Dropout by `F.dropout(x, p)`, whose default is `training=True`.", "F.dropout(x, p, training=self.training)"),
    "LAYOUTS-ACCEPTED": Note("`channels_last` is the fastest layout on many devices, and must change no value.", "`.view` of a tensor that is not contiguous.", "model(image.contiguous(memory_format=torch.channels_last))"),
    "BATCH-INDEPENDENCE": Note("A prediction may not depend on which images happen to be beside it.", "Normalisation by the statistics of the batch in evaluation (`track_running_stats=False`).", "assert_close(model(batch)[0], model(batch[:1])[0])"),
    "INPUT-UNCHANGED": Note("The caller goes on using the image.", "`image.sub_(mean)`, or `nn.ReLU(inplace=True)` on the input."),
    "STATE-UNCHANGED": Note("Evaluations of one network give one result, in any order.", "`F.batch_norm(..., training=True)`, or a counter in a buffer."),
    "BAD-INPUT-REFUSED": Note("A grey image, or one without a batch axis, is a mistake of the caller and must not give a result.", "`nn.Conv2d` accepts an image without a batch axis: rank 3 is computed silently.", "if image.ndim != 4 or image.shape[1] != 3:\n    raise ValueError(tuple(image.shape))"),
    "VALUES-EVERY-CALL": Note("A network that is right in the first call only is not right.", "Something is cached by size, or a branch depends on the values of the image."),

    "SAME-FAMILY": Note("Comparing two different architectures node by node says nothing.", "DeepLabv3 without a decoder, or another backbone, is called DeepLabv3+."),
    "GRAPH-KNOWN": Note("An operation that the specification cannot name cannot be compared.", "An attention block, a squeeze-and-excitation, or a layer of another kind is added."),
    "DATAFLOW": Note("The right layers, wired otherwise, are another function.", "A branch of the pyramid takes the result of the branch before it."),
    "STEM-CONVS": Note("The first two layers decide the finest map that is left.", "Both convolutions have stride 2, or padding 0 as in the original Xception.", "nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)\nnn.Conv2d(32, 64, 3, stride=1, padding=1, bias=False)"),
    "XCEPTION-LAYERS": Note("The modified Xception has 3 + 16 + 2 blocks with three separable layers each; the original has two in its entry flow.", "8 middle blocks, or the original's blocks of two layers."),
    "XCEPTION-CHANNELS": Note("Channels decide parameters, cost, and whether published weights fit.", "The first layer of the last entry block keeps 256 channels, or the first exit block reaches 1024 in its first layer, not in its second."),
    "SEPCONV-FACTORS": Note("Depthwise, then pointwise: the factors in the other order are another function with other costs.", "An ordinary 3x3 convolution, or `groups` missing on the depthwise one.", "nn.Conv2d(c_in, c_in, 3, padding=rate, dilation=rate, groups=c_in, bias=False)\nnn.Conv2d(c_in, c_out, 1, bias=False)"),
    "XCEPTION-STRIDES": Note("The modified Xception replaces every max pooling by a strided separable layer.", "A max pooling as in the original, or the stride in the first layer of a block.", "stride = 2 if reached < output_stride else 1   # on the last layer and the skip"),
    "XCEPTION-RATES": Note("A rate makes up for a stride that was removed: the same weights see the same context.", "The middle flow keeps rate 1 at output stride 8.", f"rate = stride_of_the_original // output_stride\n{_RATE}"),
    "XCEPTION-UNSTRIDED-RATE": Note("Published weights are the same function at every output stride only if the block that loses its stride keeps its rate.", "The rate of its own last layer is doubled: only the layers after it should have the larger rate."),
    "EXIT2-RATES": Note("The last block makes up for two strides at output stride 8.", "The rate stays 1, or 2 at output stride 8.", "rate = {32: 1, 16: 2, 8: 4}[output_stride]"),
    "XCEPTION-PADDING": Note("The padding decides the size of the map, and where its pixels lie in the image.", "`padding=1` with a larger rate shrinks the map; padding `SAME` shifts even sizes by half a pixel.", _RATE),
    "XCEPTION-NORMS": Note("The paper normalises after every depthwise convolution too.", "Only the pointwise convolution is normalised, as in most separable layers."),
    "XCEPTION-ACTIVATIONS": Note("ReLUs before a layer and ReLUs after it are two functions with equal parameters.", "A ReLU behind the depthwise convolution in every block, or behind a block's sum."),
    "BACKBONE-STEM": Note("The first layers decide the finest map that is left.", "Three 3x3 convolutions in place of one 7x7, or the other way round."),
    "BACKBONE-LAYERS": Note("Depth decides parameters and whether weights fit.", "A stage has one unit too many, or a basic unit stands for a bottleneck."),
    "BACKBONE-CHANNELS": Note("Channels decide parameters, cost, and whether published weights fit.", "An expansion of 4 where the unit has none, or channels rounded to multiples of 8 by another rule."),
    "BACKBONE-KERNELS": Note("Kernels and groups are not seen in the channels.", "`groups` is missing on a depthwise convolution, or 32 as in ResNeXt."),
    "BACKBONE-STRIDES": Note("The place of the stride decides what the 3x3 convolution sees.", "The stride is on the first 1x1 convolution of a bottleneck instead of the 3x3, or in the first unit of a stage where the release has it in the last.", "nn.Conv2d(c, c, 3, stride=stride, padding=rate, dilation=rate)"),
    "BACKBONE-RATES": Note("A rate makes up for a stride that was removed.", "`replace_stride_with_dilation` is set for one stage only."),
    "BACKBONE-UNSTRIDED-RATE": Note("The unit that loses its stride is where libraries differ.", "Its 3x3 convolution has the stage's new rate already, or the multi-grid is missing."),
    "BACKBONE-PADDING": Note("The padding decides where the pixels of a map lie in the image.", "TensorFlow's `SAME` is translated to `padding=1`: equal at odd sizes, shifted at even ones.", "total = max((ceil(n / s) - 1) * s + rate * (k - 1) + 1 - n, 0)\nbefore, after = total // 2, total - total // 2   # SAME"),
    "BACKBONE-NORMS": Note("A missing normalisation has parameters of its own.", "None behind the shortcut, or behind the last 1x1 convolution."),
    "BACKBONE-ACTIVATIONS": Note("Equal parameters, another function.", "A ReLU for a ReLU6, or one behind a linear bottleneck."),
    "BACKBONE-POOLING": Note("The pooling of the stem decides the size of every later map.", "`ceil_mode=True`, or padding 0.", "nn.MaxPool2d(3, stride=2, padding=1)"),
    "SKIP-UNIT": Note("The skip is the second path of every gradient.", "A ReLU or no normalisation behind its convolution, or a convolution where the identity is meant.", "skip = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out, eps=1e-3))"),
    "SKIP-INPUT": Note("An in-place ReLU at the start of the main path changes the skip's input too.", "`nn.ReLU(inplace=True)` before the first layer: the skip then starts at the activated input.", "return self.layers(x.relu()) + self.skip(x)   # no inplace"),
    "BACKBONE-BIAS": Note("A bias in front of a normalisation is subtracted again: dead parameters that are counted and saved.", "`bias=True`, the default of `nn.Conv2d`, is left.", "nn.Conv2d(c_in, c_out, 3, bias=False)"),
    "BACKBONE-NORM-EPS": Note("Where the variance of a channel is small, eps decides its scale.", "PyTorch's default 1e-5 where the release's Xception has 1e-3.", "nn.BatchNorm2d(c, eps=1e-3)"),
    "LOW-LEVEL-TAP": Note("The decoder refines borders with what it takes here: another value has other channels, or another sign.", "The result of the block, or the value behind a ReLU, instead of the last separable layer of stride 4."),
    "ASPP-BRANCHES": Note("The pyramid is what DeepLab is: five views of one map.", "The 1x1 branch or the image pooling is forgotten, or a fourth rate is added.", "torch.cat((pooled, conv1x1, atrous6, atrous12, atrous18), dim=1)"),
    "ASPP-RATES": Note("Rates are in pixels of the map: at half the output stride the same context needs twice the rate.", "6, 12, 18 at output stride 8, or 12, 24, 36 at 16; padding left at 1.", "rates = [r * 16 // output_stride for r in (6, 12, 18)]\nnn.Conv2d(c_in, 256, 3, padding=rate, dilation=rate, bias=False)"),
    "ASPP-CONVS": Note("Three dense branches have 12.5 million parameters more than three separable ones.", "Dense convolutions where the release has separable ones."),
    "ASPP-UNITS": Note("Layers between depthwise and pointwise have no part in the channel counts.", "Depthwise and pointwise follow one another without a normalisation and a ReLU between them."),
    "ASPP-POOL": Note("The mean of the whole map is the widest context there is.", "The pooled branch is not normalised, or is pooled over a fixed window, so that it depends on the crop.", "x = self.norm(self.conv(x.mean((2, 3), keepdim=True))).relu()\nx = x.expand(-1, -1, h, w)"),
    "ASPP-PROJECTION": Note("The head has 256 channels from here on.", "A second convolution follows, or the kernel is 3x3.", "nn.Conv2d(5 * 256, 256, 1, bias=False)"),
    "DECODER-LOW-LEVEL": Note("48 channels keep the fine features from outweighing the pyramid's 256.", "64 or 256 channels, or no normalisation.", "nn.Conv2d(256, 48, 1, bias=False)"),
    "DECODER-RESIZE": Note("Corners that are aligned or not shift every border by part of a pixel.", "`scale_factor=4` fits multiples of the output stride only; `align_corners=False`.", 'F.interpolate(x, size=low_level.shape[2:], mode="bilinear", align_corners=True)'),
    "DECODER-CONVS": Note("Table 2 of the paper chooses two 3x3 convolutions of 256 channels.", "One convolution, or two dense ones where the release has separable ones."),
    "DECODER-UNITS": Note("As in the pyramid, no channel count shows them.", "No normalisation between depthwise and pointwise."),
    "LOGITS-CONV": Note("Logits are a linear function of the last features.", "A ReLU or a normalisation behind it; a 3x3 kernel.", "nn.Conv2d(256, num_classes, 1)"),
    "HEAD-BIAS": Note("As in the backbone: a bias in front of a normalisation is dead.", "`bias=True` is left in the pyramid; or the bias of the logits is missing."),
    "HEAD-NORM-EPS": Note("The release has another eps in the head than in the backbone.", "One eps for the whole network.", "nn.BatchNorm2d(256, eps=1e-5)"),
    "OUTPUT-RESIZE": Note("Labels are compared at the size of the image.", "`scale_factor=4`, or `align_corners` as it is not.", 'F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)'),
    "AUXILIARY-HEAD": Note("A second loss needs a second head of the same layers.", "It reads another stage, or its dropout is missing."),
    "BLOCK-COUNTS": Note("Published costs are those of this graph; a second witness counts what the nodes do not show.", "A part is computed twice, or a layer runs at a larger map than specified."),

    "WEIGHTS-FIT": Note("Weights that do not fit cannot be moved, and nothing can be compared with equal weights.", "A layer is registered and not used, or two layers share one weight."),
    "VALUES-BACKBONE": Note("The graph may look right and compute something else.", "A padding by hand on the wrong side, or a weight that is changed in the forward pass."),
    "VALUES-ASPP": Note("As above, for the pyramid.", "The pooled branch is resized from a map that is not its mean."),
    "VALUES-DECODER": Note("As above, for decoder and output.", "A resize that agrees at one size and not at another."),
    "VALUES-END-TO-END": Note("What the user gets is the whole network, equal to nine digits in float64.", "Steps that are right alone and wired otherwise."),
    "VALUES-FLOAT32": Note("The usual precision may not lose more than the specification's own rounding.", "A sum that is reordered badly, or an intermediate value in half precision."),
    "VALUES-LOWER-PRECISION-BLOCKS": Note("Low precisions hide faults end to end; block by block they show.", "A block accumulates in the low precision."),
    "VALUES-LOWER-PRECISION-NORMS": Note("Normalisations lose most in low precisions.", "Statistics or eps are rounded before they are used."),
    "VALUES-LOWER-PRECISION-ACTIVATIONS": Note("An activation is exact in every precision.", "A smooth activation in place of a ReLU."),
    "VALUES-LOWER-PRECISION-END-TO-END": Note("A network that is deployed in a low precision is used as a whole.", "One layer is left in another precision."),

    "BN-MOMENTUM": Note("TensorFlow's decay 0.9997 is PyTorch's momentum 0.0003.", "The decay is passed as the momentum: 0.9997 forgets everything but the last batch.", _STATISTICS),
    "RUNNING-STATISTICS": Note("Evaluation uses what training has averaged.", "Frozen normalisations, the biased variance, or no running statistics.", _STATISTICS),
    "DROPOUT": Note("Dropout is part of the published training.", "`nn.Dropout2d` drops whole channels; a rate is taken for a keep probability (0.9 for 0.1).", "nn.Dropout(0.1)   # single values, behind the projection"),
    "INITIALISATION": Note("A training from scratch starts where the published one did.", "PyTorch's defaults are left; a truncated normal distribution is not truncated.", "nn.init.trunc_normal_(w, std=0.09, a=-0.18, b=0.18)"),
    "GRADIENT-REACHES": Note("A parameter without a gradient is never trained.", "`detach`, `no_grad`, or `requires_grad=False` is left over."),
    "TRAIN-STEP": Note("The backward pass is a second computation that can be wrong alone.", "A custom backward pass, or a hook that scales gradients."),
    "BATCH-OF-ONE": Note("A normalisation of a single value per channel has no variance.", "Other layers fail with a batch of one too."),
}
# fmt: on
