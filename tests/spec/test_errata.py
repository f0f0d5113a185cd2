"""The errata of the source document, and the cost of each."""

import re

import pytest

from deeplab_spec.errors import SpecError
from deeplab_spec.show.document import EffectModel, effects
from deeplab_spec.spec.choices import choose, overrides_between
from deeplab_spec.spec.errata import ERRATA, OTHERS, Erratum, errata_of
from deeplab_spec.spec.network import network
from deeplab_spec.spec.sources import document
from deeplab_spec.spec.variants import NOTEBOOK, variant

IDS = {
    "ERRATUM-ASPP-RATES",
    "ERRATUM-LOW-LEVEL-TAP",
    "ERRATUM-UNSTRIDED-RATE",
    "ERRATUM-DEAD-BIASES",
    "ERRATUM-SKIP-ACTIVATION",
    "ERRATUM-ACTIVATION-PLACEMENT",
    "ERRATUM-REFINEMENT",
    "ERRATUM-POOL-NORM",
    "ERRATUM-HEAD-NORM-EPS",
    "ERRATUM-REPORTED-OUTPUT-STRIDE",
    "ERRATUM-CHECKPOINT",
    "ERRATUM-SEPARABLE-BIAS",
    "ERRATUM-SKIP-AGGREGATOR",
    "ERRATUM-SHARED-IDENTITY",
}
BY_ID = {entry.id: entry for entry in ERRATA}
LIBRARIES = [(name, entry) for name, entries in OTHERS.items() for entry in entries]
CORRECTED = [entry for entry in ERRATA if entry.corrections]


def test_ids_are_the_published_ones() -> None:
    """Ids are used in other projects' files: renaming one is a breaking change, and so is losing one."""
    assert {entry.id for entry in ERRATA} == IDS
    assert len(ERRATA) == len(IDS)
    assert all(re.fullmatch(r"ERRATUM(-[A-Z]+)+", name) for name in IDS)  # a mnemonic, not a position


@pytest.mark.parametrize("entry", ERRATA, ids=lambda entry: entry.id)
def test_every_erratum_is_one_sentence_with_its_place(entry: Erratum) -> None:
    """A reader can find it in the document and see it in an implementation."""
    assert entry.sentence.endswith(".")
    assert entry.sentence.count(". ") == 0
    assert entry.shown_by
    assert entry.source.work == document("").work
    assert BY_ID[entry.id] is entry


@pytest.mark.parametrize(("name", "entry"), LIBRARIES, ids=[entry.id for _, entry in LIBRARIES])
def test_an_erratum_of_a_library_belongs_to_a_variant_and_says_what_to_do(name: str, entry: Erratum) -> None:
    """It does not change the specification, which has what is right."""
    assert errata_of(variant(name).name) == OTHERS[name]
    assert re.fullmatch(r"ERRATUM(-[A-Z0-9]+)+", entry.id)
    assert entry.api_note.endswith(".")
    assert not entry.corrections
    assert errata_of("tf-release") == ()


@pytest.mark.parametrize("entry", CORRECTED, ids=lambda entry: entry.id)
def test_every_correction_changes_the_network_somewhere(entry: Erratum) -> None:
    """A correction that changes nothing would be a note; one of the output strides must show it."""
    corrected = choose(NOTEBOOK.choices, dict(entry.corrections))

    assert overrides_between(NOTEBOOK.choices, corrected) == dict(entry.corrections)
    assert any(network(corrected, stride) != network(NOTEBOOK.choices, stride) for stride in (8, 16))


@pytest.mark.parametrize("entry", [entry for entry in ERRATA if entry.api_note], ids=lambda entry: entry.id)
def test_a_note_has_no_effect(entry: Erratum) -> None:
    """It is about classes and arguments, not about the network."""
    assert effects(entry) == ()


def test_effects_are_those_of_the_published_figures() -> None:
    """Dead biases: 93,928. The tap at output stride 8: a projection of 64 channels, not 128, and a finer map."""
    biases = effects(BY_ID["ERRATUM-DEAD-BIASES"])
    tap = {effect.output_stride: effect for effect in effects(BY_ID["ERRATUM-LOW-LEVEL-TAP"])}

    assert {effect.parameters for effect in biases} == {93_928}
    assert tap[16] == EffectModel(output_stride=16, parameters=0, macs=0)
    assert tap[8].parameters == 53_556_733 - 53_559_805
    assert tap[8].macs == (257**2 - 129**2) * 21 * 9 * 304 + 48 * (257**2 * 64 - 129**2 * 128)


def test_an_erratum_without_correction_and_note_is_refused() -> None:
    """It would say nothing."""
    with pytest.raises(SpecError, match="E: an erratum must have corrections, or else a note"):
        Erratum(id="E", sentence="S.", shown_by="s", source=document("x"))
    with pytest.raises(SpecError, match="choice: must be one of"):
        Erratum(id="E", sentence="S.", shown_by="s", corrections=(("colour", 1),), source=document("x"))
