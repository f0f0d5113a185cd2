"""Networks to profile, and how the command is called on them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deeplab_spec.reference.network import build
from deeplab_spec.reference.shape import resize
from deeplab_spec.reference.values import Values
from deeplab_spec.spec.choices import ChoiceValue

SMALL: dict[str, ChoiceValue] = {"width": 0.03, "middle_blocks": 2}
CHOOSE = tuple(word for name, value in SMALL.items() for word in ("--choose", f"{name}={value}"))
SLOW_BLOCK = "backbone.middle_flow.block2"
ROOT = Path(__file__).parents[2]


def right(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the source document's network, narrow."""
    return build("notebook", output_stride, num_classes, SMALL)


class Slow(nn.Module):
    """A block that also computes what nobody asked for; a captured graph does not show it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.ballast = torch.ones(640, 640)

    def forward(self, *arguments: Any) -> Tensor:
        """Return the block's result."""
        for _ in range(6):
            torch.mm(self.ballast, self.ballast)
        result: Tensor = self.block(*arguments)
        return result


def slowed(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the same with a slow middle block."""
    network: Any = right(output_stride, num_classes)
    flow = network.backbone.middle_flow
    flow["block2"] = Slow(flow["block2"])
    return network


class Renamed(nn.Module):
    """The same network, with its layers in a bag without names, in an order that says nothing."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.rows = network.backbone.rows
        self.last = network.output_resize
        layers = [network.backbone.get_submodule(path) for path in network.backbone._layers]
        order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(0)).tolist()
        self.bag = nn.ModuleList(layers[place] for place in order)
        self.steps = [order.index(place) for place in range(len(layers))]
        self.tail = nn.ModuleList([network.decoder, network.aspp])

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        values = Values(self.rows.low_level)
        x = image
        for step in self.steps:
            x = self.bag[step](x, values)
        x = self.tail[0](self.tail[1](x), values[self.rows.low_level])
        return resize(x, image, self.last)


def renamed(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the shuffled network."""
    return Renamed(right(output_stride, num_classes))


class Foreign(nn.Module):
    """Another network altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.tail = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.tail(self.body(image))
        return logits


class Single(nn.Module):
    """A network that cannot be copied, as some that hold a handle."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def __deepcopy__(self, _memo: object) -> "Single":
        raise TypeError("there is only one")

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layer(image)
        return logits


def broken_when_run() -> nn.Module:
    """Build a network that needs more than one image in training."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    line = [sys.executable, "-m", "deeplab_spec", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)


def profiled(name: str, directory: Path, *arguments: str) -> Path:
    """Profile one of these networks; return the directory."""
    target = f"tests.support.profiled:{name}" if ":" not in name else name
    sizes = ("--size", "65", "--steps", "4", "--warmup", "1", "--no-ceilings")
    done = command("profile", target, "-o", directory, *sizes, *arguments)
    assert done.returncode == 0, done.stderr
    return directory


NARROW = ("--variant", "notebook", *CHOOSE)
