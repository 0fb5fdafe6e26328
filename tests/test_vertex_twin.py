"""The Vertex twin, by the unpatched clients: what it takes, refuses and lists, and how it misbehaves."""

import json
import math
import time
import urllib.error
import urllib.request

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from twins import vertex_faults as faults
from twins.vertex_faults import JobFault
from vertex_calls import (
    CONTAINER,
    Clients,
    custom_job,
    ended,
    output,
    pool,
    run_custom,
    save_served_model,
    third,
    write,
)


@pytest.fixture
def twin(vertex_twin):
    """Vertex AI with the jobs of other tests, since a list has to find its own."""
    vertex_twin.faults.clear()
    yield vertex_twin
    vertex_twin.faults.clear()
    vertex_twin.longest_page, vertex_twin.predictions_are_doubles = 100, False


@pytest.fixture(scope="module")
def clients(vertex_twin):
    return Clients(vertex_twin.endpoint)


@pytest.fixture(scope="module")
def artifact(vertex_twin, tmp_path_factory):
    return save_served_model(vertex_twin, tmp_path_factory.mktemp("model"))


def post(twin, path, body):
    """Status and error of a call with this JSON."""
    request = urllib.request.Request(
        f"{twin.endpoint}/v1/{twin.parent}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)
    return refusal.value.code, json.load(refusal.value)["error"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "customJobs",
            {"displayName": "x", "jobSpec": {"workerPoolSpec": []}},
            "Invalid JSON payload received. Unknown name \"workerPoolSpec\" at 'custom_job.job_spec': Cannot find field.",
        ),
        (
            "batchPredictionJobs",
            {"instancesConfig": {}},
            "Invalid JSON payload received. Unknown name \"instancesConfig\" at 'batch_prediction_job': Cannot find field.",
        ),
        ("models:upload", {"models": {}}, 'Invalid JSON payload received. Unknown name "models": Cannot find field.'),
        (
            "endpoints",
            {"displayName": 5},
            "Invalid value at 'endpoint.displayName': expected string or bytes-like object, got 'int'.",
        ),
    ],
    ids=["custom", "batch", "model", "endpoint"],
)
def test_what_the_proto_does_not_know_is_refused(twin, path, body, message):
    code, error = post(twin, path, body)
    assert (code, error["status"], error["message"]) == (400, "INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (custom_job("", pool("true")), "custom_job.display_name; Message: Required field is not set."),
        (custom_job("x"), "custom_job.job_spec.worker_pool_specs; Message: Required field is not set."),
        (custom_job("x", pool("true", replicas=2)), "Replica count of the first worker pool must be 1."),
        (custom_job("x", pool("true"), labels={"Upper": "x"}), "Label key Upper is invalid"),
        (custom_job("x", {"replica_count": 1}), "worker_pool_specs[0].task"),
        (custom_job("x", pool("true"), base_output_directory={"output_uri_prefix": "/tmp"}), "Cloud Storage URI"),
        (custom_job("x", pool("true"), tensorboard="projects/p/locations/l/tensorboards/1"), "service account"),
    ],
    ids=["name", "pools", "replicas", "labels", "task", "folder", "tensorboard"],
)
def test_a_custom_job_that_cannot_be_is_refused(twin, clients, job, words):
    with pytest.raises(exceptions.BadRequest) as refusal:
        clients.jobs.create_custom_job(parent=twin.parent, custom_job=job)
    assert words in refusal.value.message


@pytest.fixture(scope="module")
def listed(vertex_twin, clients):
    """Five jobs, of which the last one failed."""
    for number in range(5):
        command = ("python", "-c", f"raise SystemExit({number // 4})")
        labels = {"number": str(number), **({"even": ""} if number % 2 == 0 else {})}
        job = custom_job(f"listed-{number}", pool(*command), labels=labels)
        name = clients.jobs.create_custom_job(parent=vertex_twin.parent, custom_job=job).name
    ended(clients.jobs.get_custom_job, name)
    for job in vertex_twin.jobs(display_name="listed"):
        ended(clients.jobs.get_custom_job, job.message.name)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('display_name="listed-3"', [3]),
        ('display_name:"listed-*"', [4, 3, 2, 1, 0]),
        ('display_name:"listed-*" AND NOT display_name="listed-3" AND display_name!=listed-0', [4, 2, 1]),
        ('display_name:"listed-*" AND state="JOB_STATE_FAILED"', [4]),
        ("labels.number=1 OR labels.number=2", [2, 1]),
        ('display_name:"listed-*" labels.even:*', [4, 2, 0]),
        ('display_name:"listed-*" AND (labels.number=0 OR state=JOB_STATE_FAILED)', [4, 0]),
        ('display_name:"listed-*" AND create_time>"2100-01-01T00:00:00Z"', []),
    ],
)
@pytest.mark.usefixtures("listed")
def test_lists_are_filtered_newest_first_and_come_in_pages(twin, clients, condition, expected):
    twin.longest_page = 2
    found = clients.jobs.list_custom_jobs({"parent": twin.parent, "filter": condition, "page_size": 50})
    assert [job.display_name for job in found] == [f"listed-{number}" for number in expected]
    assert len(twin.faults.calls) == max(1, math.ceil(len(expected) / 2))


@pytest.mark.parametrize("condition", ["colour=red", "display_name=", "(state=X", "state>JOB_STATE_FAILED", "AND"])
def test_a_filter_that_vertex_does_not_know_is_refused(twin, clients, condition):
    with pytest.raises(exceptions.BadRequest, match="Invalid filter"):
        clients.jobs.list_custom_jobs({"parent": twin.parent, "filter": condition})


def test_another_project_or_region_is_refused(twin, clients):
    with pytest.raises(exceptions.Forbidden):
        clients.jobs.list_custom_jobs(parent="projects/other/locations/us-central1")
    with pytest.raises(exceptions.BadRequest):
        clients.jobs.list_custom_jobs(parent="projects/proj/locations/europe-west4")


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (faults.refusal("RESOURCE_EXHAUSTED"), exceptions.TooManyRequests, "a fault of the tests"),
        (faults.refusal("INTERNAL"), exceptions.InternalServerError, "a fault of the tests"),
        (faults.refusal("UNAVAILABLE"), exceptions.ServiceUnavailable, "a fault of the tests"),
        (
            faults.quota_exceeded(),
            exceptions.TooManyRequests,
            "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus",
        ),
        (faults.rate_limited(), exceptions.TooManyRequests, "requests per minute per region"),
        (
            faults.permission_denied("aiplatform.customJobs.create"),
            exceptions.Forbidden,
            "Permission 'aiplatform.customJobs.create' denied on resource",
        ),
        (faults.connection_reset, requests.ConnectionError, ""),
        (faults.silence(0.01), requests.ConnectionError, ""),
    ],
    ids=["429", "500", "503", "quota", "rate", "permission", "reset", "silence"],
)
def test_a_call_fails_and_the_next_one_does_not(twin, clients, fault, error, words):
    twin.faults.on_call("POST", "customJobs$", fault)
    with pytest.raises(error) as failure:
        clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job("once", pool("true")))
    assert words in str(failure.value)
    before = len(twin.jobs(display_name="^once$"))
    clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job("once", pool("true")))
    assert len(twin.jobs(display_name="^once$")) == before + 1
    assert twin.faults.happened == 1


@pytest.mark.parametrize(
    "fault", [faults.lost_reply, faults.refusal_after_acting("UNAVAILABLE"), faults.silence(0, acts=True)]
)
def test_a_job_whose_creator_hears_nothing_is_there(twin, clients, fault):
    name = f"unheard-{time.monotonic_ns()}"
    twin.faults.on_call("POST", "customJobs$", fault)
    with pytest.raises((requests.ConnectionError, exceptions.ServiceUnavailable)):
        clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job(name, pool("true")))
    found = clients.jobs.list_custom_jobs({"parent": twin.parent, "filter": f'display_name="{name}"'})
    assert len(list(found)) == 1


def test_faults_may_wait_and_last(twin, clients):
    twin.faults.on_call("GET", "customJobs$", faults.refusal("NOT_FOUND"), count=2, skip=1)
    outcomes = []
    for _ in range(4):
        try:
            clients.jobs.list_custom_jobs(parent=twin.parent)
            outcomes.append("ok")
        except exceptions.NotFound:
            outcomes.append("404")
    assert outcomes == ["ok", "404", "404", "ok"]
    assert twin.faults.calls == ["GET projects/proj/locations/us-central1/customJobs"] * 4


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (JobFault(error=(9, "no such image"), lines=("pulling",)), 9, "no such image"),
        (faults.QUOTA_FAULT, 8, "exceed quota limits"),
    ],
    ids=["reason", "quota"],
)
def test_a_job_fails_for_a_reason(twin, clients, fault, code, words):
    twin.faults.on_job("custom", fault)
    job = run_custom(twin, clients, "failing", pool("true"))
    assert (job.state, job.error.code) == (v1.JobState.JOB_STATE_FAILED, code)
    assert words in job.error.message
    assert tuple(twin.jobs(display_name="^failing$")[-1].output) == fault.lines


@pytest.mark.parametrize(
    ("fault", "state"), [(JobFault(never_ends=True), "RUNNING"), (JobFault(never_starts=True), "QUEUED")]
)
def test_a_job_that_never_ends_can_be_cancelled(twin, clients, fault, state):
    twin.faults.on_job("custom", fault)
    job = clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job("endless", pool("true")))
    time.sleep(0.3)
    assert twin.jobs(display_name="^endless$")[-1].state == state
    clients.jobs.cancel_custom_job(name=job.name)
    assert ended(clients.jobs.get_custom_job, job.name).state == v1.JobState.JOB_STATE_CANCELLED


@pytest.mark.slow  # for the import of it
def test_the_high_level_sdk_finds_its_way(twin, clients, artifact, monkeypatch, tmp_path):
    from google.cloud import aiplatform
    from google.cloud.aiplatform import jobs

    monkeypatch.setattr(jobs, "_JOB_WAIT_TIME", 0.1)
    monkeypatch.setattr(jobs, "_LOG_WAIT_TIME", 0.1)
    aiplatform.init(
        project=twin.project,
        location=twin.region,
        api_endpoint=twin.endpoint,
        api_transport="rest",
        credentials=AnonymousCredentials(),
        staging_bucket=twin.storage.url(),
    )
    custom = aiplatform.CustomJob(display_name="sdk", worker_pool_specs=[pool("python", "-c", "print(1)")])
    custom.run(timeout=600, restart_job_on_worker_restart=False)
    assert custom.state.name == "JOB_STATE_SUCCEEDED"
    assert [job.display_name for job in aiplatform.CustomJob.list(filter='display_name="sdk"')] == ["sdk"]

    model = aiplatform.Model.upload(
        display_name="sdk", artifact_uri=artifact, serving_container_image_uri=CONTAINER, version_aliases=["golden"]
    )
    assert aiplatform.Model(f"{model.name}@golden").version_id == "1"
    folder = twin.storage.url()
    write(twin, f"{folder}/in.jsonl", json.dumps({"x": 3, "n": 1, "s": ""}))
    batch = model.batch_predict(
        job_display_name="sdk",
        gcs_source=f"{folder}/in.jsonl",
        gcs_destination_prefix=f"{folder}/out",
        machine_type="n1-standard-4",
    )
    assert output(twin, batch.gca_resource)[0][0]["prediction"]["third"] == third(3)
    endpoint = aiplatform.Endpoint.create(display_name="sdk")
    endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=100)
    assert endpoint.predict(instances=[{"x": 1, "n": 1, "s": ""}]).predictions[0]["next"] == 2
    endpoint.undeploy_all()
    endpoint.delete()
    model.delete()
