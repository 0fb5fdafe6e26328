"""The Vertex twin, by the unpatched clients: what it takes and refuses, what its jobs do, and how it misbehaves."""

import json
import math
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2
from twins import vertex_faults as faults
from twins.vertex_custom import shims
from twins.vertex_faults import JobFault
from twins.vertex_mount import named_places

ENDED = (v1.JobState.JOB_STATE_SUCCEEDED, v1.JobState.JOB_STATE_FAILED, v1.JobState.JOB_STATE_CANCELLED)
CONTAINER = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"


class Clients:
    """The generated clients, over REST."""

    def __init__(self, endpoint):
        options = {
            "credentials": AnonymousCredentials(),
            "transport": "rest",
            "client_options": {"api_endpoint": endpoint},
        }
        self.jobs, self.models = v1.JobServiceClient(**options), v1.ModelServiceClient(**options)
        self.endpoints, self.predictions = v1.EndpointServiceClient(**options), v1.PredictionServiceClient(**options)


@pytest.fixture
def twin(vertex_twin):
    vertex_twin.faults.clear()
    yield vertex_twin
    vertex_twin.faults.clear()
    vertex_twin.longest_page, vertex_twin.predictions_are_doubles = 100, False


@pytest.fixture(scope="module")
def clients(vertex_twin):
    return Clients(vertex_twin.endpoint)


@pytest.fixture(scope="module")
def artifact(vertex_twin, tmp_path_factory):
    """`gs://` folder of a SavedModel with two signatures: of several inputs and outputs, and of one string."""
    threading.Thread(target=vertex_twin.serving.start, daemon=True).start()  # it imports TensorFlow, too
    import tensorflow as tf

    inputs = (
        tf.TensorSpec([None], tf.float32, "x"),
        tf.TensorSpec([None], tf.int64, "n"),
        tf.TensorSpec([None], tf.string, "s"),
    )

    @tf.function(input_signature=inputs)
    def several(x, n, s):
        tf.debugging.assert_non_negative(n)
        return {"third": x + 1 / 3, "next": n + 1, "pair": tf.stack([x, -x], 1), "s": s, "s_bytes": s}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "example")])
    def lengths(example):
        return {"length": tf.strings.length(example)}

    model = tf.Module()
    model.several, model.lengths = several, lengths
    folder = tmp_path_factory.mktemp("model")
    tf.saved_model.save(model, str(folder), {"serving_default": several, "lengths": lengths})
    url = vertex_twin.storage.url()
    put(vertex_twin, url, folder)
    return url


def third(x):
    """The first output for `x`, as nine digits."""
    return float(f"{np.float32(x) + np.float32(1 / 3):.9g}")


def put(twin, url, folder):
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    for path in folder.rglob("*"):
        if path.is_file():
            blob = twin.storage_client().bucket(bucket).blob(f"{prefix}/{path.relative_to(folder).as_posix()}")
            blob.upload_from_filename(str(path))


def write(twin, url, text):
    bucket, _, name = url.removeprefix("gs://").partition("/")
    twin.storage_client().bucket(bucket).blob(name).upload_from_string(text)


def files(twin, url):
    """Texts of objects by their names below a folder."""
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    blobs = twin.storage_client().list_blobs(bucket, prefix=f"{prefix}/")
    return {blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes().decode() for blob in blobs}


def pool(*command, replicas=1, args=()):
    container = {"image_uri": "python:3.11", "command": list(command), "args": list(args)}
    return {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": replicas, "container_spec": container}


def custom_job(name, *pools, labels=None, **spec):
    return v1.CustomJob(display_name=name, labels=labels or {}, job_spec={"worker_pool_specs": list(pools), **spec})


def ended(get, name, seconds=60):
    deadline = time.monotonic() + seconds
    while (job := get(name=name)).state not in ENDED:
        assert time.monotonic() < deadline, f"{name} is {job.state.name}"
        time.sleep(0.05)
    return job


def run_custom(twin, clients, *arguments, **spec):
    job = clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job(*arguments, **spec))
    return ended(clients.jobs.get_custom_job, job.name)


def upload(twin, clients, artifact="gs://bkt/model", image=CONTAINER, **fields):
    request = {name: fields.pop(name) for name in ("model_id", "parent_model") if name in fields}
    model = {"display_name": "a model", "artifact_uri": artifact, "container_spec": {"image_uri": image}, **fields}
    return clients.models.upload_model({"parent": twin.parent, "model": model, **request}).result()


def post(twin, path, body):
    """Status and error of a call with this JSON."""
    request = urllib.request.Request(
        f"{twin.endpoint}/v1/{twin.parent}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)
    return refusal.value.code, json.load(refusal.value)["error"]


# Calls and lists


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


# Custom jobs

REPORT = """
import json, os, pathlib, sys
mount = pathlib.Path(os.environ["FORETABLE_GCS_MOUNT"])
print(json.dumps({name: os.environ.get(name) for name in ("AIP_MODEL_DIR", "AIP_CHECKPOINT_DIR",
    "AIP_TENSORBOARD_LOG_DIR", "CLOUD_ML_JOB_ID", "EXTRA", "TF_CONFIG")}))
print("a complaint", file=sys.stderr)
source = mount / sys.argv[1].removeprefix("gs://")
model = mount / os.environ["AIP_MODEL_DIR"].removeprefix("gs://")
model.mkdir(parents=True)
(model / "saved_model.pb").write_text(source.read_text().upper())
source.unlink()
"""


def test_a_custom_job_runs_its_command_with_vertex_variables_on_the_mount(twin, clients):
    base = twin.storage.url()
    write(twin, f"{base}/in.txt", "content")
    worker = pool("python", "-c", REPORT, args=[f"{base}/in.txt"])
    worker["container_spec"]["env"] = [{"name": "EXTRA", "value": "more"}]
    job = run_custom(twin, clients, "report", worker, base_output_directory={"output_uri_prefix": f"{base}/run"})

    assert job.state == v1.JobState.JOB_STATE_SUCCEEDED, job.error
    assert job.create_time <= job.start_time <= job.end_time
    assert job.name.startswith("projects/704500000001/locations/us-central1/customJobs/")
    (run,) = twin.jobs(display_name="^report$")
    assert json.loads(run.output[0] if run.output[0].startswith("{") else run.output[1]) == {
        "AIP_MODEL_DIR": f"{base}/run/model/",
        "AIP_CHECKPOINT_DIR": f"{base}/run/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{base}/run/logs/",
        "CLOUD_ML_JOB_ID": run.id,
        "EXTRA": "more",
        "TF_CONFIG": None,
    }
    assert files(twin, base) == {"run/model/saved_model.pb": "CONTENT"}

    complaints = log_entries(twin, f'resource.type="ml_job" AND resource.labels.job_id="{run.id}" AND severity>=ERROR')
    assert [(entry["jsonPayload"]["message"], entry["logName"]) for entry in complaints["entries"]] == [
        ("a complaint", "projects/proj/logs/workerpool0-0")
    ]


def log_entries(twin, condition, **asked):
    body = {"resourceNames": ["projects/proj"], "filter": condition, **asked}
    return requests.post(f"{twin.endpoint}/v2/entries:list", json=body, timeout=10).json()


def test_log_entries_come_in_order_and_in_pages(twin, clients):
    run_custom(twin, clients, "logs", pool("python", "-c", "for n in range(5): print(n)"))
    condition = f'resource.labels.job_id="{twin.jobs(display_name="^logs$")[0].id}"'
    for order, expected in (("timestamp asc", "01234"), ("timestamp desc", "43210")):
        first = log_entries(twin, condition, orderBy=order, pageSize=3)
        rest = log_entries(twin, condition, orderBy=order, pageSize=3, pageToken=first["nextPageToken"])
        assert "nextPageToken" not in rest
        assert "".join(entry["jsonPayload"]["message"] for entry in first["entries"] + rest["entries"]) == expected
    assert log_entries(twin, f'{condition} AND timestamp>="2100-01-01T00:00:00Z"')["entries"] == []
    assert log_entries(twin, "", filters="")["error"]["status"] == "INVALID_ARGUMENT"


def test_several_replicas_know_of_each_other(twin, clients):
    script = "import os; print(os.environ['TF_CONFIG']); print(os.environ['CLUSTER_SPEC'])"
    waits = f"{script}; import time; time.sleep(1)"
    job = run_custom(twin, clients, "several", pool("python", "-c", waits), pool("python", "-c", script, replicas=2))
    assert job.state == v1.JobState.JOB_STATE_SUCCEEDED, job.error
    (run,) = twin.jobs(display_name="^several$")
    printed = {line.task: [] for line in run.lines}
    for line in run.lines:
        printed[line.task].append(json.loads(line.text))
    tasks = {task: [config["task"], spec["task"]] for task, (config, spec) in printed.items()}
    assert tasks == {
        "workerpool0-0": [{"type": "chief", "index": 0}, {"type": "workerpool0", "index": 0}],
        "workerpool1-0": [{"type": "worker", "index": 0}, {"type": "workerpool1", "index": 0}],
        "workerpool1-1": [{"type": "worker", "index": 1}, {"type": "workerpool1", "index": 1}],
    }
    config, spec = printed["workerpool1-1"]
    assert {role: len(hosts) for role, hosts in config["cluster"].items()} == {"chief": 1, "worker": 2}
    assert list(spec["cluster"].values()) == list(config["cluster"].values())


def test_a_replica_that_fails_fails_the_job(twin, clients):
    idle = pool("sleep", "60")
    job = run_custom(twin, clients, "fails", idle, pool("python", "-c", "print('last words'); raise SystemExit(3)"))
    assert (job.state, job.error.code) == (v1.JobState.JOB_STATE_FAILED, 3)
    assert job.error.message.startswith(
        "The replica workerpool1-0 exited with a non-zero status of 3. To find out more about why your job exited"
        " please check the logs: https://console.cloud.google.com/logs/viewer?project=704500000001&resource=ml_job"
    )
    assert twin.jobs(display_name="^fails$")[0].output == ["last words"]


def test_a_shell_installs_from_the_mount_and_goes_on_with_this_python(twin, clients):
    base = twin.storage.url()
    write(twin, f"{base}/package.tar.gz", "")
    script = f"""python -m pip install --quiet "$FORETABLE_GCS_MOUNT"/{base.removeprefix("gs://")}/$0 && exec python -c 'print(6 * 7)'"""
    assert run_custom(twin, clients, "shell", pool("sh", "-c", script, "package.tar.gz")).state.name.endswith(
        "SUCCEEDED"
    )
    assert twin.jobs(display_name="^shell$")[0].output == ["Successfully installed package.tar.gz", "42"]
    assert run_custom(twin, clients, "no-shell", pool("sh", "-c", script, "none.tar.gz")).state.name.endswith("FAILED")


def test_a_job_is_cancelled_and_only_then_deleted(twin, clients):
    job = clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job("long", pool("sleep", "60")))
    while not twin.jobs(display_name="^long$")[0].processes:
        time.sleep(0.05)
    (process,) = twin.jobs(display_name="^long$")[0].processes
    with pytest.raises(exceptions.BadRequest, match="cannot be deleted"):
        clients.jobs.delete_custom_job(name=job.name)
    clients.jobs.cancel_custom_job(name=job.name)
    job = ended(clients.jobs.get_custom_job, job.name)
    assert (job.state, job.error.message) == (v1.JobState.JOB_STATE_CANCELLED, "CANCELED")
    assert process.wait(5) != 0
    with pytest.raises(exceptions.BadRequest, match="cannot be cancelled"):
        clients.jobs.cancel_custom_job(name=job.name)
    clients.jobs.delete_custom_job(name=job.name).result()
    with pytest.raises(exceptions.NotFound):
        clients.jobs.get_custom_job(name=job.name)


EPOCHS = """
import os, pathlib, time
mount = pathlib.Path(os.environ["FORETABLE_GCS_MOUNT"])
folder = mount / os.environ["AIP_CHECKPOINT_DIR"].removeprefix("gs://")
done = len(list(folder.glob("*/state.json")))
print("starts at", done)
for epoch in range(done, 4):
    (folder / str(epoch)).mkdir(parents=True)
    (folder / str(epoch) / "state.json").write_text("{}")
    time.sleep(0.7)
"""


def test_a_preempted_job_begins_anew_with_what_it_left_in_the_bucket(twin, clients):
    twin.faults.on_job("custom", JobFault(preempt_after_checkpoints=2), display_name="^preempted$")
    spec = {
        "base_output_directory": {"output_uri_prefix": twin.storage.url()},
        "scheduling": {"restart_job_on_worker_restart": True},
    }
    job = run_custom(twin, clients, "preempted", pool("python", "-c", EPOCHS), **spec)
    (run,) = twin.jobs(display_name="^preempted$")
    assert (job.state, run.attempts, run.preempted) == (v1.JobState.JOB_STATE_SUCCEEDED, 2, 1)
    first, _, second = run.output
    assert first == "starts at 0"
    assert second in ("starts at 2", "starts at 3")


def test_a_preempted_job_that_may_not_restart_fails(twin, clients):
    twin.faults.on_job("custom", JobFault(preempt_after_checkpoints=1), display_name="^lost$")
    job = run_custom(
        twin, clients, "lost", pool("python", "-c", EPOCHS),
        base_output_directory={"output_uri_prefix": twin.storage.url()},
        scheduling={"strategy": "SPOT", "disable_retries": True},
    )  # fmt: skip
    assert (job.state, job.error.message) == (v1.JobState.JOB_STATE_FAILED, "STOCKOUT: the machines were preempted.")


def test_the_mount_has_the_folders_that_a_job_names(tmp_path):
    texts = ["gs://bkt/one/run", '"$mount"/bkt/two/x.txt', "/gcs/bkt/three", "gs://other/four", "--a=gs://bkt/five/"]
    assert named_places(texts, ["bkt"]) == {("bkt", "one"), ("bkt", "two"), ("bkt", "three"), ("bkt", "five")}
    shims(tmp_path / "bin")
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["pip", "pip.py", "pip3", "python", "python3"]


# Models


def test_versions_and_their_aliases(twin, clients):
    first = upload(twin, clients, model_id="of-two", labels={"night": "1"}, version_aliases=["champion"])
    second = upload(twin, clients, parent_model=first.model, labels={"night": "2"}, version_aliases=["challenger"])
    assert (first.model_version_id, second.model_version_id) == ("1", "2")
    assert clients.models.get_model(name=first.model).version_id == "1"
    assert clients.models.get_model(name=f"{first.model}@challenger").labels == {"night": "2"}

    clients.models.merge_version_aliases(
        name=f"{first.model}@2", version_aliases=["champion", "-challenger", "default"]
    )
    versions = list(clients.models.list_model_versions(name=first.model))
    assert [(version.version_id, sorted(version.version_aliases)) for version in versions] == [
        ("2", ["champion", "default"]),
        ("1", []),
    ]
    with pytest.raises(exceptions.NotFound):
        clients.models.get_model(name=f"{first.model}@challenger")
    found = clients.models.list_model_versions({"name": first.model, "filter": 'labels.night="1"'})
    assert [version.version_id for version in found] == ["1"]
    assert [
        model.version_id for model in clients.models.list_models({"parent": twin.parent, "filter": "model=of-two"})
    ] == ["2"]


def test_registry_refuses_what_vertex_refuses(twin, clients):
    model = upload(twin, clients, model_id="refusing").model
    with pytest.raises(exceptions.Conflict):
        upload(twin, clients, model_id="refusing")
    with pytest.raises(exceptions.BadRequest, match="default alias"):
        clients.models.merge_version_aliases(name=f"{model}@1", version_aliases=["-default"])
    with pytest.raises(exceptions.BadRequest, match="should match"):
        clients.models.merge_version_aliases(name=f"{model}@1", version_aliases=["2"])
    with pytest.raises(exceptions.BadRequest, match="only version"):
        clients.models.delete_model_version(name=f"{model}@1")
    upload(twin, clients, parent_model=model)
    with pytest.raises(exceptions.BadRequest, match="default version"):
        clients.models.delete_model_version(name=f"{model}@1")
    clients.models.delete_model_version(name=f"{model}@2").result()
    assert upload(twin, clients, parent_model=model).model_version_id == "3"
    with pytest.raises(exceptions.BadRequest, match="cannot be updated"):
        clients.models.update_model(model={"name": f"{model}@1", "display_name": "x"}, update_mask="displayName")
    clients.models.delete_model(name=model).result()
    with pytest.raises(exceptions.NotFound):
        clients.models.get_model(name=model)


def test_labels_are_the_models_or_the_versions(twin, clients):
    model = upload(twin, clients, model_id="labelled", labels={"of": "version"}).model
    clients.models.update_model(model={"name": model, "labels": {"all": "yes"}}, update_mask="labels")
    clients.models.update_model(model={"name": f"{model}@1", "labels": {"one": "yes"}}, update_mask="labels")
    assert clients.models.get_model(name=model).labels == {"all": "yes", "one": "yes"}


def test_evaluations_belong_to_a_version(twin, clients):
    model = upload(twin, clients, model_id="evaluated").model
    evaluation = {"display_name": "eval", "metrics_schema_uri": "gs://google-cloud-aiplatform/schema/x.yaml"}
    clients.models.import_model_evaluation(parent=f"{model}@1", model_evaluation=evaluation)
    assert [each.display_name for each in clients.models.list_model_evaluations(parent=model)] == ["eval"]


# Predictions


def values(*instances):
    return [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]


def deployed(model, **fields):
    resources = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}
    return {"model": model, "dedicated_resources": resources, **fields}


def test_an_endpoint_predicts_with_the_versions_that_have_traffic(twin, clients, artifact):
    model = upload(twin, clients, artifact, model_id="online").model
    upload(twin, clients, artifact, parent_model=model, version_aliases=["champion"])
    endpoint = clients.endpoints.create_endpoint(
        parent=twin.parent, endpoint={"display_name": "online"}, endpoint_id="online"
    ).result()
    with pytest.raises(exceptions.BadRequest, match="traffic_split"):
        clients.predictions.predict(endpoint=endpoint.name, instances=values({}))
    first = clients.endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=deployed(model), traffic_split={"0": 100}
    ).result().deployed_model  # fmt: skip
    with pytest.raises(exceptions.BadRequest, match="must add up to 100, found 110"):
        clients.endpoints.deploy_model(
            endpoint=endpoint.name, deployed_model=deployed(model), traffic_split={"0": 10, first.id: 100}
        )
    second = clients.endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=deployed(f"{model}@champion"), traffic_split={"0": 50, first.id: 50}
    ).result().deployed_model  # fmt: skip
    assert (first.model_version_id, second.model_version_id) == ("1", "2")

    instance = {"x": 1, "n": 2**53 + 1, "s": "é"}
    answers = [clients.predictions.predict(endpoint=endpoint.name, instances=values(instance)) for _ in range(20)]
    assert {answer.model_version_id for answer in answers} == {"1", "2"}
    assert json_format.MessageToDict(v1.PredictResponse.pb(answers[0]).predictions[0]) == {
        "third": third(1),
        "next": 2**53 + 1.0,  # an integer that is sent as a number becomes a double
        "pair": [1, -1],
        "s": "é",
        "s_bytes": {"b64": "w6k="},
    }
    raw = json.dumps({"instances": [instance], "signature_name": "none"}).encode()
    with pytest.raises(exceptions.BadRequest, match="not found in signature def"):
        clients.predictions.raw_predict(endpoint=endpoint.name, http_body={"data": raw})
    raw = json.dumps({"instances": ["four"], "signature_name": "lengths"}).encode()
    answer = clients.predictions.raw_predict(endpoint=endpoint.name, http_body={"data": raw})
    assert json.loads(answer.data) == {"predictions": [4]}

    with pytest.raises(exceptions.BadRequest, match="has deployed"):
        clients.endpoints.delete_endpoint(name=endpoint.name)
    with pytest.raises(exceptions.BadRequest, match="is deployed"):
        clients.models.delete_model(name=model)
    with pytest.raises(exceptions.BadRequest, match="still has traffic"):
        clients.endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=first.id)
    clients.endpoints.update_endpoint(
        endpoint={"name": endpoint.name, "traffic_split": {second.id: 100}}, update_mask="trafficSplit"
    )
    for each in (first, second):
        clients.endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=each.id).result()
    clients.endpoints.delete_endpoint(name=endpoint.name).result()
    assert not list(clients.endpoints.list_endpoints({"parent": twin.parent, "filter": "endpoint=online"}))


def test_a_model_that_its_container_cannot_load_is_not_deployed(twin, clients, artifact):
    endpoint = clients.endpoints.create_endpoint(parent=twin.parent, endpoint={"display_name": "bad"}).result()
    for uri, image, words in (
        ("gs://bkt/nothing-there", CONTAINER, "is expected to contain files"),
        (artifact, "tensorflow/serving:2.15.0", "is expected to contain NUMBER/saved_model.pb"),
    ):
        model = upload(twin, clients, uri, image).model
        with pytest.raises(exceptions.GoogleAPICallError, match=words):
            clients.endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model)).result()


LINES = [{"key": str(n), "x": n, "n": n, "s": f"é{n}"} for n in range(20)]


def run_batch(twin, clients, model, lines=LINES, **fields):
    folder = twin.storage.url()
    write(twin, f"{folder}/in-0.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines[::2]))
    write(twin, f"{folder}/in-1.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines[1::2]))
    job = {
        "display_name": "batch",
        "model": model,
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": [f"{folder}/in-*.jsonl"]}},
        "instance_config": {"instance_type": "object", "key_field": "key"},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": f"{folder}/out"},
        },
        "dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-4"}, "starting_replica_count": 1},
        "manual_batch_tuning_parameters": {"batch_size": 4},
        **fields,
    }
    created = clients.jobs.create_batch_prediction_job(parent=twin.parent, batch_prediction_job=job)
    return ended(clients.jobs.get_batch_prediction_job, created.name)


def output(twin, job):
    """Lines of a job's result files, and of its error files."""
    found = files(twin, job.output_info.gcs_output_directory)
    lines = {"prediction.results": [], "prediction.errors_stats": []}
    for name, text in found.items():
        lines[name.partition("-")[0]] += text.splitlines()
    return [json.loads(line) for line in lines["prediction.results"]], lines["prediction.errors_stats"]


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


# Misbehaviour


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


# The high-level SDK


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
