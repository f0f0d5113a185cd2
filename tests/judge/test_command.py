"""The command: a process of its own for the candidate, exit codes, and never a traceback of ours."""

import json
from collections.abc import Callable
from functools import partial
from subprocess import CompletedProcess

import pytest

from deeplab_spec.judge.request import HOW
from deeplab_spec.precision import NAMES
from tests.support.candidates import SMALL
from tests.support.members import VARIANT_NAMES

CANDIDATES = "tests.support.candidates"
SMALL_CHOICES = [f"{name}={value}" for name, value in SMALL.items()]


Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(name="certify")
def certify_in_this_process(command: Run) -> Run:
    """Return a function that runs the command."""
    return partial(command, "certify")


def _options(option: str) -> list[str]:
    return [word for choice in SMALL_CHOICES for word in (option, choice)]


@pytest.fixture(name="judged")
def judged_candidate(certify: Run) -> Run:
    """Return a function that runs the command on one of the candidates."""

    def judged(name: str, *arguments: str) -> CompletedProcess[str]:
        return certify(f"{CANDIDATES}:{name}", "--variant", "notebook", *_options("--choose"), *arguments)

    return judged


def test_a_conforming_network_ends_with_0_and_its_certificate_is_json(judged: Run) -> None:
    """What the candidate prints does not get into the document."""
    done = judged("talkative", "--json", "--output-stride", "8", "--output-stride", "16")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == "conforms"
    assert document["levels"] == dict.fromkeys(("interface", "structure", "numerics", "training"), "passed")
    assert {case["output_stride"] for case in document["cases"]} == {8, 16}
    assert document["canaries"]["killed"] == document["canaries"]["planted"] > 100
    assert all(clause["decisions"] >= clause["required"] for clause in document["clauses"])


DECODER = ("tests.support.broken_candidate:build", "--variant", "notebook", "--choose", "width=0.03125")
"""The part that takes the least time; it does what ``--arg`` says."""


def test_the_report_ends_with_the_verdict(certify: Run) -> None:
    """The last line says what a person wants to know."""
    broken = ("--part", "decoder", "--arg", "place=every call", "--arg", "thing=none")
    done = certify(*DECODER, *broken, "--level", "interface")

    assert done.returncode == 1
    assert "OUTPUT-TENSOR (1 finding)" in done.stdout
    assert "DEVIATES from notebook" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("thing", "how"),
    [
        ("killing itself", "the process was ended by SIGKILL"),
        pytest.param("exit", "the process ended with exit status 0", marks=pytest.mark.deep),
    ],
)
def test_a_candidate_that_ends_its_process_deviates(thing: str, how: str, certify: Run) -> None:
    """Its process is not ours; an exit status of 0 is no excuse."""
    broken = ("--part", "decoder", "--arg", "place=first call", "--arg", f"thing={thing}")
    done = certify(*DECODER, *broken, "--level", "interface")

    assert done.returncode == 1
    assert how in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param(
            "no.such:thing",
            "no.such:thing: cannot import 'no.such': ModuleNotFoundError: No module named 'no'",
            marks=pytest.mark.deep,
        ),
        pytest.param(
            f"{CANDIDATES}:missing",
            f"{CANDIDATES}:missing: module '{CANDIDATES}' has no attribute 'missing'",
            marks=pytest.mark.deep,
        ),
        (f"{CANDIDATES}:broken", f"{CANDIDATES}:broken: cannot be built: RuntimeError: no such weights"),
        pytest.param(
            f"{CANDIDATES}:not_a_module",
            f"{CANDIDATES}:not_a_module: must return a torch.nn.Module, but returned a str",
            marks=pytest.mark.deep,
        ),
        (
            f"{CANDIDATES}:ends_while_built",
            f"{CANDIDATES}:ends_while_built: the process ended with exit status 7 while it was being built",
        ),
        pytest.param("nothing", "nothing: must be reference:VARIANT or MODULE:CALLABLE", marks=pytest.mark.deep),
    ],
)
def test_a_target_that_cannot_be_built_is_one_line_and_3(target: str, message: str, certify: Run) -> None:
    """Nothing was judged, so nothing failed."""
    done = certify(target, "--variant", "notebook")

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"deeplab-spec: {message}\n"


def test_a_device_that_is_not_there_is_one_line_and_3(monkeypatch: pytest.MonkeyPatch, certify: Run) -> None:
    """Whatever the machine has, this process sees no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = certify("reference:notebook", "--device", "cuda")

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == "deeplab-spec: --device cuda: no CUDA device is available\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["some:thing"], "variant: say which network some:thing is: --variant with one of notebook"),
        (["reference:nothing"], f"variant: must be one of {VARIANT_NAMES}, but got 'nothing'"),
        (["reference:notebook", "--output-stride", "32"], "output_stride: notebook has output strides 8, 16"),
        (
            ["reference:notebook", "--part", "tail"],
            "part: must be one of backbone, aspp, decoder, head, but got 'tail'",
        ),
        (
            ["reference:notebook", "--dtype", "int8"],
            f"--dtype: must be one of {', '.join(NAMES)}, but got 'int8'",
        ),
        (["reference:notebook", "--device", "tpu"], "device: must be one of cpu, cuda, but got 'tpu'"),
        (["reference:notebook", "--classes", "0"], "classes: must be 1 or more, but got 0"),
        (["reference:notebook", "--choose", "aspp_rates"], "--choose: must be NAME=VALUE, but got 'aspp_rates'"),
    ],
)
def test_a_wrong_argument_is_one_line_and_2(arguments: list[str], message: str, certify: Run) -> None:
    """The message names the rule and what arrived."""
    done = certify(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.deep
def test_choices_of_a_reference_hold_for_both_sides_unless_a_variant_is_named(certify: Run) -> None:
    """Without a variant a reference is judged as itself; with one, it is a candidate like another."""
    narrow = (*_options("--choose"), "--level", "structure", "--json")
    same = certify("reference:notebook", *narrow, "--choose", "aspp_rates=12,24,36")
    other = certify(
        "reference:notebook",
        "--variant",
        "notebook",
        *narrow,
        *_options("--arg"),
        "--arg",
        "aspp_rates=12,24,36",
    )

    assert same.returncode == 0
    assert other.returncode == 1
    assert json.loads(other.stdout)["nearest"]["choices"]["aspp_rates"] == [12, 24, 36]


def test_an_old_name_of_a_precision_is_one_line_that_says_the_new_one(certify: Run) -> None:
    """The certificate speaks of the new one."""
    options = ("--part", "aspp", "--level", "numerics", "--dtype", "amp_bf16")
    done = certify("reference:notebook", *_options("--choose"), *options)

    assert done.stderr.splitlines()[:1] == ["deeplab-spec: 'amp_bf16' is now called 'autocast-bfloat16'"]
    assert "  autocast-bfloat16: automatic mixed precision with bfloat16" in done.stdout.splitlines()


def test_the_help_names_every_precision_and_how_the_lower_ones_are_measured(certify: Run) -> None:
    """Weights and images are cast, or the framework mixes precisions."""
    shown = "".join(certify("--help").stdout.split())  # a line may end behind a hyphen

    assert ",".join(NAMES) in shown
    assert HOW.replace(" ", "") in shown


def test_the_schema_of_the_certificate_is_published(certify: Run) -> None:
    """Other programs read the document by it."""
    done = certify("--json-schema")

    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "Certificate"
