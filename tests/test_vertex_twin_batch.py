"""The Vertex twin's batch predictions: what goes in, what comes back, and what is lost on the way."""

import json
import math

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from twins.vertex_faults import JobFault
from vertex_calls import (
    LINES,
    Clients,
    files,
    output,
    run_batch,
    save_served_model,
    third,
    upload,
)


@pytest.fixture
def twin(clean_vertex_twin):
    yield clean_vertex_twin
    clean_vertex_twin.longest_page, clean_vertex_twin.predictions_are_doubles = 100, False


@pytest.fixture(scope="module")
def clients(vertex_twin):
    return Clients(vertex_twin.endpoint)


@pytest.fixture(scope="module")
def artifact(vertex_twin, tmp_path_factory):
    return save_served_model(vertex_twin, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(vertex_twin, clients, artifact):
    """A registered model's name."""
    return upload(vertex_twin, clients, artifact, model_id="batched").model


def test_batch_prediction_answers_each_line_by_its_key(twin, clients, model):
    job = run_batch(twin, clients, f"{model}@default")
    assert job.state == v1.JobState.JOB_STATE_SUCCEEDED, job.error
    assert (job.model_version_id, job.completion_stats.successful_count, job.completion_stats.failed_count) == (
        "1",
        20,
        0,
    )
    assert "/out/prediction-a model-" in job.output_info.gcs_output_directory
    lines, errors = output(twin, job)
    assert errors == []
    sent = [line["key"] for line in (*LINES[::2], *LINES[1::2])]
    parts = [text.splitlines() for text in files(twin, job.output_info.gcs_output_directory).values()]
    places = [[sent.index(json.loads(line)["key"]) for line in part] for part in parts]
    assert any(part != sorted(part) for part in places), "in no order"
    assert sorted(lines, key=lambda line: int(line["key"]))[7] == {
        "key": "7",
        "prediction": {"third": third(7), "next": 8, "pair": [7.0, -7.0], "s": "é7", "s_bytes": {"b64": "w6k3"}},
    }
    assert sorted(int(line["key"]) for line in lines) == list(range(20))


def test_an_instance_that_the_model_refuses_takes_its_batch_with_it(twin, clients, model):
    bad = [{**line, "n": -1} if line["key"] == "4" else line for line in LINES]
    job = run_batch(twin, clients, model, bad)
    lines, errors = output(twin, job)
    assert {line["key"] for line in LINES} - {line["key"] for line in lines} == {"0", "2", "4", "6"}
    (error,) = errors
    assert error.startswith(
        "('Post request fails. Cannot get predictions. Error: Exceeded retries: Non-OK result 400 ("
    )
    assert error.endswith(", 4)")
    assert job.completion_stats.failed_count == 4
    assert len(job.partial_failures) == 1


def test_numbers_go_through_doubles(twin, clients, model):
    big = 2**53 + 1
    lines, _ = output(twin, run_batch(twin, clients, model, [{"key": 1, "x": 0.1, "n": big, "s": ""}]))
    assert lines[0]["prediction"]["next"] == big  # 2^53, and one
    twin.predictions_are_doubles = True
    lines, _ = output(twin, run_batch(twin, clients, model, [{"key": 1, "x": 0.1, "n": big, "s": ""}]))
    assert lines[0]["prediction"]["next"] == 2**53
    lines, errors = output(twin, run_batch(twin, clients, model, [{"key": 1, "x": math.nan, "n": 1, "s": ""}]))
    assert lines == []
    assert "Invalid JSON token NaN" in errors[0]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"instance": LINES[3]}),
        ({"excluded_fields": ["key"]}, {"key": "3", "instance": {"x": 3, "n": 3, "s": "é3"}}),
        ({"included_fields": ["s", "n"]}, {"instance": {"s": "é3", "n": 3}}),
        ({"instance_type": "array", "included_fields": ["s", "n"]}, {"instance": ["é3", 3]}),
    ],
    ids=["all", "excluded", "included", "array"],
)
def test_fields_are_chosen_by_the_instance_config(twin, clients, model, monkeypatch, config, expected):
    def echo(version, body):
        return 200, json.dumps({"predictions": json.loads(body)["instances"]}).encode()

    monkeypatch.setattr(twin.serving, "predict", echo)
    lines, _ = output(twin, run_batch(twin, clients, model, LINES[:4], instance_config=config))
    (line,) = [line for line in lines if "é3" in str(line)]
    assert line == {**expected, "prediction": expected["instance"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instance_config": {"included_fields": ["a"], "excluded_fields": ["b"]}}, "cannot be set together"),
        ({"output_config": {"predictions_format": "parquet"}}, 'format "parquet" is not supported'),
        ({"dedicated_resources": {}}, "is not supported"),
        ({"model": ""}, "batch_prediction_job.model; Message: Required field is not set."),
        (
            {
                "instance_config": {"key_field": "key"},
                "output_config": {"predictions_format": "bigquery", "bigquery_destination": {"output_uri": "bq://p"}},
            },
            '"bigquery" output format does not support key_field.',
        ),
    ],
    ids=["fields", "format", "machines", "model", "key"],
)
def test_a_batch_prediction_job_that_cannot_be_is_refused(twin, clients, model, fields, words):
    with pytest.raises(exceptions.BadRequest) as refusal:
        run_batch(twin, clients, **{"model": model, **fields})
    assert words in refusal.value.message


def test_batch_prediction_without_input_fails(twin, clients, model):
    job = run_batch(
        twin, clients, model,
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bkt/none/*.jsonl"]}},
    )  # fmt: skip
    assert job.error.message == "No files match the input pattern: gs://bkt/none/*.jsonl"


def test_batch_prediction_reads_and_writes_tables(twin, clients, model):
    from google.cloud import bigquery

    dataset, client = twin.bigquery.new_dataset(), twin.bigquery_client()
    schema = [
        bigquery.SchemaField(name, kind)
        for name, kind in (("key", "STRING"), ("x", "FLOAT"), ("n", "INTEGER"), ("s", "STRING"))
    ]
    rows = [{**line, "n": -1 if line["key"] == "8" else line["n"]} for line in LINES[:10]]
    load = client.load_table_from_json(rows, f"proj.{dataset}.t", job_config=bigquery.LoadJobConfig(schema=schema))
    load.result()
    job = run_batch(
        twin, clients, model,
        input_config={"instances_format": "bigquery", "bigquery_source": {"input_uri": f"bq://proj.{dataset}.t"}},
        instance_config={"instance_type": "object", "excluded_fields": ["key"]},
        output_config={"predictions_format": "bigquery", "bigquery_destination": {"output_uri": f"bq://proj.{dataset}"}},
        manual_batch_tuning_parameters={"batch_size": 1},
    )  # fmt: skip
    assert job.state == v1.JobState.JOB_STATE_SUCCEEDED, job.error
    assert job.output_info.bigquery_output_dataset == f"bq://proj.{dataset}"
    table = job.output_info.bigquery_output_table
    assert table.startswith("predictions_2")
    predicted = {row["key"]: dict(row) for row in client.list_rows(f"proj.{dataset}.{table}")}
    assert sorted(predicted) == ["0", "1", "2", "3", "4", "5", "6", "7", "9"]
    assert {**predicted["3"], "prediction": json.loads(predicted["3"]["prediction"])} == {
        "key": "3", "x": 3.0, "n": 3, "s": "é3",
        "prediction": {"third": third(3), "next": 4, "pair": [3.0, -3.0], "s": "é3", "s_bytes": {"b64": "w6kz"}},
    }  # fmt: skip
    (error,) = client.list_rows(f"proj.{dataset}.{table.replace('predictions', 'errors')}")
    assert error["key"] == "8"
    assert error["errors"]["code"] == 13


def test_instances_are_lost_failed_and_repeated(twin, clients, model):
    twin.faults.on_job("batch", JobFault(lose=2, fail=3, repeat=1, fail_batches=1))
    job = run_batch(twin, clients, model)
    lines, errors = output(twin, job)
    keys = [line["key"] for line in lines]
    assert (len(keys), len(set(keys))) == (20 - 4 - 2 - 3 + 1, 20 - 4 - 2 - 3)
    assert [error[-4:] for error in errors] == [", 4)", ", 3)"]
    assert "504 (upstream request timeout)" in errors[0]
    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (13, 7)
    keys = [line["key"] for line in output(twin, run_batch(twin, clients, model))[0]]
    assert sorted(keys, key=int) == [line["key"] for line in LINES]  # the fault was one job's
