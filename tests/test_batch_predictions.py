"""Batch prediction on the twin: the laptop's table whatever the way and the mishaps, nothing paid twice, nothing lost."""

import dataclasses
import datetime
import json
import re

import numpy as np
import pyarrow as pa
import pytest
import yaml
from batch_scoring import RUN_DATE, Interrupting, Scoring, laptop_table, said
from conftest import NATALITY
from google.cloud import bigquery
from google.cloud.aiplatform_v1.types import BatchPredictionJob
from random_models import FEATURES, OUTPUTS, TYPES, Recipe, save_random_model
from test_foreign_model import JOB, FlatModel, save

from beam_jobs.foreign_models import GivenModel
from beam_jobs.lineage import TrainedModel
from beam_jobs.vertex import jobs as vertex_jobs
from beam_jobs.vertex import logs, waiting
from beam_jobs.vertex.exchanges import FileExchange
from beam_jobs.vertex.jobs import VertexJob
from beam_jobs.vertex.predictions import Failure
from beam_jobs.workspace import storage
from configs.errors import ForetableError, RefusedError
from configs.loading import load_job
from transforms.files import upload_folder
from transforms.scoring.engine import load_engine
from transforms.scoring.foreign_models import ForeignCall, find_outputs
from transforms.scoring.precompute import PrecomputePredictions
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace, save_axes
from transforms.space.planning import make_plan

pytestmark = pytest.mark.slow
WORD = Axis("word", "values", pa.table({"word": ["a", "b", "zz", "ü☂", None, "d"]}))
SIZE = Axis("size", "range", pa.table({"size": pa.array([*(np.arange(-900, 900) / 16), None], pa.float64())}))
COUNT = Axis("count", "values", pa.table({"count": pa.array([*range(12), 2**62 + 1, None], pa.int64())}))
# 6 x 1,801 x 14 points, of which the graph can tell some hundreds apart; no point of one of those is left.
SPACE = InputSpace((WORD, SIZE, COUNT), exclude="count = 5 OR (size > 55 AND word = 'b')")


@pytest.fixture(scope="module")
def scoring(tmp_path_factory, cloud, vertex_twin):
    """A model of random weights, and the table that the laptop's engine makes with it."""
    folder = tmp_path_factory.mktemp("scoring")
    model_dir = save_random_model(str(folder / "model"), Recipe(("vocabulary", "buckets", "number"), (8,), "tanh"))
    url = cloud.storage.url()
    run_path = f"{url}/natality/{RUN_DATE}/0123456789ab"
    upload_folder(model_dir, f"{run_path}/model", last="saved_model.pb")
    save_axes(SPACE, f"{run_path}/axes")
    plan = make_plan(SPACE, model_dir, FEATURES, OUTPUTS, 1, 10**9)
    transform = PrecomputePredictions(
        plan, f"{run_path}/axes", model_dir, TYPES, OUTPUTS, str(folder / "predictions"), "model0123456789", "transform"
    )
    classes = [len(found) for found in load_engine(transform.engine_files).classes]
    instances = classes[0] * classes[1] * (classes[2] - 1)  # of the excluded count nothing is left
    blessing = {"format": 1, "finished_at": "", "blessed": True, "model_version": "model0123456789", "metrics": {}}
    storage.write_json(f"{run_path}/blessing.json", blessing)
    model = TrainedModel("0123456789ab", RUN_DATE, run_path, "model0123456789", "transform", "definition", None)
    return Scoring(cloud, vertex_twin, url, NATALITY, model, transform, laptop_table(transform), instances)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, cloud, vertex_twin):
    """As `scoring`, of a model that somebody else made, whose signature is not the default one."""
    folder = tmp_path_factory.mktemp("foreign")
    model_dir = save(FlatModel(), folder / "model", "rate")
    tree = yaml.safe_load(JOB.format(model=model_dir))
    tree["model"]["signature"] = "rate"
    (folder / "flats.yaml").write_text(yaml.safe_dump(tree))
    job = load_job(str(folder / "flats.yaml"))
    area = pa.array([10.1, 12.3, 2.0**30, None], pa.float64())
    columns = {"city": ["Zürich", "Bern", None], "area": area, "rooms": [1, 2, None], "is_new": [0, 1]}
    axes = tuple(Axis(name, "values", pa.table({name: values})) for name, values in columns.items())
    space = InputSpace(axes, exclude="rooms = 1 AND city = 'Bern'")
    outputs, call = find_outputs(model_dir, "rate", job.model.outputs), ForeignCall.of("rate", job.features)
    url = cloud.storage.url()
    save_axes(space, f"{url}/flats/axes")
    plan = make_plan(space, model_dir, job.features, outputs, 1, 10**9, foreign=call)
    types = {name: feature.type for name, feature in job.features.items()}
    shards = str(folder / "predictions")
    transform = PrecomputePredictions(
        plan, f"{url}/flats/axes", model_dir, types, outputs, shards, "flat", "", foreign=call
    )
    model = GivenModel(model_dir, "flat")
    return Scoring(
        cloud, vertex_twin, url, str(folder / "flats.yaml"), model, transform, laptop_table(transform), plan.rows
    )


@pytest.fixture(autouse=True)
def _prompt(monkeypatch, vertex_twin):
    monkeypatch.setattr(vertex_jobs, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "FIRST_POLL_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "LONGEST_POLL_SECONDS", 0.2)
    monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 0.5)
    vertex_twin.faults.clear()


def test_files_give_the_laptops_table(scoring):
    night = scoring.night(jobs=2, starting_replica_count=2)
    scoring.assert_expected(scoring.run(night))
    first, second = (job.message for job in scoring.jobs(night))
    keys = scoring.sent(night, 1)
    assert len(set(keys)) == len(keys) == scoring.instances
    (folder,) = (scoring.folder(night) / "batch_prediction").iterdir()
    files = [f"{night.run.path}/batch_prediction/{folder.name}/instances-{i:05d}-of-00004.jsonl" for i in range(4)]
    assert [list(job.input_config.gcs_source.uris) for job in (first, second)] == [files[::2], files[1::2]]
    assert first.display_name != second.display_name
    assert first.display_name.startswith(f"foretable-natality-precompute-{night.run.run_id}-")
    assert re.fullmatch(r"projects/proj/locations/us-central1/models/foretable-natality@\d+", first.model)
    assert (first.instance_config.instance_type, first.instance_config.key_field) == ("object", "key")
    assert first.dedicated_resources.machine_spec.machine_type == "n1-standard-4"
    assert first.dedicated_resources.starting_replica_count == 2
    assert first.manual_batch_tuning_parameters.batch_size == 50
    assert first.service_account == "sa@proj.iam"
    assert dict(second.labels) == {
        "foretable_job": "natality",
        "foretable_step": "precompute",
        "foretable_run_id": night.run.run_id,
        "foretable_run_date": "2026-01-05",
        "foretable_round": "1",
        "foretable_part": "1",
    }


def test_tables_give_the_laptops_table_and_expire(scoring):
    night = scoring.night(instances_format="bigquery", jobs=2)
    scoring.assert_expected(scoring.run(night))
    job = scoring.jobs(night)[0].message
    assert job.instance_config.instance_type == "object"
    assert list(job.instance_config.excluded_fields) == ["key"]
    warehouse = night.job.warehouse
    dataset = f"{warehouse.project}.{warehouse.dataset}"
    client = bigquery.Client("proj", client_options={"api_endpoint": scoring.cloud.bigquery.endpoint})
    tables = [client.get_table(item) for item in client.list_tables(dataset)]
    assert {re.sub(r"_[0-9TZ_]+$|_[0-9a-f_]+$", "", table.table_id) for table in tables} == {
        "foretable_instances_natality",
        "predictions",
        "errors",
    }
    week = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)
    for table in tables:
        assert abs(table.expires - week) < datetime.timedelta(minutes=5), table.table_id
    instances = [table for table in tables if table.table_id.startswith("foretable")]
    assert sum(table.num_rows for table in instances) == scoring.instances
    assert [field.name for field in instances[0].schema] == ["key", "example"]
    before = len(scoring.jobs(night))
    scoring.assert_expected(scoring.run(scoring.night(night.run.run_id, instances_format="bigquery")))
    assert len(scoring.jobs(night)) == before


@pytest.mark.parametrize("instances_format", ["jsonl", "bigquery"])
def test_what_is_lost_or_fails_is_sent_once_more(scoring, instances_format):
    from twins.vertex_faults import JobFault

    dataset = f"proj.{scoring.cloud.bigquery.new_dataset()}" if instances_format == "bigquery" else None
    night = scoring.night(instances_format=instances_format, batch_size=10, dataset=dataset)
    scoring.twin.faults.on_job("batch", JobFault(lose=3, repeat=5, fail=2, fail_batches=1))
    scoring.assert_expected(scoring.run(night))
    assert len(scoring.jobs(night)) == 2
    (problem,) = said(night, "sent once more")
    counted = "12 failed, and of 3 nothing came back"
    assert f"no prediction came for 15 of {scoring.instances} instances ({counted}): (word=" in problem
    assert " and 12 more" in problem
    assert "upstream request timeout" in problem
    assert said(night, "5 predictions came twice: the first of each counts")
    if dataset is not None:
        first, second = (job.message for job in scoring.jobs(night))
        assert first.input_config.bigquery_source.input_uri.startswith(f"bq://{dataset}.foretable_instances_natality_")
        assert second.output_info.bigquery_output_dataset == f"bq://{dataset}"
    else:
        assert len(scoring.sent(night, 2)) == 15
        assert set(scoring.sent(night, 2)) < set(scoring.sent(night, 1))


def test_what_is_lost_twice_is_named_and_a_later_start_sends_only_that(scoring):
    from twins.vertex_faults import JobFault

    night = scoring.night()
    scoring.twin.faults.on_job("batch", JobFault(lose=9))
    scoring.twin.faults.on_job("batch", JobFault(lose=3, fail=1))
    with pytest.raises(ForetableError) as failure:
        scoring.run(night)
    line = str(failure.value)
    counted = f"no prediction came for 4 of {scoring.instances} instances (1 failed, and of 3 nothing came back)"
    assert line.startswith(f"precompute: {counted}: (word=")
    points = r"\(word=.*, size=.*, count=.*\); \(word=.*\); \(word=.*\) and 1 more"
    assert re.search(rf"{points}; the jobs' errors say .*; in 2 rounds: see gs://", line)
    (path,) = (scoring.folder(night) / "batch_prediction").glob("2-*/missing.jsonl")
    place = f"{night.run.path}/batch_prediction/{path.parent.name}/missing.jsonl"
    assert line.endswith(f" see {place}; the same command sends them once more")
    listed = [json.loads(text) for text in path.read_text().splitlines()]
    assert [set(each) for each in listed] == [{"key", "values", "reason"}] * 4
    assert {each["reason"] for each in listed} == {None}  # files of errors name no instances
    shown = ", ".join(f"{name}={value!r}" for name, value in listed[0]["values"].items())
    assert f"instances (1 failed, and of 3 nothing came back): ({shown})" in line
    assert "\n" not in line
    assert not list((scoring.folder(night) / "predictions").glob("*"))
    again = scoring.night(night.run.run_id)
    scoring.assert_expected(scoring.run(again))
    assert scoring.sent(again, 3) == [each["key"] for each in listed]
    assert len(scoring.jobs(again)) == 3
    assert len(said(again, "was done before")) == 2


@pytest.mark.parametrize("moment", ["instances for batch", "job: running", "job: succeeded"])
def test_a_killed_night_attaches_to_its_job(scoring, moment, monkeypatch):
    monkeypatch.setattr(scoring.twin, "batch_seconds", 0.1)
    night = scoring.night()
    killed = dataclasses.replace(night, console=Interrupting(moment))
    with pytest.raises(KeyboardInterrupt):
        scoring.run(killed)
    scoring.assert_expected(scoring.run(night))
    assert len(scoring.jobs(night)) == 1
    attached = "attached to|was done before"
    assert len(said(night, attached)) == (0 if moment == "instances for batch" else 1)


def test_finished_shards_need_no_vertex(scoring):
    night = scoring.night()
    scoring.run(night)
    shards = sorted((scoring.folder(night) / "predictions").glob("part-*.parquet"))
    content = [shard.read_bytes() for shard in shards]
    storage.remove_all_but(night.run.file("predictions"), {shards[0].name, f"{shards[0].name}.json", shards[2].name})
    scoring.assert_expected(scoring.run(night))
    assert [shard.read_bytes() for shard in shards] == content
    scoring.twin.faults.clear()
    scoring.assert_expected(scoring.run(night))
    assert scoring.twin.faults.calls == []


def test_a_failed_job_is_explained_and_tried_under_the_next_name(scoring):
    from twins.vertex_faults import JobFault

    night = scoring.night(jobs=2)
    scoring.twin.faults.on_job("batch", JobFault(error=(13, "Model server exited."), lines=("OOM when allocating",)))
    with pytest.raises(
        ForetableError, match=r"Model server exited.*OOM when allocating.*see https://console"
    ) as failure:
        scoring.run(night)
    assert "\n" not in str(failure.value)
    scoring.assert_expected(scoring.run(night))
    names = [job.message.display_name for job in scoring.jobs(night)]
    assert [name for name in names if name.endswith("-2")]
    assert len(scoring.sent(night, 1)) == scoring.instances


def test_a_job_that_does_not_end_is_given_up_and_cancelled(scoring):
    from twins.vertex_faults import JobFault

    night = scoring.night(timeout="1s")
    scoring.twin.faults.on_job("batch", JobFault(never_ends=True))
    expected = r"^precompute: batch prediction job \S+ has not ended in 1 s and is cancelled; raise its timeout"
    with pytest.raises(ForetableError, match=expected):
        scoring.run(night)
    (job,) = scoring.jobs(night)
    assert job.is_cancelled.is_set()


def test_a_quota_is_one_line(scoring):
    from twins.vertex_faults import quota_exceeded

    night = scoring.night()
    metric = "aiplatform.googleapis.com/custom_model_serving_cpus"
    scoring.twin.faults.on_call("POST", "batchPredictionJobs$", quota_exceeded(metric))
    with pytest.raises(ForetableError, match=f"{metric}.*quotas") as failure:
        scoring.run(night)
    assert "\n" not in str(failure.value)
    assert scoring.jobs(night) == []
    scoring.assert_expected(scoring.run(night))


@pytest.mark.parametrize("instances_format", ["jsonl", "bigquery"])
def test_somebody_elses_model_gets_its_own_inputs(foreign, instances_format):
    night = foreign.night(instances_format=instances_format)
    foreign.assert_expected(foreign.run(night))
    (job,) = foreign.jobs(night)
    assert job.message.completion_stats.successful_count == foreign.instances
    if instances_format == "jsonl":
        (file,) = foreign.folder(night).glob("batch_prediction/*/instances-*.jsonl")
        first = json.loads(file.read_text().splitlines()[0])
        assert first == {"key": "0", "city": ["Zürich"], "area": 10.1, "rooms": [1], "is_new": False}


def test_a_prediction_that_is_no_number_is_refused_by_its_point(scoring, monkeypatch):
    from beam_jobs.vertex import batch_prediction

    decode = batch_prediction.decode

    def spoilt(answers, outputs):
        columns = decode(answers, outputs)
        columns["price"][:] = np.nan
        return columns

    monkeypatch.setattr(batch_prediction, "decode", spoilt)
    with pytest.raises(RefusedError, match=r"the model's output 'price' is nan for word='a', size=-56.25, count=0"):
        scoring.run(scoring.night())


def test_files_of_either_documented_name_are_read(storage_twin, cloud):
    folder = f"{storage_twin.url()}/output/prediction-m-2026-01-05T01:02:03.004Z"
    output = BatchPredictionJob.OutputInfo(gcs_output_directory=f"{folder}/")
    job = VertexJob("n", "d", "SUCCEEDED", "", "", BatchPredictionJob(output_info=output))
    exchange = FileExchange(folder, "key")
    assert not exchange.has_output(job)
    error = {"key": "4", "error": {"code": 3, "message": "bad"}}
    for name, content in {
        "prediction.results-00000-of-00002": '{"key": "1", "prediction": 1.5}\n{"key": "2", "prediction": 2}\n',
        "predictions_0001.jsonl": '{"key": "3", "prediction": 3.5}',
        "prediction.errors_stats-00000-of-00001": "('Post request fails.', 64)\n",
        "errors_0001.jsonl": json.dumps(error),
        "another": "x",
    }.items():
        storage.write_bytes(f"{folder}/{name}", content.encode())
    assert exchange.has_output(job)
    assert [list(zip(each.keys, each.values, strict=True)) for each in exchange.answers(job)] == [
        [("1", 1.5), ("2", 2)],
        [("3", 3.5)],
    ]
    assert list(exchange.failures(job)) == [Failure("4", "bad"), Failure(None, "('Post request fails.', 64)")]
