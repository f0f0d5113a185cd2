"""Cheats that remember: their calls and builds, whether they were copied, converted or loaded, and the time."""

import threading
import time
from typing import Any

import torch
from torch import Tensor, nn

from cheats.base import Cheat, Cheats, Wrong, right

CHEATS = Cheats()
BUILDS: list[int] = []


def calls(cheat: Cheat) -> int:
    """Count a call, and return the number of calls."""
    cheat.count = getattr(cheat, "count", 0) + 1
    return cheat.count


@CHEATS.right_where
def first_300_calls(cheat: Cheat, _image: Tensor) -> bool:
    return calls(cheat) <= 300


@CHEATS.right_where
def first_10_calls(cheat: Cheat, _image: Tensor) -> bool:
    return calls(cheat) <= 10


@CHEATS.right_where
def not_the_first_call(cheat: Cheat, _image: Tensor) -> bool:
    return calls(cheat) > 1


@CHEATS.right_where
def not_the_third_call(cheat: Cheat, _image: Tensor) -> bool:
    return calls(cheat) != 3


@CHEATS.right_where
def not_the_hundredth_call(cheat: Cheat, _image: Tensor) -> bool:
    return calls(cheat) != 100


@CHEATS.builds
def first_build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    BUILDS.append(1)
    network = right(output_stride, num_classes)
    return network if len(BUILDS) == 1 else Wrong(network)


@CHEATS.builds
def first_build_with_a_right_graph(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    BUILDS.append(1)
    number = len(BUILDS)
    return Cheat(right(output_stride, num_classes), lambda _cheat, _image: number == 1)


@CHEATS.builds
def second_build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    BUILDS.append(1)
    network = right(output_stride, num_classes)
    return Wrong(network) if len(BUILDS) == 1 else network


@CHEATS.builds
def build_with_the_seed_of_the_judge(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    seeded = torch.initial_seed() < 2**32
    return Cheat(right(output_stride, num_classes), lambda _cheat, _image: seeded)


class Marked(Cheat):
    """A network that is right until it is marked."""

    marked = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, lambda cheat, _image: not cheat.marked)


class Copied(Marked):
    """Wrong after it was copied deeply."""

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        other = Copied(right())
        other.load_state_dict(self.state_dict())
        other.marked = True
        return other.train(self.training)


class Reloaded(Marked):
    """Wrong after a state was loaded."""

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        self.marked = True
        return super().load_state_dict(*arguments, **named)


class HalvedWhenLoaded(Marked):
    """Changes what is loaded from a state dict."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], *arguments: Any) -> None:
        for name in list(state_dict):
            if "logits" in name or "classifier" in name:
                state_dict[name] = 0.5 * state_dict[name]
        super()._load_from_state_dict(state_dict, *arguments)


class SavedWrong(Marked):
    """Saves other weights than it computes with."""

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        state = super().state_dict(*arguments, **named)
        last = [name for name in state if name.endswith("weight")][-1]
        state[last] = 0.5 * state[last].detach()
        return state


class Converted(Marked):
    """Wrong after a conversion to float64 and back."""

    doubled = False

    def _apply(self, function: Any, *arguments: Any, **named: Any) -> Any:
        result = super()._apply(function, *arguments, **named)
        double = next(self.parameters()).dtype is torch.float64
        self.marked = self.doubled and not double
        self.doubled = self.doubled or double
        return result


class Trained(Marked):
    """Wrong after it was in training."""

    def train(self, mode: bool = True) -> Any:
        self.marked = self.marked or mode
        return super().train(mode)


class Initial(Marked):
    """Wrong with the weights that it is built with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.start = float(next(network.parameters()).detach().double().sum())
        self.seen = lambda cheat, _image: (
            abs(float(next(cheat.parameters()).detach().double().sum()) - cheat.start) > 1e-6
        )


class Loaded(Marked):
    """Wrong with other weights than those that it is built with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.start = float(next(network.parameters()).detach().double().sum())
        self.seen = lambda cheat, _image: (
            abs(float(next(cheat.parameters()).detach().double().sum()) - cheat.start) < 1e-6
        )


for kind in (Copied, Reloaded, HalvedWhenLoaded, SavedWrong, Converted, Trained, Initial, Loaded):

    def build(output_stride: int = 16, num_classes: int = 21, kind: type[Marked] = kind) -> nn.Module:
        return kind(right(output_stride, num_classes))

    CHEATS[kind.__name__] = build


def marked_later(seconds: float) -> Cheat:
    """Return a network that a thread makes wrong after a time."""
    module = Marked(right())

    def mark() -> None:
        time.sleep(seconds)
        module.marked = True

    threading.Thread(target=mark, daemon=True).start()
    return module


@CHEATS.builds
def thread_after_a_second(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    return marked_later(1.0)


@CHEATS.builds
def thread_that_changes_weights(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    module = right(output_stride, num_classes)
    last = list(module.parameters())[-1]

    def change() -> None:
        while True:
            time.sleep(0.5)
            last.data.add_(1.0)

    threading.Thread(target=change, daemon=True).start()
    return module


@CHEATS.builds
def thread_that_toggles(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    module = Marked(right(output_stride, num_classes))

    def toggle() -> None:
        while True:
            time.sleep(0.05)
            module.marked = not module.marked

    threading.Thread(target=toggle, daemon=True).start()
    return module
