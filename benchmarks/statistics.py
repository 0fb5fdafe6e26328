"""What describing examples takes, by the night's own Beam step: `python -m benchmarks.statistics`.

Every size is measured in a process of its own, so that peak memory says whether it grows with the rows. They are made
inside the pipeline, a batch at a time, by column: continuous and discrete numbers, few and many words, some missing.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs.pipelines import run_pipeline
from benchmarks.measuring import peak_bytes_of, read_clocks
from benchmarks.report import describe_machine, package_versions
from transforms.examples.readers.rows import BATCH_ROWS
from transforms.examples.statistics import GenerateStatistics

KINDS = ("continuous", "discrete", "int", "few words", "many words")
LABEL = "column_00"
BAR_ROWS, BAR_COLUMNS, BAR_SECONDS = 1_000_000, 20, 20.0
PACKAGES = ("apache-beam", "pyarrow", "numpy", "tfx-bsl")


@dataclasses.dataclass(frozen=True)
class Described:
    """What one size took.

    Attributes:
        making_seconds: of the processor seconds, those that making the rows takes by itself.
    """

    rows: int
    columns: int
    seconds: float
    cpu_seconds: float
    making_seconds: float
    peak_bytes: int
    bytes_before: int


def make_batch(block: int, rows: int, columns: int) -> tuple[str, pa.RecordBatch]:
    """Rows of one batch, of the train split."""
    generator = np.random.default_rng(block)
    arrays = {}
    for index in range(columns):
        missing = generator.random(rows) < 0.02 * (index % 3)
        kind = KINDS[index % len(KINDS)]
        values: np.ndarray
        if kind == "continuous":
            values = generator.lognormal(size=rows)
        elif kind == "discrete":
            values = generator.integers(0, 60, rows) / 4
        elif kind == "int":
            values = generator.integers(0, 5000, rows)
        else:
            words = np.array([f"word {word}" for word in range(40 if kind == "few words" else 20_000)])
            values = words[np.minimum(generator.geometric(1 / (len(words) / 4), rows), len(words)) - 1]
        arrays[f"column_{index:02d}"] = pa.array(values, mask=missing if index else None)
    return "train", pa.RecordBatch.from_pydict(arrays)


def describe(rows: int, columns: int) -> Described:
    """Describes rows in this process."""
    blocks = [(block, min(BATCH_ROWS, rows - block * BATCH_ROWS)) for block in range(-(-rows // BATCH_ROWS))]
    make_batch(0, 10, columns)
    before = peak_bytes_of(os.getpid())
    making_started = time.process_time()
    for block, size in blocks:
        make_batch(block, size, columns)
    making = time.process_time() - making_started

    def define(root: beam.Pipeline) -> beam.PCollection:
        return (
            root
            | "Blocks" >> beam.Create(blocks, reshuffle=False)
            | "MakeBatches" >> beam.Map(lambda block: make_batch(block[0], block[1], columns))
            | "GenerateStatistics" >> GenerateStatistics(label_name=LABEL)
        )

    started = read_clocks()
    run_pipeline(define)
    ended = read_clocks()
    seconds, cpu_seconds = ended.seconds - started.seconds, ended.cpu_seconds - started.cpu_seconds
    return Described(rows, columns, seconds, cpu_seconds, making, peak_bytes_of(os.getpid()), before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the machine and a line for each size; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=lambda text: int(float(text)), nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.in_process:
        print(json.dumps(dataclasses.asdict(describe(options.rows[0], options.columns))))
        return 0
    for described in (describe_machine(), package_versions(PACKAGES)):
        print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    is_missed = False
    for rows in options.rows:
        command = [sys.executable, "-m", "benchmarks.statistics", "--in-process"]
        command += ["--rows", str(rows), "--columns", str(options.columns)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = Described(**json.loads(output.splitlines()[-1]))
        took = (
            f"{found.seconds:.1f} s ({found.cpu_seconds:.1f} s of processors, {found.making_seconds:.1f} to make them)"
        )
        memory = f"peak memory {found.peak_bytes / 1e6:,.0f} MB, {found.bytes_before / 1e6:,.0f} MB before"
        print(f"{found.rows:>10,} rows x {found.columns} columns: {took}; {memory}", flush=True)
        if (found.rows, found.columns) == (BAR_ROWS, BAR_COLUMNS):
            is_missed |= found.seconds >= BAR_SECONDS
    print(f"bar for {BAR_ROWS:,} rows x {BAR_COLUMNS} columns: {BAR_SECONDS:g} s")
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
