"""``identify`` finds the choices of real modules, and its report says how to confirm them."""

import json
import random
from collections.abc import Mapping
from itertools import combinations

import pytest

from deeplab_spec.align.published import library
from deeplab_spec.capture.target import Target, parse_target
from deeplab_spec.cli.app import main
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.identify.document import IdentifyDocument, text
from deeplab_spec.identify.service import identify
from deeplab_spec.judge.finding import Json
from deeplab_spec.spec.choices import ChoiceValue, choose, names, parse, seen_values
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant, variant
from tests.support.candidates import WIDTH

CLASSES = 5
Pair = tuple[tuple[str, ChoiceValue], tuple[str, ChoiceValue]]


def refute(published: Variant, output_stride: int, pair: Pair) -> str:
    """Return what is wrong with the result for a real module of two choices; empty if nothing is."""
    decided: dict[str, ChoiceValue] = {**dict(pair), "width": WIDTH}
    target = Target(name=f"reference:{published.name}", choices=decided)
    document = identify(target, (output_stride,), CLASSES)
    nearest = document.nearest
    if nearest is None or document.distance or document.unexplained:
        return f"{published.name} {output_stride} {pair}: {document}"
    known = library(output_stride, CLASSES, document.size)
    result = known.of(choose(variant(nearest.variant).choices, read(nearest.choices)))
    expected = known.of(choose(published.choices, decided))
    same = result is not None and expected is not None and result.digest == expected.digest
    return (
        "" if same and len(nearest.choices) <= len(decided) else f"{published.name} {output_stride} {pair}: {nearest}"
    )


def read(choices: Mapping[str, Json]) -> dict[str, ChoiceValue]:
    """Parse the choices of a document as the command line does."""
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in choices.items()
    }
    return {name: parse(name, text, TF_RELEASE.family) for name, text in texts.items()}


def drawn_pairs(count: int) -> list[tuple[Variant, int, Pair]]:
    """Draw pairs of compatible choices, over both main variants and output strides."""
    cases = []
    for published in (NOTEBOOK, TF_RELEASE):
        for output_stride in (8, 16):
            options = [
                (name, value)
                for name in names(TF_RELEASE.family)
                if name != "width"
                for value in seen_values(name, TF_RELEASE.family)
                if value != getattr(published.choices, name)
            ]
            cases += [(published, output_stride, pair) for pair in combinations(options, 2) if pair[0][0] != pair[1][0]]
    compatible = []
    for published, output_stride, pair in random.Random(count).sample(cases, 2 * count):  # noqa: S311 - the same cases in every run
        choices = choose(published.choices, {**dict(pair), "width": WIDTH})
        if library(output_stride, CLASSES, (289, 300)).of(choices):
            compatible.append((published, output_stride, pair))
    return compatible[:count]


def test_a_pair_of_choices_is_found_in_a_real_module() -> None:
    """The module is built by the reference and captured by torch.export."""
    assert [text for case in drawn_pairs(1) if (text := refute(*case))] == []


@pytest.mark.deep
def test_fifty_pairs_of_choices_are_found_in_real_modules() -> None:
    """As above, with more pairs."""
    pairs = drawn_pairs(50)

    assert len(pairs) == 50
    assert [text for case in pairs if (text := refute(*case))] == []


@pytest.mark.deep
def test_segmentation_models_pytorch_is_its_own_member() -> None:
    """It accepts only multiples of the output stride; rates that follow the stride would differ at 16."""
    document = identify(Target(name="tests.support.peers:smp_deeplab"))

    assert document.nearest is not None
    assert document.nearest.variant == "smp-xception65"
    assert document.nearest.choices == {}
    assert (document.distance, document.unexplained, document.size) == (0, (), (288, 320))


@pytest.mark.deep
def test_the_command_finds_choices_at_every_output_stride(capsys: pytest.CaptureFixture[str]) -> None:
    """Choices visible only at output stride 8 or only at 16 are combined."""
    options = ["--arg", f"width={WIDTH}", "--arg", "middle_blocks=1", "--arg", "exit2_rates=3,5"]
    strides = ["--output-stride", "8", "--output-stride", "16"]
    with pytest.raises(SystemExit) as ended:
        main(["identify", "reference:tf-release", *options, *strides, "--json"])
    captured = capsys.readouterr()
    document = json.loads(captured.out)

    assert ended.value.code == 0
    assert document["nearest"] == {
        "variant": "tf-release",
        "choices": {"exit2_rates": [3, 5], "middle_blocks": 1, "width": WIDTH},
    }
    assert (document["distance"], document["unexplained"], document["another_network"]) == (0, [], None)
    assert "is tf-release with 3 choices" in captured.err
    confirm = captured.err.splitlines()[-1]
    assert "certify reference:tf-release --variant tf-release --choose exit2_rates=3,5" in confirm
    assert "--output-stride 8 --output-stride 16 --classes 21 --arg width=0.03" in confirm


@pytest.mark.deep
def test_another_network_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and no nearest network."""
    with pytest.raises(SystemExit) as ended:
        main(["identify", "tests.support.candidates:Plain"])
    lines = capsys.readouterr().out.splitlines()

    assert ended.value.code == 1
    assert len(lines) == 2
    assert "this is another network: it has no decoder" in lines[1]


def test_an_unexplained_difference_is_shown_with_its_node() -> None:
    """For a sigmoid after the logits, the nearest is the plain network, and the report names the node."""
    document = identify(Target(name="tests.identify.test_service:with_sigmoid"))

    assert document.nearest is not None
    assert document.nearest.choices == {"middle_blocks": 1, "width": WIDTH}
    assert [(finding.path, finding.attribute) for finding in document.unexplained] == [("decoder.logits.conv", "node")]
    assert document.unexplained[0].output_stride == 16
    report = text(document)
    assert "is nearest to notebook with 2 choices" in report
    assert "decoder.logits.conv  followed by: sigmoid activation" in report
    assert IdentifyDocument.model_validate_json(document.model_dump_json()) == document


def with_sigmoid(output_stride: int = 16, num_classes: int = 21) -> object:
    """Build a short network with an extra sigmoid before its last resize."""
    from torch import nn

    import deeplab_spec

    module = deeplab_spec.build("notebook", output_stride, num_classes, {"width": WIDTH, "middle_blocks": 1})
    module.decoder.logits.conv = nn.Sequential(module.decoder.logits.conv, nn.Sigmoid())
    return module


def test_bad_requests_are_rejected() -> None:
    """If possible before anything is built."""
    with pytest.raises(SpecError, match="must be one of 8, 16, 32"):
        identify(Target(name="reference:notebook"), (4,))
    with pytest.raises(SpecError, match="classes: must be 1 or more"):
        identify(Target(name="reference:notebook"), classes=0)
    with pytest.raises(SpecError, match="colour"):
        parse_target("reference:notebook", {"colour": "red"})
    with pytest.raises(TargetError, match="has no attribute 'nothing'"):
        identify(Target(name="tests.support.peers:nothing"))
