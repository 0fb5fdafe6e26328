"""A night's shards become its table: one load job of `gs://` objects, or an upload of each local file.

The table is made first, empty and with an expiry, so that nothing that a killed night leaves lives for ever. A load is
a job of a fixed id that counts only if it is younger than the table: that tells a job whose rows are in the table from
one of a table that has expired since.
"""

import concurrent.futures
import datetime
import os
from typing import Any

from google.cloud import bigquery

from beam_jobs.warehouses.base import Night, NightRecord
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.sql import clustering, label_value, schema_field
from beam_jobs.warehouses.checks import refused
from beam_jobs.warehouses.published_tables import night_comment
from beam_jobs.workspace import storage
from configs.errors import RefusedError

PREDICTIONS_FOLDER = "predictions"
UNPUBLISHED_DAYS = 7
"""A table that nobody published goes after these days; until then one may look at what was refused."""
CONTENT_LABEL = "foretable_content"
_MOST_URIS = 10_000  # of one load job
_MOST_UPLOADS = 1_000  # of the 1,500 load jobs that a table may have in a day
_UPLOADS_AT_ONCE = 4


def night_table(dataset: Dataset, night: Night) -> str:
    """Name of the table that has these very predictions, or shall have them.

    The night's own name, unless other predictions of the same run lie there: readers may see those, so they stay.
    """
    found = dataset.table(night.table)
    content = _content(night)
    if found is None or found.labels.get(CONTENT_LABEL) == content:
        return night.table
    return f"{night.table}_{content[:8]}"


def load_shards(dataset: Dataset, night: Night, name: str) -> None:
    """Loads the shards into the table `name`, once.

    Raises:
        RefusedError: a local shard is not as in the manifest, or there are too many of them.
        ForetableError: BigQuery refuses them.
    """
    is_local = storage.is_local(night.run_dir)
    if is_local:
        _check_files(night)
    table = dataset.make(_definition(dataset, night, name))
    rows = int(table.num_rows or 0)
    if is_local and rows > night.manifest.rows:  # two nights have uploaded at once, each a part
        dataset.delete(name)
        table, rows = dataset.make(_definition(dataset, night, name)), 0
    if rows == night.manifest.rows and rows:
        return
    if is_local:
        _upload(dataset, night, table)
    else:
        paths = _paths(night)
        uris = (
            paths if len(paths) <= _MOST_URIS else [storage.join(night.run_dir, PREDICTIONS_FOLDER, "part-*.parquet")]
        )
        dataset.run_once(
            f"foretable_{night.run_id}_load",
            dataset.start_load(uris, name, _job_config(dataset, night, "WRITE_EMPTY")),
            counts=lambda job: _is_of(job, table),
        )


def _upload(dataset: Dataset, night: Night, table: bigquery.Table) -> None:
    config = _job_config(dataset, night, "WRITE_APPEND")

    def upload(numbered: tuple[int, str]) -> None:
        index, path = numbered
        with open(path, "rb") as file:
            dataset.run_once(
                f"foretable_{night.run_id}_load_part{index:05d}",
                dataset.start_upload(file, table.table_id, config),
                counts=lambda job: _is_of(job, table),
            )

    with concurrent.futures.ThreadPoolExecutor(_UPLOADS_AT_ONCE, "upload") as threads:
        list(threads.map(upload, enumerate(_paths(night))))


def _is_of(job: Any, table: bigquery.Table) -> bool:
    """Whether the job's rows are in this very table, not in one of another dataset or one that has gone."""
    return bool(job.destination == table.reference and job.created >= table.created)


def _definition(dataset: Dataset, night: Night, name: str) -> bigquery.Table:
    now = datetime.datetime.now(datetime.UTC)
    table = bigquery.Table(dataset.path(name), schema=[schema_field(column) for column in night.columns])
    table.description = night_comment(NightRecord.of(night, now))
    own = {"foretable_job": label_value(night.job), CONTENT_LABEL: _content(night)}
    table.labels = dataset.labels | {key: label_value(value) for key, value in night.labels.items()} | own
    table.expires = now + datetime.timedelta(days=UNPUBLISHED_DAYS)
    table.clustering_fields = clustering(night.columns) or None
    return table


def _job_config(dataset: Dataset, night: Night, disposition: str) -> bigquery.LoadJobConfig:
    options = bigquery.format_options.ParquetOptions()
    options.enable_list_inference = True  # a list is an ARRAY, not a RECORD of lists
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=[schema_field(column) for column in night.columns],
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        write_disposition=disposition,
        labels=dataset.labels | {key: label_value(value) for key, value in night.labels.items()},
    )
    config.parquet_options = options
    return config


def _paths(night: Night) -> list[str]:
    return [storage.join(night.run_dir, PREDICTIONS_FOLDER, shard.name) for shard in night.manifest.shards]


def _content(night: Night) -> str:
    shards = [shard.sha256 for shard in night.manifest.shards]
    columns = [[column.name, column.type, column.role] for column in night.columns]
    return storage.digest_of([shards, columns])[:16]


def _check_files(night: Night) -> None:
    if len(night.manifest.shards) > _MOST_UPLOADS:
        raise RefusedError(
            f"{len(night.manifest.shards):,} shards are more than the {_MOST_UPLOADS:,} files that can be uploaded to "
            "one table; set workspace to a gs:// folder, or precompute.shard_blocks higher"
        )
    for shard, path in zip(night.manifest.shards, _paths(night), strict=True):
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise refused("shards", f"{path}: not a readable file", "run precompute again") from error
        if size != shard.bytes:
            raise refused(
                "shards", f"{path}: {size:,} bytes, the manifest says {shard.bytes:,}", "run precompute again"
            )
