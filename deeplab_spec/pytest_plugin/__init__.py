"""The pytest plugin: one test per clause and output stride, of a network that the command line names.

Without ``--deeplab-target`` it adds options and nothing else: no test, no import, no time.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they are those of ``deeplab-spec certify``."""
    group = parser.getgroup("deeplab_spec", "judge a network against the specification of DeepLabV3+")

    def option(name: str, metavar: str, text: str, **more: object) -> None:
        group.addoption(f"--deeplab-{name}", metavar=metavar, help=text, **more)

    option("target", "TARGET", "what builds the network: MODULE:CALLABLE, reference:VARIANT, or a file")
    option("variant", "NAME", "the published network that it shall be")
    option("against", "OTHER", "another target, or a file of lock, that it shall equal instead")
    option("choose", "NAME=VALUE", "decide one choice otherwise than the variant", action="append")
    option("part", "PART", "the part that it implements")
    option("output-stride", "N", "judge it at this output stride; repeat for several", action="append", type=int)
    option("classes", "N", "channels of the logits", type=int)
    option("arg", "NAME=VALUE", "keyword argument of what builds it", action="append")
    option("level", "LEVEL", "decide this level only; repeat for several", action="append")
    option("dtype", "DTYPE", "precision of the numerics, as in certify; repeat for several", action="append")
    option("device", "DEVICE", "where it runs: cpu or cuda", default="cpu")
    option("waivers", "FILE", "TOML file of findings that are accepted: their tests are expected failures")
    option("today", "YYYY-MM-DD", "day that the waivers' expiry is held against; by default the present one, in UTC")
    option("seed", "N", "seed of weights and images", type=int, default=0)


def pytest_configure(config: pytest.Config) -> None:
    """Register what adds and runs the tests, where there is something to judge."""
    if not config.getoption("deeplab_target"):
        return
    from deeplab_spec.pytest_plugin.session import ClauseTests

    config.pluginmanager.register(ClauseTests(config), "deeplab_spec_clause_tests")
