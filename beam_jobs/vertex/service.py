"""Clients of Vertex AI, made when first asked for, and how they call: again while a fault may pass, if that is safe.

They are Google's generated clients (GAPIC), by gRPC to the region's own address; a server in Google's place is
spoken to by REST.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from google.api_core import retry
from google.api_core.client_options import ClientOptions

from beam_jobs.endpoints import credentials
from beam_jobs.vertex.errors import explained, is_passing
from configs.cloud import Endpoints
from configs.job import Job
from configs.vertex import Vertex

CALL_SECONDS = 60.0
RETRY_SECONDS = 300.0
_CONSOLE = "https://console.cloud.google.com/ai/platform"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 20.0


class VertexService:
    """Vertex AI in one project and region."""

    def __init__(self, vertex: Vertex, endpoints: Endpoints):
        """Makes no client yet."""
        self.project, self.region = vertex.project, vertex.region
        self.addresses = endpoints

    @classmethod
    def of(cls, job: Job) -> "VertexService":
        """The service of a job that has a `vertex`."""
        assert job.vertex is not None, job.name
        return cls(job.vertex, job.endpoints)

    @property
    def parent(self) -> str:
        """Resource name of the project and region, which all others start with."""
        return f"projects/{self.project}/locations/{self.region}"

    @functools.cached_property
    def jobs(self) -> Any:
        """Client of custom jobs and batch prediction jobs."""
        from google.cloud.aiplatform_v1.services.job_service import JobServiceClient

        return self._client(JobServiceClient)

    @functools.cached_property
    def models(self) -> Any:
        """Client of the Model Registry."""
        from google.cloud.aiplatform_v1.services.model_service import ModelServiceClient

        return self._client(ModelServiceClient)

    @functools.cached_property
    def endpoints(self) -> Any:
        """Client of endpoints and of what is deployed there."""
        from google.cloud.aiplatform_v1.services.endpoint_service import EndpointServiceClient

        return self._client(EndpointServiceClient)

    @functools.cached_property
    def predictions(self) -> Any:
        """Client of online predictions."""
        from google.cloud.aiplatform_v1.services.prediction_service import PredictionServiceClient

        return self._client(PredictionServiceClient)

    @contextlib.contextmanager
    def explained(self, doing: str, permission: str) -> Iterator[None]:
        """Turns what a client raises inside the block into one line; see `errors.explained`."""
        with explained(doing, permission, self.project, self.region):
            yield

    def console_url(self, page: str, resource_name: str) -> str:
        """Page for a person about a resource, which is of `training`, `batch-predictions`, `models` or `endpoints`.

        https://github.com/googleapis/python-aiplatform/blob/main/google/cloud/aiplatform/jobs.py
        """
        resource_id = resource_name.rpartition("/")[2]
        return f"{_CONSOLE}/locations/{self.region}/{page}/{resource_id}?project={self.project}"

    def _client(self, client: Any) -> Any:
        address = self.addresses.vertex
        return client(
            credentials=credentials(address),
            transport="grpc" if address is None else "rest",
            client_options=ClientOptions(api_endpoint=address or f"{self.region}-aiplatform.googleapis.com"),
        )


def idempotent() -> dict[str, Any]:
    """How to make a call that may be made twice: again for minutes while a fault may pass."""
    again = retry.Retry(
        predicate=is_passing,
        initial=_FIRST_PAUSE_SECONDS,
        maximum=_LONGEST_PAUSE_SECONDS,
        timeout=RETRY_SECONDS,
    )
    return {"retry": again, "timeout": CALL_SECONDS}


def once() -> dict[str, Any]:
    """How to make a call that must not be made twice without a look at what the first one did."""
    return {"retry": None, "timeout": CALL_SECONDS}
