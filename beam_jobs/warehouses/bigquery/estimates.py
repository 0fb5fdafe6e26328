"""What reading a BigQuery source takes, asked beforehand at no cost; and the jobs that publishing a night runs."""

import dataclasses
from collections.abc import Iterable

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RETRY
from beam_jobs.warehouses.bigquery.errors import explained
from beam_jobs.warehouses.bigquery.pins import client_of, describe
from configs.cloud import Endpoints
from configs.contracts import Contract, MonotoneContract
from configs.sources import BigQuerySource


@dataclasses.dataclass(frozen=True)
class SourceSize:
    """A source's size.

    Attributes:
        rows: None of a query, whose result nobody knows before it runs.
        read_bytes: of its columns, all of them, uncompressed; None of a query.
        queried_bytes: by the query, as BigQuery's dry run tells.
    """

    rows: int | None
    read_bytes: int | None
    queried_bytes: int


def source_size(source: BigQuerySource, endpoints: Endpoints) -> SourceSize:
    """Looks at the table, or lets BigQuery plan the query without running it.

    Raises:
        ForetableError: the source is not there, or may not be read.
    """
    from google.cloud import bigquery

    client = client_of(source, endpoints)
    with explained(describe(source)):
        if source.table is not None:
            table = client.get_table(source.table, retry=RETRY, timeout=CALL_TIMEOUT_SECONDS)
            return SourceSize(table.num_rows, table.num_bytes, 0)
        config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
        job = client.query(source.query, job_config=config, job_retry=None, retry=RETRY, timeout=CALL_TIMEOUT_SECONDS)
        return SourceSize(None, None, job.total_bytes_processed or 0)


def publishing_jobs(uploads: int | None, contracts: Iterable[Contract], before: NightRecord | None) -> dict[str, int]:
    """Jobs of publishing a night that nothing is wrong with, by what they are for.

    A monotone contract is asked of rows in an order of its own, by a query for each output; the others share one.

    Args:
        uploads: shards that are uploaded one by one; None where Cloud Storage has them.
        before: the night that readers see.
    """
    monotone = [contract.monotone.outputs for contract in contracts if isinstance(contract, MonotoneContract)]
    others = any(not isinstance(contract, MonotoneContract) for contract in contracts)
    outputs = sum(column.role == "output" for column in before.columns) if before is not None else 0
    return {
        "loads": 1 if uploads is None else uploads,
        "verification": 1,
        "contracts": int(others) + sum(map(len, monotone)),
        "comparison with the night before": 1 + outputs if before is not None else 0,
        "record of the night, standing of all nights": 2,
        "views of predictions, history, changes": 3,
        "reads of the nights on record": 7 if before is None else 8,
    }
