"""What the Vertex twin remembers: jobs, models, endpoints, operations, and where the other twins are."""

import contextlib
import dataclasses
import datetime
import itertools
import os
import pathlib
import re
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable
from typing import Any

from google.cloud import aiplatform_v1

from twins.bigquery import BigQueryTwin
from twins.storage import StorageTwin
from twins.vertex_faults import NO_FAULT, JobFault, VertexFaults
from twins.vertex_filters import page_of
from twins.vertex_wire import STATUS_CODES, Call, RefusalError, missing, now, packed

PROJECT, PROJECT_NUMBER, REGION = "proj", "704500000001", "us-central1"
State = aiplatform_v1.JobState
ENDED = (State.JOB_STATE_SUCCEEDED, State.JOB_STATE_FAILED, State.JOB_STATE_CANCELLED, State.JOB_STATE_EXPIRED)
FIRST_ID = 4_611_686_018_427_000_000  # Vertex's own have 19 digits, too
QUICK_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a job's output.

    Attributes:
        task: the replica, such as `workerpool0-0`.
    """

    time: datetime.datetime
    task: str
    severity: str
    text: str


@dataclasses.dataclass
class Job:
    """A custom job or a batch prediction job.

    Attributes:
        kind: `custom` or `batch`.
        message: of proto-plus, as the service gives it.
        attempts: how often its processes were started.
        preempted: how often its machines were taken away.
        checkpoints: that were seen in its bucket.
        processes: that run now.
        environments: of the processes that were started, in their order.
    """

    kind: str
    message: Any
    fault: JobFault = NO_FAULT
    lines: list[Line] = dataclasses.field(default_factory=list)
    is_cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)
    attempts: int = 0
    preempted: int = 0
    checkpoints: set[str] = dataclasses.field(default_factory=set)
    processes: list[subprocess.Popen] = dataclasses.field(default_factory=list)
    environments: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        """The last part of its name."""
        return self.message.name.rpartition("/")[2]

    @property
    def state(self) -> str:
        """Without its prefix."""
        return self.message.state.name.removeprefix("JOB_STATE_")

    @property
    def has_ended(self) -> bool:
        """Whether its state stays."""
        return self.message.state in ENDED

    @property
    def output(self) -> list[str]:
        """Its lines' texts."""
        return [line.text for line in self.lines]

    def say(self, text: str, severity: str = "INFO", task: str = "service") -> None:
        """Adds a line."""
        self.lines.append(Line(now(), task, severity, text))


@dataclasses.dataclass
class Operation:
    """A long-running operation.

    Attributes:
        is_done: set at its end.
        outcome: `response` or `error`, at its end.
    """

    name: str
    metadata: dict[str, Any]
    is_done: threading.Event = dataclasses.field(default_factory=threading.Event)
    outcome: dict[str, Any] = dataclasses.field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """As a call for it answers now."""
        answer: dict[str, Any] = {"name": self.name, "metadata": self.metadata}
        return answer | {"done": True} | self.outcome if self.is_done.is_set() else answer


@dataclasses.dataclass
class VertexTwin:
    """A running service.

    Attributes:
        endpoint: `http://127.0.0.1:port`, of Vertex AI's and of Cloud Logging's REST API.
        folder: of what its jobs need.
        environment: of a custom job's processes, beside this process's own.
        pending_seconds: from a job's creation to its start.
        batch_seconds: that a call of the model takes in a batch prediction job, beside its own time.
        predictions_are_doubles: whether numbers in a batch prediction job's output went through protobuf values.
        longest_page: resources of a page, at most.
        log_seconds: until Cloud Logging has a line.
        models: versions by the model's id and theirs.
        faults: misbehaviour to come.
        serving: answers predictions; see `twins.vertex_serving`.
    """

    folder: pathlib.Path
    storage: StorageTwin
    bigquery: BigQueryTwin | None
    environment: dict[str, str]
    endpoint: str = ""
    project: str = PROJECT
    region: str = REGION
    pending_seconds: float = 0.05
    batch_seconds: float = 0.0
    predictions_are_doubles: bool = False
    longest_page: int = 100
    log_seconds: float = 0.0
    all_jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    evaluations: dict[str, Any] = dataclasses.field(default_factory=dict)
    endpoints: dict[str, Any] = dataclasses.field(default_factory=dict)
    operations: dict[str, Operation] = dataclasses.field(default_factory=dict)
    faults: VertexFaults = dataclasses.field(default_factory=VertexFaults)
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    ids: Any = dataclasses.field(default_factory=lambda: itertools.count(FIRST_ID))
    serving: Any = None

    @property
    def parent(self) -> str:
        """Name of its location, by the project's id."""
        return f"projects/{self.project}/locations/{self.region}"

    def jobs(self, kind: str | None = None, display_name: str = "") -> list[Job]:
        """Jobs in the order of their creation, by kind and by a pattern that is found in their display names."""
        with self.lock:
            return [
                job
                for job in self.all_jobs.values()
                if kind in (None, job.kind) and re.search(display_name, job.message.display_name)
            ]

    def new_id(self) -> str:
        """An id that nothing else has."""
        return str(next(self.ids))

    def name(self, call: Call, kind: str, identity: str) -> str:
        """Full name of a resource: Vertex gives the project's number, whatever the call named."""
        self.check_location(call)
        return f"projects/{PROJECT_NUMBER}/locations/{self.region}/{kind}/{identity}"

    def check_location(self, call: Call) -> None:
        """Refuses a call for another project or region."""
        if call.names["project"] not in (self.project, PROJECT_NUMBER):
            message = f"Permission denied on resource project {call.names['project']}."
            raise RefusalError("PERMISSION_DENIED", message)
        if call.names["region"] != self.region:
            raise RefusalError("INVALID_ARGUMENT", f"The location {call.names['region']} is not served here.")

    def job(self, call: Call, kind: str) -> Job:
        """The job that a call names."""
        name = self.name(call, "customJobs" if kind == "custom" else "batchPredictionJobs", call.names["id"])
        if name not in self.all_jobs:
            raise missing("CustomJob" if kind == "custom" else "BatchPredictionJob", name)
        return self.all_jobs[name]

    def update(self, job: Job, **fields: Any) -> None:
        """Sets fields of a job, and the time of the update."""
        with self.lock:
            for name, value in fields.items():
                setattr(job.message, name, value)
            job.message.update_time = now()

    def operate(self, resource: str, metadata: Any, work: Callable[[], Any]) -> dict[str, Any]:
        """Starts an operation on a resource; returns it as its first answer, not yet done.

        Args:
            metadata: message with a `generic_metadata`.
            work: returns the message of the response; raises a refusal, which is then the operation's error.
        """
        metadata.generic_metadata.create_time = metadata.generic_metadata.update_time = now()
        operation = Operation(f"{resource}/operations/{self.new_id()}", packed(metadata))
        self.operations[operation.name] = operation

        def run() -> None:
            try:
                operation.outcome = {"response": packed(work())}
            except RefusalError as error:
                operation.outcome = {"error": {"code": STATUS_CODES[error.name][1], "message": error.message}}
            except Exception:
                operation.outcome = {"error": {"code": 13, "message": f"the twin failed:\n{traceback.format_exc()}"}}
            operation.is_done.set()

        threading.Thread(target=run, daemon=True).start()
        return {"name": operation.name, "metadata": operation.metadata}

    def operation(self, call: Call) -> dict[str, Any]:
        """An operation, which is given a moment to be done."""
        self.check_location(call)
        location = f"projects/{PROJECT_NUMBER}/locations/{self.region}"
        operation = self.operations.get(f"{location}/{call.names['resource']}")
        if operation is None:
            raise missing("operation", call.path)
        operation.is_done.wait(QUICK_SECONDS)
        return operation.described()

    def list_operations(self, call: Call) -> dict[str, Any]:
        """The operations of a resource, oldest first."""
        self.check_location(call)
        start = f"projects/{PROJECT_NUMBER}/locations/{self.region}/{call.names['resource']}/operations/"
        with self.lock:
            found = [each.described() for name, each in self.operations.items() if name.startswith(start)]
        page, token = page_of(call, found, (), self.longest_page)
        return {"operations": page, "nextPageToken": token}

    def storage_client(self) -> Any:
        """A client of the storage twin."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": self.storage.endpoint}
        return storage.Client(self.project, AnonymousCredentials(), client_options=options)

    def bigquery_client(self) -> Any:
        """A client of the BigQuery twin."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        if self.bigquery is None:
            raise RefusalError("FAILED_PRECONDITION", "the twin was started without BigQuery")
        options = {"api_endpoint": self.bigquery.endpoint}
        return bigquery.Client(self.project, AnonymousCredentials(), client_options=options)

    def stop(self) -> None:
        """Ends what still runs."""
        self.serving.stop()
        self.end_jobs()

    def end_jobs(self) -> None:
        """Ends the jobs that still run."""
        for job in self.jobs():
            job.is_cancelled.set()
            for process in list(job.processes):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
