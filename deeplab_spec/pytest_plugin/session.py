"""The clause tests of a run: added to the project's tests, judged once, and failed if nothing is decided."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final, Protocol

import pytest

from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.errors import DeepLabSpecError, SpecError, require_torch
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import Request, request_from
from deeplab_spec.judge.waivers import Waivers, waivers_from
from deeplab_spec.pytest_plugin.clause_tests import DECIDED, VERDICT, AtOutputStride, ClauseItem, Judgements, Waived
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.views.document import write_whole
from deeplab_spec.views.progress import silent

FOLDER: Final = "deeplab_spec_folder"
"""Key of the worker input of pytest-xdist: the folder that holds shared certificates."""

_STATES_ITS_OWN: Final = {".pt2", ".onnx", ".lock"}
"""Suffixes of files that have an output stride of their own."""


class Worker(Protocol):
    """A worker that pytest-xdist is about to start."""

    workerinput: dict[str, object]


class ClauseTests:
    """The plugin of a run in which a network is judged.

    Raises:
        UsageError: If the options are incomplete or wrong, or a waiver is wrong.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        try:
            self._request = request_of(config)
            self._process = process_of(config)
            self._judgements = Judgements(self._judge, waivers_of(config))
        except DeepLabSpecError as error:
            raise pytest.UsageError(str(error)) from error
        folder = getattr(config, "workerinput", {}).get(FOLDER)
        self._folder = Path(str(folder)) if folder else None
        self._is_worker = hasattr(config, "workerinput")
        self._strides = strides_of(self._request)
        self._decided = 0

    def pytest_report_header(self) -> str:
        """Return a line on the target, before it is judged."""
        strides = [str(stride) for stride in self._strides if stride]
        at = f" at output stride {' and '.join(strides)}" if strides else ""
        return f"deeplab_spec: {self._request.target}, judged against {self._request.reference}{at}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the clause tests before other plugins select tests; they need no test file."""
        for collector in self._collectors(session):
            items.extend(item for item in session.genitems(collector) if isinstance(item, pytest.Item))

    def _collectors(self, session: pytest.Session) -> list[pytest.Collector]:
        collectors: list[pytest.Collector] = []
        for stride in self._strides:
            name = _name(self._request.reference, stride)
            node: AtOutputStride = AtOutputStride.from_parent(session, name=name, nodeid=name)
            node.judgements, node.clauses, node.output_stride = self._judgements, self._request.clauses, stride
            collectors.append(node)
        if self._judgements.waivers is not None:
            name = _name(self._request.reference, None)
            waived: Waived = Waived.from_parent(session, name=name, nodeid=name)
            waived.judgements, waived.output_strides = self._judgements, self._strides
            collectors.append(waived)
        return collectors

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Judge once before any test runs, so that a target that cannot be judged is one usage error.

        Raises:
            UsageError: If it cannot be imported, built or read.
        """
        if self._is_worker or session.config.getoption("collectonly"):
            return
        selected = [item.at.output_stride for item in session.items if isinstance(item, ClauseItem)]
        distributed = list(self._strides) if self._folder else []  # the workers have the items
        try:
            for output_stride in (selected or distributed)[:1]:
                self._judgements.at(output_stride)
        except DeepLabSpecError as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the decided clauses, also those of workers."""
        if report.when == "call":
            self._decided += dict(report.user_properties).get(VERDICT) in DECIDED

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run if no clause was decided."""
        good = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if self._decided or self._is_worker or not good or session.config.getoption("collectonly"):
            return
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Explain the failure of a run without decisions."""
        if not self._decided and not self._config.getoption("collectonly"):
            terminalreporter.write_line(f"deeplab_spec: no clause was decided of {self._request.target}", red=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Worker) -> None:
        """Pass the folder of shared certificates to a worker of pytest-xdist."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="deeplab-spec-"))
        node.workerinput[FOLDER] = str(self._folder)

    def pytest_unconfigure(self) -> None:
        """Remove the folder of shared certificates."""
        if self._folder is not None and not self._is_worker:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _judge(self, output_stride: int | None) -> Certificate:
        require_torch("--deeplab-target")
        from deeplab_spec.judge.judge import run

        strides = () if output_stride is None else (output_stride,)
        request = replace(self._request, output_strides=strides)

        def judge() -> Certificate:
            return run(request, silent, self._process)

        return _shared(self._folder, str(output_stride), judge) if self._folder else judge()


def _name(network: str, output_stride: int | None) -> str:
    return f"deeplab_spec/{network}" if output_stride is None else f"deeplab_spec/{network}@{output_stride}"


def _shared(folder: Path, name: str, make: Callable[[], Certificate]) -> Certificate:
    """Return a certificate that one process of the run makes and the others wait for; an error is not shared."""
    file = folder / f"{name}.json"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by the end of the process
        if file.exists():
            return Certificate.model_validate_json(file.read_bytes())
        certificate = make()
        write_whole(file, certificate.model_dump_json())
        return certificate


def request_of(config: pytest.Config) -> Request:
    """Return the request that the options describe.

    Raises:
        SpecError: If an option has a value that it cannot have.
    """
    return request_from(
        config.getoption("deeplab_target"),
        variant=config.getoption("deeplab_variant"),
        against=config.getoption("deeplab_against"),
        overrides=config.getoption("deeplab_choose") or (),
        arguments=read_arguments(config.getoption("deeplab_arg"), "--deeplab-arg"),
        part=config.getoption("deeplab_part"),
        output_strides=config.getoption("deeplab_output_stride") or (),
        classes=config.getoption("deeplab_classes"),
        levels=config.getoption("deeplab_level") or None,
        dtypes=config.getoption("deeplab_dtype") or None,
        device=config.getoption("deeplab_device"),
        seed=config.getoption("deeplab_seed"),
        prefix="--deeplab-",
    )


def process_of(config: pytest.Config) -> ProcessSettings:
    """Return how the target's process is started; it searches the folders of ``pythonpath`` too.

    Raises:
        SpecError: If an option has a value that it cannot have.
    """
    for name, least in (("timeout", 0.1), ("memory", 0.0)):
        if not config.getoption(f"deeplab_{name}") >= least:
            raise SpecError(f"--deeplab-{name}", f"must be {least:g} or more", config.getoption(f"deeplab_{name}"))
    folders = (*config.getini("pythonpath"), *(config.getoption("deeplab_search") or ()))
    return ProcessSettings(
        python=config.getoption("deeplab_python"),
        search=tuple(map(str, folders)),
        timeout=config.getoption("deeplab_timeout"),
        memory=int(config.getoption("deeplab_memory") * 2**30),
    )


def waivers_of(config: pytest.Config) -> Waivers | None:
    """Return the waivers, if there are any.

    Raises:
        SpecError: If the file is wrong, or a waiver has expired.
    """
    file, today = config.getoption("deeplab_waivers"), config.getoption("deeplab_today")
    return waivers_from(file, today=_day(today)) if file else None


def strides_of(request: Request) -> tuple[int | None, ...]:
    """Return the output strides of the tests; None for a file, which has its own."""
    named = (request.target, request.against or "")
    states = any(Path(name).suffix.lower() in _STATES_ITS_OWN for name in named)
    return (None,) if states and not request.output_strides else request.strides


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise SpecError("--deeplab-today", "must be a date such as 2027-01-31", text) from error
