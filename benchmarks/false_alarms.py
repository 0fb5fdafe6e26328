"""How often the checks of examples cry wolf: `python -m benchmarks.false_alarms --data ../shared/data`.

Each random split of real rows in two stands for two nights on which nothing happened. Held against the first part's
statistics and schema, the second should raise no alarm at the default thresholds, of however few rows it is: halves,
and small nights against all other rows, as an eval split or a quiet day is held against a large train split.
"""

import argparse
import pathlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from beam_jobs.data_checks import categorical_columns
from beam_jobs.schemas import infer_tonight
from benchmarks.report import describe_machine, package_versions
from configs.job import TrainedJob
from configs.loading import load_job
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.ingestion import expected_rows
from transforms.examples.readers.rows import BadRow
from transforms.examples.reading import reader_of
from transforms.examples.schema_rules import bounds_of
from transforms.examples.schema_validation import check_schema
from transforms.examples.statistics import dataset_statistics
from transforms.monitoring.breaches import breach_anomalies
from transforms.monitoring.comparison import FeatureDistance, compare_examples
from transforms.monitoring.readings import dataset_of

ROWS = (0, 2000, 200)
"""Of both halves together; 0 is every row."""
PACKAGES = ("pyarrow", "numpy", "tfx-bsl", "tensorflow-metadata")
_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
NIGHTS = (1000, 100, 50)
"""Of a night that is held against all other rows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the machine, the rates, and what came closest to an alarm; returns 1 if there was one."""
    options = _parse(arguments)
    for described in (describe_machine(), package_versions(PACKAGES)):
        print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    alarms = 0
    for name, job, table in jobs_of(options.data):
        halves = [(rows or table.num_rows) // 2 for rows in options.rows]
        sizes = [(half, half) for half in halves] + [(table.num_rows - rows, rows) for rows in options.nights]
        for before, tonight in sizes:
            if before <= 0 or before + tonight > table.num_rows:
                continue
            generator = np.random.default_rng(options.seed)
            found: Counter[str] = Counter()
            closest: tuple[float, str] = (0.0, "nothing")
            splits = 0
            for _ in range(options.splits):
                lines, distances = split_and_compare(job, table, before, tonight, generator)
                splits += bool(lines)
                found.update(lines)
                for entry in distances:
                    if entry.threshold and entry.measure != "gone":
                        closest = max(
                            closest, (entry.distance / entry.threshold, f"{entry.measure} of {entry.feature}")
                        )
            alarms += splits
            print(
                f"{name}: {tonight:,} rows against {before:,}: alarms in {splits} of {options.splits} splits; "
                f"the closest was {closest[1]}, at {closest[0]:.0%} of its threshold"
            )
            for line, count in found.most_common(options.shown):
                print(f"  {count} times {line}")
    print(f"{alarms} splits with an alarm; bar 0")
    return 1 if alarms else 0


def split_and_compare(
    job: TrainedJob, table: pa.Table, before: int, tonight: int, generator: np.random.Generator
) -> tuple[list[str], tuple[FeatureDistance, ...]]:
    """Draws two disjoint sets of so many rows; as `compare_nights`."""
    order = pa.array(generator.permutation(table.num_rows)[: before + tonight])
    return compare_nights(job, table.take(order[:before]), table.take(order[before:]))


def compare_nights(
    job: TrainedJob, earlier: pa.Table, later: pa.Table
) -> tuple[list[str], tuple[FeatureDistance, ...]]:
    """The kinds of alarm that rows raise against those of an earlier night, and all distances."""
    before = describe(job, earlier)
    schema = infer_tonight(job, before)
    bounds = {feature.name: bounds_of(feature) for feature in schema.feature}
    tonight = describe(job, later, {name: pair for name, pair in bounds.items() if pair is not None})
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


def describe(
    job: TrainedJob, table: pa.Table, bounds: Mapping[str, tuple[float, float]] | None = None
) -> DatasetFeatureStatisticsList:
    """Statistics of rows as those of a train split."""
    summary = SplitSummary(job.label.name, bounds or {})
    for batch in table.combine_chunks().to_batches():
        summary.add(batch)
    return dataset_statistics({"train": summary})


def jobs_of(data: pathlib.Path) -> Iterator[tuple[str, TrainedJob, pa.Table]]:
    """The jobs of the real files in a folder, with all their good rows."""
    taxi = str(data / "chicago_taxi.csv")
    natality = [str(data / f"natality_{split}.csv") for split in ("train", "eval")]
    for job_file, files in (("chicago_taxi", [taxi]), ("natality", natality)):
        source = f"source={{kind: csv, files: [{', '.join(files)}]}}"
        job = load_job(str(_CONFIGS / f"{job_file}.yaml"), [source])
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
    parser.add_argument("--nights", type=int, nargs="*", default=NIGHTS, help="rows of a night against all others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shown", type=int, default=5, help="kinds of alarm to list")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
