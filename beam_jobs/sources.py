"""One way to read a source of any kind: what a stage opens to read, and what a night's id is made of.

A BigQuery source is pinned when a run first opens it, in `sources/` of the run directory: every stage of that run then
reads the same rows, whoever writes to the table meanwhile. The run's id was made a little earlier; what was written in
between is read, and gives the next run another id.
"""

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory
from configs.cloud import Endpoints
from configs.features import ColumnType
from configs.job import ForeignJob, Job, TrainedJob
from configs.sources import BigQuerySource, Source, SourceSplit
from configs.space import DistinctAxis, RowsAxis

if TYPE_CHECKING:
    from beam_jobs.warehouses.bigquery.pins import Pin
    from transforms.examples.reading import SourceReader

_PIN_LASTS = datetime.timedelta(hours=40)
"""Of the 48 hours that every table can be read back, whatever its dataset's settings."""


def example_sources(job: Job) -> tuple[Source, ...]:
    """The sources of the examples, which decide what a model learns."""
    sources: list[Source] = []
    if isinstance(job, TrainedJob | ForeignJob) and job.source is not None:
        sources.append(job.source)
    if isinstance(job, TrainedJob) and isinstance(job.split, SourceSplit):
        sources.append(job.split.eval)
    return tuple(sources)


def sources_of(job: Job) -> tuple[Source, ...]:
    """The sources that decide what the job publishes, each once; its traffic grows all the time and is none."""
    sources = list(example_sources(job))
    if isinstance(job, TrainedJob) and job.traffic is not None:
        sources.append(job.traffic)
    for axis in job.input_space.axes.values():
        if isinstance(axis, RowsAxis) or (isinstance(axis, DistinctAxis) and axis.distinct != "examples"):
            sources.append(axis_source(axis))
    return tuple(dict.fromkeys(sources))


def axis_source(axis: DistinctAxis | RowsAxis) -> Source:
    """The source that the axis' rows are read from; BigQuery itself finds the distinct ones of its own."""
    if isinstance(axis, RowsAxis):
        return axis.rows
    assert axis.distinct != "examples"
    if isinstance(axis.distinct, BigQuerySource):
        from beam_jobs.warehouses.bigquery.source import distinct_source

        return distinct_source(axis.distinct, axis.columns)
    return axis.distinct


def source_fingerprint(source: Source, endpoints: Endpoints) -> str:
    """SHA-256 that changes when the source's rows may have.

    Raises:
        RefusedError: a file or table is not there.
    """
    if isinstance(source, BigQuerySource):
        from beam_jobs.warehouses.bigquery.pins import bigquery_fingerprint

        return bigquery_fingerprint(source, endpoints)
    from transforms.examples.reading import reader_of

    return reader_of(source).fingerprint()


def open_source(
    source: Source, columns: Mapping[str, ColumnType], run: RunDirectory, endpoints: Endpoints
) -> "SourceReader":
    """The reader of a source for one run.

    Args:
        columns: that will be read; BigQuery sends no others.

    Raises:
        RefusedError: the source is not there, or lacks a column.
    """
    if isinstance(source, BigQuerySource):
        from beam_jobs.warehouses.bigquery.source import open_bigquery

        return open_bigquery(source, _pin(source, run, endpoints), columns, endpoints)
    from transforms.examples.reading import reader_of

    return reader_of(source)


def _pin(source: BigQuerySource, run: RunDirectory, endpoints: Endpoints) -> "Pin":
    from beam_jobs.warehouses.bigquery.pins import Pin, is_there, pin_bigquery

    path = run.file("sources", f"{hashlib.sha256(source.model_dump_json().encode()).hexdigest()[:12]}.json")
    if storage.exists(path):
        kept = Pin(**storage.read_json(path))
        if datetime.datetime.now(datetime.UTC) - kept.pinned < _PIN_LASTS and is_there(kept, source, endpoints):
            return kept
    pin = pin_bigquery(source, endpoints, run.run_id)
    storage.make_folder(run.file("sources"))
    storage.write_json(path, dataclasses.asdict(pin))
    return pin
