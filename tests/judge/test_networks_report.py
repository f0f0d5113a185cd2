"""``reports/networks/``: a page that is made of its data, and data that are true of the installed libraries."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.spec.clauses import Level, clauses_of
from deeplab_spec.spec.variants import variant
from tests.docs.test_pages import parse
from tests.support import real_networks
from tests.support.real_networks import FOLDER, NETWORKS, RealNetwork, comparable, record, slug

ROOT = Path(__file__).parents[2]
DATA = json.loads((FOLDER / "networks.json").read_text(encoding="utf-8"))
AGAIN = "make it again: python -m tests.support.real_networks"


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, without the build that it was made for."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def test_the_page_is_made_of_the_data() -> None:
    """Every network has its row, its badge and its command."""
    assert list(DATA) == [slug(network) for network in NETWORKS], AGAIN
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == f"{real_networks.page(DATA)}\n", AGAIN
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(DATA), AGAIN
    for name, entry in DATA.items():
        assert f">{entry['verdict']}</text>" in (FOLDER / f"{name}.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("network", NETWORKS, ids=slug)
def test_what_the_data_say_fits_together(network: RealNetwork) -> None:
    """A network conforms just where every clause of every level was decided and nothing was found."""
    entry = DATA[slug(network)]
    expected = clauses_of(network.part or None, variant(network.variant).family.family)

    assert entry["command"] == network.command
    assert parse(entry["command"].split()[1:])["target"] == f"tests.support.peers:{network.target}"
    assert set(entry["levels"]) == set(Level)
    assert sum(entry["clauses"].values()) == len(expected)
    assert entry["clauses"].get("failed", 0) == len(entry["findings"])
    conforms = set(entry["clauses"]) <= {Verdict.PASSED, Verdict.NOT_APPLICABLE}
    assert (entry["verdict"] == RunVerdict.CONFORMS) is conforms
    assert entry["killed"] == entry["planted"] or "undecided" in entry["clauses"]


def test_the_versions_are_those_of_the_constraints() -> None:
    """What the tests run with is what was judged."""
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    for entry in DATA.values():
        stated = {name: number.partition("+")[0] for name, number in entry["versions"].items()}
        assert stated.items() >= {name: pinned[name] for name in stated if name in pinned}.items(), AGAIN


@pytest.mark.deep
@pytest.mark.parametrize("network", NETWORKS, ids=slug)
def test_the_verdict_is_that_of_the_installed_library(network: RealNetwork) -> None:
    """Judged again, the record is the same; ``test_real_networks`` does so with one of them in every run."""
    missing = [name for name in network.libraries if installed(name) is None]
    if missing:
        pytest.skip(f"not run: {', '.join(missing)} is not installed")

    assert comparable(record(network, network.judge())) == comparable(DATA[slug(network)]), AGAIN
