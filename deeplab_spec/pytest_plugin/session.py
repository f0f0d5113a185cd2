"""The tests of a run: collected beside those of the project, judged once, and never green without a decision."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import pytest

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.pytest_plugin.clause_tests import DECIDED, Judgements
from deeplab_spec.pytest_plugin.nodes import VERDICT, AtOutputStride, ClauseItem, Waived
from deeplab_spec.pytest_plugin.request import request_of, strides_of, waivers_of
from deeplab_spec.pytest_plugin.shared import shared
from deeplab_spec.views.progress import silent

FOLDER: Final = "deeplab_spec_folder"
"""What a worker of pytest-xdist is told: where certificates are shared."""


class Worker(Protocol):
    """What pytest-xdist tells about a worker that it is going to start."""

    workerinput: dict[str, object]


class ClauseTests:
    """The plugin of a run in which a network is judged.

    Raises:
        UsageError: If the options do not say what to judge, or a waiver is wrong.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        try:
            self._request = request_of(config)
            self._judgements = Judgements(self._judge, waivers_of(config))
        except DeepLabSpecError as error:
            raise pytest.UsageError(str(error)) from error
        given = getattr(config, "workerinput", {}).get(FOLDER)
        self._folder = Path(str(given)) if given else None
        self._is_worker = hasattr(config, "workerinput")
        self._strides = strides_of(self._request)
        self._decided = 0

    def pytest_report_header(self) -> str:
        """Say what is judged, before it takes its time."""
        strides = [str(stride) for stride in self._strides if stride]
        at = f" at output stride {' and '.join(strides)}" if strides else ""
        return f"deeplab_spec: {self._request.target}, judged against {self._request.reference}{at}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the tests, before others select among all; no file has to be there for it."""
        for collector in self._collectors(session):
            items.extend(item for item in session.genitems(collector) if isinstance(item, pytest.Item))

    def _collectors(self, session: pytest.Session) -> list[pytest.Collector]:
        found: list[pytest.Collector] = []
        for stride in self._strides:
            name = _name(self._request.reference, stride)
            node: AtOutputStride = AtOutputStride.from_parent(session, name=name, nodeid=name)
            node.judgements, node.clauses, node.output_stride = self._judgements, self._request.clauses, stride
            found.append(node)
        if self._judgements.waivers is not None:
            name = _name(self._request.reference, None)
            waived: Waived = Waived.from_parent(session, name=name, nodeid=name)
            waived.judgements, waived.output_strides = self._judgements, self._strides
            found.append(waived)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Judge once before anything runs, so that a target that cannot be judged is one line, and no test's.

        Raises:
            UsageError: If it cannot be imported, built or read.
        """
        if self._is_worker or session.config.getoption("collectonly"):
            return
        chosen = [item.at.output_stride for item in session.items if isinstance(item, ClauseItem)]
        distributed = list(self._strides) if self._folder else []  # then the items are with the workers
        try:
            for output_stride in (chosen or distributed)[:1]:
                self._judgements.at(output_stride)
        except DeepLabSpecError as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the clauses that were decided, in whatever process."""
        if report.when == "call":
            self._decided += dict(report.user_properties).get(VERDICT) in DECIDED

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that was asked to judge and decided nothing."""
        good = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if self._decided or self._is_worker or not good or session.config.getoption("collectonly"):
            return
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why such a run failed."""
        if not self._decided and not self._config.getoption("collectonly"):
            terminalreporter.write_line(f"deeplab_spec: no clause was decided of {self._request.target}", red=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Worker) -> None:
        """Tell a worker of pytest-xdist where certificates are shared."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="deeplab-spec-"))
        node.workerinput[FOLDER] = str(self._folder)

    def pytest_unconfigure(self) -> None:
        """Remove what was shared."""
        if self._folder is not None and not self._is_worker:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _judge(self, output_stride: int | None) -> Certificate:
        from deeplab_spec.judge.candidate.runner import run

        strides = () if output_stride is None else (output_stride,)
        request = replace(self._request, output_strides=strides)
        search = self._config.getini("pythonpath")

        def judged() -> Certificate:
            return run(request, silent, search)

        return shared(self._folder, str(output_stride), judged) if self._folder else judged()


def _name(standard: str, output_stride: int | None) -> str:
    return f"deeplab_spec/{standard}" if output_stride is None else f"deeplab_spec/{standard}@{output_stride}"
