"""Where an error has spread, the node at which it begins is named."""

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Input, Output
from deeplab_spec.judge.training.sgd_step import first_before, first_behind


def diamond() -> Network:
    """Return two branches between one value and its sum."""
    return Network(
        nodes=(
            Node(path="x", op=Input(channels=1)),
            Node(path="a", op=Activation(), inputs=("x",)),
            Node(path="left", op=Activation(), inputs=("a",)),
            Node(path="right", op=Activation(), inputs=("a",)),
            Node(path="sum", op=Add(), inputs=("left", "right")),
            Node(path="y", op=Output(name=""), inputs=("sum",)),
        )
    )


def test_an_error_of_a_value_comes_from_before() -> None:
    """Through nodes that were not looked at, too."""
    assert first_before(diamond(), {"left", "sum"}) == {"left": "left", "sum": "left"}
    assert first_before(diamond(), {"a", "y"}) == {"a": "a", "y": "a"}
    assert first_before(diamond(), {"left", "right"}) == {"left": "left", "right": "right"}
    assert first_before(diamond(), set()) == {}


def test_an_error_of_a_gradient_comes_from_behind() -> None:
    """It spreads to what was read."""
    assert first_behind(diamond(), {"a", "left"}) == {"a": "left", "left": "left"}
    assert first_behind(diamond(), {"a", "sum"}) == {"a": "sum", "sum": "sum"}
    assert first_behind(diamond(), {"left", "right"}) == {"left": "left", "right": "right"}
