"""The checks of one night against another in DuckDB: `python -m benchmarks.changes [--rows ROWS]`, by default 1e7.

Two nights of a synthetic space are written as shards, then checked in a process of its own for each way: rows of one
place side by side (both nights have one space), rows joined by key (the spaces differ), and a contract of each kind.
"""

import argparse
import datetime
import json
import math
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_jobs.warehouses.base import Night, NightRecord
from beam_jobs.warehouses.changes import ComparedOutput, Comparison
from beam_jobs.warehouses.duckdb import checks as duckdb_checks
from benchmarks.measuring import peak_bytes_of
from benchmarks.report import describe_machine, package_versions
from configs.contracts import AllowedValuesContract, Contract, MonotoneContract, NotNullContract, RangeContract
from transforms.scoring.shards import Fingerprint, TableColumn, make_manifest, write_shard
from transforms.space.blocks import BLOCK_ROWS, ShardRange

PREDICTIONS_FOLDER, SHARD_BLOCKS = "predictions", 16
BAR_ROWS, BAR_SECONDS, BAR_GB = 10_000_000, 15.0, 2.0
PACKAGES = ("duckdb", "pyarrow", "numpy")
_SEX, _PLURALITY, _AGES = ("False", "True", "Unknown", None), ("Single(1)", "Twins(2)", "Triplets(3)", None), 200
_COLUMNS = (
    TableColumn("is_male", "string", "key"),
    TableColumn("plurality", "string", "key"),
    TableColumn("mother_age", "float", "key"),
    TableColumn("gestation_weeks", "float", "key"),
    TableColumn("weight_pounds", "float", "output"),
)
_COMPARISON = Comparison(
    (ComparedOutput("weight_pounds", ("weight_pounds",), 0.5),),
    (("is_male",), ("plurality",), ("is_male", "plurality")),
)
_CONTRACTS: dict[str, Contract] = {
    "range": RangeContract(range={"weight_pounds": (0.0, 20.0)}),
    "not_null": NotNullContract(not_null=("weight_pounds",)),
    "allowed_values": AllowedValuesContract(allowed_values={"weight_pounds": (1.0, 2.0)}),
    "monotone": MonotoneContract.model_validate(
        {"monotone": {"weight_pounds": "increasing", "in": "gestation_weeks", "eps": 0.1}}
    ),
}


def make_night(folder: str, points: int, run_id: str, space_hash: str) -> Night:
    """Writes a night's shards; tonight's answers differ a little everywhere, and by a pound in each 100th row."""
    weeks = math.ceil(points / (len(_SEX) * len(_PLURALITY) * _AGES))
    axes = [
        pa.array(_SEX),
        pa.array(_PLURALITY),
        pa.array([12 + age / 4 for age in range(_AGES - 1)] + [None]),
        pa.array([17 + week * 30 / weeks for week in range(weeks - 1)] + [None]),
    ]
    rows, fingerprint = math.prod(map(len, axes)), Fingerprint(f"model-{run_id}", "transform", space_hash)
    run_dir = pathlib.Path(folder, run_id)
    (run_dir / PREDICTIONS_FOLDER).mkdir(parents=True)
    blocks = -(-rows // BLOCK_ROWS)
    count = -(-blocks // SHARD_BLOCKS)
    records = []
    for index in range(count):
        first = index * SHARD_BLOCKS
        in_shard = min(SHARD_BLOCKS, blocks - first)
        starts = [block * BLOCK_ROWS for block in range(first, first + in_shard)]
        stop = min(starts[-1] + BLOCK_ROWS, rows)
        batches = (_block(start, min(start + BLOCK_ROWS, rows), axes, run_id) for start in starts)
        shard = ShardRange(index, count, first, in_shard, starts[0], stop)
        folder_of = str(run_dir / PREDICTIONS_FOLDER)
        records.append(write_shard(folder_of, shard, _COLUMNS, batches, fingerprint))
    manifest = make_manifest(records, _COLUMNS, fingerprint)
    return Night("changes", datetime.date(2026, 1, 5), run_id, str(run_dir), manifest, (), rows)


def _block(start: int, stop: int, axes: list[pa.Array], run_id: str) -> pa.RecordBatch:
    position = np.arange(start, stop)
    indices: list[np.ndarray] = []
    for axis in reversed(axes):
        position, index = np.divmod(position, len(axis))
        indices.insert(0, index)
    weight = 3 + indices[0] / 8 + indices[1] / 4 + indices[2] / 256 + indices[3] / 1024
    if run_id == "tonight":
        rng = np.random.default_rng(start)
        weight = weight + rng.normal(0, 0.05, len(weight)) + (rng.random(len(weight)) < 0.01)
    columns = [axis.take(pa.array(index)) for axis, index in zip(axes, indices, strict=True)]
    columns = [column.dictionary_encode() if pa.types.is_string(column.type) else column for column in columns]
    columns.append(pa.array(weight.astype(np.float32)))
    return pa.RecordBatch.from_arrays(columns, names=[column.name for column in _COLUMNS])


def _shards(night: Night) -> list[str]:
    folder = pathlib.Path(night.run_dir, PREDICTIONS_FOLDER)
    return [str(folder / shard.name) for shard in night.manifest.shards]


def check(way: str, night: Night, before: Night) -> None:
    """Checks the night in one way, and prints what that took in a line of JSON; exits with 1 if it is over the bar."""
    started, cpu_started = time.perf_counter(), time.process_time()
    if way == "contracts":
        violations = duckdb_checks.check_contracts(night, _shards(night), _CONTRACTS)
        found = {violation.contract: violation.broken for violation in violations}
    else:
        record = NightRecord.of(before, datetime.datetime.now(datetime.UTC))
        changes = duckdb_checks.compare(night, _shards(night), record, _shards(before), _COMPARISON)
        overall = changes.overall
        assert changes.joined_by == way, changes.joined_by
        found = {"common": overall.common, "changed": overall.outputs["weight_pounds"].changed}
    took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    took["peak_gb"] = peak_bytes_of(os.getpid()) / 1e9
    print(json.dumps({"check": way} | {name: round(value, 2) for name, value in took.items()} | found), flush=True)
    is_over = took["seconds"] >= BAR_SECONDS or took["peak_gb"] >= BAR_GB
    sys.exit(int(night.manifest.rows >= BAR_ROWS and is_over))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the machine, a line for each way, and the bar; 1 where it is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=BAR_ROWS)
    rows = parser.parse_args(arguments).rows
    for described in (describe_machine(), package_versions(PACKAGES)):
        print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    context, is_missed = multiprocessing.get_context("spawn"), False
    with tempfile.TemporaryDirectory() as folder:
        tonight, before = (make_night(folder, rows, name, "one space") for name in ("tonight", "before"))
        other = make_night(folder, rows, "other", "another space")
        print(f"{tonight.manifest.rows:,} rows a night", flush=True)
        for way, earlier in (("place", before), ("key", other), ("contracts", before)):
            process = context.Process(target=check, args=(way, tonight, earlier))
            process.start()
            process.join()
            is_missed |= process.exitcode != 0
    print(f"bar for {BAR_ROWS:,} rows: {BAR_SECONDS:g} s and {BAR_GB:g} GB a check")
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
