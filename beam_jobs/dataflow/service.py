"""What the Dataflow service says of its jobs. Jobs are found by name, because a name is all that a later process knows.

Addresses and credentials are those that Beam's own client takes from the same options.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import requests
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from google.api_core import exceptions, retry
from google.api_core.client_options import ClientOptions
from google.cloud import dataflow_v1beta3 as dataflow

from beam_jobs.endpoints import credentials, credentials_problem
from beam_jobs.passing_faults import PASSING_FAULTS
from configs.errors import ForetableError

ERROR, WARNING = "ERROR", "WARNING"
_RETRY_SECONDS = 300.0
_CALL_TIMEOUT_SECONDS = 60.0
_ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")


@dataclasses.dataclass(frozen=True)
class DataflowJob:
    """A job as the service last told it.

    Attributes:
        state: without its `JOB_STATE_`: PENDING, RUNNING, DONE, FAILED, CANCELLED …
        console_url: page for a person.
    """

    id: str
    name: str
    state: str
    console_url: str

    @property
    def has_ended(self) -> bool:
        """Whether its state is its last."""
        return self.state in _ENDED


@dataclasses.dataclass(frozen=True)
class JobMessage:
    """A line of a job's log.

    Attributes:
        importance: DEBUG, DETAILED, BASIC, WARNING or ERROR.
    """

    id: str
    importance: str
    text: str


class DataflowService:
    """The jobs of one project and region. What a passing fault or silence hits is called again for minutes."""

    def __init__(self, options: PipelineOptions):
        """Makes the clients.

        Raises:
            ForetableError: there are no credentials.
        """
        cloud = options.view_as(GoogleCloudOptions)
        self.project, self.region = cloud.project, cloud.region
        endpoint = cloud.dataflow_endpoint
        is_twin = "localhost" in endpoint  # as Beam decides it
        settings: dict[str, Any] = {
            "credentials": credentials(endpoint if cloud.no_auth else None),
            "transport": "rest" if is_twin else None,
            "client_options": ClientOptions(api_endpoint=endpoint if is_twin else re.sub("^https?://", "", endpoint)),
        }
        self._jobs = dataflow.JobsV1Beta3Client(**settings)
        self._messages = dataflow.MessagesV1Beta3Client(**settings)
        self._place = {"project_id": self.project, "location": self.region}

    def find(self, name: str) -> list[DataflowJob]:
        """Every job of this name that the service still knows; at most one of them is active."""
        request = dataflow.ListJobsRequest(**self._place, name=name, filter=dataflow.ListJobsRequest.Filter.ALL)
        with self._one_line("find the jobs of this night", "dataflow.jobs.list"):
            found = self._jobs.list_jobs(request=request, **_limits())
            return [self._job(job) for job in found if job.name == name]

    def active(self, prefix: str) -> list[DataflowJob]:
        """Jobs that have not ended and whose name starts so."""
        request = dataflow.ListJobsRequest(**self._place, filter=dataflow.ListJobsRequest.Filter.ACTIVE)
        with self._one_line("list the active jobs", "dataflow.jobs.list"):
            found = [self._job(job) for job in self._jobs.list_jobs(request=request, **_limits())]
        return [job for job in found if job.name.startswith(prefix) and not job.has_ended]

    def get(self, job_id: str) -> DataflowJob:
        """The job now."""
        request = dataflow.GetJobRequest(**self._place, job_id=job_id)
        with self._one_line(f"see job {job_id}", "dataflow.jobs.get"):
            return self._job(self._jobs.get_job(request=request, **_limits()))

    def messages(self, job_id: str) -> list[JobMessage]:
        """The job's messages from BASIC upwards, oldest first."""
        request = dataflow.ListJobMessagesRequest(
            **self._place, job_id=job_id, minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_BASIC
        )
        with self._one_line(f"read the messages of job {job_id}", "dataflow.messages.list"):
            found = list(self._messages.list_job_messages(request=request, **_limits()))
        return [
            JobMessage(message.id, message.message_importance.name.removeprefix("JOB_MESSAGE_"), message.message_text)
            for message in sorted(found, key=lambda message: message.time)
        ]

    def cancel(self, job_id: str) -> None:
        """Asks for the job's end; it takes a while."""
        wanted = dataflow.Job(requested_state=dataflow.JobState.JOB_STATE_CANCELLED)
        request = dataflow.UpdateJobRequest(**self._place, job_id=job_id, job=wanted)
        with self._one_line(f"cancel job {job_id}", "dataflow.jobs.cancel"):
            self._jobs.update_job(request=request, **_limits())

    def cancel_command(self, job_id: str) -> str:
        """What a person types to cancel the job later."""
        return f"gcloud dataflow jobs cancel {job_id} --project={self.project} --region={self.region}"

    def _job(self, job: Any) -> DataflowJob:
        state = job.current_state.name.removeprefix("JOB_STATE_")
        url = f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{job.id}?project={self.project}"
        return DataflowJob(job.id, job.name, state, url)

    @contextlib.contextmanager
    def _one_line(self, what: str, permission: str) -> Iterator[None]:
        with explained(what, permission, self.project, self.region):
            yield


@contextlib.contextmanager
def explained(what: str, permission: str, project: str, region: str) -> Iterator[None]:
    """Turns what Google's clients raise into one line that names the project, the permission and the mend.

    Args:
        what: was tried, such as `find the jobs of this night`.
        permission: that it takes.

    Raises:
        ForetableError: the service refused, or did not answer.
    """
    where = f"dataflow in {project}, {region}: cannot {what}"
    try:
        yield
    except exceptions.Forbidden as error:
        if "SERVICE_DISABLED" in str(error) or "has not been used" in str(error):
            mend = f"the API is off; run `gcloud services enable dataflow.googleapis.com --project={project}`"
        else:
            mend = f"permission {permission} is missing; roles/dataflow.developer has it"
        raise ForetableError(f"{where}: {mend} ({_first_line(error)})") from error
    except exceptions.NotFound as error:
        raise ForetableError(f"{where}: not found; check runner.project and runner.region") from error
    except exceptions.Unauthenticated as error:
        raise ForetableError(
            f"{where}: the credentials are not accepted; run `gcloud auth application-default login`"
        ) from error
    except exceptions.BadRequest as error:
        raise ForetableError(f"{where}: {_first_line(error)}; check runner in the job file") from error
    except (exceptions.GoogleAPICallError, exceptions.RetryError, requests.exceptions.RequestException) as error:
        raise ForetableError(f"{where}: {_first_line(error)}; the same command attaches to what runs") from error
    except Exception as error:
        problem = credentials_problem(error)
        if problem is None:
            raise
        raise ForetableError(problem) from error


def _limits() -> dict[str, Any]:
    """How long a try of a call may take, and how long it is tried: the clients themselves would wait for ever."""
    again = retry.Retry(
        predicate=retry.if_exception_type(*PASSING_FAULTS), initial=0.5, maximum=20, timeout=_RETRY_SECONDS
    )
    return {"retry": again, "timeout": _CALL_TIMEOUT_SECONDS}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
