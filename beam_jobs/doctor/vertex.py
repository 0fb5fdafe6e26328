"""Vertex AI as a job uses it: whether it answers and will have this code, as whom jobs run, and what is left there."""

import pathlib
import re
from collections.abc import Iterator

from beam_jobs.doctor.findings import Finding
from beam_jobs.doctor.images import project_of, tag_findings
from beam_jobs.doctor.machine import LOCK, PYTHONS
from configs.cloud import BigQueryWarehouse
from configs.job import Job
from configs.modeling import Model
from configs.precomputing import VertexBatchPrecompute
from configs.training import PythonPackage, VertexTraining
from configs.vertex import Vertex

SERVICE_AGENT = "service-PROJECT_NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com"
"""As whom Vertex AI itself reads images, and buckets and tables where a job names no service account."""
_PYTHON_TAG = re.compile(r"(?:^|[^\d.])(3)\.(\d+)(?:[^\d]|$)")


def service_checks(job: Job, job_file: str) -> Iterator[Finding]:
    """Whether Vertex AI answers, and what of this job runs there or is deployed, which costs money by the hour."""
    from beam_jobs.vertex.leftovers import deployed_models, running_jobs
    from beam_jobs.vertex.service import VertexService

    service = VertexService.of(job)
    running = running_jobs(service, job)
    yield Finding("vertex", "ok", f"Vertex AI in {service.project}, {service.region} answers")
    for left in running:
        found = f"{left.word} {left.display_name} is {left.state} and billed"
        yield Finding("leftovers", "warn", found, f"the night's command attaches to it; or {left.cancel_command}")
    deployed = deployed_models(service, job)
    for endpoint in deployed:
        found = f"endpoint {endpoint.display_name} is billed by the hour: {'; '.join(endpoint.machines)}"
        mend = (
            f"foretable endpoint undeploy {job_file}" if endpoint.is_ours else f"undeploy it on {endpoint.console_url}"
        )
        yield Finding("leftovers", "warn", found, mend)
    if not running and not deployed:
        yield Finding("leftovers", "ok", "no job of this one runs on Vertex AI, and no endpoint has a model deployed")


def training_checks(job: Job) -> Iterator[Finding]:
    """Whether a custom job will have this code, on a Python that it runs on, and can read its image."""
    training = job.model.training if isinstance(job.model, Model) else None
    assert job.vertex is not None, job.name
    assert isinstance(training, VertexTraining), training
    if training.container is not None:
        yield from tag_findings("training", training.container)
        yield from _image_reader(training.container, job.vertex)
    elif training.python_package is not None:
        yield from _package_findings(training.python_package)


def agent_checks(job: Job) -> Iterator[Finding]:
    """As whom jobs run, and what they read in other projects, which Vertex AI's service agents may not without a role.

    https://cloud.google.com/vertex-ai/docs/general/custom-service-account
    """
    vertex = job.vertex
    assert vertex is not None, job.name
    training = job.model.training if isinstance(job.model, Model) else None
    accounts = {getattr(node, "service_account", None) or vertex.service_account for node in (training, job.precompute)}
    named = sorted(account for account in accounts if account is not None)
    if not named:
        found = f"jobs run as Vertex AI's own service agents of {vertex.project}, which read all its buckets and tables"
        yield Finding("service agent", "ok", found)
    for account in named:
        project = account.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
        if project != vertex.project and account.endswith(".iam.gserviceaccount.com"):
            mend = f"grant {SERVICE_AGENT} roles/iam.serviceAccountTokenCreator on it"
            yield Finding("service agent", "warn", f"{account} is of another project than {vertex.project}", mend)
        else:
            yield Finding("service agent", "ok", f"jobs run as {account}")
    yield from _serving_image_reader(vertex)
    dataset = instances_dataset(job)
    if dataset is not None and re.split(r"[.:]", dataset)[0] != vertex.project:
        mend = f"grant {SERVICE_AGENT} roles/bigquery.dataEditor on {dataset}"
        yield Finding("service agent", "warn", f"instances lie in another project than {vertex.project}", mend)


def instances_dataset(job: Job) -> str | None:
    """`project.dataset` of the tables of instances, where there are any."""
    precompute = job.precompute
    if not isinstance(precompute, VertexBatchPrecompute) or precompute.instances_format != "bigquery":
        return None
    if precompute.dataset is not None:
        return precompute.dataset
    assert isinstance(job.warehouse, BigQueryWarehouse), job.warehouse
    return f"{job.warehouse.project}.{job.warehouse.dataset}"


def _image_reader(image: str, vertex: Vertex) -> Iterator[Finding]:
    """A service account of the job's own never reads the image: Vertex AI's service agent does."""
    project = project_of(image)
    if project is not None and project != vertex.project:
        mend = f"grant {SERVICE_AGENT} roles/artifactregistry.reader in {project}"
        yield Finding("training", "warn", f"the image lies in {project}, not in {vertex.project}", mend)


def _serving_image_reader(vertex: Vertex) -> Iterator[Finding]:
    """A serving image of the job's own is read as the service account, if there is one, when a model is registered.

    https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models/upload
    """
    image = vertex.serving.image
    if vertex.serving.is_vertex_image:
        return
    reader, project = vertex.service_account or SERVICE_AGENT, project_of(image)
    if project is not None and project != vertex.project:
        mend = f"grant {reader} roles/artifactregistry.reader in {project}"
        yield Finding("service agent", "warn", f"the serving image lies in {project}, not in {vertex.project}", mend)
    elif vertex.service_account is not None:
        found = f"{reader} reads the serving image, for which it needs roles/artifactregistry.reader"
        yield Finding("service agent", "ok", found)


def _package_findings(package: PythonPackage, lock: pathlib.Path = LOCK) -> Iterator[Finding]:
    """Whether what is staged is there to be staged, and runs on the image's Python."""
    if not lock.is_file() or not lock.with_name("setup.py").is_file():
        found = f"model.training.python_package: no setup.py and requirements.lock in {lock.parent}"
        yield Finding("training", "fail", found, "run from a checkout of the project, or set model.training.container")
        return
    match = _PYTHON_TAG.search(package.image.rpartition(":")[2])
    if match is None:
        found = f"model.training.python_package.image: {package.image}: its tag does not say which Python it has"
        yield Finding("training", "warn", found, "it has to be 3.11 to 3.13")
    elif not PYTHONS[0] <= (int(match[1]), int(match[2])) <= PYTHONS[1]:
        found = f"model.training.python_package.image: {package.image} has Python {match[1]}.{match[2]}"
        yield Finding("training", "fail", found, "set one with 3.11 to 3.13, such as docker.io/library/python:3.11")
    else:
        yield Finding("training", "ok", f"installs this package and requirements.lock in {package.image}")
