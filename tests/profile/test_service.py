"""Profiles of real runs: rows have the specification's names, and extra work is attributed to its block."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from deeplab_spec.analysis.costs import batch_costs, block_of, node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.cli.app import app
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.measure.modes import read_mode
from deeplab_spec.profile.compare import compare
from deeplab_spec.profile.document import BlockModel, CompareDocument, ProfileDocument, read_profile
from deeplab_spec.profile.request import ProfileRequest
from deeplab_spec.profile.service import profile
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK
from tests.support import networks
from tests.support.networks import NARROW, SLOW_BLOCK

pytestmark = pytest.mark.in_process

CHOOSE = tuple(word for name, value in NARROW.items() for word in ("--choose", f"{name}={value}"))
VARIANT = ("--variant", "notebook")
SPECIFIED = network(choose(NOTEBOOK.choices, NARROW), 16, 21)
BLOCKS = {block_of(node.path) for node in SPECIFIED} - {"input", "output"}


def profiled(name: str, directory: Path, *arguments: str) -> Path:
    """Profile one of these networks; return the directory."""
    target = f"tests.support.networks:{name}" if ":" not in name else name
    sizes = ("--size", "65", "--steps", "4", "--warmup", "1", "--no-ceilings")
    done = CliRunner().invoke(app, ["profile", target, "-o", str(directory), *sizes, *arguments])
    assert done.exit_code == 0, done.output
    return directory


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile the reference."""
    return profiled("reference:notebook", tmp_path_factory.mktemp("right"), *CHOOSE)


def blocks(document: ProfileDocument) -> set[str]:
    """Return the names of the rows."""
    return {row.path for row in document.blocks}


def calls(row: BlockModel) -> dict[str, float]:
    """Return how often each operator runs in a row."""
    return {call.name: call.calls for call in row.operators}


def foreign(directory: Path, **other: Any) -> ProfileDocument:
    """Profile another network altogether, in this process."""
    settings = {"size": (33, 33), "steps": 2, "warmup": 0, "ceilings": False} | other
    return profile(ProfileRequest(target="tests.support.networks:Foreign", **settings), directory)


def test_a_reference_has_a_row_for_every_block_of_the_specification(right: Path) -> None:
    """With time and work in each; the rows add up to the total."""
    document = read_profile(right)

    assert blocks(document) == BLOCKS
    assert document.notes == ()
    assert all(row.host.mean > 0 and row.peak_bytes for row in document.blocks)
    assert document.total.flops == total_cost(node_costs(SPECIFIED, shapes(SPECIFIED, (65, 65)))).flops
    assert document.total.host.steps == tuple(
        sum(row.host.steps[step] for row in document.rows) for step in range(document.steps)
    )
    convolutions = {row.path: row.operators for row in document.blocks}["backbone.middle_flow.block1"]
    assert {call.name: call.calls for call in convolutions}["aten::conv2d"] == 6


def test_the_traces_hold_a_range_for_every_block(right: Path) -> None:
    """A module opens each range; the page is in the same directory."""
    for name in ("trace.json", "tensorboard/deeplab-spec.pt.trace.json"):
        records = json.loads((right / name).read_text())["traceEvents"]
        ranges = {record["name"] for record in records if record.get("cat") == "user_annotation"}
        assert ranges > {path for path in BLOCKS if path.startswith("backbone.")}
    assert "<table" in (right / "index.html").read_text()


@pytest.mark.deep
def test_a_shuffled_network_has_the_specifications_names(tmp_path: Path) -> None:
    """Its modules are called ``bag.7``; the alignment identifies them by structure."""
    document = read_profile(profiled("renamed", tmp_path, *VARIANT, *CHOOSE))

    assert blocks(document) == BLOCKS
    assert document.notes == ()
    stems = {row.path: row for row in document.blocks}["backbone.entry_flow.stem.conv1"]
    assert {call.name: call.calls for call in stems.operators}["aten::conv2d"] == 1


def assert_extra_work_is_in_its_block(document: CompareDocument) -> None:
    """Six products appeared in the slow block and nowhere else, and its time contains theirs."""
    products = [(row, call) for row in document.rows for call in row.calls if call.name == "aten::mm"]
    assert [(row.path, call.change, call.calls) for row, call in products] == [(SLOW_BLOCK, "appeared", 6)]
    row, call = products[0]
    assert row.after is not None
    assert row.after >= call.time > 0


def test_extra_work_in_a_block_is_attributed_to_it_and_the_changes_add_up(right: Path, tmp_path: Path) -> None:
    """The block multiplies matrices, which its captured graph does not show: only its range can contain them."""
    document = compare(read_profile(right), read_profile(profiled("slowed", tmp_path, *VARIANT, *CHOOSE)))

    assert_extra_work_is_in_its_block(document)
    assert document.total.delta.mean == pytest.approx(sum(row.delta.mean for row in document.rows), abs=1e-3)


def test_another_network_keeps_its_own_names(tmp_path: Path) -> None:
    """A note says so."""
    document = foreign(tmp_path)

    assert document.variant is None
    assert blocks(document) == {"body.0", "body.1", "body.2", "tail"}
    assert document.notes == ("another network: its blocks have the names of its modules",)


def test_the_operators_of_a_file_are_attributed_by_their_order(tmp_path: Path) -> None:
    """A program has no modules that could open ranges."""
    file = tmp_path / "narrow.pt2"
    torch.export.save(torch.export.export(networks.right().eval(), (torch.zeros(1, 3, 65, 65),)), file)
    settings = {"variant": "notebook", "overrides": NARROW, "size": (65, 65), "steps": 2, "warmup": 0}
    document = profile(ProfileRequest(target=str(file), ceilings=False, **settings), tmp_path / "reports")

    assert blocks(document) == BLOCKS
    assert document.notes == ()
    assert calls({row.path: row for row in document.blocks}[SLOW_BLOCK])["aten::conv2d"] == 6


def test_a_training_step_counts_the_backward_pass_to_the_blocks(tmp_path: Path) -> None:
    """A backward function belongs to the block of its forward operator; the work is that of both passes."""
    document = foreign(tmp_path, direction=Mode.TRAIN, batch=2)
    rows = {row.path: {call.name for call in row.operators} for row in document.blocks}

    assert "ConvolutionBackward0" in rows["body.0"] & rows["tail"]
    assert "ReluBackward0" in rows["body.2"]
    assert "torch::autograd::AccumulateGrad" in rows["body.1"]
    assert "MeanBackward0" in {call.name for call in document.unattributed.operators}
    assert document.total.flops is not None
    assert document.total.flops > 2 * (foreign(tmp_path, batch=2).total.flops or 0)


def test_the_roofline_is_the_least_time_by_the_measured_ceilings(tmp_path: Path) -> None:
    """Ceilings are measured only on request."""
    document = foreign(tmp_path, ceilings=True)
    row = document.blocks[0]

    assert document.ceilings is not None
    assert row.flops is not None
    assert row.bytes is not None
    least = max(row.flops / document.ceilings.flops_per_second, row.bytes / document.ceilings.bytes_per_second)
    assert row.roofline == pytest.approx(least / (row.host.mean / 1e9))
    assert foreign(tmp_path).blocks[0].roofline is None


def test_a_batch_reads_its_weights_once() -> None:
    """All other transfers grow with the number of images."""
    known = shapes(SPECIFIED, (65, 65))
    names = {
        node.path: block_of(node.path) for node in SPECIFIED if node.op.__class__.__name__ not in ("Input", "Output")
    }
    one, three = (batch_costs(SPECIFIED, known, Mode.FORWARD, images, names) for images in (1, 3))
    costs = node_costs(SPECIFIED, known)

    weights = {block: 3 * one[block].moved - three[block].moved for block in one}
    stored = dict.fromkeys(one, 0)
    for cost in costs:
        if block_of(cost.path) in stored:
            stored[block_of(cost.path)] += 2 * 4 * (cost.sizes.parameters + cost.sizes.buffers)
    assert sum(cost.moved for cost in one.values()) == total_cost(costs).bytes_read + total_cost(costs).bytes_written
    assert {block: left >= 0 for block, left in weights.items()} == dict.fromkeys(one, True)
    assert weights["backbone.entry_flow.stem.conv1"] == stored["backbone.entry_flow.stem.conv1"]


def in_mode(name: str, mode: str, directory: Path) -> ProfileDocument:
    """Profile one of the narrow networks in a mode, in this process."""
    request = ProfileRequest(
        target=f"tests.support.networks:{name}",
        variant="notebook",
        overrides=NARROW,
        size=(65, 65),
        steps=2,
        warmup=1,
        mode=mode,
    )
    return profile(request, directory)


REWRITTEN = "folded+shifted+channels_last"
IN_BFLOAT16 = f"{REWRITTEN}+autocast-bfloat16"


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("channels_last", marks=pytest.mark.deep),
        REWRITTEN if read_mode(IN_BFLOAT16).missing("cpu") else IN_BFLOAT16,
    ],
)
def test_a_mode_runs_every_operator_in_the_block_that_it_has_in_eager(right: Path, tmp_path: Path, mode: str) -> None:
    """With ranges on another copy than the one that runs, operators would be unattributed.

    Where the processor computes no bfloat16, the mode is the same without it.
    """
    document = in_mode("right", mode, tmp_path)
    eager = {row.path: calls(row) for row in read_profile(right).rows}
    plain = mode == "channels_last"
    gone = set() if plain else {"aten::batch_norm"}
    kept = {"aten::cat", "aten::upsample_bilinear2d", "aten::relu", "aten::conv2d", "aten::batch_norm", "aten::add"}

    assert document.execution_mode == read_mode(mode).name
    assert blocks(document) == BLOCKS
    for row in document.rows:
        actual, before = calls(row), eager[row.path]
        assert kept & actual.keys() - {"aten::add"} == kept & before.keys() - {"aten::add"} - gone
        assert not plain or {name: actual.get(name) for name in kept} == {name: before.get(name) for name in kept}
    assert document.ceilings is None
    assert document.notes[-1] == "the graph, work and bytes are those of eager; another mode has no roofline"


@pytest.mark.deep
def test_extra_work_in_a_block_is_attributed_to_it_in_a_mode(tmp_path: Path) -> None:
    """The ranges are opened in the copy that runs."""
    assert_extra_work_is_in_its_block(
        compare(*(in_mode(name, "channels_last", tmp_path / name) for name in ("right", "slowed")))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reference:nothing",), "variant: must be one of"),
        (
            ("tests.support.port_networks:small", "--choose", "width=0.1"),
            "--choose: needs --variant, or a reference, but got 'width'",
        ),
        (("reference:notebook", "--steps", "1"), "--steps: must be 2 or more, but got 1"),
        (("reference:notebook", "--batch", "0"), "--batch: must be 1 or more, but got 0"),
        (("reference:notebook", "--device", "tpu"), "--device: must be one of cpu, cuda, but got 'tpu'"),
        (("reference:notebook", "--mode", "fast"), "mode: must be eager, or some of"),
        (("reference:notebook", "--mode", "train"), "--mode: is a mode of bench; the direction is --direction"),
        (("reference:notebook", "--mode", "onnxruntime"), "--mode: must run the network's own modules; onnxruntime"),
        (("reference:notebook", "--mode", "compiled"), "--mode: must run the network's own modules; compiled"),
        (("reference:notebook", "--mode", "tf32"), "--mode: must be able to run here ("),
        (
            ("reference:notebook", "--mode", "channels_last", "--direction", "train"),
            "--direction: must be forward in another mode than eager, but got 'train'",
        ),
        (
            ("tests.support.networks:Single", "--mode", "channels_last", "--size", "9", "--no-ceilings"),
            "cannot run in the mode channels_last: TypeError: there is only one",
        ),
        (("no.such:thing",), "no.such:thing: cannot import"),
        (
            ("tests.support.networks:broken_when_run", "--direction", "train", "--size", "9", "--no-ceilings"),
            "cannot be run: ValueError: Expected more than 1 value per channel",
        ),
    ],
)
def test_a_refused_profile_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """And writes nothing."""
    result = CliRunner().invoke(app, ["profile", *arguments, "-o", str(tmp_path)])

    assert isinstance(result.exception, SpecError | TargetError)
    assert message in str(result.exception)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_profile_needs_a_directory() -> None:
    """It consists of several files."""
    done = CliRunner().invoke(app, ["profile", "reference:notebook"])

    assert done.exit_code == 2
    assert "--output" in done.output


def test_the_schema_is_published() -> None:
    """Other programs can validate the document with it."""
    assert json.loads(CliRunner().invoke(app, ["profile", "--json-schema"]).stdout)["title"] == "ProfileDocument"
