"""What a reader of a clause wants to know beside its sentence: why it matters, how it is written, how ports break it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


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
