"""Small finished nights for the tests of warehouses and lookups: real axes, real shards, without a model."""

import dataclasses
import datetime
import hashlib
import itertools
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.warehouses.base import Night
from transforms.scoring.shards import Fingerprint, TableColumn, make_manifest, table_schema, write_shard
from transforms.space.blocks import ShardRange

BLOCK_ROWS = 4
DAY = datetime.date(2024, 1, 1)
COLUMNS = (
    TableColumn("sex", "string", "key", "Sex of the child"),
    TableColumn("weeks", "float", "key", "Weeks of gestation"),
    TableColumn("children", "int", "key"),
    TableColumn("weight", "float", "output", "Predicted: weight"),
)
AXES = {
    "sex": {"sex": ["True", "False", None]},
    "weeks": {"weeks": [38.0, 38.25, 38.5, None]},
    "children": {"children": [1, 2]},
}


def points(axes):
    """Every point of the space as a dict, in row-major order."""
    tables = [[dict(zip(axis, row, strict=True)) for row in zip(*axis.values(), strict=True)] for axis in axes.values()]
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*tables)]


def prediction(position, night_value=0.0):
    """A number that differs for each point and night, exact in float32."""
    return position / 8 + 1000 * night_value


def make_night(
    folder,
    job="natality",
    run_date=DAY,
    run_id="a1",
    axes=AXES,
    columns=COLUMNS,
    exclude=None,
    is_excluded=lambda point: False,
    night_value=0.0,
    rewrite=lambda rows: rows,
    intervals_of=(),
    shard_blocks=2,
    **settings,
):
    """Writes axes and shards under `folder`, as plan and precompute do, and returns the night to publish.

    Args:
        intervals_of: axes whose rows are intervals.
        rewrite: spoils the rows of the table: `(position, row)` pairs, which go to the shard of their position.
    """
    run_dir = pathlib.Path(folder, job, run_date.isoformat(), run_id)
    types = {column.name: column.arrow_type for column in columns if column.role != "output"}
    (run_dir / "axes").mkdir(parents=True)
    axis_paths = []
    for index, (name, values) in enumerate(axes.items()):
        axis_paths.append(str(run_dir / "axes" / f"{index:02d}-{name}.parquet"))
        table = pa.table({c: pa.array(v, types[c]) for c, v in values.items()})
        if name in intervals_of:
            representatives = pa.array([0.0] * table.num_rows)  # of no use to a reader, but there
            described = json.dumps({"name": name, "kind": "buckets"})
            table = table.append_column(name, representatives).replace_schema_metadata({"foretable": described})
        pq.write_table(table, axis_paths[-1])
    every = points(axes)
    rows = [
        (
            position,
            point
            | {column.name: _output(column, position, night_value) for column in columns if column.role == "output"},
        )
        for position, point in enumerate(every)
        if not is_excluded(point)
    ]
    planned = len(rows)
    space_hash = hashlib.sha256(repr((axes, exclude)).encode()).hexdigest()
    fingerprint = Fingerprint(f"model-{run_id}", "transform", space_hash)
    shard_points = shard_blocks * BLOCK_ROWS
    count = -(-len(every) // shard_points)
    (run_dir / "predictions").mkdir()
    records = []
    written = rewrite(rows)
    for index in range(count):
        start, stop = index * shard_points, min((index + 1) * shard_points, len(every))
        blocks = -(-(stop - start) // BLOCK_ROWS)
        shard = ShardRange(index, count, index * shard_blocks, blocks, start, stop)
        batches = [
            pa.RecordBatch.from_pylist(
                [row for position, row in written if block <= position < block + BLOCK_ROWS], table_schema(columns)
            )
            for block in range(start, stop, BLOCK_ROWS)
        ]
        records.append(write_shard(str(run_dir / "predictions"), shard, columns, batches, fingerprint))
    manifest = make_manifest(records, columns, fingerprint)
    (run_dir / "manifest.json").write_text("{}")
    return Night(
        job=job,
        run_date=run_date,
        run_id=run_id,
        run_dir=str(run_dir),
        manifest=type(manifest)(**{**vars(manifest), "block_rows": BLOCK_ROWS}),
        axes=tuple(axis_paths),
        planned_rows=planned,
        excluded=len(every) - planned,
        exclude=exclude,
        **{"description": "Expected weight", "metrics": {"mae": 0.75}, **settings},
    )


def _output(column, position, night_value):
    value = prediction(position, night_value)
    return str(value) if column.type == "string" else value


def publish(warehouse, night):
    """The three steps; the night knows what readers saw when it came."""
    before = warehouse.before(night)
    warehouse.load(night)
    warehouse.verify(night)
    return warehouse.switch(dataclasses.replace(night, compared_with=before.table if before is not None else None))
