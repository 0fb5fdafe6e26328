"""Google Cloud as a job uses it: a cheap call to each service, what may be done there, what an earlier night left."""

import datetime
import os
import re
from collections.abc import Iterator

from beam_jobs.doctor import permissions
from beam_jobs.doctor.findings import Finding, Status
from beam_jobs.doctor.images import tag_findings
from beam_jobs.endpoints import credentials
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import cloud_storage, storage
from beam_jobs.workspace.cloud_storage import split_path
from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.errors import ForetableError
from configs.job import Job
from configs.sources import Source

RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
_CALL_SECONDS = 60


def uses_cloud(job: Job, sources: tuple[Source, ...]) -> bool:
    """Whether the job talks to any service of Google Cloud."""
    return bool(permissions.needed_permissions(job, sources))


def credentials_check(job: Job) -> Iterator[Finding]:
    """Whether there are credentials, and whose they are."""
    stands_in = [name for name, address in job.endpoints if address is not None]
    if stands_in:
        yield Finding("credentials", "ok", f"none needed: servers stand in for {', '.join(stands_in)}")
        return
    found = credentials(None)
    whose = getattr(found, "service_account_email", None) or getattr(found, "account", None) or type(found).__name__
    yield Finding("credentials", "ok", str(whose))


def storage_checks(job: Job) -> Iterator[Finding]:
    """Whether the workspace's bucket is there and can be written."""
    bucket = split_path(job.workspace)[0]
    location = cloud_storage.bucket_location(job.workspace)
    try:
        granted = cloud_storage.granted_permissions(job.workspace, permissions.STORAGE)
    except (ForetableError, FileNotFoundError):
        if job.endpoints.storage is None:
            raise
        granted = _tried(storage.join(job.workspace, ".doctor"))  # a server in its place knows no permissions
    missing = [permission for permission in permissions.STORAGE if permission not in granted]
    if missing:
        mend = f"ask the bucket's owner for roles/storage.objectUser on gs://{bucket}"
        yield Finding("workspace", "fail", f"gs://{bucket}: missing {', '.join(missing)}", mend)
    else:
        yield Finding("workspace", "ok", f"gs://{bucket} in {location}: can be read and written")


def _tried(path: str) -> set[str]:
    """Permissions that writing, reading, listing and deleting an object proved."""
    storage.write_bytes(path, b"foretable doctor\n")
    storage.read_bytes(path)
    cloud_storage.list_files(path)
    cloud_storage.delete([path])
    return set(permissions.STORAGE)


def warehouse_checks(job: Job) -> Iterator[Finding]:
    """Whether the dataset is there, where the job says, and takes queries."""
    node = job.warehouse
    assert isinstance(node, BigQueryWarehouse), node
    open_warehouse(job).check()
    yield Finding("warehouse", "ok", f"{node.project}.{node.dataset} in {node.location}: takes queries")


def source_checks(job: Job, sources: tuple[Source, ...]) -> Iterator[Finding]:
    """Whether each source is there and may be read."""
    from beam_jobs.sources import source_fingerprint

    for source in sources:
        source_fingerprint(source, job.endpoints)
        text = " ".join(getattr(source, "files", ())) or getattr(source, "table", None) or ""
        yield Finding("source", "ok", f"{source.kind} {text}".strip())


def runner_checks(job: Job, job_file: str) -> Iterator[Finding]:
    """Whether Beam takes the options, the API is on, and workers will have this code on this Python."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.console import Console
    from beam_jobs.dataflow.options import dataflow_options
    from beam_jobs.dataflow.service import DataflowService
    from beam_jobs.night import Night
    from beam_jobs.workspace.run_directory import RunDirectory, job_folder

    runner = job.runner
    assert isinstance(runner, DataflowRunner), runner
    run = RunDirectory(job_folder(job), datetime.datetime.now(datetime.UTC).date(), "doctor")
    options = PipelineOptions(dataflow_options(Night(job, job_file, run, Console()), runner, "doctor", "doctor"))
    service = DataflowService(options)
    prefix = f"foretable-{job.name.replace('_', '-')}-"
    # Another job's name may start with all of this one's: behind ours come the step and the run's id, nothing else.
    ours = re.compile(rf"{re.escape(prefix)}[a-z]+-[0-9a-f]{{12}}(-[0-9a-f]{{8}})?(-\d+)?")
    active = service.active(prefix)
    yield Finding("runner", "ok", f"Dataflow in {runner.project}, {runner.region} answers")
    for left in [found for found in active if ours.fullmatch(found.name)]:
        yield Finding("leftovers", "warn", f"Dataflow job {left.name} still runs", service.cancel_command(left.id))
    yield from image_checks(runner)


def image_checks(runner: DataflowRunner) -> Iterator[Finding]:
    """Whether workers have the versions that are here."""
    if runner.sdk_container_image is None:
        assert runner.setup_file is not None
        lock = os.path.join(os.path.dirname(os.path.abspath(runner.setup_file)), "requirements.lock")
        status: Finding = Finding("workers", "ok", f"install {runner.setup_file} and requirements.lock when they start")
        if not os.path.isfile(runner.setup_file):
            status = Finding("workers", "fail", f"runner.setup_file: {runner.setup_file!r}: no such file")
        elif not os.path.isfile(lock):
            found = "no requirements.lock beside runner.setup_file: workers get other versions than were tested"
            status = Finding("workers", "warn", found, "put requirements.lock beside it")
        yield status
        return
    yield from tag_findings("workers", runner.sdk_container_image)


def leftover_checks(job: Job) -> Iterator[Finding]:
    """Tables of this job that nothing names and nothing will delete."""
    from beam_jobs.warehouses.bigquery.leftovers import orphan_tables

    node = job.warehouse
    assert isinstance(node, BigQueryWarehouse), node
    known = {record.table for record in open_warehouse(job).runs(job.name)}
    orphans = orphan_tables(node, job.endpoints, job.name, known)
    for table in orphans:
        path = f"{node.project}:{node.dataset}.{table}"
        yield Finding("leftovers", "warn", f"table {table}: no night names it, and it never expires", f"bq rm {path}")
    if not orphans:
        yield Finding("leftovers", "ok", f"no table in {node.dataset} without a night or an expiry")


def permission_checks(job: Job, sources: tuple[Source, ...]) -> Iterator[Finding]:
    """What the credentials may do in the projects, where no server stands in for the service."""
    from google.auth.transport.requests import AuthorizedSession

    needed = permissions.needed_permissions(job, sources)
    asked = {
        "BigQuery": job.endpoints.bigquery,
        "Dataflow": job.endpoints.dataflow,
        "Vertex AI": job.endpoints.vertex,
        "Cloud Logging": job.endpoints.logging,
    }
    projects = {
        "BigQuery": getattr(job.warehouse, "project", None),
        "Dataflow": getattr(job.runner, "project", None),
        "Vertex AI": getattr(job.vertex, "project", None),
        "Cloud Logging": getattr(job.vertex, "project", None),
    }
    for service, project in projects.items():
        if service not in needed or project is None or asked[service] is not None:
            continue
        session = AuthorizedSession(credentials(None))
        answer = session.post(
            f"{RESOURCE_MANAGER}/v1/projects/{project}:testIamPermissions",
            json={"permissions": list(needed[service])},
            timeout=_CALL_SECONDS,
        )
        if answer.status_code != 200:
            found = f"cannot ask what may be done in {project} (HTTP {answer.status_code})"
            mend = f"gcloud services enable cloudresourcemanager.googleapis.com --project={project}"
            yield Finding("permissions", "warn", found, mend)
            continue
        missing = [name for name in needed[service] if name not in answer.json().get("permissions", ())]
        yield from _permission_findings(service, project, missing)


def _permission_findings(service: str, project: str, missing: list[str]) -> Iterator[Finding]:
    """A table's, dataset's or service account's permission may be granted there, and not in the project."""
    elsewhere = [name for name in missing if re.match(r"bigquery\.(tables|datasets)\.|iam\.serviceAccounts\.", name)]
    on_project = [name for name in missing if name not in elsewhere]
    # Without its lines, a failed job has still its error and its page.
    status: Status = "warn" if service == "Cloud Logging" else "fail"
    if on_project:
        mend = f"ask {project}'s owner for them: {permissions.ROLES[service]}"
        yield Finding("permissions", status, f"{service} in {project}: missing {', '.join(on_project)}", mend)
    if elsewhere:
        found = f"{service} in {project}: not granted by the project: {', '.join(elsewhere)}"
        where = {"bigquery": "the dataset grants them (roles/bigquery.dataEditor)"}
        where["iam"] = "the service account grants it (roles/iam.serviceAccountUser)"
        yield Finding("permissions", "warn", found, f"right if {where[elsewhere[0].partition('.')[0]]}")
    if not missing:
        yield Finding("permissions", "ok", f"{service} in {project}: all that is needed")
