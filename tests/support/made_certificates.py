"""Certificates of every variant, and of one decoder in each kind of artefact, as ``reports/certificates/`` holds them.

``python -m tests.support.made_certificates`` makes them again, with narrow networks, in a few minutes; ``width=1``
behind it judges the variants at full width. A test verifies them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import deeplab_spec
from deeplab_spec.cli.app import main
from deeplab_spec.spec.variants import VARIANTS

FOLDER = Path("reports/certificates")
CHOICES = {"width": 0.03125}
SIZES = ((1, 8, 9, 11), (1, 8, 33, 41))
"""Shapes of the decoder's inputs: the pyramid's result, and the low-level features."""


def export(folder: Path) -> None:
    """Write a decoder with weights of a fixed seed as a file of each kind."""
    torch.manual_seed(0)
    decoder = deeplab_spec.build("tf-release", choices=CHOICES).decoder.eval()
    inputs = tuple(map(torch.zeros, SIZES))
    torch.export.save(torch.export.export(decoder, inputs), folder / "decoder.pt2")
    torch.onnx.export(decoder, inputs, folder / "decoder.onnx", dynamo=False)
    run("lock", "reference:tf-release", "--arg", "width=0.03125", "-o", str(folder / "narrow.lock"))


def commands(width: str = "width=0.03125") -> Iterator[tuple[str, ...]]:
    """Yield the command of each certificate; the last word is its file."""
    for variant in VARIANTS:
        strides = [word for stride in variant.output_strides for word in ("--output-stride", str(stride))]
        yield (
            "certify",
            f"reference:{variant.name}",
            "--choose",
            width,
            *strides,
            "--statement",
            f"{FOLDER}/{variant.name}.json",
        )
    part = ("--variant", "tf-release", "--choose", "width=0.03125", "--part", "decoder")
    for kind in ("pt2", "onnx"):
        file = f"{FOLDER}/decoder.{kind}"
        yield "certify", file, *part, "--statement", f"{file}.json"
    against = ("--arg", "width=0.03125", "--against", f"{FOLDER}/narrow.lock")
    yield "certify", "reference:tf-release", *against, "--statement", f"{FOLDER}/narrow.lock.json"


def run(*command: str) -> None:
    """Run a command, which must succeed."""
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    export(FOLDER)
    for command in commands(*sys.argv[1:]):
        sys.stderr.write(f"deeplab-spec {' '.join(command)}\n")
        run(*command)
