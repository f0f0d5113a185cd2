"""Pieces on a Ray cluster of two nodes: the report of one process, byte for byte, also when a node is lost."""

import importlib.util
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from deeplab_spec.errors import TargetError
from deeplab_spec.pieces.cluster import Cluster, check_reachable
from deeplab_spec.pieces.folder import run
from deeplab_spec.pieces.plan import WHOLE, Piece, Plan
from tests.support.small_mutants import run as run_command
from tests.support.small_mutants import shrink

RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="not run: ray is not installed (extra 'ray')")
MATRIX = """
levels = ["structure"]
[[target]]
target = "my_model:mine"
variant = "notebook"
choose = {width = 0.03, middle_blocks = 1}
"""
MODEL = """
from functools import partial
from deeplab_spec import build

mine = partial(build, "notebook", choices={"width": 0.03, "middle_blocks": 1})
"""
ROOM = 80 * 2**20
"""Bytes of shared memory of a node: the least that Ray accepts."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Start a cluster of two nodes with two workers each."""
    from ray.cluster_utils import Cluster as LocalCluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        head = {"num_cpus": 2, "object_store_memory": ROOM, "include_dashboard": False}
        cluster = LocalCluster(initialize_head=True, head_node_args=head)
        cluster.second = cluster.add_node(num_cpus=2, object_store_memory=ROOM)
        yield cluster
        cluster.shutdown()


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


def place(work: dict[str, Any]) -> dict[str, Any]:
    """Take a while, and return the node that it runs on."""
    import ray

    sleep(work["seconds"])
    return {"number": work["number"], "node": ray.get_runtime_context().get_node_id()}


def fails(work: dict[str, Any]) -> None:
    """Raise an error."""
    raise ValueError(f"piece {work['number']} is wrong")


def plan_of(count: int, seconds: float) -> Plan:
    """Return a run of pieces that take a while."""
    pieces = (Piece(id=f"p{number}", cost=1, work={"number": number, "seconds": seconds}) for number in range(count))
    return Plan(command="wait", options={}, pieces=tuple(pieces))


def used(results: Mapping[str, Any]) -> set[str]:
    """Return the nodes that pieces ran on."""
    return {result["node"] for result in results.values()}


@RAY
def test_a_report_of_a_cluster_is_that_of_one_process(
    nodes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Byte for byte, of mutants and of a matrix."""
    shrink(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("matrix.toml").write_text(MATRIX, encoding="utf-8")
    Path("my_model.py").write_text(MODEL, encoding="utf-8")
    for command in (("mutants", "--json"), ("certify", "--matrix", "matrix.toml", "--again")):
        assert run_command(*command, "-o", "here.json") == 0
        assert run_command(*command, "-o", "there.json", "--ray", nodes.address) == 0
        assert Path("here.json").read_bytes() == Path("there.json").read_bytes()


@RAY
def test_an_error_of_a_piece_is_one_line(nodes: Any) -> None:
    """It names the piece."""
    with pytest.raises(TargetError, match=r"^--ray .*: p0: .*piece 0 is wrong") as caught:
        run(plan_of(1, 0), WHOLE, None, Cluster(address=nodes.address).execute(fails), silent)
    assert "\n" not in str(caught.value)


@RAY
def test_a_node_that_is_lost_in_the_middle_loses_nothing(nodes: Any) -> None:
    """Its pieces run again on the other one."""
    plan = plan_of(8, 0.5)
    execute = Cluster(address=nodes.address).execute(place)
    for _ in range(10):  # the workers of a node start when it is given something to do
        if len(used(run(plan, WHOLE, None, execute, silent))) == 2:
            break
    done: list[int] = []

    def lose(_stage: str, count: int, _total: int) -> None:
        done.append(count)
        if count == 2:
            nodes.remove_node(nodes.second, allow_graceful=False)

    results = run(plan, WHOLE, None, execute, lose)

    assert [results[piece.id]["number"] for piece in plan.pieces] == [*range(8)]
    assert done == [*range(9)]
    assert len(used(results)) == 2


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything runs."""
    monkeypatch.setitem(sys.modules, "ray", None)

    assert run_command("mutants", "--ray", "auto") == 3
    assert "--ray needs the extra 'ray': pip install 'deeplab-spec[ray]'" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_reached_is_one_line() -> None:
    """At once, where nothing listens; one that listens, and an address without a host, are left to Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(f"127.0.0.1:{port}")
        check_reachable(f"ray://127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:99999"):
        with pytest.raises(TargetError, match=f"^--ray {address}: accepts no connection: ") as caught:
            check_reachable(address)
        assert "\n" not in str(caught.value)
    for address in ("auto", "local"):
        check_reachable(address)


def test_the_connection_is_tried_before_ray_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The command ends with exit code 3."""
    shrink(monkeypatch, tmp_path)
    monkeypatch.setattr("deeplab_spec.pieces.cluster.find_spec", lambda _name: True)
    monkeypatch.setitem(sys.modules, "ray", None)

    assert run_command("mutants", "--ray", "127.0.0.1:1") == 3
    assert "--ray 127.0.0.1:1: accepts no connection: " in capsys.readouterr().err
