"""The publications that the specification is taken from."""

from typing import Final

from deeplab_spec.graph.network import Source

DEEPLAB_V3_PLUS: Final = "arXiv:1802.02611"
DEEPLAB_V3: Final = "arXiv:1706.05587"
XCEPTION: Final = "arXiv:1610.02357"
RELEASE: Final = "tensorflow/models research/deeplab"
DOCUMENT: Final = "f1recracker/pytorch-deeplab-v3-plus@0714159"


def document(place: str) -> Source:
    """Return a place in the source document."""
    return Source(work=DOCUMENT, place=place)


def release(place: str) -> Source:
    """Return a place in the authors' release."""
    return Source(work=RELEASE, place=place)


def paper(place: str) -> Source:
    """Return a place in the paper that introduces DeepLabv3+."""
    return Source(work=DEEPLAB_V3_PLUS, place=place)


def library(name: str, place: str) -> Source:
    """Return a place in a package, by its distribution's name."""
    return Source(work=name, place=place)
