"""Shared test settings and fixtures: Beam's own in-process runner, no noise from TensorFlow, and nights that really ran."""

import collections
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import hypothesis
import pytest
from apache_beam.options.pipeline_options import StandardOptions

from beam_jobs.console import Console

# A busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

# What a shell starts in the background ignores interrupts, and so would the tests that send themselves one.
signal.signal(signal.SIGINT, signal.default_int_handler)

StandardOptions.DEFAULT_RUNNER = "FnApiRunner"

pytest_plugins = ("twins.fixtures",)


def pytest_terminal_summary(terminalreporter):
    """Shows what tests tried (`record_property("tried", [what, times])`) and found (`record_property("found", line)`).

    What they print is not seen: it is captured, and swallowed where several processes share the tests.
    """
    properties = [told for report in terminalreporter.getreports("") for told in report.user_properties]
    tried = collections.Counter()
    for name, told in properties:
        if name == "tried":
            tried[told[0]] += told[1]
    lines = [told for name, told in properties if name == "found"] + [
        f"{count} times: {what}" for what, count in tried.items()
    ]
    if tried:
        lines.append(f"{tried.total()} faults in all")
    if lines:
        terminalreporter.section("tried and found")
    for line in lines:
        terminalreporter.write_line(line)


ROOT = pathlib.Path(__file__).parent.parent
NATALITY = str(ROOT / "configs" / "natality.yaml")
FIRST_DATE, SECOND_DATE = datetime.date(2026, 1, 5), datetime.date(2026, 1, 6)
SMALL = (
    "source.rows=4000",
    "model.training={epochs: 2, batch_size: 256, every: 7d}",
    "model.network.hidden=[8]",
    "evaluation.thresholds=[{metric: mae, upper_bound: 3}]",
    "input_space.axes.mother_age={range: [12, 55], step: 0.5, missing: true}",
    "input_space.axes.gestation_weeks={range: [17, 47], step: 0.25, missing: true}",
    "precompute.shard_blocks=1",
)
"""Settings that make the demo's job a small one: 260,000 points in 4 blocks, one a shard."""


class ListedConsole(Console):
    """Keeps its lines for the test, and leaves file descriptor 2 alone.

    Attributes:
        lines: that a person would have seen.
    """

    def __init__(self):
        super().__init__()
        self.lines = []

    def line(self, text, style=None):
        """Keeps the line."""
        self.lines.append(text)

    def log_to(self, path):
        """Does nothing: pytest has the noise."""


class Workspace:
    """A job and its workspace, used through the command line as a person would."""

    def __init__(self, folder, *overrides):
        self.folder = pathlib.Path(folder)
        self.overrides = (f"workspace={self.folder}", *overrides)

    def command(self, name, *arguments):
        """The command line of a command on the job."""
        sets = [word for override in self.overrides for word in ("--set", override)]
        return [sys.executable, "-m", "beam_jobs", name, NATALITY, *arguments, *sets]

    def start(self, name, *arguments, **settings):
        """Starts a command and does not wait."""
        return subprocess.Popen(
            self.command(name, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **settings,
        )

    def run(self, name, *arguments, code=0):
        """Runs a command to its end, which must be the exit code `code`."""
        process = self.start(name, *arguments)
        process.out, process.err = process.communicate()
        assert process.returncode == code, f"exit code {process.returncode}\n{process.out}\n{process.err}"
        return process

    def json(self, name, *arguments, code=0):
        """The one JSON object that a command prints."""
        return json.loads(self.run(name, *arguments, "--json", code=code).out)

    def run_path(self, date=FIRST_DATE):
        """The one run directory of a date."""
        (path,) = [path.parent for path in self.folder.glob(f"natality/{date}/*/job.json")]
        return path


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A small job of two published nights: the first trains, the second scores with the first one's model."""
    workspace = Workspace(tmp_path_factory.mktemp("published"), *SMALL)
    workspace.first = workspace.run("run", "--date", str(FIRST_DATE))
    workspace.second = workspace.run("run", "--date", str(SECOND_DATE))
    return workspace
