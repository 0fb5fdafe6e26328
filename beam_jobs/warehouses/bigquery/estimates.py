"""What reading a BigQuery source takes, asked beforehand at no cost."""

import dataclasses

from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RETRY
from beam_jobs.warehouses.bigquery.errors import explained
from beam_jobs.warehouses.bigquery.pins import client_of, describe
from configs.cloud import Endpoints
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
