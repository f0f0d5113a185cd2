"""The head of a whole network is found by structure, and nothing else is taken for one."""

import pytest

from deeplab_spec.align.parts import find_head
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Concat, Conv2d, GlobalAveragePool, Input, Op, Output, Resize
from deeplab_spec.spec.network import graph, rows
from deeplab_spec.spec.variants import VARIANTS, Variant

WIDTH = 4


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_head_of_every_variant_is_found_at_its_taps(variant: Variant) -> None:
    """At every output stride: what the pyramid and the decoder read, and where they end."""
    for output_stride in variant.output_strides:
        table = rows(variant.choices, output_stride, 21)
        network = graph(table)
        found = find_head(network)

        assert found is not None
        assert found.features == network.tap("backbone")
        assert found.taps == ((network.tap("low_level"),) if table.decoder.low_level else ())
        assert (found.pyramid, found.logits) == (network.tap("aspp"), network.tap("decoder"))


def conv(kernel: int = 3, stride: int = 1, rate: int = 1, channels: int = WIDTH) -> Conv2d:
    """Return a convolution."""
    sides = {"kernel": (kernel, kernel), "stride": (stride, stride), "rate": (rate, rate)}
    return Conv2d(channels_in=channels, channels_out=WIDTH, **sides)


def network_of(**nodes: tuple[Op, str]) -> Network:
    """Return a network of nodes by path, each with the paths of its inputs; the last one is the output's."""
    found = [Node(path="image", op=Input(channels=WIDTH))]
    found += [Node(path=path, op=op, inputs=tuple(inputs.split())) for path, (op, inputs) in nodes.items()]
    end = Node(path="output", op=Output(name=""), inputs=(found[-1].path,))
    return Network(nodes=(*found, end))


STEM = {"stem": (conv(stride=2), "image"), "deep": (conv(stride=2), "stem")}

OTHERS = {
    "skips of an encoder and a decoder": network_of(
        **STEM, up=(Resize(), "deep"), joined=(Concat(), "stem up"), last=(conv(channels=2 * WIDTH), "joined")
    ),
    "pooled values beside the values themselves": network_of(
        **STEM,
        mean=(GlobalAveragePool(), "deep"),
        narrow=(conv(1), "mean"),
        wide=(Resize(), "narrow"),
        joined=(Concat(), "deep wide"),
        last=(conv(channels=2 * WIDTH), "joined"),
    ),
    "branches without a rate or an average": network_of(
        **STEM,
        small=(conv(1), "deep"),
        large=(conv(5), "deep"),
        joined=(Concat(), "small large"),
        last=(conv(channels=2 * WIDTH), "joined"),
    ),
    "a chain": network_of(**STEM, last=(conv(), "deep")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_joins_values_is_no_head(name: str) -> None:
    """A pyramid's branches all have a convolution, and read one value at one size."""
    assert find_head(OTHERS[name]) is None


def test_the_last_pyramid_is_the_head() -> None:
    """A backbone may have parallel branches too; what the decoder reads beside is a tap, the image is none."""
    network = network_of(
        **STEM,
        a=(conv(1), "stem"),
        b=(conv(rate=2), "stem"),
        early=(Concat(), "a b"),
        deeper=(conv(stride=2, channels=2 * WIDTH), "early"),
        c=(conv(rate=6), "deeper"),
        mean=(GlobalAveragePool(), "deeper"),
        d=(conv(1), "mean"),
        spread=(Resize(), "d deeper"),
        joined=(Concat(), "c spread"),
        projection=(conv(1, channels=2 * WIDTH), "joined"),
        low=(conv(1), "stem"),
        up=(Resize(), "projection low"),
        both=(Concat(), "up low"),
        logits=(conv(1, channels=2 * WIDTH), "both"),
        out=(Resize(), "logits image"),
    )
    found = find_head(network)

    assert found is not None
    assert (found.features, found.taps, found.pyramid, found.logits) == ("deeper", ("stem",), "projection", "logits")
    assert found.inputs("decoder") == ("projection", "stem")
    assert found.outputs("backbone") == {"backbone": "deeper", "low_level": "stem"}
