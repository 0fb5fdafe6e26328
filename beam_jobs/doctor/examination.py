"""Every check that a job's settings call for, one after the other; none keeps another from being made."""

from collections.abc import Iterator
from typing import Any

from beam_jobs.doctor import cloud, machine
from beam_jobs.doctor.findings import Check, Finding, findings_of
from beam_jobs.doctor.locations import location_checks
from beam_jobs.doctor.permissions import needed_permissions
from beam_jobs.foreign_models import given_model
from beam_jobs.sources import sources_of
from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.job import ForeignJob, Job


def examine(job: Job, job_file: str) -> dict[str, Any]:
    """All findings, the permissions that the job needs, and whether it could run; as plain values."""
    findings = [finding for name, check in _checks(job, job_file).items() for finding in findings_of(name, check)]
    permissions = needed_permissions(job, sources_of(job))
    return {
        "job": job.name,
        "healthy": not any(finding.status == "fail" for finding in findings),
        "findings": [vars(finding) for finding in findings],
        "permissions": {service: list(names) for service, names in permissions.items()},
    }


def _checks(job: Job, job_file: str) -> dict[str, Check]:
    sources = sources_of(job)
    checks: dict[str, Check] = {
        "python": machine.python_check,
        "packages": machine.package_checks,
        "memory": machine.memory_check,
        "folders": lambda: machine.folder_checks(job),
    }
    if cloud.uses_cloud(job, sources):
        checks["credentials"] = lambda: cloud.credentials_check(job)
    checks["source"] = lambda: cloud.source_checks(job, sources)
    if isinstance(job, ForeignJob):
        checks["model"] = lambda: _model_check(job)
    on_bucket, in_bigquery = job.workspace.startswith("gs://"), isinstance(job.warehouse, BigQueryWarehouse)
    if on_bucket:
        checks["workspace"] = lambda: cloud.storage_checks(job)
    if in_bigquery:
        checks["warehouse"] = lambda: cloud.warehouse_checks(job)
        checks["leftovers"] = lambda: cloud.leftover_checks(job)
    if isinstance(job.runner, DataflowRunner):
        checks["runner"] = lambda: cloud.runner_checks(job, job_file)
    if on_bucket:
        checks["locations"] = lambda: _location_checks(job)
    if cloud.uses_cloud(job, sources):
        checks["permissions"] = lambda: cloud.permission_checks(job, sources)
    return checks


def _model_check(job: ForeignJob) -> Iterator[Finding]:
    model = given_model(job)
    yield Finding("model", "ok", f"{model.model_path}: version {model.model_version}")


def _location_checks(job: Job) -> Iterator[Finding]:
    from beam_jobs.workspace.cloud_storage import bucket_location

    dataset = job.warehouse.location if isinstance(job.warehouse, BigQueryWarehouse) else None
    region = job.runner.region if isinstance(job.runner, DataflowRunner) else None
    return location_checks(dataset, bucket_location(job.workspace), region)
