"""The nightly workflow runs every test once."""

import re
from configparser import ConfigParser
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NIGHTLY = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8"))
CONFIGURATION = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: None))  # noqa: ARG005 - a hook's argument


class Collected:
    """A collected test."""

    def __init__(self, *, deep: bool) -> None:
        self.deep = deep

    def get_closest_marker(self, name: str) -> bool:
        """Tell whether it is a deep test."""
        return self.deep and name == "deep"


TESTS = [Collected(deep=number % 3 == 0) for number in range(20)]


def selected(request: pytest.FixtureRequest, *, deep: bool, shard: str) -> list[Collected]:
    """Return what the suite's own configuration selects."""
    conftest: Any = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    tests = list(TESTS)
    given = {"--deep": deep, "--shard": shard}
    conftest.pytest_collection_modifyitems(SimpleNamespace(**vars(CONFIGURATION), getoption=given.get), tests)
    return tests


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_every_test_is_in_one_shard(request: pytest.FixtureRequest, count: int, *, deep: bool) -> None:
    """Shards differ by one test at most; those without ``--deep`` have no deep test."""
    shards = [selected(request, deep=deep, shard=f"{number}/{count}") for number in range(1, count + 1)]

    assert sorted(map(id, chain.from_iterable(shards))) == sorted(id(test) for test in TESTS if deep or not test.deep)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3"])
def test_a_shard_that_does_not_exist_is_refused(request: pytest.FixtureRequest, shard: str) -> None:
    """It would select nothing, and pass."""
    with pytest.raises(pytest.UsageError, match=f"must be of 1/3 to 3/3, but is {shard}"):
        selected(request, deep=True, shard=shard)


def test_the_nightly_jobs_are_the_shards_of_the_deep_tests() -> None:
    """All of them, whatever fails, in the environment that a person has."""
    job = NIGHTLY["jobs"]["deep"]
    command = job["steps"][-1]["run"]
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")

    (count,) = re.findall(r"tox -e deep -- --shard \$\{\{ matrix\.shard \}\}/(\d+)$", command)
    assert job["strategy"] == {"fail-fast": False, "matrix": {"shard": list(range(1, int(count) + 1))}}
    assert set(NIGHTLY[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 reads ``on`` so
    assert "--deep" in tox["testenv:deep"]["commands"]
    assert "{posargs}" in tox["testenv:deep"]["commands"]
