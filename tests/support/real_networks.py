"""Networks of libraries as the judge finds them: what ``reports/networks/`` holds.

``python -m tests.support.real_networks`` judges every network whose library is installed, one after the other, in about
a minute each, and writes data, badges and page; names of networks behind it judge these only, ``--search DIR`` names
the folder of a library that is not in this environment. A test holds the page against the data.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import deeplab_spec
from deeplab_spec.evidence.exports import badge_svg
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Finding
from deeplab_spec.judge.text import problem, sentence
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.table import Grid, markdown

FOLDER: Final = Path(__file__).parents[2] / "reports" / "networks"
INTRODUCTION: Final = (
    "Networks of libraries, without trained weights, judged on every level in float64 and float32. Made by "
    "`python -m tests.support.real_networks`, never edited by hand; a test holds this page against "
    "[networks.json](networks.json), which has the findings of every clause. Each command is run in a checkout, with "
    "the library installed (extra `peers`; `pip install transformers`)."
)
PEERS: Final = "tests.support.peers"
MOST: Final = 3
"""Different findings of a clause on the page; the data have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealNetwork:
    """A network of a library, and what it is judged against.

    Attributes:
        name: Its name on the page.
        libraries: The distributions that it is made of.
        target: The callable in :mod:`tests.support.peers`, with its arguments.
        variant: The published network, with the choices that differ.
        part: The part that it implements; empty for all.
        output_strides: The output strides that it is built for.
    """

    name: str
    libraries: tuple[str, ...]
    target: str
    arguments: dict[str, str] = field(default_factory=dict)
    variant: str
    choices: dict[str, str] = field(default_factory=dict)
    part: str = ""
    output_strides: tuple[int, ...]

    @property
    def command(self) -> str:
        """The command that judges it."""
        words = ["deeplab-spec", "certify", f"{PEERS}:{self.target}", "--variant", self.variant]
        words += [word for name, value in self.choices.items() for word in ("--choose", f"{name}={value}")]
        words += ["--part", self.part] if self.part else []
        words += [word for stride in self.output_strides for word in ("--output-stride", str(stride))]
        words += [word for name, value in self.arguments.items() for word in ("--arg", f"{name}={value}")]
        return shlex.join(words)

    def judge(self, levels: Iterable[str] = tuple(Level), search: Iterable[str] = ()) -> Certificate:
        """Judge it."""
        return deeplab_spec.certify(
            f"{PEERS}:{self.target}",
            self.variant,
            choices=self.choices,
            part=self.part or None,
            arguments=self.arguments,
            output_strides=self.output_strides,
            levels=tuple(levels),
            search=tuple(search),
        )


def _smp(encoder: str, variant: str, output_strides: tuple[int, ...] = (8, 16), **choices: str) -> RealNetwork:
    timm = ("timm",) if encoder.startswith("tu-") else ()
    return RealNetwork(
        name=f"DeepLabV3Plus on {encoder}",
        libraries=("segmentation-models-pytorch", *timm),
        target="smp_deeplab",
        arguments={"encoder": encoder},
        variant=variant,
        choices=choices,
        output_strides=output_strides,
    )


def _torchvision(name: str, variant: str, **choices: str) -> RealNetwork:
    auxiliary = {"aux_loss": "True"} if "auxiliary" in choices else {}
    return RealNetwork(
        name=f"{name} with auxiliary head" if auxiliary else name,
        libraries=("torchvision",),
        target="torchvision_deeplab",
        arguments={"name": name, **auxiliary},
        variant=variant,
        choices=choices,
        output_strides=(8,) if variant.startswith("torchvision-resnet") else (16,),
    )


def _timm(name: str, variant: str, output_strides: tuple[int, ...] = (8, 16, 32)) -> RealNetwork:
    return RealNetwork(
        name=f"{name}, the backbone alone",
        libraries=("timm",),
        target="timm_backbone",
        arguments={"name": name},
        variant=variant,
        part="backbone",
        output_strides=output_strides,
    )


NETWORKS: Final = (
    _torchvision("deeplabv3_resnet50", "torchvision-resnet50"),
    _torchvision("deeplabv3_resnet50", "torchvision-resnet50", auxiliary="fcn"),
    _torchvision("deeplabv3_resnet101", "torchvision-resnet101"),
    _torchvision("deeplabv3_resnet50", "tf-release"),
    _torchvision("deeplabv3_mobilenet_v3_large", "torchvision-mobilenet-v3-large"),
    _torchvision("deeplabv3_mobilenet_v3_large", "torchvision-mobilenet-v3-large", auxiliary="fcn"),
    _torchvision("deeplabv3_mobilenet_v3_large", "tf-release"),
    _smp("resnet18", "smp-resnet34", stage_units="2,2,2,2"),
    _smp("resnet34", "smp-resnet34"),
    _smp("resnet50", "smp-resnet50"),
    _smp("resnet101", "smp-resnet101"),
    _smp("resnet152", "smp-resnet101", stage_units="3,8,36,3"),
    _smp("tu-xception41", "smp-xception65", middle_blocks="8"),
    _smp("tu-xception65", "smp-xception65"),
    _smp("tu-xception71", "smp-xception65", (16,), entry_blocks="5"),
    _smp("tu-xception71", "smp-xception65", (8,), entry_blocks="5"),
    _smp("tu-xception65", "tf-release"),
    _timm("xception41", "tf-xception41"),
    _timm("xception65", "tf-release"),
    _timm("xception71", "tf-xception71", (16, 32)),
    _timm("xception71", "tf-xception71", (8,)),
    RealNetwork(
        name="MobileNetV2ForSemanticSegmentation",
        libraries=("transformers",),
        target="transformers_mobilenet",
        variant="hf-mobilenet-v2",
        output_strides=(8, 16, 32),
    ),
)


def slug(network: RealNetwork) -> str:
    """Return the name of a network's badge, without its suffix.

    >>> slug(NETWORKS[3])
    'torchvision-deeplabv3_resnet50-as-tf-release-os16'
    """
    strides = "-".join(map(str, network.output_strides))
    return f"{network.libraries[0]}-{network.name.replace(',', '').replace(' ', '-')}-as-{network.variant}-os{strides}"


def record(network: RealNetwork, certificate: Certificate) -> dict[str, Any]:
    """Return what the data say about one network."""
    return {
        "network": network.name,
        "versions": {name: version(name) for name in ("torch", *network.libraries)},
        "command": network.command,
        "judged_against": " ".join([network.variant, *(f"{name}={value}" for name, value in network.choices.items())]),
        "part": certificate.part,
        "output_strides": network.output_strides,
        "seed": certificate.seed,
        "verdict": certificate.verdict,
        "sentence": sentence(certificate),
        "levels": certificate.levels,
        "clauses": Counter(clause.verdict.value for clause in certificate.clauses),
        "findings": {clause.id: _found(clause.findings) for clause in certificate.clauses if clause.findings},
        "nearest": certificate.nearest and certificate.nearest.model_dump(mode="json"),
        "graphs": {subject.output_stride: subject.graph for subject in certificate.subjects},
        "planted": certificate.canaries.planted,
        "killed": certificate.canaries.killed,
    }


def _found(findings: Iterable[Any]) -> list[dict[str, Any]]:
    """Return findings by what is wrong: attribute, expected and actual, how often, and where first."""
    first: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for finding in findings:
        what = {name: getattr(finding, name) for name in ("attribute", "expected", "actual", "choice")}
        key = json.dumps(what, default=str)
        counts[key] += 1
        first.setdefault(key, {**json.loads(key), "path": finding.path, "candidate_path": finding.candidate_path})
    return [{**entry, "times": counts[key]} for key, entry in first.items()]


def comparable(entry: dict[str, Any]) -> Any:
    """Return a record without the versions, as JSON holds it."""
    return json.loads(json.dumps({**entry, "versions": None}))


def page(data: dict[str, dict[str, Any]]) -> str:
    """Return the page of the data."""
    rows = tuple(_row(name, entry) for name, entry in data.items())
    headers = ("network", "verdict", "judged against", "library", "clauses", "planted faults refused")
    commands = "\n".join(entry["command"] for entry in data.values())
    deviating = [entry for entry in data.values() if entry["findings"]]
    return "\n\n".join(
        (
            "# Real networks",
            f"{INTRODUCTION} PyTorch: {', '.join(sorted({entry['versions']['torch'] for entry in data.values()}))}.",
            markdown(Grid(headers=headers, rows=rows)),
            "## What differs",
            *("\n\n".join(_differences(entry)) for entry in deviating),
            "## The commands",
            f"```console\n{commands}\n```",
        )
    )


def _row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    libraries = ", ".join(f"{library} {number}" for library, number in entry["versions"].items() if library != "torch")
    clauses = ", ".join(f"{count} {verdict}" for verdict, count in entry["clauses"].items())
    return (
        entry["network"],
        f"![{entry['verdict']}]({name}.svg)",
        _against(entry),
        libraries,
        clauses,
        f"{entry['killed']} of {entry['planted']}",
    )


def _against(entry: dict[str, Any]) -> str:
    strides = ", ".join(map(str, entry["output_strides"]))
    part = f", {entry['part']}" if entry["part"] else ""
    return f"{entry['judged_against']}{part}, output stride {strides}"


def _differences(entry: dict[str, Any]) -> Iterator[str]:
    """Yield what was found at a network: each difference once, with the first node and the number of nodes."""
    yield f"### {entry['network']}, against {_against(entry)}"
    yield entry["sentence"]
    lines = []
    for clause, findings in entry["findings"].items():
        for found in findings[:MOST]:
            facts = {name: value for name, value in found.items() if name != "times"}
            more = f" and {found['times'] - 1} more" if found["times"] > 1 else ""
            lines.append(
                (clause, facts["path"] + more, problem(Finding(**facts, output_stride=0)).partition("; likewise")[0])
            )
        if len(findings) > MOST:
            lines.append((clause, f"and {sum(finding['times'] for finding in findings[MOST:])} more", ""))
    if entry["nearest"]:
        yield markdown(Grid(headers=("clause", "where", "what"), rows=tuple(lines)))


def load() -> dict[str, dict[str, Any]]:
    """Return the data, in the order of the networks."""
    file = FOLDER / "networks.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {slug(network): known[slug(network)] for network in NETWORKS if slug(network) in known}


def save(name: str, certificate: Certificate, entry: dict[str, Any]) -> None:
    """Write a network's data and badge, and the page anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(f"{badge_svg(certificate)}\n", encoding="utf-8")
    for data in ({**load(), name: entry}, None):
        text = json.dumps(data or load(), indent=1)
        (FOLDER / "networks.json").write_text(f"{text}\n", encoding="utf-8")
    (FOLDER / "README.md").write_text(f"{page(load())}\n", encoding="utf-8")


def main() -> None:
    """Judge the networks that the command line names."""
    names = [slug(network) for network in NETWORKS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"one of {', '.join(names)}")
    parser.add_argument("--search", action="append", default=[], metavar="DIR")
    options = parser.parse_args()
    sys.path.extend(options.search)
    for network in NETWORKS:
        if slug(network) in (options.names or names):
            sys.stderr.write(f"{network.command}\n")
            certificate = network.judge(search=options.search)
            save(slug(network), certificate, record(network, certificate))
            sys.stderr.write(f"{certificate.summary} ({certificate.seconds:.0f} s)\n")


if __name__ == "__main__":
    main()
