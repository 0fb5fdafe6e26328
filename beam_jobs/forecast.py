"""What a night is going to do, without doing it: what it reads, which stages run, what it writes, what it may cost.

Nothing is written, no query runs, no model is loaded: sizes come from listings, from BigQuery's dry run, from tonight's
plan or the last one, and where there is none yet from the axes that the job file spells out.
"""

import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from beam_jobs import lineage, pricing
from beam_jobs.night import Night, Stage
from beam_jobs.sources import axis_source, example_sources, sources_of
from beam_jobs.vertex.expected_jobs import (
    BATCH_SLOWDOWN,
    SLOWDOWN,
    TRAINING_STARTUP_MINUTES,
    ExpectedJobs,
    expected_jobs,
    vertex_stages,
)
from beam_jobs.vertex.sizing import STARTUP_MINUTES
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import read_marker
from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.job import ForeignJob, Job, TrainedJob
from configs.prices import Prices, load_prices
from configs.sources import BigQuerySource, SampleSource, Source
from configs.space import DistinctAxis, RangeAxis, RowsAxis, ValuesAxis

PRICES = pathlib.Path(__file__).with_name("prices.yaml")
DATAFLOW_STEPS = {"prepare": ("ingest", "transform"), "evaluate": ("evaluate",), "precompute": ("precompute",)}
"""Steps of a stage that are jobs on Dataflow; the others run on the machine that starts the night."""
_VALUE_BYTES = 8  # of a number in BigQuery; a word is about as long
_TRAINING_HERE = "training runs where the night is started, and is not in the price"
_VERTEX_ASSUMPTIONS = (
    f"a machine of Vertex AI starts {TRAINING_STARTUP_MINUTES[0]} to {TRAINING_STARTUP_MINUTES[1]} minutes before it"
    f" trains, {STARTUP_MINUTES[0]} to {STARTUP_MINUTES[1]} before it predicts, and is billed from then on",
    f"it trains up to {SLOWDOWN} times slower than here, and a batch takes up to {BATCH_SLOWDOWN} times what its"
    " signature takes here; disks, logs and the tables of instances are not in the price",
)


def forecast(night: Night, stages: Iterable[Stage]) -> dict[str, Any]:
    """The whole forecast, as plain values.

    Raises:
        ForetableError: a source or the warehouse cannot be looked at.
    """
    actions = stage_actions(night, stages)
    runs = {action["stage"] for action in actions if action["action"] == "run"}
    described = {source: describe_source(source, night) for source in sources_of(night.job)}
    reads, due = list(described.values()), [described[source] for source in due_sources(night.job, runs)]
    table = expected_table(night)
    on_vertex = {action["stage"] for action in actions if action["on_vertex"] and action["stage"] in runs}
    vertex = expected_jobs(night, on_vertex, _example_rows(reads))
    jobs = {
        "dataflow": sum(len(action["dataflow_jobs"]) for action in actions if action["action"] == "run"),
        "bigquery": sum(_bigquery_jobs(night, table, runs).values()),
        "vertex": sum(expected.jobs for expected in vertex),
    }
    return {
        "job": night.job.name,
        "run_id": night.run.run_id,
        "run_date": night.run.run_date.isoformat(),
        "run_dir": night.run.path,
        "reads": reads,
        "stages": actions,
        "writes": table,
        "replaces": _replaces(night, runs),
        "jobs": jobs,
        "vertex": [expected.to_json() for expected in vertex],
        "price": _price(night, due, table, jobs["dataflow"], vertex, runs),
    }


def stage_actions(night: Night, stages: Iterable[Stage]) -> list[dict[str, Any]]:
    """For each stage of the night: whether it runs, and why, or is done."""
    actions: list[dict[str, Any]] = []
    reused = lineage.model_to_reuse(night.job, night.run) if isinstance(night.job, TrainedJob) else None
    on_dataflow = isinstance(night.job.runner, DataflowRunner)
    for stage in stages:
        if not stage.is_needed(night):
            continue
        why = _why_it_runs(stage, night, {action["stage"] for action in actions if action["action"] == "run"})
        steps = DATAFLOW_STEPS.get(stage.name, ()) if on_dataflow else ()
        if stage.name == "prepare" and reused is not None:
            steps = steps[:1]
        on_vertex = stage.name in vertex_stages(night.job)
        if stage.name == "train" and reused is not None and why:
            why = f"takes model {reused.model_version} of {reused.run_date}: no training is due"
            on_vertex = False
        described = {"stage": stage.name, "action": "run" if why else "skip", "why": why or "done before"}
        actions.append(described | {"dataflow_jobs": [] if on_vertex else list(steps), "on_vertex": on_vertex})
    return actions


def _why_it_runs(stage: Stage, night: Night, running: set[str]) -> str:
    """Why the stage's marker does not hold; empty where it does."""
    done = night.run.read_marker(stage.marker)
    if done is None:
        return "not done yet"
    inputs = stage.settings(night)
    for required in stage.reads(night):
        marker = night.run.read_marker(required.marker)
        if required.name in running or marker is None:
            return f"{required.name} runs again"
        inputs[required.name] = marker["digest"]
    return "" if done["inputs"] == inputs else "what it was made from has changed"


def describe_source(source: Source, night: Night) -> dict[str, Any]:
    """What reading a source means: files, bytes, rows as far as that is known without reading."""
    described: dict[str, Any] = {"kind": source.kind, "files": None, "bytes": None, "rows": None, "queried_bytes": 0}
    if isinstance(source, SampleSource):
        return described | {"name": f"synthetic {source.name}", "rows": source.rows, "bytes": 0}
    if isinstance(source, BigQuerySource):
        from beam_jobs.warehouses.bigquery.estimates import source_size
        from beam_jobs.warehouses.bigquery.pins import describe

        size = source_size(source, night.job.endpoints)
        name = {"name": describe(source), "queried_bytes": size.queried_bytes}
        return described | name | {"rows": size.rows, "bytes": size.read_bytes}
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match(list(source.files))
    sizes = {file.path: file.size_in_bytes for match in found for file in match.metadata_list}
    return described | {"name": ", ".join(source.files), "files": len(sizes), "bytes": sum(sizes.values())}


def due_sources(job: Job, runs: set[str]) -> list[Source]:
    """The sources that tonight's stages read: plan reads those of axes, and with a given model all of them."""
    axes = [axis for axis in job.input_space.axes.values() if isinstance(axis, RowsAxis | DistinctAxis)]
    of_plan = {axis_source(axis) for axis in axes if isinstance(axis, RowsAxis) or axis.distinct != "examples"}
    of_prepare = set(example_sources(job)) if isinstance(job, TrainedJob) else set()
    if isinstance(job, TrainedJob) and job.traffic is not None:
        of_prepare.add(job.traffic)
    elif isinstance(job, ForeignJob):
        of_plan.update(example_sources(job))
    due = (of_plan if "plan" in runs else set()) | (of_prepare if "prepare" in runs else set())
    return [source for source in sources_of(job) if source in due]


def _example_rows(reads: list[dict[str, Any]]) -> int | None:
    """Rows of all sources together, as far as they are known; None where none is."""
    known = [read["rows"] for read in reads if read["rows"] is not None]
    return sum(known) if known else None


def expected_table(night: Night) -> dict[str, Any]:
    """Size of tonight's table: as planned, as last planned, or as far as the job file tells."""
    path = night.run.file("plan.json")
    plans = [path] if storage.exists(path) else storage.list_files(night.run.job_folder, "*/*/plan.json")[-1:]
    for plan_path in plans:
        plan = read_marker(plan_path)["plan"]
        told_by = "tonight's plan" if plan_path == path else f"the plan of {plan_path.split('/')[-3]}"
        return {
            "rows": plan["rows"],
            "shards": plan["shards"],
            "bytes": plan["bytes"],
            "columns": len(plan["columns"]),
            "seconds": plan["seconds"],
            "told_by": told_by,
        }
    counts = [_declared_rows(axis) for axis in night.job.input_space.axes.values()]
    rows = math.prod(count for count in counts if count is not None) if None not in counts else None
    told_by = "the job file's axes" if rows is not None else "nobody yet: an axis comes from data or from the model"
    columns = len(night.job.features) + 1
    return {"rows": rows, "shards": None, "bytes": None, "columns": columns, "seconds": None, "told_by": told_by}


def _declared_rows(axis: Any) -> int | None:
    if isinstance(axis, ValuesAxis):
        return len(axis.values)
    if isinstance(axis, RangeAxis):
        low, high = axis.range
        return math.floor((high - low) / axis.step + 1e-9) + 1 + axis.missing
    return None


def _replaces(night: Night, runs: set[str]) -> dict[str, Any]:
    """What readers see now, and will see no more."""
    current = open_warehouse(night.job).current(night.job.name)
    if current is None or "publish" not in runs:
        return {"view": f"{night.job.name}_predictions", "run_date": None, "rows": None}
    return {
        "view": f"{night.job.name}_predictions",
        "run_date": current.run_date.isoformat(),
        "rows": current.rows,
    }


def _bigquery_jobs(night: Night, table: dict[str, Any], runs: set[str]) -> dict[str, int]:
    """Jobs by what they are for: queries of sources, and what publishing runs."""
    due = due_sources(night.job, runs)
    jobs = {"sources": sum(isinstance(source, BigQuerySource) and source.query is not None for source in due)}
    if isinstance(night.job.warehouse, BigQueryWarehouse) and "publish" in runs:
        from beam_jobs.warehouses.bigquery.estimates import publishing_jobs

        uploads = (table["shards"] or 1) if storage.is_local(night.job.workspace) else None
        before = open_warehouse(night.job).current(night.job.name)
        jobs |= publishing_jobs(uploads, night.job.publish.contracts.values(), before)
    return jobs


def _price(
    night: Night,
    reads: list[dict[str, Any]],
    table: dict[str, Any],
    dataflow_jobs: int,
    vertex: list[ExpectedJobs],
    runs: set[str],
) -> dict[str, Any]:
    """A range for each service, its assumptions, and the table of list prices that it comes from."""
    job = night.job
    path = job.prices or PRICES
    prices = load_prices(path)
    on_bigquery = isinstance(job.warehouse, BigQueryWarehouse) and "publish" in runs
    scores_here = "precompute" in runs and "precompute" not in vertex_stages(job)
    rows = table["rows"] or 0
    sizes = pricing.Sizes(
        example_rows=_example_rows(reads) or 0,
        example_bytes=sum(_stored_bytes(read, night) for read in reads) if "prepare" in runs else 0,
        scoring_core_seconds=(table["seconds"] or 0.0) * (os.cpu_count() or 1) if scores_here else 0.0,
        rows=rows,
        shard_bytes=table["bytes"] or 0,
        table_bytes=rows * table["columns"] * _VALUE_BYTES if on_bigquery else 0,
        read_bytes=sum(read["bytes"] or 0 for read in reads if read["kind"] == "bigquery"),
        queried_bytes=sum(read["queried_bytes"] for read in reads),
        dataflow_jobs=dataflow_jobs,
        objects=(table["shards"] or 0) + 100,
        days=job.publish.retention_days,
    )
    costs = pricing.bigquery_costs(sizes, prices)
    if isinstance(job.runner, DataflowRunner):
        costs = [*pricing.dataflow_costs(sizes, job.runner, prices), *costs]
    if not storage.is_local(job.workspace) and runs:
        costs += pricing.storage_costs(sizes, prices)
    for expected in vertex:
        costs += pricing.vertex_costs(expected, prices)
    listed = [prices.dataflow, prices.bigquery, prices.storage, *([prices.vertex] if prices.vertex and vertex else [])]
    unknown = [f"rows of {read['name']}" for read in reads if read["rows"] is None]
    unknown += [problem for expected in vertex for problem in _vertex_unknown(expected, prices)]
    return {
        "currency": prices.currency,
        "low": sum(cost.low for cost in costs),
        "high": sum(cost.high for cost in costs),
        "costs": [vars(cost) for cost in costs],
        "is_complete": table["rows"] is not None and table["bytes"] is not None and not unknown,
        "not_known": [
            *(["the table's size"] if table["bytes"] is None else []),
            *unknown,
        ],
        "prices": str(path),
        "as_of": min(service.as_of for service in listed).isoformat(),
        "pages": [service.page for service in listed],
        "assumptions": [
            f"list prices of {prices.region}, without discounts, taxes and network between regions",
            f"a Dataflow job keeps one to all of its workers {pricing.FEWEST_MINUTES} to {pricing.MOST_MINUTES} minutes"
            " beside its work",
            f"a worker's core is as fast as one here to {pricing.SLOWDOWN} times slower",
            "jobs in BigQuery are those of a night that nothing is wrong with; its report asks a few more",
            f"publishing reads the table {pricing.SCANS[0]} to {pricing.SCANS[1]} times",
            *(_VERTEX_ASSUMPTIONS if vertex else ()),
            *(() if "train" in vertex_stages(job) else (_TRAINING_HERE,)),
        ],
    }


def _stored_bytes(read: dict[str, Any], night: Night) -> int:
    """Of a source's rows in the run directory: as many as where they come from, or as their numbers take."""
    return int(read["bytes"] or (read["rows"] or 0) * len(night.job.features) * _VALUE_BYTES)


def _vertex_unknown(expected: ExpectedJobs, prices: Prices) -> list[str]:
    if pricing.vertex_machine_hour(expected, prices) is None:
        return [f"an hour of {pricing.machine_text(expected)}"]
    return [f"hours of the {expected.kind} ({expected.basis})"] if expected.machine_hours is None else []
