"""A port that knows nothing but the document of ``show --format json``: PyTorch modules, one for each node."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional, init

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid}


class Port(nn.Module):
    """The network of a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document
        self.layers = nn.ModuleDict()
        for node in document["nodes"]:
            layer = _layer(node["op"], node["attributes"])
            if layer is not None:
                self.layers[_name(node["path"])] = layer
                _draw(layer, node["initial"])

    def forward(self, image: Tensor) -> Any:
        """Run node after node."""
        channels, multiple = self.document["nodes"][0]["attributes"]["channels"], self.document["size_multiple"]
        if image.ndim != 4 or image.shape[1] != channels or image.shape[2] % multiple or image.shape[3] % multiple:
            raise ValueError(image.shape)
        values: dict[str, Tensor] = {}
        results: dict[str, Tensor] = {}
        for node in self.document["nodes"]:
            inputs = [values[path] for path in node["inputs"]]
            if node["op"] == "Output":
                results[node["attributes"]["name"]] = inputs[0]
            else:
                values[node["path"]] = self._run(node, inputs or [image])
        return results if self.document["results"] == "named" else results["logits"]

    def _run(self, node: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        numbers = node["attributes"]
        match node["op"]:
            case "Input":
                return inputs[0]
            case "Add":
                return inputs[0] + inputs[1]
            case "Multiply":
                return inputs[0] * inputs[1]
            case "Concat":
                return torch.cat(inputs, dim=1)
            case "Resize":
                corners = None if numbers["mode"] == "nearest" else numbers["align_corners"]
                size = inputs[1].shape[2:]
                return functional.interpolate(inputs[0], size=size, mode=numbers["mode"], align_corners=corners)
        (x,) = inputs
        if numbers.get("padding") == "same":
            margins = _same(numbers, x.shape[2], 0), _same(numbers, x.shape[3], 1)
            x = functional.pad(x, (*margins[1], *margins[0]), value=-math.inf if node["op"] == "Pool" else 0.0)
        result: Tensor = self.layers[_name(node["path"])](x)
        return result


def _name(path: str) -> str:
    return path.replace(".", "_")


def _layer(kind: str, numbers: dict[str, Any]) -> nn.Module | None:
    match kind:
        case "Conv2d":
            return nn.Conv2d(
                numbers["channels_in"],
                numbers["channels_out"],
                numbers["kernel"],
                stride=numbers["stride"],
                padding=_margins(numbers),
                dilation=numbers["rate"],
                groups=numbers["groups"],
                bias=numbers["bias"],
            )
        case "BatchNorm":
            return nn.BatchNorm2d(numbers["channels"], eps=numbers["eps"], momentum=numbers["momentum"])
        case "Activation":
            return ACTIVATIONS[numbers["kind"]]()
        case "Dropout":
            return nn.Dropout(numbers["probability"])
        case "GlobalAveragePool":
            return nn.AdaptiveAvgPool2d(1)
        case "Pool":
            assert numbers["kind"] == "max"
            return nn.MaxPool2d(numbers["kernel"], numbers["stride"], _margins(numbers))
    return None


def _margins(numbers: dict[str, Any]) -> Any:
    if numbers["padding"] == "same":
        return (0, 0)
    top, bottom, left, right = numbers["padding"]
    assert (top, left) == (bottom, right)
    return (top, left)


def _same(numbers: dict[str, Any], side: int, axis: int) -> tuple[int, int]:
    """Return the margins that make the output ``ceil(side / stride)``; the odd pixel is the last one."""
    stride, rate = numbers["stride"][axis], numbers.get("rate", (1, 1))[axis]
    extent = rate * (numbers["kernel"][axis] - 1) + 1
    total = max((math.ceil(side / stride) - 1) * stride + extent - side, 0)
    return total // 2, total - total // 2


def _draw(layer: nn.Module, initial: dict[str, Any]) -> None:
    """Call ``torch.nn.init`` for each tensor as the document says."""
    for role, how in initial.items():
        function, _, arguments = how["torch"].partition("(w")
        options = eval(f"dict({arguments.lstrip(', ')}", {"math": math})  # noqa: S307 - a text of the document
        getattr(init, function)(getattr(layer, role), **options)
