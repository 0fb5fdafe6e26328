"""Names of what a night makes on Vertex AI: they say which night it was, and are all that a later process knows."""

import hashlib
from collections.abc import Mapping

from beam_jobs.night import Night
from configs.job import Job

LONGEST_LABEL = 63
_LONGEST_ID = 63


def display_name(night: Night, step: str, version: str = "") -> str:
    """Name of the first try of a step's job.

    Args:
        step: of the stage, such as `train`.
        version: what decides the job's output beside the run, such as the model's version and the round.
    """
    name = f"{resource_id(night.job)}-{step}-{night.run.run_id}"
    return f"{name}-{hashlib.sha256(version.encode()).hexdigest()[:8]}" if version else name


def attempt_name(first: str, attempt: int) -> str:
    """Name of a job's `attempt`-th try, of which `first` is that of the first."""
    return first if attempt == 1 else f"{first}-{attempt}"


def resource_id(job: Job) -> str:
    """Id of what a job has one of, its model and its endpoint: of lower-case letters, digits and dashes."""
    name = f"foretable-{job.name.replace('_', '-')}"
    if len(name) <= _LONGEST_ID and not name.endswith("-"):
        return name
    return f"{name[: _LONGEST_ID - 9].rstrip('-')}-{hashlib.sha256(job.name.encode()).hexdigest()[:8]}"


def job_label(name: str) -> str:
    """Value of the label `foretable_job` for the job of this name."""
    return name[:LONGEST_LABEL]


def labels(night: Night, step: str, *of_the_job_file: Mapping[str, str]) -> dict[str, str]:
    """Labels of something that a night makes: which night and step it is, beside those of the job file."""
    theirs: dict[str, str] = {}
    for each in (night.job.vertex.labels if night.job.vertex is not None else {}, *of_the_job_file):
        theirs |= each
    return theirs | {
        "foretable_job": job_label(night.job.name),
        "foretable_step": step,
        "foretable_run_id": night.run.run_id,
        "foretable_run_date": night.run.run_date.isoformat(),
    }
