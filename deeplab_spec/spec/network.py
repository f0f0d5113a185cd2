"""Builds rows from choices, and the graph from rows."""

from functools import lru_cache

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Multiply,
    Op,
    Output,
    Padding,
    Pair,
    Resize,
    ResizeMode,
)
from deeplab_spec.spec.choices import Choices, Interpolation, OutputResize, Results, SizesAccepted
from deeplab_spec.spec.head import aspp_rows, auxiliary_rows, decoder_rows
from deeplab_spec.spec.rows import (
    AsppRows,
    AuxiliaryRows,
    BackboneRows,
    Block,
    ConvUnit,
    DecoderRows,
    GateUnit,
    HeadUnit,
    NetworkRows,
    Norm,
    PoolUnit,
    SeparableUnit,
    SkipKind,
    first_conv,
)
from deeplab_spec.spec.variants import Variant

PARTS = ("backbone", "aspp", "decoder", "head")
"""The parts of the network that can be judged alone."""

DEFAULT_CLASSES = 21
DEFAULT_OUTPUT_STRIDE = 16
CLASSIFIER = "decoder.logits.conv"
"""Path of the convolution that computes one channel per class."""


@lru_cache(maxsize=256)
def rows(
    choices: Choices, output_stride: int, classes: int, reported: int | None = None, reads: Pair = (0, 0)
) -> NetworkRows:
    """Return the rows of a network.

    ``reported`` is the output stride that the backbone reports, by default the true one; ``reads`` are the channels of
    the features and of the low-level values that the head reads, 0 for the backbone's.

    Raises:
        SpecError: If the output stride is not 8, 16 or 32, or the number of classes is below 1.
    """
    backbone = choices.backbone_rows(output_stride, reported)
    multiples = choices.sizes_accepted is SizesAccepted.MULTIPLES
    return NetworkRows(
        backbone=backbone,
        aspp=aspp_rows(choices, output_stride, reads[0] or backbone.channels_out),
        decoder=decoder_rows(choices, reads[1] or backbone.low_level_channels, classes),
        output_resize=choices.output_resize,
        auxiliary=auxiliary_rows(choices, backbone.auxiliary_channels, classes),
        named_results=choices.results is Results.NAMED,
        size_multiple=output_stride if multiples else 1,
    )


def check_output_stride(variant: Variant, output_stride: int) -> None:
    """Check that a variant supports an output stride.

    Raises:
        SpecError: A ValueError that lists the supported ones, if it does not.
    """
    if output_stride not in variant.output_strides:
        allowed = ", ".join(map(str, variant.output_strides))
        raise SpecError("output_stride", f"{variant.name} has output strides {allowed}", output_stride)


def network(choices: Choices, output_stride: int = 16, classes: int = DEFAULT_CLASSES) -> Network:
    """Return the graph that the choices describe.

    Raises:
        SpecError: If the output stride is not 8, 16 or 32, or the number of classes is below 1.
    """
    return graph(rows(choices, output_stride, classes))


def graph(table: NetworkRows) -> Network:
    """Return the graph of a network from its rows."""
    build = _Builder()
    image = build.add("input", Input(channels=table.backbone.channels_in))
    features = build.backbone(table.backbone, image)
    pyramid = build.aspp(table.aspp, features)
    low_level = table.backbone.low_level if table.decoder.low_level else None
    logits = build.decoder(table.decoder, pyramid, low_level)
    resized = build.output_resize("output.resize", table.output_resize, logits, image)
    if table.decoder.logits_after_resize:
        resized = build.conv_unit(table.decoder.logits, resized)
    build.add("output", Output(name="logits"), resized)
    if table.auxiliary:
        second = build.auxiliary(table.auxiliary, table.backbone.auxiliary)
        second = build.output_resize("auxiliary.resize", table.output_resize, second, image)
        build.add("output.auxiliary", Output(name="auxiliary"), second)
    taps = {"low_level": table.backbone.low_level, "backbone": features, "aspp": pyramid}
    return Network(nodes=tuple(build.nodes), taps=(*taps.items(), ("decoder", logits), ("logits", resized)))


def part(table: NetworkRows, name: str) -> Network:
    """Return the graph of one part: ``backbone``, ``aspp``, ``decoder``, or both of these as ``head``.

    Its inputs and outputs have the names of the corresponding taps.

    Raises:
        SpecError: If there is no such part.
    """
    build = _Builder()
    taps: dict[str, str] = {}
    match name:
        case "backbone":
            image = build.add("input", Input(channels=table.backbone.channels_in))
            taps = {"backbone": build.backbone(table.backbone, image), "low_level": table.backbone.low_level}
        case "aspp":
            features = build.add("input.backbone", Input(channels=table.aspp.channels_in))
            taps = {"aspp": build.aspp(table.aspp, features)}
        case "decoder":
            pyramid = build.add("input.aspp", Input(channels=table.aspp.channels_out))
            taps = {"decoder": build.decoder(table.decoder, pyramid, build.low_level_input(table.decoder))}
        case "head":
            features = build.add("input.backbone", Input(channels=table.aspp.channels_in))
            low_level = build.low_level_input(table.decoder)
            taps = {"decoder": build.decoder(table.decoder, build.aspp(table.aspp, features), low_level)}
        case _:
            raise SpecError("part", f"must be one of {', '.join(PARTS)}", name)
    for tap, path in taps.items():
        build.add(f"output.{tap}", Output(name=tap), path)
    return Network(nodes=tuple(build.nodes), taps=tuple(taps.items()))


@lru_cache(maxsize=512)  # a network repeats a dozen records a hundred times
def _conv(channels: Pair, geometry: tuple[int, int, Pair], padding: Padding, groups: int, bias: bool) -> Conv2d:  # noqa: FBT001 - one fact
    kernel, stride, rates = geometry
    return Conv2d(
        channels_in=channels[0],
        channels_out=channels[1],
        kernel=(kernel, kernel),
        stride=(stride, stride),
        rate=rates,
        padding=padding,
        groups=groups,
        bias=bias,
    )


@lru_cache(maxsize=512)  # as _conv
def _batch_norm(channels: int, eps: float, momentum: float) -> BatchNorm:
    return BatchNorm(channels=channels, eps=eps, momentum=momentum)


class _Builder:
    """Builds the nodes of a graph; each method adds a layer and returns the path of its value."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, path: str, op: Op, *inputs: str, source: Source | None = None) -> str:
        self.nodes.append(Node(path=path, op=op, inputs=inputs, source=source))
        return path

    def norm(self, path: str, norm: Norm, channels: int, value: str, source: Source | None = None) -> str:
        return self.add(f"{path}.norm", _batch_norm(channels, norm.eps, norm.momentum), value, source=source)

    def conv_unit(self, row: ConvUnit, value: str) -> str:
        channels = (row.channels_in, row.channels_out)
        op = _conv(channels, (row.kernel, row.stride, row.rates), row.padding, row.groups, row.bias)
        value = self.add(f"{row.path}.conv", op, value, source=row.source)
        if row.norm:
            value = self.norm(row.path, row.norm, row.channels_out, value, row.source)
        return self.activation(row.path, row.activation, value, row.source)

    def activation(self, path: str, kind: ActivationKind | None, value: str, source: Source | None = None) -> str:
        return self.add(f"{path}.activation", Activation(kind=kind), value, source=source) if kind else value

    def separable_unit(self, row: SeparableUnit, value: str) -> str:
        if row.pre_activation:
            value = self.activation(row.path, ActivationKind.RELU, value, row.depthwise.source)
        return self.conv_unit(row.pointwise, self.conv_unit(row.depthwise, value))

    def head_unit(self, row: HeadUnit, value: str) -> str:
        if isinstance(row, ConvUnit):
            return self.conv_unit(row, value)
        return self.separable_unit(row, value)

    def gate_unit(self, row: GateUnit, value: str) -> str:
        source = row.squeeze.source
        factor = self.add(f"{row.path}.average", GlobalAveragePool(), value, source=source)
        factor = self.conv_unit(row.excite, self.conv_unit(row.squeeze, factor))
        return self.add(f"{row.path}.multiply", Multiply(), value, factor, source=source)

    def block(self, row: Block, value: str) -> str:
        if row.norm:
            value = self.norm(row.path, row.norm, row.channels_in, value)
        if row.activation:
            value = self.activation(row.path, ActivationKind.RELU, value)
        skip = f"{row.units[0].path}.activation" if row.skip_reads_activation else value
        for unit in row.units:
            value = self.gate_unit(unit, value) if isinstance(unit, GateUnit) else self.head_unit(unit, value)
        if row.skip_kind is SkipKind.NONE:
            return value
        if row.skip_pool:
            skip = self.pool_unit(row.skip_pool, skip)
        if row.skip:
            skip = self.conv_unit(row.skip, skip)
        value = self.add(f"{row.path}.add", Add(), value, skip, source=first_conv(row.units[0]).source)
        return self.activation(row.path, row.after, value)

    def pool_unit(self, row: PoolUnit, value: str) -> str:
        return self.add(row.path, row.op, value, source=row.source)

    def backbone(self, table: BackboneRows, value: str) -> str:
        for unit in table.stem:
            value = self.conv_unit(unit, value) if isinstance(unit, ConvUnit) else self.pool_unit(unit, value)
        for block in table.blocks:
            value = self.block(block, value)
        return value

    def resize(self, path: str, rule: Interpolation, value: str, like: str) -> str:
        nearest = rule is Interpolation.NEAREST
        op = Resize(
            mode=ResizeMode.NEAREST if nearest else ResizeMode.BILINEAR,
            align_corners=rule is Interpolation.ALIGN_CORNERS,
        )
        return self.add(path, op, value, like)

    def dropout(self, path: str, probability: float, value: str) -> str:
        return self.add(path, Dropout(probability=probability), value) if probability else value

    def output_resize(self, path: str, rule: OutputResize, value: str, image: str) -> str:
        return value if rule is OutputResize.NONE else self.resize(path, Interpolation(rule), value, image)

    def aspp(self, table: AsppRows, features: str) -> str:
        local = [self.conv_unit(table.conv1x1, features)] if table.conv1x1 else []
        atrous: list[str] = []
        for row, source in zip(table.atrous, table.inputs, strict=True):
            atrous.append(self.head_unit(row, features if source is None else atrous[source]))
        branches = [*local, *atrous]
        if table.pool:
            pooled = self.add("aspp.pool.average", GlobalAveragePool(), features, source=table.pool.source)
            pooled = self.resize("aspp.pool.resize", table.pool_resize, self.conv_unit(table.pool, pooled), features)
            branches = [pooled, *branches] if table.pool_first else [*branches, pooled]
        value = self.add("aspp.concat", Concat(), *branches, source=table.projection.source)
        if table.dropout_first:
            value = self.dropout("aspp.dropout", table.dropout, value)
        value = self.conv_unit(table.projection, value)
        if not table.dropout_first:
            value = self.dropout("aspp.dropout", table.dropout, value)
        return self.head_unit(table.refinement, value) if table.refinement else value

    def low_level_input(self, table: DecoderRows) -> str | None:
        if table.low_level is None:
            return None
        return self.add("input.low_level", Input(channels=table.low_level.channels_in))

    def decoder(self, table: DecoderRows, pyramid: str, low_level: str | None) -> str:
        value = pyramid
        if table.low_level and low_level:
            low = self.conv_unit(table.low_level, low_level)
            value = self.resize("decoder.resize", table.resize, value, low)
            pair = (low, value) if table.low_first else (value, low)
            value = self.add("decoder.concat", Concat(), *pair, source=table.low_level.source)
        for number, (row, dropout) in enumerate(zip(table.convs, table.dropouts, strict=True), start=1):
            value = self.dropout(f"decoder.conv{number}.dropout", dropout, self.head_unit(row, value))
        if not table.logits_after_resize:
            value = self.conv_unit(table.logits, value)
        return value

    def auxiliary(self, table: AuxiliaryRows, value: str) -> str:
        value = self.conv_unit(table.conv, value)
        value = self.dropout("auxiliary.dropout", table.dropout, value)
        return self.conv_unit(table.logits, value)
