"""Google Cloud as a job uses it: a cheap call to each service, what may be done there, what an earlier night left."""

import datetime
import functools
import os
import re
from collections.abc import Iterator

from beam_jobs.doctor import permissions
from beam_jobs.doctor.findings import Finding, Status, findings_of
from beam_jobs.doctor.images import tag_findings
from beam_jobs.endpoints import credentials
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import cloud_storage, storage
from beam_jobs.workspace.cloud_storage import split_path
from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.errors import ForetableError
from configs.job import Job
from configs.sources import BigQuerySource, Source

RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
_CALL_SECONDS = 60
_ENDPOINTS = {
    "Cloud Storage": ("storage",),
    "BigQuery": ("bigquery",),
    "Dataflow": ("dataflow",),
    "Vertex AI": ("vertex",),
    "Cloud Logging": ("logging",),
}
"""The job file's `endpoints` that stand in for a service."""


def uses_cloud(job: Job, sources: tuple[Source, ...]) -> bool:
    """Whether the job talks to any service of Google Cloud."""
    return bool(permissions.needed_permissions(job, sources))


def credentials_check(job: Job, sources: tuple[Source, ...]) -> Iterator[Finding]:
    """Whether there are credentials, and whose they are, unless servers stand in for all that the job uses."""
    needed = permissions.needed_permissions(job, sources)
    used = [name for service in needed for name in _ENDPOINTS[service]]
    if any(name == "bigquery.readsessions.create" for name in needed.get("BigQuery", ())):
        used.append("bigquery_storage")
    if all(getattr(job.endpoints, name) is not None for name in used):
        yield Finding("credentials", "ok", f"none needed: servers stand in for {', '.join(used)}")
        return
    found = credentials(None)
    whose = getattr(found, "service_account_email", None) or getattr(found, "account", None) or type(found).__name__
    yield Finding("credentials", "ok", str(whose))


def bucket_checks(job: Job, sources: tuple[Source, ...]) -> Iterator[Finding]:
    """Whether each bucket that the job names is there, and may be used as the job will use it."""
    for bucket in permissions.needed_buckets(job, sources):
        check = "workspace" if bucket.setting == "workspace" else "buckets"
        yield from findings_of(check, functools.partial(_bucket_check, job, check, bucket))


def _bucket_check(job: Job, check: str, bucket: permissions.Bucket) -> Iterator[Finding]:
    is_written = bucket.permissions == permissions.STORAGE
    name = f"gs://{split_path(bucket.path)[0]}"
    if check == "workspace":
        where = f"{name} in {cloud_storage.bucket_location(bucket.path)}"
    else:
        where = f"{name}, of {bucket.setting}"
    try:
        granted = cloud_storage.granted_permissions(bucket.path, bucket.permissions)
    except (ForetableError, FileNotFoundError):
        if job.endpoints.storage is None:
            raise
        # A server in its place knows no permissions.
        granted = _tried_writing(storage.join(bucket.path, ".doctor")) if is_written else _tried_listing(bucket.path)
    missing = [permission for permission in bucket.permissions if permission not in granted]
    if missing:
        role = "roles/storage.objectUser" if is_written else "roles/storage.objectViewer"
        mend = f"ask the bucket's owner for {role} on {name}"
        yield Finding(check, "fail", f"{where}: missing {', '.join(missing)}", mend)
    else:
        yield Finding(check, "ok", f"{where}: can be read{' and written' if is_written else ''}")


def _tried_writing(path: str) -> set[str]:
    """Permissions that writing, reading, listing and deleting an object proved."""
    storage.write_bytes(path, b"foretable doctor\n")
    storage.read_bytes(path)
    cloud_storage.list_files(path)
    cloud_storage.delete([path])
    return set(permissions.STORAGE)


def _tried_listing(path: str) -> set[str]:
    """Permissions that are taken for granted where listing is."""
    cloud_storage.list_files(path)
    return set(permissions.STORAGE_READING)


def warehouse_checks(job: Job) -> Iterator[Finding]:
    """Whether the dataset is there, where the job says, and takes queries."""
    node = job.warehouse
    assert isinstance(node, BigQueryWarehouse), node
    open_warehouse(job).check()
    yield Finding("warehouse", "ok", f"{node.project}.{node.dataset} in {node.location}: takes queries")


def source_checks(job: Job, sources: tuple[Source, ...]) -> Iterator[Finding]:
    """Whether each source is there and may be read; a table, by the Storage Read API."""
    from beam_jobs.sources import source_fingerprint

    for source in sources:
        source_fingerprint(source, job.endpoints)
        if isinstance(source, BigQuerySource) and source.table is not None:
            from beam_jobs.warehouses.bigquery.source import try_session

            try_session(source, job.endpoints)
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
        status: Finding = Finding(
            "workers", "ok", f"install {runner.setup_file} and what it needs of requirements.lock"
        )
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

    for (service, payer), needed in permissions.project_permissions(job, sources).items():
        if any(getattr(job.endpoints, name) is not None for name in _ENDPOINTS[service]):
            continue
        project = payer if payer is not None else _own_project(job)
        session = AuthorizedSession(credentials(None))
        answer = session.post(
            f"{RESOURCE_MANAGER}/v1/projects/{project}:testIamPermissions",
            json={"permissions": list(needed)},
            timeout=_CALL_SECONDS,
        )
        if answer.status_code != 200:
            found = f"cannot ask what may be done in {project} (HTTP {answer.status_code})"
            mend = f"gcloud services enable cloudresourcemanager.googleapis.com --project={project}"
            yield Finding("permissions", "warn", found, mend)
            continue
        missing = [name for name in needed if name not in answer.json().get("permissions", ())]
        yield from _permission_findings(service, project, missing)


def _own_project(job: Job) -> str:
    """The credentials' own project, which pays for a query that names no other."""
    from beam_jobs.warehouses.bigquery.clients import bigquery_client

    return str(bigquery_client(None, job.endpoints).project)


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
