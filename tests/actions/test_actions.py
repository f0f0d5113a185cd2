"""The actions: the commands of their steps are executed as a runner executes them."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTIONS = ROOT / ".github" / "actions"
SMALL = "--part decoder --choose width=0.03 --level structure"


def read(name: str) -> dict[str, Any]:
    """Read an action."""
    found: dict[str, Any] = yaml.safe_load((ACTIONS / name / "action.yml").read_text(encoding="utf-8"))
    return found


@dataclass
class Runner:
    """Executes the shell steps of an action in a folder; steps of other actions are listed.

    Attributes:
        folder: The workspace.
        programs: A folder of programs that come first on the path.
    """

    folder: Path
    programs: Path
    printed: str = ""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, name: str, **inputs: str) -> int:
        """Execute an action, and return the exit status of the step that ended it."""
        action = read(name)
        given = {key: str(entry.get("default", "")) for key, entry in action["inputs"].items()}
        assert set(inputs) <= set(given)
        given |= inputs
        for step in action["runs"]["steps"]:
            asked = re.fullmatch(r"inputs\.(\w+) == 'true'", step.get("if", ""))
            if asked and given[asked[1]] != "true":
                continue
            if "uses" in step:
                self.used[step["uses"]] = {key: self._filled(str(value), given) for key, value in step["with"].items()}
                continue
            code = self._step(step, given)
            if code:
                return code
        return 0

    def _filled(self, text: str, inputs: dict[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            match found[1].strip().split("."):
                case ["inputs", name]:
                    return inputs[name]
                case ["steps", step, "outputs", name]:
                    return self.outputs[step][name]
                case ["github", "action_path"]:
                    return str(ACTIONS / "certify")
                case _:
                    raise AssertionError(found[0])

        return re.sub(r"\$\{\{(.*?)\}\}", value, text)

    def _step(self, step: dict[str, Any], inputs: dict[str, str]) -> int:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an expression in a script can be any command"
        said = self.folder / "output"
        said.write_text("")
        own = {name: self._filled(str(value), inputs) for name, value in step.get("env", {}).items()}
        environment = {
            **os.environ,
            **own,
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(said),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        ended = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.printed += ended.stdout + ended.stderr
        lines = (line.partition("=") for line in said.read_text().splitlines())
        self.outputs[step.get("id", "")] = {name: value for name, _, value in lines}
        return ended.returncode

    @property
    def summary(self) -> str:
        """The summary of the job."""
        return (self.folder / "summary").read_text(encoding="utf-8")


def program(folder: Path, name: str, text: str) -> None:
    """Write a program."""
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Prepare a workspace, in which this package is the installed one."""
    folder, programs = tmp_path / "workspace", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    program(programs, "python", f'exec {sys.executable} "$@"')
    program(programs, "deeplab-spec", f'PYTHONPATH={ROOT} exec {sys.executable} -P -m deeplab_spec "$@"')
    return Runner(folder, programs)


def test_a_network_that_conforms_passes(runner: Runner) -> None:
    """The summary says so, the report is kept, and nothing is annotated."""
    code = runner.run("certify", target="reference:tf-release", options=SMALL, install="false")

    assert code == 0
    assert runner.outputs["certify"] == {"status": "0"}
    assert runner.summary.startswith("### \N{WHITE HEAVY CHECK MARK} reference")
    assert "::error" not in runner.printed
    kept = runner.used["actions/upload-artifact@v4"]
    assert kept == {"name": "deeplab-spec-report", "path": "deeplab-spec-report"}
    files = {path.name for path in (runner.folder / kept["path"]).iterdir()}
    assert {"certificate.json", "badge.json", "report.html"} <= files


def test_a_network_that_deviates_is_annotated_and_fails(runner: Runner) -> None:
    """Also where a word of the options has a space in it; with ``fail: false`` the status is an output only."""
    options = f"{SMALL} --arg 'head_norm_eps=1e-3' --arg width=0.03"
    inputs = {"target": "reference:tf-release", "variant": "tf-release", "options": options, "install": "false"}

    assert runner.run("certify", **inputs) == 1
    assert "\n::error title=HEAD-NORM-EPS failed::" in runner.printed
    assert "HEAD-NORM-EPS" in runner.summary
    (token,) = re.findall(r"::stop-commands::(\w{32})\n", runner.printed)
    assert f"\n::{token}::\n" in runner.printed
    runner.programs.joinpath("deeplab-spec").write_text("#!/bin/bash\nexit 1\n")
    assert runner.run("certify", **inputs, fail="false") == 0
    assert runner.outputs["certify"] == {"status": "1"}


def test_what_could_not_run_says_so(runner: Runner) -> None:
    """In the summary and as an annotation."""
    assert runner.run("certify", target="nothing:there", variant="tf-release", install="false") == 3
    assert "could not run (exit status 3)" in runner.summary
    assert "::error title=deeplab-spec::it could not run (exit status 3)" in runner.printed


@pytest.mark.parametrize("place", ["target", "variant", "options", "report"])
def test_no_input_is_a_command(runner: Runner, place: str) -> None:
    """Inputs come from pull requests: they are words of one command, whatever is in them."""
    text = "; touch pwned; $(touch pwned) `touch pwned` && touch pwned"
    program(runner.programs, "deeplab-spec", 'printf "[%s]" "$@"')
    inputs = {"target": "my:build", "install": "false"} | {place: text}

    assert runner.run("certify", **inputs) == 0
    assert not (runner.folder / "pwned").exists()
    assert "[; touch pwned; $(touch pwned) `touch pwned` && touch pwned]" in runner.printed or place == "options"


def test_the_installation_is_that_of_the_version_of_the_action(runner: Runner) -> None:
    """The package stands three folders above the action."""
    program(runner.programs, "python", 'printf "%s\\n" "$@" >> installed; [ "$1" != -c ] || echo ""')
    program(runner.programs, "deeplab-spec", "exit 0")
    runner.run("certify", target="my:build")

    words = (runner.folder / "installed").read_text().splitlines()
    place = next(word for word in words if word.endswith("[torch]")).removesuffix("[torch]")
    assert (Path(place) / "pyproject.toml").samefile(ROOT / "pyproject.toml")


def test_both_actions_install_by_the_same_step() -> None:
    """What is true of one installation is true of the other."""
    steps = [read(name)["runs"]["steps"][0] for name in ("certify", "gate")]

    assert steps[0]["name"] == "Install"
    assert steps[0] == steps[1]


@pytest.mark.parametrize(("status", "writes"), [(0, True), (1, True), (3, False)])
def test_the_gate_shows_its_summary_and_keeps_its_times(runner: Runner, status: int, *, writes: bool) -> None:
    """It fails with the exit status of the command; without a summary the job says that it could not run."""
    text = "echo '### PASS' > gate.md" if writes else ":"
    program(runner.programs, "deeplab-spec", f'printf "[%s]" "$@"; {text}; exit {status}')
    inputs = {"base": "abc", "options": "--case cpu-forward", "install": "false"}

    assert runner.run("gate", **inputs) == status
    expected = "[gate][--case][cpu-forward][--save][.benchmarks][--summary][gate.md][--][ref:abc][ref:HEAD]"
    assert expected in runner.printed
    assert runner.summary.startswith("### PASS" if writes else f"### The gate could not run (exit status {status})")
    assert runner.used["actions/upload-artifact@v4"]["path"] == ".benchmarks"


def test_three_lines_of_the_guide_use_the_action() -> None:
    """The lines in the documentation name inputs that exist."""
    guide = (ROOT / "docs" / "guide" / "report.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL):
        for step in yaml.safe_load(block):
            name = re.fullmatch(r"deeplab-spec/deeplab-spec/\.github/actions/(\w+)@\w+", step["uses"])
            assert name
            assert set(step.get("with", {})) <= set(read(name[1])["inputs"])
    assert len(re.findall("```yaml", guide)) == 2
