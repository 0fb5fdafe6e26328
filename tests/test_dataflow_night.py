"""The whole night: BigQuery in, Dataflow, `gs://`, BigQuery out; beside the laptop's night on the same rows."""

import base64
import bz2
import contextlib
import dataclasses
import os
import re
import time
import zlib

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from bigquery_tables import BigQuery
from cloud_nights import CloudWorkspace, shard_hashes
from conftest import FIRST_DATE, SMALL, Workspace
from twins.dataflow import dataflow_server

from beam_jobs.workspace import cloud_storage, storage
from transforms.examples.readers.natality_sample import generate_natality
from transforms.scoring.shards import Fingerprint, write_shard
from transforms.space.blocks import shard_ranges
from transforms.space.planning import Plan

pytestmark = pytest.mark.slow

RUNNER = "runner={kind: dataflow, project: proj, region: us-central1, sdk_container_image: 'here/foretable:1'}"
STEPS = ("ingest", "transform", "evaluate", "precompute")


@pytest.fixture(scope="module")
def births(cloud, tmp_path_factory):
    """The job's source: 4,000 rows in a table of the BigQuery twin."""
    rows = pa.table(generate_natality(seed=3, block=0)).slice(0, 4000)
    table = BigQuery(cloud.bigquery).load("births", rows, tmp_path_factory.mktemp("births")).table
    return f"source={{kind: bigquery, table: {table}}}"


@pytest.fixture(scope="module")
def laptop(cloud, births, tmp_path_factory):
    """A night that Beam ran in its own process, published in DuckDB."""
    twins = (
        f"endpoints={{bigquery: '{cloud.bigquery.endpoint}', bigquery_storage: '{cloud.bigquery.storage_endpoint}'}}"
    )
    workspace = Workspace(tmp_path_factory.mktemp("laptop"), *SMALL, births, twins)
    workspace.run("run", "--date", str(FIRST_DATE))
    return workspace


@pytest.fixture(scope="module")
def twin(cloud, tmp_path_factory):
    # No credentials but the job's own stand-ins, as on the launcher; no addresses but those that workers are given.
    with dataflow_server(tmp_path_factory.mktemp("dataflow"), cloud.storage, cloud.metadata.environment) as server:
        yield server


@pytest.fixture(scope="module")
def on_dataflow(cloud, twin, births, tmp_path_factory):
    """The same night on Dataflow, started from a machine whose temporary folder has a name of its own.

    Its launcher is killed while the last of its jobs runs, and started again.
    """
    workspace = CloudWorkspace(cloud, *SMALL, births, RUNNER, dataflow=twin.endpoint)
    before = os.environ.get("TMPDIR")
    workspace.temporary = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("launcher"))
    try:
        launcher = workspace.start("run", "--date", str(FIRST_DATE))
        while not any("-precompute-" in job.body["name"] and job.state == "RUNNING" for job in [*twin.jobs.values()]):
            assert launcher.poll() is None, launcher.communicate()
            time.sleep(0.05)
        launcher.kill()
        workspace.lines = [launcher.communicate()[1], workspace.run("run", "--date", str(FIRST_DATE)).err]
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
    return workspace


def test_each_step_is_one_job(on_dataflow, twin):
    run_id = on_dataflow.run_path().name
    names = [
        job.body["name"].rsplit("-", 1)[0] if step != "ingest" else job.body["name"]
        for step, job in zip(STEPS, twin.jobs.values(), strict=True)
    ]
    assert names == [f"foretable-natality-{step}-{run_id}" for step in STEPS]
    assert {job.state for job in twin.jobs.values()} == {"DONE"}


def test_the_shards_are_the_laptops_byte_for_byte(on_dataflow, laptop):
    assert shard_hashes(on_dataflow) == shard_hashes(laptop)


def test_the_answers_are_the_laptops(on_dataflow, laptop):
    with duckdb.connect(str(laptop.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        expected = connection.table("natality_predictions").to_arrow_table()
    keys = [name for name in expected.column_names if name != "weight_pounds"]
    ((table, rows),) = on_dataflow.select("SELECT table_name, `rows` FROM {d}.natality_runs WHERE status = 'current'")
    found = on_dataflow.table(table, *keys).select(expected.column_names)
    assert found.num_rows == rows == expected.num_rows
    assert found.cast(expected.schema).equals(expected.sort_by([(key, "ascending") for key in keys]))


def test_the_lines_tell_the_jobs_and_their_pages(on_dataflow, twin):
    text = "".join(on_dataflow.lines)
    for job in twin.jobs.values():
        name = re.escape(job.body["name"])
        assert re.search(
            rf"Dataflow job {name}( was done before)?: https://console.cloud.google.com/dataflow/jobs/", text
        )


def test_the_second_launcher_takes_over_the_job_of_the_one_that_was_killed(on_dataflow, twin):
    (name,) = [job.body["name"] for job in twin.jobs.values() if "-precompute-" in job.body["name"]]
    assert re.search(rf"attached to Dataflow job {name}: |Dataflow job {name} was done before: ", on_dataflow.lines[1])


def test_no_worker_is_sent_to_a_file_of_the_launcher(on_dataflow, twin):
    for job in twin.jobs.values():
        for text in unpickled(job.pipeline):
            assert on_dataflow.temporary.encode() not in text, job.body["name"]


def test_a_rerun_submits_nothing(on_dataflow, twin):
    again = on_dataflow.run("run", "--date", str(FIRST_DATE))
    assert "Dataflow job" not in again.err
    assert len(twin.jobs) == len(STEPS)


def test_a_stage_whose_marker_is_lost_takes_the_output_of_its_job(on_dataflow, twin):
    run_id = on_dataflow.run_path().name
    cloud_storage.delete([f"{on_dataflow.url}/natality/{FIRST_DATE}/{run_id}/manifest.json"])
    before = shard_hashes(on_dataflow)
    again = on_dataflow.run("precompute", "--date", str(FIRST_DATE))
    assert "was done before" in again.err
    assert shard_hashes(on_dataflow) == before
    assert len(twin.jobs) == len(STEPS)


def score_with_another_model(url):
    """Leaves in a run directory what scoring with another model leaves there."""
    plan = Plan.from_json(storage.read_json(f"{url}/plan.json")["plan"])
    records = []
    for shard in shard_ranges(plan.cardinality, plan.shard_blocks):
        rows = pq.read_table(pa.BufferReader(storage.read_bytes(f"{url}/predictions/{shard.name}")))
        rows = rows.set_column(rows.num_columns - 1, rows.field(-1), pa.nulls(len(rows), pa.float32()).fill_null(7.5))
        fingerprint = Fingerprint("another", "another", plan.space_hash)
        records.append(write_shard(f"{url}/predictions", shard, plan.columns, rows.to_batches(), fingerprint))
    storage.write_json(f"{url}/shards.json", [dataclasses.asdict(record) for record in records])


def test_another_models_shards_are_not_taken_for_those_of_a_job_that_was_done_before(on_dataflow, twin, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", on_dataflow.cloud.storage.endpoint)
    url = f"{on_dataflow.url}/natality/{FIRST_DATE}/{on_dataflow.run_path().name}"
    before, jobs = shard_hashes(on_dataflow), [job.body["name"] for job in twin.jobs.values()]
    score_with_another_model(url)
    cloud_storage.delete([f"{url}/manifest.json"])
    assert not before.items() & shard_hashes(on_dataflow).items()
    on_dataflow.run("precompute", "--date", str(FIRST_DATE))
    assert shard_hashes(on_dataflow) == before
    assert [job.body["name"] for job in twin.jobs.values()] == [*jobs, f"{jobs[-1]}-2"]


def test_another_models_metrics_are_not_taken_either(on_dataflow, twin, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", on_dataflow.cloud.storage.endpoint)
    url = f"{on_dataflow.url}/natality/{FIRST_DATE}/{on_dataflow.run_path().name}"

    def evaluate():
        cloud_storage.delete([f"{url}/blessing.json"])
        on_dataflow.run("evaluate", "--date", str(FIRST_DATE))
        (metrics,) = storage.read_json(f"{url}/metrics.json")
        return metrics, list(twin.jobs.values())[-1].body["name"]

    before, name = evaluate()  # beside the night's own model, which is published now
    assert before["versions"]["candidate"] == before["versions"]["baseline"]
    storage.write_json(f"{url}/metrics.json", [before | {"versions": {"candidate": "another"}}])
    again, name_again = evaluate()
    assert (again["versions"], name_again) == (before["versions"], f"{name}-2")
    first, second = (metrics["candidate"]["slices"][0]["metrics"] for metrics in (before, again))
    assert second == pytest.approx(first)  # sums are added in the order in which workers come


def unpickled(pipeline):
    """What the pipeline's functions hold: Beam pickles, compresses and encodes them."""
    components = beam_runner_api_pb2.Pipeline.FromString(pipeline).components
    for transform in components.transforms.values():
        payload = transform.spec.payload
        with contextlib.suppress(Exception):
            payload = beam_runner_api_pb2.ParDoPayload.FromString(payload).do_fn.payload
        yield payload
        for decompress in (zlib.decompress, bz2.decompress):
            with contextlib.suppress(Exception):
                yield decompress(base64.b64decode(payload))
