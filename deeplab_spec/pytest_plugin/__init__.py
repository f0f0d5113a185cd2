"""The pytest plugin: one test per clause and output stride for a network given on the command line.

Without ``--deeplab-target`` it only adds options: no tests, and no imports.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they are those of ``deeplab-spec certify``."""
    group = parser.getgroup("deeplab_spec", "judge a network against the specification of DeepLabV3+")

    def option(name: str, metavar: str, text: str, **more: object) -> None:
        group.addoption(f"--deeplab-{name}", metavar=metavar, help=text, **more)

    option("target", "TARGET", "the network: MODULE:CALLABLE that builds it, reference:VARIANT, or a file")
    option("variant", "NAME", "the published network that it must match")
    option("against", "OTHER", "another target, or a .lock file, that it must match instead")
    option("choose", "NAME=VALUE", "override one choice of the variant", action="append")
    option("part", "PART", "the target is only a part of the network")
    option("output-stride", "N", "output stride to build it with; repeat for several", action="append", type=int)
    option("classes", "N", "channels of the logits", type=int)
    option("arg", "NAME=VALUE", "keyword argument of the builder", action="append")
    option("level", "LEVEL", "decide only this level; repeat for several", action="append")
    option("dtype", "DTYPE", "precision of the numerics, as in certify; repeat for several", action="append")
    option("device", "DEVICE", "the device that runs it: cpu or cuda", default="cpu")
    option("python", "PATH", "the Python of the environment that the target runs in; this one by default", default="")
    option("search", "DIR", "search the target's module here too, after pythonpath", action="append")
    option("timeout", "SECONDS", "seconds that an answer of the target may take", type=float, default=600.0)
    option("memory", "GIB", "memory that the target may allocate, in GiB; no limit by default", type=float, default=0.0)
    option("waivers", "FILE", "TOML file of accepted findings; their tests are expected failures")
    option("today", "YYYY-MM-DD", "date to check the expiry of waivers against; today in UTC by default")
    option("seed", "N", "seed of the weights and images", type=int, default=0)


def pytest_configure(config: pytest.Config) -> None:
    """Register the clause tests if there is a target."""
    if not config.getoption("deeplab_target"):
        return
    from deeplab_spec.pytest_plugin.session import ClauseTests

    config.pluginmanager.register(ClauseTests(config), "deeplab_spec_clause_tests")
