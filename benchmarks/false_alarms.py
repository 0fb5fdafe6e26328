"""How often the checks of examples cry wolf: `python -m benchmarks.false_alarms --data ../shared/data`.

Each split of real rows into two random halves stands for two nights on which nothing happened. Held against the first
half's statistics and schema, the second should raise no alarm at the default thresholds, of however few rows it is.
"""

import argparse
import pathlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_jobs.data_checks import categorical_columns
from beam_jobs.schemas import infer_tonight
from configs.job import TrainedJob
from configs.loading import load_job
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.ingestion import expected_rows
from transforms.examples.readers.rows import BadRow
from transforms.examples.reading import reader_of
from transforms.examples.schema_validation import check_schema
from transforms.examples.statistics import dataset_statistics
from transforms.monitoring.breaches import breach_anomalies
from transforms.monitoring.comparison import FeatureDistance, compare_examples
from transforms.monitoring.readings import dataset_of

ROWS = (0, 2000, 200)
"""Of both halves together; 0 is every row."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the rates, and what came closest to an alarm; returns 1 if there was one."""
    options = _parse(arguments)
    alarms = 0
    for name, job, table in _jobs(options.data):
        for rows in options.rows:
            if rows > table.num_rows:
                continue
            generator = np.random.default_rng(options.seed)
            found: Counter[str] = Counter()
            closest: tuple[float, str] = (0.0, "nothing")
            splits = 0
            for _ in range(options.splits):
                lines, distances = split_and_compare(job, table, rows or table.num_rows, generator)
                splits += bool(lines)
                found.update(lines)
                for entry in distances:
                    if entry.threshold and entry.measure != "gone":
                        closest = max(
                            closest, (entry.distance / entry.threshold, f"{entry.measure} of {entry.feature}")
                        )
            alarms += splits
            print(
                f"{name}: halves of {(rows or table.num_rows) // 2:,} rows: alarms in {splits} of {options.splits} "
                f"splits; the closest was {closest[1]}, at {closest[0]:.0%} of its threshold"
            )
            for line, count in found.most_common(options.shown):
                print(f"  {count} times {line}")
    return 1 if alarms else 0


def split_and_compare(
    job: TrainedJob, table: pa.Table, rows: int, generator: np.random.Generator
) -> tuple[list[str], tuple[FeatureDistance, ...]]:
    """Splits `rows` random rows in two; gives the kinds of alarm that the second half raises, and all distances."""
    order = generator.permutation(table.num_rows)[:rows]
    halves = []
    for part in (order[: rows // 2], order[rows // 2 :]):
        summary = SplitSummary(job.label.name)
        for batch in table.take(pa.array(part)).combine_chunks().to_batches():
            summary.add(batch)
        halves.append(dataset_statistics({"train": summary}))
    before, tonight = halves
    schema = infer_tonight(job, before)
    distances = compare_examples(
        dataset_of(tonight, "train"),
        dataset_of(before, "train"),
        job.compared_columns,
        categorical_columns(job),
        job.drift,
        ("tonight", "before"),
        label=job.label.name,
    )
    anomalies = [
        *check_schema(schema, tonight, infer_tonight(job, tonight)).anomalies,
        *breach_anomalies([entry for entry in distances if entry.breached], "drift"),
    ]
    return [f"{anomaly.column}: {anomaly.short}" for anomaly in anomalies], distances


def _jobs(data: pathlib.Path) -> Iterator[tuple[str, TrainedJob, pa.Table]]:
    taxi = str(data / "chicago_taxi.csv")
    natality = [str(data / f"natality_{split}.csv") for split in ("train", "eval")]
    for job_file, files in (("chicago_taxi", [taxi]), ("natality", natality)):
        source = f"source={{kind: csv, files: [{', '.join(files)}]}}"
        job = load_job(f"configs/{job_file}.yaml", [source])
        assert isinstance(job, TrainedJob), job_file
        yield job_file, job, read_examples(job)


def read_examples(job: TrainedJob) -> pa.Table:
    """All good rows of the job's source, with its label."""
    expected = expected_rows(job.read_columns, job.features, job.label)
    reader = reader_of(job.source)  # type: ignore[arg-type]  # files, here
    pieces = [piece for part in reader.parts() for piece in reader.read(part, expected)]
    return pa.Table.from_batches([piece for piece in pieces if not isinstance(piece, BadRow)])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"), help="folder of the files")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS, help="of both halves together; 0 is every row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shown", type=int, default=5, help="kinds of alarm to list")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
