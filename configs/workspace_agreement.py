"""Checks that the workspace is where the job's warehouse can read it."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.job import Job

_BUCKET_AND_FOLDER = re.compile(r"gs://[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9](/[^/\s*?\[\]#]+)*/?")


def workspace_problems(job: "Job") -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """What is wrong with the workspace, or with a DuckDB warehouse beside it."""
    is_remote = "://" in job.workspace
    if is_remote and not _BUCKET_AND_FOLDER.fullmatch(job.workspace):
        yield ("workspace",), job.workspace, "expected a local folder, or gs://bucket/folder"
    elif is_remote and job.warehouse.kind == "duckdb":
        expected = (
            "expected a local folder beside a duckdb warehouse, whose tables are views over local files; "
            "or set warehouse: {kind: bigquery, project: …, dataset: …}"
        )
        yield ("workspace",), job.workspace, expected
    if job.warehouse.kind == "duckdb" and job.warehouse.path is not None and "://" in job.warehouse.path:
        yield ("warehouse", "path"), job.warehouse.path, "expected a local path: DuckDB cannot write behind a URL"
