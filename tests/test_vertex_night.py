"""The laptop's nights with training and scoring on the Vertex twin, all else on the other twins: the same table.

Both nights are unlucky: of the first, the batch prediction job fails, of the second, the launcher is killed while its
job waits for machines. What was done by then, and what was submitted, is not done or submitted again.
"""

import json
import re
import time

import duckdb
import numpy as np
import pytest
from cloud_nights import CloudWorkspace, files_of
from conftest import FIRST_DATE, NATALITY, SECOND_DATE, SMALL, ListedConsole
from test_cloud_night import COLUMNS
from twins.vertex_faults import BATCH_QUOTA_FAULT

from beam_jobs.commands.reading import list_models
from beam_jobs.commands.vertex_tables import print_parity, print_sizing
from beam_jobs.doctor.examination import examine
from beam_jobs.endpoints import use_endpoints
from beam_jobs.night import Night
from beam_jobs.vertex.measuring import planned_sizing
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.loading import load_job
from transforms.scoring.differences import ulps

pytestmark = pytest.mark.slow

ON_VERTEX = (
    "vertex={project: proj, region: us-central1, service_account: sa@proj.iam.gserviceaccount.com}",
    "model.training.on=vertex",
    "model.training.container=us-docker.pkg.dev/proj/r/foretable:1",
    "precompute={on: vertex_batch, shard_blocks: 1, batch_size: 512, starting_replica_count: 2}",
)
DIFFERENT = ("backend", "shards")
"""Of the manifest: what computed it, and the digests of files that hold predictions rounded elsewhere."""


@pytest.fixture(scope="module")
def nights(cloud, vertex_twin):
    """The two nights of `published`, on all twins."""
    addresses = {"vertex": vertex_twin.endpoint, "logging": vertex_twin.endpoint}
    workspace = CloudWorkspace(cloud, *SMALL, *ON_VERTEX, **addresses)
    vertex_twin.faults.clear()
    vertex_twin.faults.on_job("batch", BATCH_QUOTA_FAULT, display_name="natality-precompute")
    before = len(vertex_twin.jobs())
    workspace.failed = workspace.run("run", "--date", str(FIRST_DATE), code=5)
    workspace.after_failure = listed(workspace)
    workspace.first = workspace.run("run", "--date", str(FIRST_DATE))
    workspace.after_first = listed(workspace)
    kill_while_predicting(workspace, vertex_twin, SECOND_DATE)
    workspace.second = workspace.run("run", "--date", str(SECOND_DATE))
    workspace.jobs = vertex_twin.jobs()[before:]
    return workspace


def kill_while_predicting(workspace, twin, date):
    """Kills a night as soon as its batch prediction job is there."""
    usual, known = twin.pending_seconds, len(twin.jobs())
    twin.pending_seconds = 20
    process = workspace.start("run", "--date", str(date))
    deadline = time.monotonic() + 300
    while len(twin.jobs()) == known and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    twin.pending_seconds = usual
    process.kill()
    _, err = process.communicate()
    assert len(twin.jobs()) == known + 1, err


def job_of(workspace):
    job = load_job(NATALITY, workspace.overrides)
    use_endpoints(job)
    return job


def listed(workspace):
    """What `foretable models` lists."""
    job = job_of(workspace)
    return list_models(job, open_warehouse(job))


def manifest_of(workspace, date):
    return json.loads((workspace.run_path(date) / "manifest.json").read_text())["manifest"]


def published_rows(workspace):
    """The table that readers see, by its keys."""
    if isinstance(workspace, CloudWorkspace):
        ((table,),) = workspace.select("SELECT table_name FROM {d}.natality_runs WHERE status = 'current'")
        return workspace.table(table, *COLUMNS[:4]).select(COLUMNS)
    with duckdb.connect(str(workspace.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        rows = connection.table("natality_predictions").to_arrow_table().select(COLUMNS)
    return rows.sort_by([(column, "ascending") for column in COLUMNS[:4]])


class TestTheTable:
    def test_it_is_the_laptops_to_a_few_steps_of_float32(self, published, nights, record_property):
        laptop, vertex = published_rows(published), published_rows(nights)
        keys = laptop.select(COLUMNS[:4]).schema
        assert vertex.select(COLUMNS[:4]).cast(keys).equals(laptop.select(COLUMNS[:4]))
        expected, found = (table["weight_pounds"].to_numpy().astype(np.float32) for table in (laptop, vertex))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
        apart = ulps(found, expected)
        differ = f"{np.count_nonzero(apart):,} rows of {len(apart):,} differ"
        record_property(
            "found", f"a table by Vertex AI against the laptop's: {apart.max()} ulp apart at most; {differ}"
        )
        assert apart.max() <= 8

    @pytest.mark.parametrize("date", [FIRST_DATE, SECOND_DATE], ids=str)
    def test_the_manifest_differs_in_who_computed_it_and_in_the_shards_bytes(self, published, nights, date):
        """The model, its graph, the space, columns, rows, points and names of the shards are the same."""
        laptop, vertex = manifest_of(published, date), manifest_of(nights, date)
        assert (laptop["backend"], vertex["backend"]) == ("pipeline", "vertex_batch")
        assert {name for name in laptop if laptop[name] != vertex[name]} <= set(DIFFERENT)
        measured = {"sha256", "bytes", "crc32c"}
        for here, there in zip(laptop["shards"], vertex["shards"], strict=True):
            assert {name for name in here if here[name] != there.get(name)} <= measured


class TestTheJobs:
    def test_each_is_paid_once(self, nights):
        """One training for two nights; of batch prediction the one that failed, the next try, and the second night's."""
        found = [(job.kind, job.state) for job in nights.jobs]
        assert found == [("custom", "SUCCEEDED"), ("batch", "FAILED"), ("batch", "SUCCEEDED"), ("batch", "SUCCEEDED")]
        failed, again = (job.message.display_name for job in nights.jobs[1:3])
        assert again == f"{failed}-2"

    def test_their_names_and_labels_say_which_night_they_were(self, nights):
        for job, date in zip(nights.jobs, [FIRST_DATE] * 3 + [SECOND_DATE], strict=True):
            step = "train" if job.kind == "custom" else "precompute"
            run_id = nights.run_path(date).name
            assert job.message.display_name.startswith(f"foretable-natality-{step}-{run_id}-")
            assert (
                dict(job.message.labels).items()
                >= {
                    "foretable_job": "natality",
                    "foretable_step": step,
                    "foretable_run_id": run_id,
                    "foretable_run_date": str(date),
                }.items()
            )

    def test_a_point_is_sent_where_the_model_can_tell_it_apart(self, nights):
        """And nowhere else: there are never more instances than rows, and none of them failed."""
        rows = manifest_of(nights, SECOND_DATE)["rows"]
        stats = nights.jobs[-1].message.completion_stats
        assert stats.failed_count == 0
        assert 0 < stats.successful_count <= rows

    def test_the_failure_was_one_line_that_says_what_to_request(self, nights):
        (line,) = [line for line in nights.failed.err.splitlines() if line.startswith("error: ")]
        assert "precompute: batch prediction job foretable-natality-precompute-" in line
        assert "quota" in line.lower()
        assert "https://console.cloud.google.com/ai/platform/locations/us-central1/batch-predictions/" in line

    def test_the_next_try_trained_nothing(self, nights):
        done = [line for line in nights.first.err.splitlines() if "done before" in line]
        assert [line.split()[0] for line in done[:4]] == ["prepare", "train", "evaluate", "plan"]
        assert re.search(r"^train +no training is due|train .*no training is due", nights.second.err, re.MULTILINE)

    def test_after_a_kill_the_night_takes_the_job_that_is_there(self, nights):
        name = nights.jobs[-1].message.display_name
        assert re.search(f"(attached to batch prediction job {name}|job {name} was done before): ", nights.second.err)

    def test_a_rerun_submits_nothing(self, nights, vertex_twin):
        before, files = len(vertex_twin.jobs()), files_of(nights.folder)
        again = nights.run("run", "--date", str(SECOND_DATE))
        assert again.err.count("done before") >= 6
        assert (len(vertex_twin.jobs()), files_of(nights.folder)) == (before, files)


class TestTheRegistry:
    def test_a_challenger_becomes_the_champion_when_readers_see_it(self, nights):
        (blessed,), (published,) = nights.after_failure, nights.after_first
        assert (blessed["aliases"], published["aliases"]) == (["challenger", "default"], ["champion", "default"])
        assert (
            blessed["model_version"] == published["model_version"] == manifest_of(nights, FIRST_DATE)["model_version"]
        )
        assert published["metrics"]["mae"] == pytest.approx(blessed["metrics"]["mae"])

    def test_the_second_nights_model_is_the_first_ones(self, nights):
        (version,) = listed(nights)
        assert (version["version"], version["run_date"], version["is_published"]) == ("1", str(FIRST_DATE), True)

    def test_the_laptops_listing_is_the_same_model(self, published, nights):
        (here,), (there,) = listed(published), listed(nights)
        assert all(here[name] == there[name] for name in ("model_version", "run_date", "blessed", "is_published"))
        assert here["transform_hash"].startswith(there["transform_hash"])  # a label has 63 characters at most


class TestTheCommands:
    def test_the_plan_sizes_batch_prediction(self, nights, capsys):
        planned = nights.json("plan", "--date", str(SECOND_DATE))
        sizing = planned["batch_prediction"]
        assert 0 < sizing["instances"] <= planned["rows"]
        assert (sizing["batch_size"], sizing["choices"][0]["replicas"]) == (512, 2)
        assert sizing["batch_seconds"] > 0
        print_sizing(sizing)
        assert f"{sizing['instances']:,} distinct instances" in capsys.readouterr().out

    def test_other_settings_size_the_plan_that_is_there(self, nights):
        """They do not make another plan; another batch size is measured anew."""
        job = job_of(nights)
        run = RunDirectory(job_folder(job), SECOND_DATE, nights.run_path(SECOND_DATE).name)
        marker = run.read_marker("plan.json")
        for settings in ({"starting_replica_count": 5}, {"batch_size": 2048}):
            changed = job.model_copy(update={"precompute": job.precompute.model_copy(update=settings)})
            sizing = planned_sizing(Night(changed, NATALITY, run, ListedConsole()), marker)["batch_prediction"]
            assert sizing["instances"] == marker["batch_prediction"]["instances"]
            measured_again = sizing["batch_seconds"] != marker["batch_prediction"]["batch_seconds"]
            assert measured_again == ("batch_size" in settings)
            assert sizing["choices"][0]["replicas"] == settings.get("starting_replica_count", 2)

    def test_the_backends_agree_on_points_that_nobody_chose(self, nights):
        found = nights.json("parity", "--date", str(SECOND_DATE), "--points", "200", "--seed", "3")
        assert found["holds"]
        print_parity(found)
        (weight,) = found["columns"]
        assert (weight["column"], found["points"]) == ("weight_pounds", 200)
        assert weight["ulp"] <= 8

    def test_nothing_is_left_that_costs(self, nights):
        findings = examine(job_of(nights), NATALITY)["findings"]
        left = [finding for finding in findings if finding["check"] == "leftovers" and finding["status"] != "ok"]
        assert left == []
