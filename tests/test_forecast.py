"""What `run --dry-run` says: what is read, run, written and paid; and that it does nothing."""

import dataclasses
import datetime
import json
import os

import pytest
from bigquery_reader import Reader
from conftest import FIRST_DATE, NATALITY, SECOND_DATE, ListedConsole
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from hypothesis import given
from hypothesis import strategies as st
from nights import make_night
from pydantic import TypeAdapter
from typer.testing import CliRunner

from beam_jobs import pricing
from beam_jobs.cli import app
from beam_jobs.commands.nights import STAGES
from beam_jobs.forecast import PRICES, due_sources, forecast, stage_actions
from beam_jobs.night import Night
from beam_jobs.prediction_checks import check_predictions
from beam_jobs.vertex.expected_jobs import ExpectedJobs
from beam_jobs.vertex.sizing import size_batches
from beam_jobs.warehouses.bigquery.estimates import publishing_jobs
from configs.cloud import DataflowRunner
from configs.contract_agreement import DeclaredOutputs
from configs.contracts import ChangeBudget, Contract
from configs.errors import JobError
from configs.loading import load_job
from configs.prices import load_prices
from configs.training import VertexTraining
from configs.vertex import Accelerator

LISTED = load_prices(PRICES)
RUNNER = DataflowRunner(kind="dataflow", project="p", region="r", sdk_container_image="i", max_workers=5)


def told(overrides, date=FIRST_DATE):
    night = Night.of(load_job(NATALITY, overrides), NATALITY, date, ListedConsole())
    return json.loads(json.dumps(forecast(night, STAGES.values())))


def sizes(**settings):
    none = dict.fromkeys(
        ("example_bytes", "scoring_core_seconds", "rows", "shard_bytes", "table_bytes", "read_bytes", "queried_bytes"),
        0,
    )
    return pricing.Sizes(**{"example_rows": 0, **none, "dataflow_jobs": 0, "objects": 0, "days": 30, **settings})


class TestOnALaptop:
    def test_a_new_job(self, tmp_path):
        tree = told([f"workspace={tmp_path}/new"])
        assert tree["reads"] == [
            {
                "kind": "sample",
                "files": None,
                "bytes": 0,
                "rows": 100_000,
                "queried_bytes": 0,
                "name": "synthetic natality",
            }
        ]
        assert [(stage["stage"], stage["action"], stage["why"]) for stage in tree["stages"]] == [
            (name, "run", "not done yet") for name in STAGES
        ]
        assert tree["writes"]["rows"] is None
        assert tree["writes"]["told_by"] == "nobody yet: an axis comes from data or from the model"
        assert (tree["jobs"], tree["vertex"]) == ({"dataflow": 0, "bigquery": 0, "vertex": 0}, [])
        assert (tree["price"]["low"], tree["price"]["high"], tree["price"]["costs"]) == (0, 0, [])
        assert list(tmp_path.iterdir()) == []

    def test_axes_that_the_job_file_spells_out(self, tmp_path):
        axes = "input_space={axes: {is_male: {values: ['True', null]}, mother_age: {range: [12, 55], step: 0.5, missing: true},"
        axes += "plurality: {values: [Single(1)]}, gestation_weeks: {range: [17, 47]}}}"
        tree = told([f"workspace={tmp_path}", axes])
        assert (tree["writes"]["rows"], tree["writes"]["told_by"]) == (2 * 88 * 31, "the job file's axes")

    def test_files_are_counted(self, tmp_path):
        for name, size in (("a-1.csv", 10), ("a-2.csv", 20), ("b.csv", 40)):
            (tmp_path / name).write_bytes(b"x" * size)
        (read,) = told(
            [f"workspace={tmp_path}", f"source={{kind: csv, files: ['{tmp_path}/a-*.csv', '{tmp_path}/a-1.csv']}}"]
        )["reads"]
        assert (read["files"], read["bytes"], read["rows"]) == (2, 30, None)

    def test_a_night_that_is_done(self, published):
        tree = told(published.overrides, SECOND_DATE)
        assert {stage["stage"]: stage["action"] for stage in tree["stages"]} == dict.fromkeys(STAGES, "skip")
        assert tree["replaces"] == {"view": "natality_predictions", "run_date": None, "rows": None}

    def test_the_next_night(self, published):
        before = sorted(str(path) for path in published.folder.rglob("*"))
        tree = told(published.overrides, SECOND_DATE + datetime.timedelta(days=1))
        stages = {stage["stage"]: stage["why"] for stage in tree["stages"]}
        assert stages["prepare"] == "not done yet"
        assert stages["train"].endswith("of 2026-01-05: no training is due")
        assert tree["writes"]["rows"] == published.json("plan", "--date", str(SECOND_DATE))["rows"]
        assert tree["writes"]["told_by"] == f"the plan of {SECOND_DATE}"
        assert tree["replaces"]["run_date"] == str(SECOND_DATE)
        assert sorted(str(path) for path in published.folder.rglob("*")) == before

    def test_a_stage_whose_upstream_runs_again(self, published, tmp_path):
        from shutil import copytree

        copytree(published.folder, tmp_path / "copy", symlinks=True)
        overrides = [f"workspace={tmp_path}/copy", *published.overrides[1:]]
        (marker,) = (tmp_path / "copy").glob(f"natality/{FIRST_DATE}/*/plan.json")
        os.unlink(marker)
        why = {stage["stage"]: stage["why"] for stage in told(overrides)["stages"]}
        assert (why["evaluate"], why["plan"], why["precompute"]) == ("done before", "not done yet", "plan runs again")

    def test_the_command(self, tmp_path):
        result = CliRunner().invoke(app, ["run", NATALITY, "--dry-run", "--set", f"workspace={tmp_path}/new"])
        assert result.exit_code == 0, result.output
        assert "nothing is run" in result.stdout
        assert "price: nothing is billed: all of it runs and stays here" in result.stdout
        assert list(tmp_path.iterdir()) == []


class TestOnTheTwins:
    IMAGE = "runner={kind: dataflow, project: proj, region: us-central1, sdk_container_image: i}"

    def test_a_bigquery_source_on_dataflow(self, cloud):
        overrides = [*cloud.overrides(), self.IMAGE]
        dataset = load_job(NATALITY, overrides).warehouse.dataset
        options = {"api_endpoint": cloud.bigquery.endpoint}
        client = bigquery.Client("proj", AnonymousCredentials(), client_options=options)
        client.query_and_wait(f"CREATE TABLE `proj.{dataset}.births` AS SELECT x FROM UNNEST([1, 2, 3]) AS x")
        tree = told([*overrides, f"source={{kind: bigquery, table: proj.{dataset}.births}}"])
        (read,) = tree["reads"]
        assert (read["name"], read["rows"], read["queried_bytes"]) == (f"proj.{dataset}.births", 3, 0)
        assert tree["jobs"] == {"dataflow": 4, "bigquery": 14, "vertex": 0}
        stages = {stage["stage"]: stage["dataflow_jobs"] for stage in tree["stages"]}
        assert (stages["prepare"], stages["train"], stages["plan"]) == (["ingest", "transform"], [], [])
        price = tree["price"]
        assert 0 < price["low"] < price["high"]
        assert (price["is_complete"], price["not_known"]) == (False, ["the table's size"])

    def test_nothing_is_written(self, cloud):
        """To a bucket, to a dataset; nor does a query run: a source's is only planned."""
        overrides = cloud.overrides()
        job = load_job(NATALITY, overrides)
        bucket = cloud.storage.folder / job.workspace.split("/")[2]
        client = bigquery.Client(
            "proj", AnonymousCredentials(), client_options={"api_endpoint": cloud.bigquery.endpoint}
        )
        client.query_and_wait(f"CREATE TABLE `proj.{job.warehouse.dataset}.births` AS SELECT 1 AS x")

        def there():
            tables = [(table.table_id, table.created) for table in client.list_tables(job.warehouse.dataset)]
            return sorted(bucket.rglob("*")), tables, sorted(found.job_id for found in client.list_jobs())

        before = there()
        query = f"SELECT x FROM `proj.{job.warehouse.dataset}.births`"
        tree = told([*overrides, f"source={{kind: bigquery, query: '{query}', project: proj}}"])
        assert tree["jobs"] == {"dataflow": 0, "bigquery": 15, "vertex": 0}
        assert there() == before

    def test_publishing_runs_the_jobs_that_were_counted(self, cloud, tmp_path):
        """A first night, and one that is held against contracts and against the first; shards that are uploaded."""
        reader = Reader(cloud)
        asked = TypeAdapter(dict[str, Contract]).validate_python(
            {
                "bounds": {"range": {"weight": [0, None]}},
                "filled": {"not_null": ["weight"]},
                "grows": {"monotone": {"weight": "increasing", "in": "weeks", "eps": 1000}},
            }
        )
        for date, run_id, contracts in ((FIRST_DATE, "a1", {}), (SECOND_DATE, "b2", asked)):
            night = make_night(tmp_path, run_date=date, run_id=run_id, shard_blocks=1)
            before = reader.warehouse.current("natality")
            counted = publishing_jobs(len(night.manifest.shards), contracts.values(), before)
            known = {job.job_id for job in reader.client.list_jobs()}
            reader.warehouse.load(night)
            reader.warehouse.verify(night)
            report = check_predictions(
                reader.warehouse, night, contracts, ChangeBudget(), DeclaredOutputs({"weight": "float"}, {}), (), ()
            )
            compared = report.before.table if report.before is not None else None
            reader.warehouse.switch(dataclasses.replace(night, compared_with=compared))
            reader.warehouse.expire("natality", date, 30)
            ran = [job for job in reader.client.list_jobs() if job.job_id not in known]
            assert sum(job.job_type == "load" for job in ran) == counted["loads"] == len(night.manifest.shards)
            assert len(ran) == sum(counted.values()), [getattr(job, "query", job.job_id)[:90] for job in ran]

    def test_it_is_printed_with_its_assumptions(self, cloud):
        sets = [word for value in [*cloud.overrides(), self.IMAGE] for word in ("--set", value)]
        result = CliRunner().invoke(app, ["run", NATALITY, "--dry-run", *sets])
        assert result.exit_code == 0, result.output
        assert "not known, and not in it: the table's size" in result.stdout
        assert "list prices of us-central1, without discounts" in result.stdout
        assert "https://cloud.google.com/dataflow/pricing" in result.stdout


@pytest.mark.parametrize(
    ("runs", "due"),
    [({"prepare", "plan"}, ["a", "t", "x"]), ({"prepare"}, ["a", "t"]), ({"plan"}, ["x"]), ({"publish"}, [])],
    ids=["all", "prepare", "plan with prepare done", "neither"],
)
def test_which_sources_are_read(tmp_path, runs, due):
    """An axis of a source is read by plan, whatever prepare does."""
    axes = "is_male={distinct: {kind: csv, files: [x]}, columns: [is_male]}"
    settings = [f"workspace={tmp_path}", "source={kind: csv, files: [a]}", "traffic={kind: csv, files: [t]}"]
    job = load_job(NATALITY, [*settings, f"input_space.axes.{axes}"])
    assert [source.files[0] for source in due_sources(job, runs)] == due


class TestOnVertex:
    TRAINING = (
        "model.training={on: vertex, container: i, every: 7d, replica_count: 3, strategy: multi_worker, spot: true}"
    )
    PREDICTION = "precompute={on: vertex_batch, jobs: 2, starting_replica_count: 3, batch_size: 512}"

    @pytest.fixture
    def settings(self, cloud):
        return [*cloud.overrides(), "vertex={project: proj, region: us-central1}", self.TRAINING, self.PREDICTION]

    def test_before_the_first_night(self, settings):
        tree = told(settings)
        assert tree["jobs"] == {"dataflow": 0, "bigquery": 14, "vertex": 3}
        train, precompute = tree["vertex"]
        assert (train["kind"], train["machines"], train["machine_type"]) == ("custom job", 3, "n1-standard-8")
        assert train["basis"] == "20 epochs of 100,000 rows, none trained yet"
        # 3 machines start in 2 to 15 minutes; 4 epochs at best, 20 at worst, of which each machine does all.
        fast, slow = 4 * 100_000 * 1.25 / 200_000, 3 * 20 * 100_000 * 1.25 / 10_000
        assert train["machine_hours"] == pytest.approx([3 * 2 / 60 + fast / 3600, 3 * 15 / 60 + slow / 3600])
        assert (precompute["jobs"], precompute["machines"], precompute["machine_hours"]) == (2, 6, None)
        assert tree["price"]["not_known"] == [
            "the table's size",
            "hours of the batch prediction job (no plan has measured a batch of this size yet)",
        ]
        (cost,) = [cost for cost in tree["price"]["costs"] if cost["what"].startswith("Vertex AI")]
        hour = 2 * 0.21849885
        low, high = train["machine_hours"]
        assert (cost["low"], cost["high"]) == (pytest.approx(low * hour * 0.09), pytest.approx(high * hour))
        assert "training runs where the night is started, and is not in the price" not in tree["price"]["assumptions"]

    def test_a_plan_has_measured_a_batch(self, settings):
        job = load_job(NATALITY, settings)
        night = Night.of(job, NATALITY, FIRST_DATE, ListedConsole())
        sizing = size_batches(1_000_000, 0.02, job.precompute)
        plan = {"rows": 10**7, "shards": 10, "bytes": 10**7, "columns": ["x"], "seconds": 9.0}
        night.run.write_marker("plan.json", {"plan": plan, "batch_prediction": sizing.to_json()}, {}, 1.0)
        precompute = told(settings)["vertex"][1]
        low, high = sizing.choices[0].machine_hours
        work = 6 * sizing.choices[0].minutes / 60
        assert precompute["machine_hours"] == pytest.approx([low, high + 4 * work])
        assert precompute["basis"] == "1,000,000 instances, 20 ms a batch of 512"
        assert told([*settings, "precompute.batch_size=1024"])["vertex"][1]["machine_hours"] is None

    def test_a_night_that_trains_nothing_submits_no_training(self, published):
        """The stage runs, to take an earlier night's model over; no custom job does."""
        job = load_job(NATALITY, published.overrides)
        training = VertexTraining(**job.model.training.model_dump() | {"on": "vertex", "container": "i"})
        job = job.model_copy(update={"model": job.model.model_copy(update={"training": training})})
        for days, expected in ((1, False), (7, True)):
            night = Night.of(job, NATALITY, SECOND_DATE + datetime.timedelta(days=days), ListedConsole())
            actions = {action["stage"]: action for action in stage_actions(night, STAGES.values())}
            assert (actions["train"]["action"], actions["train"]["on_vertex"]) == ("run", expected)

    def test_it_is_printed(self, settings):
        result = CliRunner().invoke(
            app, ["run", NATALITY, "--dry-run", *(word for value in settings for word in ("--set", value))]
        )
        assert result.exit_code == 0, result.output
        assert "Vertex AI: 1 custom job on 3 spot n1-standard-8, 0.1 to 0.96 machine hours" in result.stdout
        assert "Vertex AI: 2 batch prediction jobs on 6 n1-standard-4" in result.stdout
        assert "0 on Dataflow, 14 in BigQuery, 3 on Vertex AI" in result.stdout
        assert "https://cloud.google.com/vertex-ai/pricing" in result.stdout


class TestPrices:
    @pytest.mark.parametrize(
        ("machine_type", "accelerator", "hour"),
        [
            ("n1-standard-4", None, 0.21849885),
            ("e2-standard-4", None, 0.154126276),
            ("n1-standard-8", Accelerator(type="NVIDIA_TESLA_T4", count=2), 2 * 0.21849885 + 2 * 0.4025),
            ("g2-standard-8", None, None),
            ("n1-standard-8", Accelerator(type="NVIDIA_B200"), None),
        ],
        ids=["n1", "e2", "with accelerators", "a series that is not listed", "an accelerator that is not listed"],
    )
    def test_an_hour_of_a_machine_on_vertex(self, machine_type, accelerator, hour):
        expected = ExpectedJobs("train", "custom job", 1, 1, machine_type, accelerator, False, (1.0, 2.0), "")
        assert pricing.vertex_machine_hour(expected, LISTED) == pytest.approx(hour) if hour else hour is None
        assert [cost.high for cost in pricing.vertex_costs(expected, LISTED)] == (
            [pytest.approx(2 * hour)] if hour else []
        )

    def test_a_table_of_before_there_was_vertex(self, tmp_path):
        path = tmp_path / "prices.yaml"
        path.write_text(PRICES.read_text().partition("vertex:")[0])
        expected = ExpectedJobs("train", "custom job", 1, 1, "n1-standard-4", None, False, (1.0, 2.0), "")
        assert pricing.vertex_machine_hour(expected, load_prices(path)) is None

    def test_the_table_names_its_pages_and_their_date(self):
        for service in (LISTED.dataflow, LISTED.bigquery, LISTED.storage, LISTED.vertex):
            assert service.page.startswith("https://cloud.google.com/")
            assert service.as_of <= datetime.date.today()

    def test_a_job_may_name_another_table(self, tmp_path):
        path = tmp_path / "prices.yaml"
        path.write_text(PRICES.read_text().replace("currency: USD", "currency: EUR"))
        tree = told([f"workspace={tmp_path}", f"prices={path}"])
        assert (tree["price"]["currency"], tree["price"]["prices"]) == ("EUR", str(path))

    @pytest.mark.parametrize(("text", "message"), [("currency: [", "not a price table"), ("a: 1", "not a price table")])
    def test_what_is_no_price_table(self, tmp_path, text, message):
        path = tmp_path / "prices.yaml"
        path.write_text(text)
        with pytest.raises(JobError, match=message):
            load_prices(path)

    def test_no_table_there(self, tmp_path):
        with pytest.raises(JobError, match=r"^prices: '.*/away.yaml': no such file or directory"):
            load_prices(tmp_path / "away.yaml")

    @pytest.mark.parametrize(
        ("machine_type", "size"),
        [
            ("n2-standard-4", (4, 16)),
            ("n1-standard-2", (2, 7.5)),
            ("e2-highmem-8", (8, 64)),
            ("c2-highcpu-16", (16, 16)),
            ("custom-6-20", (4, 16)),
        ],
    )
    def test_machines(self, machine_type, size):
        assert pricing.machine_size(machine_type) == size

    def test_dataflow_to_the_cent(self):
        """An hour of a core's scoring, in one job: a quarter of a machine's hour, and its idle time."""
        workers, shuffle = pricing.dataflow_costs(sizes(scoring_core_seconds=3600, dataflow_jobs=1), RUNNER, LISTED)
        hour = 4 * 0.056 + 16 * 0.003557 + 25 * 0.000054
        assert workers.low == pytest.approx(hour * (0.25 + 3 / 60))
        assert workers.high == pytest.approx(hour * (0.75 + 5 * 8 / 60))
        assert (shuffle.low, shuffle.high) == (0, pytest.approx(0.011))

    def test_bigquery_to_the_cent(self):
        queries, reading, stored = pricing.bigquery_costs(sizes(table_bytes=2**40, read_bytes=2**40, days=15), LISTED)
        assert (queries.low, queries.high) == (0, 4 * 6.25)
        assert (reading.low, reading.high) == (0, 1.10)
        assert (stored.low, stored.high) == (0, pytest.approx(1024 * 0.02 / 2))

    def test_storage_to_the_cent(self):
        """Examples lie there twice, as they were read and transformed."""
        (stored,) = pricing.storage_costs(sizes(shard_bytes=10**9, example_bytes=10**9, days=30), LISTED)
        assert (stored.low, stored.high) == (pytest.approx(3 * 0.02), pytest.approx(9 * 0.02))

    @given(
        st.integers(0, 10**9), st.floats(0, 10**6), st.integers(0, 10**13), st.integers(0, 10**13), st.integers(1, 400)
    )
    def test_low_is_never_above_high_and_more_is_never_cheaper(self, rows, seconds, table, read, days):
        def costs(factor):
            more = sizes(
                example_rows=factor * rows,
                scoring_core_seconds=factor * seconds,
                table_bytes=factor * table,
                read_bytes=factor * read,
                shard_bytes=factor * table,
                dataflow_jobs=4,
                days=days,
            )
            found = pricing.dataflow_costs(more, RUNNER, LISTED) + pricing.bigquery_costs(more, LISTED)
            return found + pricing.storage_costs(more, LISTED)

        once, twice = costs(1), costs(2)
        assert all(0 <= cost.low <= cost.high for cost in once)
        assert sum(cost.low for cost in once) <= sum(cost.low for cost in twice)
        assert sum(cost.high for cost in once) <= sum(cost.high for cost in twice)
