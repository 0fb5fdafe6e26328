"""What the commands of the endpoint do."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from beam_jobs.model_registry import CHAMPION, ModelVersion, find_version
from beam_jobs.vertex.online import Deployed, OnlineEndpoint
from beam_jobs.vertex.online_rows import predict_row
from beam_jobs.vertex.registry import VertexRegistry
from configs.job import Job


def deploy_version(job: Job, job_file: str, name: str | None, traffic: int, replace: bool) -> list[dict[str, Any]]:
    """Puts a version on the job's endpoint; returns what is there then.

    Args:
        name: by default that of the version whose predictions readers see.

    Raises:
        JobError: there is no such version.
    """
    versions = VertexRegistry(job).versions()
    version = find_version(versions, name or CHAMPION, job_file)
    return _trees(OnlineEndpoint(job).deploy(version, traffic, replace), versions)


def ask(job: Job, arguments: Sequence[str]) -> dict[str, Any]:
    """The endpoint's answer to a key given as `feature=value` arguments."""
    answer = predict_row(job, arguments)
    return dataclasses.asdict(answer) | {"run_date": answer.run_date.isoformat()}


def undeploy_all(job: Job) -> list[dict[str, Any]]:
    """Leaves nothing of the endpoint; returns what was there."""
    endpoint = OnlineEndpoint(job)
    there = endpoint.deployed()
    return _trees(endpoint.undeploy(), VertexRegistry(job).versions()) if there is not None else []


def _trees(deployed: Iterable[Deployed], versions: Iterable[ModelVersion]) -> list[dict[str, Any]]:
    by_number = {version.version: version.model_version for version in versions}
    return [dataclasses.asdict(each) | {"model_version": by_number.get(each.version)} for each in deployed]
