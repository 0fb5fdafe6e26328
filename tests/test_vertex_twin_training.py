"""The Vertex twin's custom jobs: real commands, a mount, logs, several replicas, preemption."""

import json
import time

import pytest
import requests
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from twins.vertex_custom import shims
from twins.vertex_faults import JobFault
from twins.vertex_mount import named_places
from vertex_calls import (
    Clients,
    custom_job,
    ended,
    files,
    pool,
    run_custom,
    write,
)


@pytest.fixture
def twin(clean_vertex_twin):
    yield clean_vertex_twin
    clean_vertex_twin.longest_page, clean_vertex_twin.predictions_are_doubles = 100, False


@pytest.fixture(scope="module")
def clients(vertex_twin):
    return Clients(vertex_twin.endpoint)


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
