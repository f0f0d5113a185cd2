"""Which distribution every weight is drawn from, by the path of its convolution."""

from collections.abc import Iterator, Mapping

from deeplab_spec.spec.rows import Block, ConvUnit, HeadUnit, Init, NetworkRows


def initials(table: NetworkRows) -> Mapping[str, Init]:
    """Return how the weight of every convolution of a network is drawn.

    >>> from deeplab_spec.spec.network import rows
    >>> from deeplab_spec.spec.variants import TF_RELEASE
    >>> initials(rows(TF_RELEASE.choices, 16, 21))["decoder.logits.conv"].std
    0.01
    """
    return {f"{row.path}.conv": row.init for row in _convolutions(table)}


def _convolutions(table: NetworkRows) -> Iterator[ConvUnit]:
    yield from table.backbone.stem
    for block in table.backbone.blocks:
        yield from _of_block(block)
    pyramid = table.aspp
    for unit in (pyramid.conv1x1, *pyramid.atrous, pyramid.pool, pyramid.projection):
        yield from _halves(unit)
    if pyramid.refinement:
        yield from _halves(pyramid.refinement)
    decoder = table.decoder
    if decoder.low_level:
        yield decoder.low_level
    for unit in decoder.convs:
        yield from _halves(unit)
    yield decoder.logits


def _of_block(block: Block) -> Iterator[ConvUnit]:
    for unit in block.units:
        yield from _halves(unit)
    if block.skip:
        yield block.skip


def _halves(unit: HeadUnit) -> Iterator[ConvUnit]:
    if isinstance(unit, ConvUnit):
        yield unit
    else:
        yield unit.depthwise
        yield unit.pointwise
