"""Independent implementations of the network, or of parts of it, if they are installed."""

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest

_LIBRARIES: list[Any] = []
"""Libraries of the defined operator schemas; a schema lives as long as its library."""

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def peer(name: str) -> ModuleType:
    """Import a peer, or skip the test that needs it with the reason.

    torchvision built for another torch stops at an operator that this network never calls; with
    its schema defined, the import goes on.
    """
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or importlib.util.find_spec(name) is None:
        missing = name if torchvision else "torchvision"
        pytest.skip(f"not run: {missing} is not installed (extra 'peers')")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warnings do not matter here
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            _define_schemas()
        return importlib.import_module(name)


def _define_schemas() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _LIBRARIES.append(library)
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]


def smp_deeplab(output_stride: int = 16, num_classes: int = 21, encoder: str = "tu-xception65") -> Any:
    """Return segmentation_models_pytorch's DeepLabV3Plus without trained weights; by default on timm's xception65."""
    library = peer("segmentation_models_pytorch")
    return library.DeepLabV3Plus(
        encoder_name=encoder,
        encoder_weights=None,
        encoder_output_stride=output_stride,
        classes=num_classes,
    )


def timm_backbone(output_stride: int = 16, name: str = "xception65") -> Any:
    """Return timm's backbone; its forward pass gives a list of features, the last one the deepest."""
    library = peer("timm")
    return library.create_model(name, features_only=True, output_stride=output_stride, pretrained=False)


def torchvision_deeplab(num_classes: int = 21, *, name: str = "deeplabv3_resnet50", aux_loss: bool = False) -> Any:
    """Return a DeepLabv3 of torchvision, by default on ResNet-50: another network than DeepLabv3+."""
    peer("torchvision")
    models = importlib.import_module("torchvision.models.segmentation")
    build = getattr(models, name)
    return build(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux_loss)


def transformers_mobilenet(output_stride: int = 8, num_classes: int = 21) -> Any:
    """Return transformers' MobileNetV2ForSemanticSegmentation, without trained weights."""
    library = peer("transformers")
    settings = library.MobileNetV2Config(
        output_stride=output_stride,
        num_labels=num_classes,
        finegrained_output=True,
        tf_padding=True,
        layer_norm_eps=1e-3,
    )
    return library.MobileNetV2ForSemanticSegmentation(settings)
