"""Night after night is published under faults: each by the real command, in a process that may be killed."""

import contextlib
import dataclasses
import datetime
import functools
import threading

from cloud_nights import CloudWorkspace
from conftest import FIRST_DATE, NATALITY
from forked_commands import run_command
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from twins.faults import Faults, fair

from beam_jobs.sources import source_fingerprint, sources_of
from beam_jobs.workspace.run_directory import derive_run_id
from configs.loading import load_job

LONGEST_COMMAND_SECONDS = 900
LEFT_OUT = (
    "examples/",
    "transformed_examples/",
    "transform_output/",
    "model/",
    "published.json",
    "report",
    "monitoring",
)
CONTENT = "SELECT COUNT(*), SUM(weight_pounds), BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t))) FROM {{d}}.{table} AS t"


@dataclasses.dataclass(frozen=True)
class FinishedNight:
    """A night that is copied to other dates, up to the point where it is published.

    Attributes:
        overrides: of its job.
        run_url: its run directory.
        files: of its run directory, by name.
        content: of its table: the number of rows, and numbers that depend on every value.
    """

    overrides: tuple[str, ...]
    run_url: str
    files: dict[str, bytes]
    content: tuple

    @classmethod
    def of(cls, workspace, date, overrides):
        """The night that a workspace published at a date."""
        run_path = workspace.run_path(date)
        files = {str(path.relative_to(run_path)): path.read_bytes() for path in run_path.rglob("*") if path.is_file()}
        kept = {name: content for name, content in files.items() if not name.startswith(LEFT_OUT)}
        ((table,),) = workspace.select(f"SELECT table_name FROM {{d}}.natality_runs WHERE run_date = '{date}'")
        (content,) = workspace.select(CONTENT.format(table=table))
        return cls(overrides, f"{workspace.url}/natality/{date}/{run_path.name}", kept, content)


class Trials:
    """A job in a workspace and a dataset of its own, whose servers are reached through faults.

    Nights of two kinds, which differ in every prediction, take turns: what readers see tells last night's table from
    tonight's.

    Attributes:
        weather: the faults.
        seen: contents of the view that readers saw.
    """

    def __init__(self, cloud, forks, nights, log):
        self.cloud, self.forks, self.nights, self.log = cloud, forks, nights, log
        self.weather, self.seen, self._date = Faults(), set(), FIRST_DATE

    @contextlib.contextmanager
    def running(self):
        """Stands before the servers until the block ends; a first night is published in fair weather."""
        with self.weather.before(self.cloud.bigquery.endpoint, self.cloud.storage.endpoint) as (bigquery, objects):
            self.workspace = CloudWorkspace(self.cloud, bigquery=bigquery, storage=objects)
            self.new_night()
            assert self.publish() == 0, self.log.read_text()
            self.check()
            yield self

    @property
    def night(self):
        """Of which tonight is a copy."""
        return self.nights[(self._date - FIRST_DATE).days % 2]

    @functools.cached_property
    def bucket(self):
        """Of the workspace, reached without faults."""
        options = {"api_endpoint": self.cloud.storage.endpoint}
        return storage.Client("proj", AnonymousCredentials(), client_options=options).bucket(self.cloud.storage.bucket)

    def new_night(self):
        """Makes the next date's run directory, of a night that is finished up to publishing."""
        self.weather.start(fair)
        self._date += datetime.timedelta(days=1)
        job = load_job(NATALITY, [*self.workspace.overrides, *self.night.overrides])
        fingerprints = [source_fingerprint(source, job.endpoints) for source in sources_of(job)]
        run_url = f"{self.workspace.url}/natality/{self._date}/{derive_run_id(job, fingerprints, self._date)}"
        folder = run_url.partition(f"{self.cloud.storage.bucket}/")[2]
        for name, content in self.night.files.items():
            moved = content.replace(self.night.run_url.encode(), run_url.encode()) if name.endswith("json") else content
            self.bucket.blob(f"{folder}/{name}").upload_from_string(moved)

    def publish(self):
        """Publishes tonight; returns the command's exit code."""
        settings = (*self.workspace.overrides, *self.night.overrides)
        sets = [word for setting in settings for word in ("--set", setting)]
        arguments = ["publish", NATALITY, "--date", str(self._date), *sets]
        process = self.forks.start(run_command, arguments, str(self.log))
        self.weather.victim = process.pid
        process.join(LONGEST_COMMAND_SECONDS)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"hangs after {self.weather.calls[-1]}\n{self.log.read_text()}")
        return process.exitcode

    def error(self):
        """The one error line of the last command."""
        (line,) = [line for line in self.log.read_text().splitlines() if line.startswith("error: ")]
        return line

    def content(self):
        """What readers see."""
        (content,) = self.workspace.select(CONTENT.format(table="natality_predictions"))
        return content

    def check(self):
        """Readers see tonight's table; every night is on record once; nothing that nobody reads stays for ever."""
        assert self.content() == self.night.content
        runs = self.workspace.select("SELECT table_name, status, CAST(run_date AS STRING) FROM {d}.natality_runs")
        assert len({table for table, _, _ in runs}) == len(runs) == len({date for _, _, date in runs}), runs
        ((current, date),) = [(table, date) for table, status, date in runs if status == "current"]
        assert date == str(self._date)
        client, dataset = self.workspace.client, self.workspace.dataset
        tables = [client.get_table(item) for item in client.list_tables(dataset) if item.table_type == "TABLE"]
        lasting = {table.table_id for table in tables if table.expires is None}
        assert lasting == {current, "natality_runs"}, f"without expiry: {lasting}"

    @contextlib.contextmanager
    def readers(self):
        """Asks for what readers see again and again until the block ends."""
        stop = threading.Event()

        def read():
            while not stop.wait(0.2):
                self.seen.add(self.content())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            stop.set()
            reader.join()
