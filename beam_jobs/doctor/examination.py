"""Every check that a job's settings call for, one after the other; none keeps another from being made."""

from collections.abc import Iterator
from typing import Any

from beam_jobs.doctor import cloud, machine, vertex
from beam_jobs.doctor.findings import Check, Finding, findings_of
from beam_jobs.doctor.locations import location_checks, vertex_location_checks
from beam_jobs.doctor.permissions import needed_buckets, needed_permissions
from beam_jobs.foreign_models import given_model
from beam_jobs.sources import sources_of
from beam_jobs.vertex.expected_jobs import vertex_stages
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
        checks["credentials"] = lambda: cloud.credentials_check(job, sources)
    checks["source"] = lambda: cloud.source_checks(job, sources)
    if isinstance(job, ForeignJob):
        checks["model"] = lambda: _model_check(job)
    on_bucket, in_bigquery = job.workspace.startswith("gs://"), isinstance(job.warehouse, BigQueryWarehouse)
    if needed_buckets(job, sources):
        checks["buckets"] = lambda: cloud.bucket_checks(job, sources)
    if in_bigquery:
        checks["warehouse"] = lambda: cloud.warehouse_checks(job)
        checks["leftovers"] = lambda: cloud.leftover_checks(job)
    if isinstance(job.runner, DataflowRunner):
        checks["runner"] = lambda: cloud.runner_checks(job, job_file)
    if job.vertex is not None:
        checks["vertex"] = lambda: vertex.service_checks(job, job_file)
        if "train" in vertex_stages(job):
            checks["training"] = lambda: vertex.training_checks(job)
        checks["service agent"] = lambda: vertex.agent_checks(job)
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
    bucket = bucket_location(job.workspace)
    yield from location_checks(dataset, bucket, region)
    if job.vertex is not None:
        instances = _instances_location(job, dataset)
        predicts = "precompute" in vertex_stages(job)
        yield from vertex_location_checks(job.vertex.region, bucket, instances, predicts)


def _instances_location(job: Job, warehouse_location: str | None) -> str | None:
    """Location of the dataset of instances' tables, where the job file says it: that of the warehouse's own."""
    instances = vertex.instances_dataset(job)
    if instances is None or not isinstance(job.warehouse, BigQueryWarehouse):
        return None
    is_warehouses = instances.replace(":", ".") == f"{job.warehouse.project}.{job.warehouse.dataset}"
    return warehouse_location if is_warehouses else None
