"""BigQuery, measured against a server on loopback that this starts: `python -m benchmarks.bigquery {read,publish}`.

`read` is rows a second through our reader in a Beam pipeline, beside Beam's own `ReadFromBigQuery(DIRECT_READ)`, each
in a process of its own, in turn. `publish` is the CPU time that our process spends on a night's rows while the server
loads and checks them. The server is the tests' twin, and so is its environment: `make twins`, or `FORETABLE_TWINS`.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from typing import Any

from benchmarks.report import describe_machine, package_versions, short
from configs.cloud import BigQueryWarehouse, Endpoints
from configs.features import ColumnType

PROJECT, TABLE = "proj", "proj.benchmark.natality"
COLUMNS: dict[str, ColumnType] = {
    "is_male": "string",
    "mother_age": "float",
    "plurality": "string",
    "gestation_weeks": "float",
    "weight_pounds": "float",
    "hashmonth": "int",
}
READ_BAR, PUBLISH_BAR_SECONDS = 5.0, 2.0
AXIS_ROWS = 250
PACKAGES = ("apache-beam", "google-cloud-bigquery", "google-cloud-bigquery-storage", "pyarrow")
READERS = {
    "ours": "BigQuery source, rows in content order: Arrow to Arrow",
    "beam_avro": "ReadFromBigQuery(method=DIRECT_READ): a dict a row, from Avro; Beam's default",
    "beam_arrow": "ReadFromBigQuery(method=DIRECT_READ, use_native_datetime=True): a dict a row, from Arrow",
}


@contextlib.contextmanager
def running_servers(folder: pathlib.Path) -> Iterator[Endpoints]:
    """Runs BigQuery, Cloud Storage and a metadata server until the block ends, and names them in the environment."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
    twins = {name: importlib.import_module(f"twins.{name}") for name in ("metadata", "storage", "bigquery")}
    for name in ("storage", "bigquery"):
        (folder / name).mkdir()
    with (
        twins["metadata"].metadata_server() as metadata,
        twins["storage"].storage_server(folder / "storage") as storage,
        twins["bigquery"].bigquery_server(folder / "bigquery", storage) as bigquery,
    ):
        os.environ.update(metadata.environment | {"STORAGE_EMULATOR_HOST": storage.endpoint})
        yield Endpoints(
            bigquery=bigquery.endpoint, bigquery_storage=bigquery.storage_endpoint, storage=storage.endpoint
        )


def measure_read(reader: str, endpoints: Endpoints) -> dict[str, float]:
    """Reads the table through a pipeline of `READERS`; its rows, and the seconds from its building to its end."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    make = _our_batches if reader == "ours" else _beam_rows
    options = PipelineOptions(["--runner=FnApiRunner", f"--project={PROJECT}", "--temp_location=gs://bkt/tmp"])
    make(reader, endpoints)  # so that what is imported late is imported
    with tempfile.TemporaryDirectory() as folder:
        counted = pathlib.Path(folder, "rows")
        started, cpu_started = time.monotonic(), _cpu_seconds()
        with beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | make(reader, endpoints)
                | "Count" >> beam.CombineGlobally(sum)
                | "Write" >> beam.Map(lambda rows: counted.write_text(str(rows)))
            )
        seconds, cpu_seconds = time.monotonic() - started, _cpu_seconds() - cpu_started
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "rows": int(counted.read_text())}


def _our_batches(_: str, endpoints: Endpoints) -> Any:
    import apache_beam as beam

    from beam_jobs.warehouses.bigquery.pins import pin_bigquery
    from beam_jobs.warehouses.bigquery.source import open_bigquery
    from configs.sources import BigQuerySource
    from transforms.examples.readers.rows import Expected
    from transforms.examples.reading import EXAMPLES, ReadExamples

    class CountBatches(beam.PTransform):
        def expand(self, root: Any) -> Any:
            source = BigQuerySource(kind="bigquery", table=TABLE)
            reader = open_bigquery(source, pin_bigquery(source, endpoints, "benchmark"), COLUMNS, endpoints)
            read = root | "Read" >> ReadExamples(reader, Expected(COLUMNS))
            return read[EXAMPLES] | "BatchRows" >> beam.Map(lambda examples: examples.batch.num_rows)

    return CountBatches()


def _beam_rows(reader: str, endpoints: Endpoints) -> Any:
    import apache_beam as beam

    _let_beam_reach(endpoints)

    class CountRows(beam.PTransform):
        def expand(self, root: Any) -> Any:
            rows = root | "Read" >> beam.io.ReadFromBigQuery(
                table=TABLE.replace(".", ":", 1),
                method="DIRECT_READ",
                selected_fields=list(COLUMNS),
                use_native_datetime=reader == "beam_arrow",
            )
            return rows | "One" >> beam.Map(lambda row: 1)

    return CountRows()


def _let_beam_reach(endpoints: Endpoints) -> None:
    """Points Beam's BigQueryIO at the server: its three clients have fixed addresses, and each its own credentials."""
    import apache_beam.io.gcp.bigquery as bigquery_io
    import google.auth
    from apache_beam.internal.gcp import auth
    from apache_beam.io.gcp.internal.clients.bigquery import bigquery_v2_client
    from google.auth.credentials import AnonymousCredentials

    from beam_jobs.warehouses.bigquery.clients import read_client

    anonymous = AnonymousCredentials()
    auth._Credentials._credentials_init = True
    auth._Credentials._credentials = auth._ApitoolsCredentialsAdapter(anonymous)
    google.auth.default = lambda *_, **__: (anonymous, PROJECT)
    bigquery_v2_client.BigqueryV2.BASE_URL = f"{endpoints.bigquery}/bigquery/v2/"
    os.environ["BIGQUERY_EMULATOR_HOST"] = endpoints.bigquery or ""
    reached = {"BigQueryReadClient": lambda: read_client(endpoints)}
    bigquery_io.bq_storage = types.SimpleNamespace(**vars(bigquery_io.bq_storage) | reached)


def load_table(rows: int, endpoints: Endpoints, folder: pathlib.Path) -> None:
    """Loads a sample of `rows` rows into the table."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from google.cloud import bigquery

    from beam_jobs.warehouses.bigquery.clients import bigquery_client
    from transforms.examples.readers.natality_sample import generate_natality
    from transforms.examples.readers.rows import BATCH_ROWS

    blocks = (pa.table(generate_natality(0, block)) for block in range(-(-rows // BATCH_ROWS)))
    path = folder / "natality.parquet"
    pq.write_table(pa.concat_tables(blocks).slice(0, rows), path)
    client = bigquery_client(PROJECT, endpoints)
    client.create_dataset(TABLE.rpartition(".")[0])
    with path.open("rb") as file:
        config = bigquery.LoadJobConfig(source_format="PARQUET")
        client.load_table_from_file(file, f"{TABLE}_loaded", job_config=config).result()
    client.query(f"CREATE TABLE `{TABLE}` AS SELECT * FROM `{TABLE}_loaded`").result()


def measure_publish(rows: int, endpoints: Endpoints) -> dict[str, float]:
    """Publishes a night of about `rows` rows from `gs://`; the CPU seconds that each step takes in this process."""
    from beam_jobs.warehouses.bigquery.warehouse import BigQueryWarehouse as Warehouse

    night = _write_night(rows)
    warehouse = Warehouse(
        BigQueryWarehouse(kind="bigquery", project=PROJECT, dataset="benchmark"), endpoints, retention_days=30
    )
    found: dict[str, float] = {"rows": night.manifest.rows}
    started = time.monotonic()
    for step in (warehouse.load, warehouse.verify, warehouse.switch):
        before = _cpu_seconds()
        step(night)
        found[step.__name__] = _cpu_seconds() - before
    return found | {"seconds": time.monotonic() - started}


def _write_night(rows: int) -> Any:
    import numpy as np
    import pyarrow as pa

    from beam_jobs.warehouses.base import Night
    from transforms.scoring.shards import Fingerprint, TableColumn, make_manifest, table_schema, write_shard
    from transforms.space.axes import Axis
    from transforms.space.blocks import shard_ranges
    from transforms.space.input_space import InputSpace, save_axes

    run_dir = f"gs://bkt/benchmark/{rows}"
    sizes = {"row": -(-rows // (AXIS_ROWS * AXIS_ROWS)), "week": AXIS_ROWS, "age": AXIS_ROWS}
    space = InputSpace(
        tuple(Axis(name, "values", pa.table({name: pa.array(np.arange(size))})) for name, size in sizes.items())
    )
    columns = (*(TableColumn(name, "int", "key") for name in sizes), TableColumn("weight", "float", "output"))
    schema = table_schema(columns)

    def blocks(shard: Any) -> Iterator[pa.RecordBatch]:
        for start, stop in shard.block_ranges():
            keys = space.columns_of(space.points_between(start, stop))
            predictions = pa.array(np.sin(np.arange(start, stop)), pa.float32())
            yield pa.RecordBatch.from_arrays([*keys.columns, predictions], schema=schema)

    fingerprint = Fingerprint("model", "transform", space.digest())
    records = [
        write_shard(f"{run_dir}/predictions", shard, columns, blocks(shard), fingerprint)
        for shard in shard_ranges(space.cardinality, 16)
    ]
    return Night(
        job="benchmark",
        run_date=datetime.date(2026, 1, 5),
        run_id="a1",
        run_dir=run_dir,
        manifest=make_manifest(records, columns, fingerprint),
        axes=tuple(save_axes(space, f"{run_dir}/axes")),
        planned_rows=space.cardinality,
    )


def _cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> int:
    """Runs one benchmark and prints what it found; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bigquery", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("read", "publish"))
    parser.add_argument("--rows", type=lambda text: int(float(text)), help="default 1e6 to read, 1e7 to publish")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-process", help=argparse.SUPPRESS)  # what a child process measures, and where
    options = parser.parse_args()
    rows = options.rows or {"read": 10**6, "publish": 10**7}[options.what]
    if options.in_process:
        asked = json.loads(options.in_process)
        endpoints = Endpoints(**asked["endpoints"])
        found = measure_read(asked["reader"], endpoints) if options.what == "read" else measure_publish(rows, endpoints)
        print(json.dumps(found))
        return 0
    for described in (describe_machine(), package_versions(PACKAGES)):
        print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder, running_servers(pathlib.Path(folder)) as endpoints:
        load_table(rows if options.what == "read" else 1, endpoints, pathlib.Path(folder))
        return (_compare_readers if options.what == "read" else _judge_publish)(rows, options.rounds, endpoints)


def _compare_readers(rows: int, rounds: int, endpoints: Endpoints) -> int:
    rates: dict[str, list[float]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader, found in rates.items():
            read = _in_child("read", rows, endpoints, reader=reader)
            assert read["rows"] == rows, read
            found.append(rows / read["seconds"])
    medians = {reader: statistics.median(found) for reader, found in rates.items()}
    for reader, rate in medians.items():
        print(f"{reader:<11} {short(rate):>6} rows/s of {len(COLUMNS)} columns  {READERS[reader]}")
    factors = {reader: medians["ours"] / medians[reader] for reader in ("beam_avro", "beam_arrow")}
    default, faster = factors["beam_avro"], factors["beam_arrow"]
    print(f"{default:.1f} x Beam's default, bar {READ_BAR:g} x; {faster:.1f} x its faster one")
    return int(default < READ_BAR)


def _judge_publish(rows: int, rounds: int, endpoints: Endpoints) -> int:
    found = _in_child("publish", rows, endpoints)
    steps = {step: found[step] for step in ("load", "verify", "switch")}
    total = sum(steps.values())
    shown = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps.items())
    print(f"{found['rows']:,.0f} rows published in {found['seconds']:.1f} s")
    print(f"CPU of our process {total:.2f} s ({shown}); bar {PUBLISH_BAR_SECONDS:g} s")
    return int(total >= PUBLISH_BAR_SECONDS)


def _in_child(what: str, rows: int, endpoints: Endpoints, **asked: str) -> dict[str, float]:
    work = json.dumps({"endpoints": endpoints.model_dump(), **asked})
    command = [sys.executable, "-m", "benchmarks.bigquery", what, f"--rows={rows}", f"--in-process={work}"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise RuntimeError(f"{what} {asked}: {child.stderr[-2000:]}")
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
