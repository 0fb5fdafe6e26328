"""The last lines that a job's machines wrote, from Cloud Logging's REST API. What cannot be read is not an error."""

import datetime
import json
import logging
import time
from typing import Any

from beam_jobs.endpoints import credentials
from beam_jobs.vertex.jobs import VertexJob
from beam_jobs.vertex.service import VertexService

LONGEST_WAIT_SECONDS = 20.0
"""Lines arrive some seconds after they were written, and Vertex may tell sooner that the job failed."""
_ADDRESS = "https://logging.googleapis.com"
_CALL_SECONDS = 10.0
_LONGEST_LINE = 400
_LOGGER = logging.getLogger(__name__)


def last_lines(service: VertexService, job: VertexJob, count: int = 10) -> list[str]:
    """The last `count` lines of the job's log, oldest first; none where there are none, or they cannot be read."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    try:
        from google.auth.transport.requests import AuthorizedSession

        with AuthorizedSession(credentials(service.addresses.logging)) as session:
            while True:
                lines = _lines(session, service, job, count)
                if lines or time.monotonic() >= deadline:
                    return lines
                time.sleep(1)
    except Exception as error:  # the job's own failure is what a person has to see
        _LOGGER.warning("cannot read the log of %s: %s", job.name, error)
        return []


def log_filter(job: VertexJob) -> str:
    """Cloud Logging's filter for the lines of the job."""
    created = job.message.create_time
    since = "" if created is None else f' AND timestamp>="{_rfc3339(created)}"'
    return f'resource.labels.job_id="{job.id}"{since}'


def _lines(session: Any, service: VertexService, job: VertexJob, count: int) -> list[str]:
    response = session.post(
        f"{service.addresses.logging or _ADDRESS}/v2/entries:list",
        json={
            "resourceNames": [f"projects/{service.project}"],
            "filter": log_filter(job),
            "orderBy": "timestamp desc",
            "pageSize": 5 * count,  # some are blank
        },
        timeout=_CALL_SECONDS,
    )
    response.raise_for_status()
    entries = sorted(response.json().get("entries", []), key=_written)
    lines = [line for entry in entries for line in _text(entry).splitlines()]
    return [line.rstrip()[:_LONGEST_LINE] for line in lines if line.strip()][-count:]


def _written(entry: dict[str, Any]) -> tuple[str, str]:
    """What entries are sorted by, oldest first: those of one instant, of which a burst has many, by their insert id."""
    # Without the Z, since "01Z" would come after "01.5Z".
    return str(entry.get("timestamp", "")).removesuffix("Z"), str(entry.get("insertId", ""))


def _text(entry: dict[str, Any]) -> str:
    """What was written: a container's line is the `message` of a JSON payload, or a text payload."""
    payload = entry.get("jsonPayload")
    if payload is None:
        return str(entry.get("textPayload", ""))
    return str(payload["message"]) if "message" in payload else json.dumps(payload)


def _rfc3339(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
