"""One night: a job, its date, its run directory, and the rules by which stages run, are skipped, or refuse."""

import contextlib
import dataclasses
import datetime
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from beam_jobs import lineage
from beam_jobs.console import Console
from beam_jobs.endpoints import use_endpoints
from beam_jobs.foreign_models import given_model
from beam_jobs.sources import example_sources, open_source, source_fingerprint, sources_of
from beam_jobs.workspace import storage
from beam_jobs.workspace.locking import RunLock
from beam_jobs.workspace.run_directory import MARKERS, RunDirectory, derive_run_id, job_folder
from configs.errors import ForetableError, RefusedError
from configs.features import ColumnType
from configs.job import ForeignJob, Job, TrainedJob
from configs.sources import Source

if TYPE_CHECKING:
    from transforms.examples.reading import SourceReader


@dataclasses.dataclass(frozen=True)
class Night:
    """One run of a job for one date.

    Attributes:
        job_file: as the user named it, for messages that say what to run.
        beam_options: Beam's own, given behind a bare `--`.
        train_now: trains even where the schedule does not ask for it.
        data_fingerprint: SHA-256 that changes when the examples may have; of what a model is trained on.
        lock: held while the night is `working`.
    """

    job: Job
    job_file: str
    run: RunDirectory
    console: Console
    beam_options: tuple[str, ...] = ()
    train_now: bool = False
    data_fingerprint: str = ""
    lock: RunLock = dataclasses.field(default_factory=RunLock, compare=False, repr=False)

    @classmethod
    def of(cls, job: Job, job_file: str, run_date: datetime.date, console: Console, **settings: Any) -> "Night":
        """The night of `job` at `run_date`; looks at the sources, and at a model that it is given, because their
        state is part of the run's id."""
        use_endpoints(job)
        of_sources = {source: source_fingerprint(source, job.endpoints) for source in sources_of(job)}
        settings["data_fingerprint"] = storage.digest_of([of_sources[source] for source in example_sources(job)])
        fingerprints = list(of_sources.values())
        if isinstance(job, ForeignJob):
            fingerprints.append(given_model(job).model_version)
        run_id = derive_run_id(job, fingerprints, run_date)
        return cls(job, job_file, RunDirectory(job_folder(job), run_date, run_id), console, **settings)

    @property
    def trained_job(self) -> TrainedJob:
        """The job, in a stage that only a night has which trains its model."""
        assert isinstance(self.job, TrainedJob), self.job.name
        return self.job

    @property
    def has_chosen_model(self) -> bool:
        """Whether a person chose the model that the night scores with, in place of its own."""
        return lineage.chosen_model(self.run.path) is not None

    def open_source(self, source: Source, columns: Mapping[str, ColumnType]) -> "SourceReader":
        """The reader of columns of a source, as every stage of this run reads it.

        Raises:
            RefusedError: the source is not there, or lacks a column.
        """
        return open_source(source, columns, self.run, self.job.endpoints)

    def log_noise(self) -> None:
        """Sends the noise to the run's log; beside a workspace elsewhere, to a file on this machine that it names."""
        if storage.is_local(self.run.path):
            storage.make_folder(self.run.path)
            self.console.log_to(self.run.file("log.txt"))
            return
        file, path = tempfile.mkstemp(prefix=f"foretable-{self.job.name}-{self.run.run_date}-", suffix=".log")
        os.close(file)
        self.console.log_to(path)
        self.console.line(f"{self.job.name} for {self.run.run_date}, log on this machine: {path}", "dim")

    @contextlib.contextmanager
    def working(self, wait: bool = False) -> Iterator[None]:
        """Holds the lock that one run of this job and date has; writes the resolved job into the run directory.

        Args:
            wait: for another run to end, rather than refuse.
        """
        name, run_date = self.job.name, self.run.run_date
        lock_path = storage.join(self.run.job_folder, run_date.isoformat(), ".lock")
        with self.lock.held(lock_path, f"{name} for {run_date}", wait):
            job_path = self.run.file("job.json")
            if not storage.exists(job_path):
                storage.write_json(job_path, self.job.model_dump(mode="json"))
            self.console.line(f"{name} for {run_date}, run {self.run.run_id} in {self.run.path}")
            yield


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        requires: the stages whose markers it reads.
        run: does the work and returns the marker's body.
        summary: one line about the marker's body.
        settings: what else decides whether a finished stage is still good, by name.
        gate: refuses to let the night go on from the marker.
        makes_model: part of a night only where it trains its model and judges it.
    """

    name: str
    requires: tuple["Stage", ...]
    run: Callable[[Night], dict[str, Any]]
    summary: Callable[[dict[str, Any]], str]
    settings: Callable[[Night], dict[str, str]] = lambda night: {}
    gate: Callable[[dict[str, Any]], None] = lambda marker: None
    makes_model: bool = False

    @property
    def marker(self) -> str:
        """File in the run directory that is written last."""
        return MARKERS[self.name]

    def is_part_of(self, night: Night) -> bool:
        """Whether the night has this stage."""
        return not self.makes_model or isinstance(night.job, TrainedJob)

    def is_needed(self, night: Night) -> bool:
        """Whether the night's table depends on it: where a person chose another model, not what makes the night's."""
        return self.is_part_of(night) and not (self.makes_model and night.has_chosen_model)

    def reads(self, night: Night) -> list["Stage"]:
        """The stages whose markers it reads tonight."""
        return [
            required
            for required in self.requires
            if required.is_part_of(night) and (self.makes_model or required.is_needed(night))
        ]


def run_stage(stage: Stage, night: Night) -> dict[str, Any]:
    """Runs the stage, or skips it where its marker says that it is done, and returns the marker.

    Raises:
        RefusedError: a stage that it reads from is not done, or a gate said no.
        ForetableError: the operating system refused something, such as space on the disk.
    """
    if not stage.is_part_of(night):
        raise RefusedError(
            f"{stage.name}: no stage of {night.job.name}, whose model is given (model.saved_model);"
            f" run `foretable run {night.job_file}`"
        )
    inputs = stage.settings(night)
    for required in stage.reads(night):
        marker = night.run.read_marker(required.marker)
        if marker is None:
            raise RefusedError(
                f"{stage.name}: {night.run.file(required.marker)} is not there; "
                f"run `foretable {required.name} {night.job_file} --date {night.run.run_date}` first"
            )
        required.gate(marker)
        inputs[required.name] = marker["digest"]
    version = night.run.version_of(stage.marker)
    done = night.run.read_marker(stage.marker)
    if done is not None and done["inputs"] == inputs:
        night.console.line(
            f"{stage.name:<12} done before ({done['finished_at']}), skipped: {stage.summary(done)}", "dim"
        )
        stage.gate(done)
        return done
    started = time.monotonic()
    try:
        body = stage.run(night)
    except Exception as error:
        if (problem := storage.problem_in(error)) is not None:
            raise type(problem)(f"{stage.name}: {problem}") from error
        if not isinstance(error, OSError):
            raise
        where = error.filename or night.run.path
        reason = (error.strerror or str(error)).lower()
        raise ForetableError(
            f"{stage.name}: {where}: {reason}; mend it and run again: what is finished is kept"
        ) from error
    seconds = time.monotonic() - started
    night.lock.check()
    night.run.write_marker(stage.marker, body, inputs, seconds, replacing=version)
    night.console.line(f"{stage.name:<12} {seconds:6.1f} s  {stage.summary(body)}")
    marker = night.run.read_marker(stage.marker)
    assert marker is not None, stage.marker
    stage.gate(marker)
    return marker


def model_settings(night: Night) -> dict[str, str]:
    """What a stage's marker says of the model that a person chose for the night, if one did."""
    chosen = lineage.chosen_model(night.run.path)
    return {} if chosen is None else {"model": chosen.model_version}


def feature_types(job: Job) -> dict[str, Any]:
    """Raw features with their types, in the serving signature's order."""
    return {name: feature.type for name, feature in job.features.items()}
