"""Custom jobs and batch prediction jobs: found by their display names, created without ever being doubled.

Vertex makes another job for each call that creates one. So after a fault whose call may have arrived, the job is
looked for by its name before the call is made again.
"""

import dataclasses
import time
from typing import Any, Literal

from google.api_core.exceptions import BadRequest, GoogleAPIError
from requests.exceptions import RequestException

from beam_jobs.vertex import service as vertex_service
from beam_jobs.vertex.errors import is_passing, request_for
from beam_jobs.vertex.names import job_label
from beam_jobs.vertex.service import VertexService, idempotent, once

Kind = Literal["custom", "batch"]
FIRST_LOOK_SECONDS = 1.0
"""What a creation is given to show in lists, before it counts as one that did not arrive; doubled at each further."""
_LONGEST_LOOK_SECONDS = 30.0
_LONGEST_ERROR = 600
_ENDED = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
_METHODS = {"custom": "custom_job", "batch": "batch_prediction_job"}
_RESOURCES = {"custom": "customJobs", "batch": "batchPredictionJobs"}
_PAGES = {"custom": "training", "batch": "batch-predictions"}
_WORDS = {"custom": "custom job", "batch": "batch prediction job"}


@dataclasses.dataclass(frozen=True)
class VertexJob:
    """A job as Vertex last told it.

    Attributes:
        name: resource name.
        state: without its `JOB_STATE_`: QUEUED, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED …
        error: why it failed, in one line with what to request; empty where it did not.
        console_url: page for a person.
        message: the `CustomJob` or `BatchPredictionJob` itself.
    """

    name: str
    display_name: str
    state: str
    error: str
    console_url: str
    message: Any = dataclasses.field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """Last part of its resource name."""
        return self.name.rpartition("/")[2]

    @property
    def has_ended(self) -> bool:
        """Whether its state is its last."""
        return self.state in _ENDED

    @property
    def has_succeeded(self) -> bool:
        """Whether it has output; of a batch prediction, some instances may have failed."""
        return self.state in ("SUCCEEDED", "PARTIALLY_SUCCEEDED")


class VertexJobs:
    """The jobs of one kind. Calls that a passing fault hits are made again for some minutes."""

    def __init__(self, service: VertexService, kind: Kind):
        self.service, self.kind = service, kind
        self.word = _WORDS[kind]
        self._resource = f"aiplatform.{_RESOURCES[kind]}"

    def find(self, display_name: str) -> list[VertexJob]:
        """Every job of this display name, newest first."""
        return [job for job in self._list(f'display_name="{display_name}"') if job.display_name == display_name]

    def active(self, job_name: str | None = None) -> list[VertexJob]:
        """Jobs that have not ended, of the job file of this name or else of any."""
        ours = "labels.foretable_job:*" if job_name is None else f'labels.foretable_job="{job_label(job_name)}"'
        not_ended = " AND ".join(f'state!="JOB_STATE_{state}"' for state in _ENDED)
        return [job for job in self._list(f"{ours} AND {not_ended}") if not job.has_ended]

    def get(self, name: str) -> VertexJob:
        """The job of this resource name now."""
        with self.service.explained(f"see {self.word} {name}", f"{self._resource}.get"):
            return self._job(self._call("get")(name=name, **idempotent()))

    def cancel(self, name: str) -> None:
        """Asks for the job's end; it takes a while. Of one that has ended, nothing is asked."""
        with self.service.explained(f"cancel {self.word} {name}", f"{self._resource}.cancel"):
            if self.get(name).has_ended:
                return
            try:
                self._call("cancel")(name=name, **idempotent())
            except BadRequest:
                if not self.get(name).has_ended:  # it may have, meanwhile
                    raise

    def cancel_command(self, name: str) -> str:
        """What a person types to cancel the job later."""
        if self.kind == "custom":
            service = self.service
            return f"gcloud ai custom-jobs cancel {name} --project={service.project} --region={service.region}"
        address = f"https://{self.service.region}-aiplatform.googleapis.com/v1/{name}:cancel"  # gcloud has no command
        return f'curl -X POST -H "Authorization: Bearer $(gcloud auth print-access-token)" -d "" {address}'

    def create(self, message: Any) -> VertexJob:
        """Creates the job, whose display name no other job has yet.

        Raises:
            ForetableError: Vertex refused, or did not answer for minutes.
        """
        deadline, pause = time.monotonic() + vertex_service.RETRY_SECONDS, FIRST_LOOK_SECONDS
        with self.service.explained(f"create {self.word} {message.display_name}", f"{self._resource}.create"):
            while True:
                try:
                    return self._job(
                        self._call("create")(parent=self.service.parent, **{_METHODS[self.kind]: message}, **once())
                    )
                except (GoogleAPIError, RequestException) as error:
                    if not is_passing(error):
                        raise
                    time.sleep(pause)
                    if arrived := self.find(message.display_name):
                        return arrived[0]
                    if time.monotonic() >= deadline:
                        raise
                    pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    def _list(self, filter_text: str) -> list[VertexJob]:
        request = {"parent": self.service.parent, "filter": filter_text}
        with self.service.explained(f"list the {self.word}s", f"{self._resource}.list"):
            found = [self._job(job) for job in self._call("list", plural="s")(request=request, **idempotent())]
        return sorted(
            found, key=lambda job: (job.message.create_time is not None, job.message.create_time), reverse=True
        )

    def _call(self, verb: str, plural: str = "") -> Any:
        return getattr(self.service.jobs, f"{verb}_{_METHODS[self.kind]}{plural}")

    def _job(self, job: Any) -> VertexJob:
        error = " ".join(job.error.message.split()).rstrip(".")[:_LONGEST_ERROR]
        return VertexJob(
            name=job.name,
            display_name=job.display_name,
            state=job.state.name.removeprefix("JOB_STATE_"),
            error=request_for(error, self.service.project, self.service.region),
            console_url=self.service.console_url(_PAGES[self.kind], job.name),
            message=job,
        )
