"""The last lines that a job's machines wrote, from Cloud Logging's REST API. What cannot be read is not an error."""

import datetime
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from beam_jobs.endpoints import credentials
from beam_jobs.vertex.jobs import VertexJob
from beam_jobs.vertex.service import VertexService

LONGEST_WAIT_SECONDS = 20.0
"""Lines arrive some seconds after they were written, and Vertex may tell sooner that the job failed."""
SETTLED_SECONDS = 4.0
"""Without a newer line, after which the newest counts as the last: a burst arrives in parts."""
LONGEST_SILENCE_SECONDS = 60.0
"""Between a job's last line and its end: where the newest is older, the last ones have not arrived yet."""
_ADDRESS = "https://logging.googleapis.com"
_CALL_SECONDS, _POLL_SECONDS = 10.0, 1.0
_LONGEST_LINE = 400
_LOGGER = logging.getLogger(__name__)
_Place = tuple[str, str]
"""Of an entry in its log: its timestamp, and its insert id."""


def last_lines(service: VertexService, job: VertexJob, count: int = 10) -> list[str]:
    """The last `count` lines of the job's log, oldest first; none where there are none, or they cannot be read."""
    started = settled_at = time.monotonic()
    newest: _Place | None = None
    try:
        from google.auth.transport.requests import AuthorizedSession

        with AuthorizedSession(credentials(service.addresses.logging)) as session:
            while True:
                entries = _entries(session, service, job, count)
                now = time.monotonic()
                if entries and _written(entries[-1]) != newest:
                    newest, settled_at = _written(entries[-1]), now + SETTLED_SECONDS
                is_settled = newest is not None and now >= settled_at and not _is_before_the_end(newest, job)
                if is_settled or now >= started + LONGEST_WAIT_SECONDS:
                    return _texts(entries)[-count:]
                time.sleep(min(_POLL_SECONDS, SETTLED_SECONDS))
    except Exception as error:  # the job's own failure is what a person has to see
        _LOGGER.warning("cannot read the log of %s: %s", job.name, error)
        return []


def log_filter(job: VertexJob) -> str:
    """Cloud Logging's filter for the lines of the job."""
    created = job.message.create_time
    since = "" if created is None else f' AND timestamp>="{_rfc3339(created)}"'
    return f'resource.labels.job_id="{job.id}"{since}'


def _entries(session: Any, service: VertexService, job: VertexJob, count: int) -> list[dict[str, Any]]:
    """The last entries of the job's log that have arrived, oldest first."""
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
    return sorted(response.json().get("entries", []), key=_written)


def _texts(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Their lines, without blank ones."""
    lines = [line for entry in entries for line in _text(entry).splitlines()]
    return [line.rstrip()[:_LONGEST_LINE] for line in lines if line.strip()]


def _is_before_the_end(newest: _Place, job: VertexJob) -> bool:
    """Whether the entry was written so long before the job's end that it cannot be the last."""
    ended = job.message.end_time
    if ended is None:
        return False
    return newest[0] < _rfc3339(ended - datetime.timedelta(seconds=LONGEST_SILENCE_SECONDS)).removesuffix("Z")


def _written(entry: dict[str, Any]) -> _Place:
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
