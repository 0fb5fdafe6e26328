"""Cloud Logging's `entries:list` for the output of the Vertex twin's jobs."""

import datetime
import json
from collections.abc import Callable
from typing import Any

from twins.vertex_filters import Filter
from twins.vertex_state import VertexTwin
from twins.vertex_wire import Call, RefusalError, now

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL")


class LogFilter(Filter):
    """A filter of log entries: https://cloud.google.com/logging/docs/view/logging-query-language."""

    def _comparison(self, name: str, comparison: str, value: str) -> Callable[[Any], bool]:
        def found(entry: Any) -> Any:
            for part in name.split("."):
                entry = entry.get(part) if isinstance(entry, dict) else None
            return entry

        if name == "severity":
            wanted = SEVERITIES.index(value)
            outcomes = {">=": lambda n: n >= wanted, "<=": lambda n: n <= wanted, "=": lambda n: n == wanted}
            return lambda entry: outcomes[comparison](SEVERITIES.index(found(entry)))
        if comparison == ":":
            return lambda entry: value.lower() in str(found(entry) or "").lower()
        if comparison in (">=", "<=", ">", "<"):
            return lambda entry: {">=": found(entry) >= value, "<=": found(entry) <= value}.get(
                comparison, (found(entry) > value) == (comparison == ">") and found(entry) != value
            )
        return lambda entry: (found(entry) == value) == (comparison == "=")


def list_entries(twin: VertexTwin, call: Call) -> Any:
    """Answers Cloud Logging's `entries:list` with output of jobs, as custom jobs write it there.

    https://cloud.google.com/vertex-ai/docs/training/monitor-debug-interactive-shell names `resource.type=ml_job`,
    https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list the call.
    """
    asked = json.loads(call.body or b"{}")
    unknown = set(asked) - {"resourceNames", "filter", "orderBy", "pageSize", "pageToken"}
    if unknown:
        raise RefusalError("INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{min(unknown)}".')
    if f"projects/{twin.project}" not in asked.get("resourceNames", ()):
        raise RefusalError("PERMISSION_DENIED", "Permission 'logging.logEntries.list' denied on resource.")
    entries = [
        {
            "logName": f"projects/{twin.project}/logs/{line.task}",
            "resource": {
                "type": "ml_job",
                "labels": {"job_id": job.id, "project_id": twin.project, "task_name": line.task},
            },
            "timestamp": line.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "severity": line.severity,
            "jsonPayload": {"message": line.text, "levelname": line.severity, "attrs": {"tag": line.task}},
            "insertId": f"{job.id}-{number:09d}",
        }
        for job in twin.jobs()
        for number, line in enumerate(list(job.lines))
        if line.time + datetime.timedelta(seconds=twin.log_seconds) <= now()
    ]
    wanted = LogFilter(asked.get("filter", ""), ())
    found = [entry for entry in entries if wanted.matches(entry)]
    # "Entries with equal timestamps are returned in order of their insert_id values."
    found.sort(key=lambda entry: entry["insertId"])
    found.sort(key=lambda entry: entry["timestamp"], reverse=asked.get("orderBy") == "timestamp desc")
    start, size = int(asked.get("pageToken") or 0), int(asked.get("pageSize") or 50)
    answer: dict[str, Any] = {"entries": found[start : start + size]}
    return answer | ({"nextPageToken": str(start + size)} if start + size < len(found) else {})
