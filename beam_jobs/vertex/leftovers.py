"""What a job left on Vertex AI: endpoints with models on them, which are billed by the hour, and jobs still running."""

import dataclasses
from typing import Any

from beam_jobs.vertex.jobs import VertexJobs
from beam_jobs.vertex.names import job_label, resource_id
from beam_jobs.vertex.operations import operations_on
from beam_jobs.vertex.service import VertexService, idempotent
from configs.job import Job


@dataclasses.dataclass(frozen=True)
class DeployedModels:
    """An endpoint with machines behind it.

    Attributes:
        name: resource name.
        machines: one text for each model that is deployed there, or is being deployed.
        is_ours: whether it is the one that `foretable endpoint` makes for this job.
    """

    name: str
    display_name: str
    machines: tuple[str, ...]
    is_ours: bool
    console_url: str


@dataclasses.dataclass(frozen=True)
class RunningJob:
    """A job of Vertex AI that has not ended.

    Attributes:
        word: what kind of job it is.
        cancel_command: what a person types to end it.
    """

    word: str
    display_name: str
    state: str
    cancel_command: str


def deployed_models(service: VertexService, job: Job) -> list[DeployedModels]:
    """Endpoints of this job, by their label or id, that have models deployed, or will have in some minutes."""
    request = {"parent": service.parent}
    ours = resource_id(job)
    found = []
    with service.explained("list the endpoints", "aiplatform.endpoints.list"):
        for endpoint in service.endpoints.list_endpoints(request=request, **idempotent()):
            is_ours = endpoint.name.rpartition("/")[2] == ours
            labelled = endpoint.labels.get("foretable_job") == job_label(job.name)
            if not (is_ours or labelled):
                continue
            machines = tuple(_machines(model) for model in endpoint.deployed_models)
            machines += ("a model that is being deployed",) * _deployments(service, endpoint.name)
            if machines:
                url = service.console_url("endpoints", endpoint.name)
                found.append(DeployedModels(endpoint.name, endpoint.display_name, machines, is_ours, url))
    return found


def running_jobs(service: VertexService, job: Job) -> list[RunningJob]:
    """Custom jobs and batch prediction jobs of this job that have not ended."""
    found = []
    for kind in ("custom", "batch"):
        jobs = VertexJobs(service, kind)
        found += [
            RunningJob(jobs.word, running.display_name, running.state.lower(), jobs.cancel_command(running.name))
            for running in jobs.active(job.name)
        ]
    return found


def _deployments(service: VertexService, endpoint_name: str) -> int:
    """How many deployments to an endpoint have begun and not ended; it lists none of their models yet."""
    running = [operation for operation in operations_on(service.endpoints, endpoint_name) if not operation.done]
    return sum(operation.metadata.type_url.endswith(".DeployModelOperationMetadata") for operation in running)


def _machines(deployed: Any) -> str:
    """`1 to 3 n1-standard-2 for version 4`, from a `DeployedModel`."""
    resources = deployed.dedicated_resources
    low, high = resources.min_replica_count, resources.max_replica_count
    count = f"{low}" if high in (0, low) else f"{low} to {high}"
    version = deployed.model_version_id or deployed.model.rpartition("/")[2]
    return f"{count} {resources.machine_spec.machine_type} for version {version}"
