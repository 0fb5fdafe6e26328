"""A BigQuery source as of one moment: a snapshot of its table, or the result of its query.

What goes into a run's id is looked up and costs nothing: when the table was written, how much is in it; of a query, its
text and the same of every table that it reads, which a dry run names. The query itself runs when a run first opens it,
under a job id made of the run's: whoever opens it again in that run finds the same result.
"""

import dataclasses
import datetime
import hashlib
import itertools
import json
from typing import Any

from google.api_core import exceptions
from google.cloud import bigquery

from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RETRY, bigquery_client
from beam_jobs.warehouses.bigquery.errors import explained
from configs.cloud import Endpoints
from configs.errors import JobError, RefusedError
from configs.sources import BigQuerySource

_READABLE = ("TABLE", "SNAPSHOT")  # the Storage Read API knows no views, and no external table as of some moment
_CALL: dict[str, Any] = {"retry": RETRY, "timeout": CALL_TIMEOUT_SECONDS}
_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Pin:
    """A source as of one moment.

    Attributes:
        table: `project.dataset.table` that has the rows.
        snapshot_time: ISO 8601, or None where nobody writes to the table.
        rows: of the table, without what may still be in a streaming buffer.
        fingerprint: of the source.
        pinned_at: ISO 8601.
    """

    table: str
    snapshot_time: str | None
    rows: int
    fingerprint: str
    pinned_at: str

    @property
    def pinned(self) -> datetime.datetime:
        """When."""
        return datetime.datetime.fromisoformat(self.pinned_at)


def describe(source: BigQuerySource) -> str:
    """What messages call the source."""
    if source.table is not None:
        return source.table
    text = " ".join((source.query or "").split())
    return f"query {text[:_SHOWN] + '…' if len(text) > _SHOWN else text!r}"


def client_of(source: BigQuerySource, endpoints: Endpoints) -> bigquery.Client:
    """A client in the project that pays for reading the source."""
    return bigquery_client(
        source.project or (source.table.partition(".")[0] if source.table else None), endpoints, source.location
    )


def bigquery_fingerprint(source: BigQuerySource, endpoints: Endpoints) -> str:
    """SHA-256 that changes when the source's rows may have: over when its tables were written, not over their content.

    What it cannot see: a query's own chance or clock (`RAND()`, `CURRENT_DATE()`), tables that the credentials may
    query but not look up, and any beyond the fifty that a dry run names at most.

    Raises:
        ForetableError: the table is not there or may not be read, or the query is wrong.
    """
    with explained(describe(source)):
        return _fingerprint(client_of(source, endpoints), source)


def pin_bigquery(source: BigQuerySource, endpoints: Endpoints, run_id: str) -> Pin:
    """Takes a snapshot of the source's table, or runs its query, unless the run `run_id` did already.

    Raises:
        RefusedError: the table cannot be read as of a moment, or the query gives no row.
        ForetableError: the source is not there, or may not be read.
    """
    with explained(describe(source)):
        client = client_of(source, endpoints)
        if source.table is not None:
            pinned_at = _now_at_bigquery(client)
            table = client.get_table(source.table, **_CALL)
            _check_readable(table)
            snapshot_time = None
            if table.table_type != "SNAPSHOT":
                # Never before the last change that the rows and the fingerprint tell of.
                snapshot_time = max(pinned_at, table.modified + datetime.timedelta(milliseconds=1))
        else:
            table, pinned_at = _run_query(client, source, run_id)
            snapshot_time = None
            if not table.num_rows:
                raise RefusedError(f"{describe(source)}: gives no rows; expected at least one")
        return Pin(
            table=_name(table),
            snapshot_time=snapshot_time.isoformat() if snapshot_time is not None else None,
            rows=table.num_rows or 0,
            fingerprint=_fingerprint(client, source),
            pinned_at=pinned_at.isoformat(),
        )


def is_there(pin: Pin, source: BigQuerySource, endpoints: Endpoints) -> bool:
    """Whether the pinned table is still there: the result of a query goes after a day."""
    with explained(describe(source)):
        try:
            client_of(source, endpoints).get_table(pin.table, **_CALL)
        except exceptions.NotFound:
            return False
    return True


def _now_at_bigquery(client: bigquery.Client) -> datetime.datetime:
    """BigQuery's time, free to ask for: by a fast clock of this machine, a snapshot would lie in the future."""
    (row,) = client.query_and_wait("SELECT CURRENT_TIMESTAMP()", api_timeout=CALL_TIMEOUT_SECONDS, retry=RETRY)
    now: datetime.datetime = row[0]
    return now


def _fingerprint(client: bigquery.Client, source: BigQuerySource) -> str:
    if source.table is not None:
        tables = [_state(client.get_table(source.table, **_CALL))]
    else:
        tables = [_referenced_state(client, reference) for reference in _dry_run(client, source).referenced_tables]
    described = json.dumps([source.model_dump(mode="json"), tables], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _referenced_state(client: bigquery.Client, reference: bigquery.TableReference) -> list[Any]:
    try:
        return _state(client.get_table(reference, **_CALL))
    except (exceptions.NotFound, exceptions.Forbidden):
        return [str(reference)]  # a wildcard's name, or a table behind a view that may be read through it alone


def _state(table: bigquery.Table) -> list[Any]:
    """What changes with the table's rows. Its etag is left out: it changes with the table's description, too."""
    buffer = table.streaming_buffer
    return [
        _name(table),
        table.created.isoformat() if table.created else None,
        table.modified.isoformat() if table.modified else None,
        table.num_rows,
        table.num_bytes,
        table.view_query,
        [buffer.estimated_rows, str(buffer.oldest_entry_time)] if buffer else None,
    ]


def _check_readable(table: bigquery.Table) -> None:
    if table.table_type not in _READABLE:
        kind = table.table_type.lower().replace("_", " ")
        raise RefusedError(
            f"{_name(table)}: cannot be read as of a moment: it is a {kind}, not a table;"
            f" use query: SELECT * FROM `{_name(table)}`"
        )


def _dry_run(client: bigquery.Client, source: BigQuerySource) -> bigquery.QueryJob:
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    job = client.query(source.query, job_config=config, job_retry=None, **_CALL)
    if job.statement_type != "SELECT":
        raise JobError(f"{describe(source)}: is no query, but {job.statement_type}; expected one SELECT")
    return job


def _run_query(
    client: bigquery.Client, source: BigQuerySource, run_id: str
) -> tuple[bigquery.Table, datetime.datetime]:
    """The result of the query in this run, an anonymous table that BigQuery keeps for a day; and when it started."""
    location = _dry_run(client, source).location
    digest = hashlib.sha256(source.model_dump_json().encode()).hexdigest()[:8]
    config = bigquery.QueryJobConfig(
        use_query_cache=False,  # a cached result is of somebody else's making, and may go any minute
        labels={"application": "foretable", "run_id": run_id},
    )
    if source.maximum_bytes_billed is not None:
        config.maximum_bytes_billed = source.maximum_bytes_billed
    for attempt in itertools.count():
        job_id = f"foretable_{run_id}_source_{digest}_{attempt}"
        is_new = True
        try:
            job = client.query(
                source.query, job_config=config, job_id=job_id, location=location, job_retry=None, **_CALL
            )
        except exceptions.Conflict:
            is_new = False
            job = client.get_job(job_id, location=location, **_CALL)
        try:
            job.result(max_results=0, retry=RETRY, job_retry=None)
            return client.get_table(job.destination, **_CALL), job.created
        except exceptions.GoogleAPICallError as error:
            # An earlier try of this run has used up the id: by a failure, or its result has gone meanwhile.
            is_used_up = job.error_result is not None or isinstance(error, exceptions.NotFound)
            if is_new or not is_used_up:
                raise
    raise AssertionError("unreachable")


def _name(table: bigquery.Table) -> str:
    return f"{table.project}.{table.dataset_id}.{table.table_id}"
