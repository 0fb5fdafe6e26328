"""Training as a custom job: the request is exact, and a real job of the twin makes the model that the laptop makes."""

import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest
import tensorflow as tf
from conftest import ListedConsole
from google.protobuf.json_format import MessageToDict
from run_directories import natality_job, natality_rows, prepare

from beam_jobs.night import Night
from beam_jobs.stages import train as train_stage
from beam_jobs.vertex import custom_jobs, logs, staging, waiting
from beam_jobs.vertex.custom_jobs import custom_job
from beam_jobs.vertex.staging import StagedPackage, stage_package
from beam_jobs.vertex.training import train_on_vertex
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.errors import ForetableError, JobError

IMAGE = "region-docker.pkg.dev/proj/foretable/foretable:0.4.0"
CONTAINER = {"on": "vertex", "container": IMAGE}
SMALL = {"epochs": 5, "batch_size": 64, "learning_rate": 0.02}
LONG = {"epochs": 60, "early_stopping_patience": 60}
"""Seconds after its first checkpoints: time to be preempted in."""
RUN_ID = "abcdef012345"
NAME = f"foretable-natality-train-{RUN_ID}"
EXAMPLES = "0123"
PACKAGE = StagedPackage("gs://bkt/my ws/.vertex/1/foretable-1.tar.gz", "gs://bkt/my ws/.vertex/1/requirements.lock")


def job_with(training, workspace="gs://bkt/ws", endpoint="http://127.0.0.1:9", storage_endpoint=None, vertex=None):
    """The test job with its training on Vertex."""
    return natality_job(
        workspace=workspace,
        warehouse={"kind": "bigquery", "project": "proj", "dataset": "births"},
        vertex={"project": "proj", "region": "us-central1", **(vertex or {})},
        endpoints={"vertex": endpoint, "logging": endpoint, "storage": storage_endpoint},
        model={"network": {"hidden": [8]}, "training": {**SMALL, **training}},
    )


def night_of(job):
    run = RunDirectory(job_folder(job), datetime.date(2026, 1, 5), RUN_ID)
    return Night(job, "natality.yaml", run, ListedConsole())


def request(training, package=None, **settings):
    """The job as it goes over the wire."""
    night = night_of(job_with(training, **settings))
    made = custom_job(night, night.trained_job.model.training, "train", NAME, ["--job", "gs://bkt/job.json"], package)
    return MessageToDict(type(made).pb(made))


def pool(replicas, machine=None, container=None):
    """A worker pool of the request."""
    trainer = {"imageUri": IMAGE, "command": ["python", "-m", "models.trainer"], "args": ["--job", "gs://bkt/job.json"]}
    return {
        "machineSpec": {"machineType": "n1-standard-8", **(machine or {})},
        "replicaCount": str(replicas),
        "containerSpec": container or trainer,
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
    }


class TestRequest:
    def test_is_complete(self):
        assert request(CONTAINER) == {
            "displayName": NAME,
            "jobSpec": {
                "workerPoolSpecs": [pool(1)],
                "scheduling": {"timeout": "86400s", "restartJobOnWorkerRestart": True, "strategy": "STANDARD"},
                "baseOutputDirectory": {"outputUriPrefix": f"gs://bkt/ws/natality/2026-01-05/{RUN_ID}"},
            },
            "labels": {
                "foretable_job": "natality",
                "foretable_step": "train",
                "foretable_run_id": RUN_ID,
                "foretable_run_date": "2026-01-05",
            },
        }

    @pytest.mark.parametrize(
        ("training", "pools"),
        [
            ({"strategy": "none"}, [pool(1)]),
            (
                {
                    "strategy": "mirrored",
                    "accelerator": {"type": "NVIDIA_L4", "count": 2},
                    "machine_type": "g2-standard-24",
                },
                [
                    pool(
                        1,
                        {"machineType": "g2-standard-24", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 2},
                    )
                ],
            ),
            ({"strategy": "multi_worker", "replica_count": 2}, [pool(1), pool(1)]),
            ({"strategy": "multi_worker", "replica_count": 4}, [pool(1), pool(3)]),
            ({"strategy": "tpu", "machine_type": "ct5lp-hightpu-4t"}, [pool(1, {"machineType": "ct5lp-hightpu-4t"})]),
        ],
        ids=["none", "mirrored", "two workers", "four workers", "tpu"],
    )
    def test_pools_are_the_strategy_s(self, training, pools):
        assert request(CONTAINER | training)["jobSpec"]["workerPoolSpecs"] == pools

    def test_every_setting_has_its_place(self):
        training = {
            "service_account": "trainer@proj",
            "network": "projects/1/global/networks/theirs",
            "timeout": "90m",
            "spot": True,
            "boot_disk_gb": 300,
            "labels": {"team": "weights"},
            "tensorboard": "projects/proj/locations/us-central1/tensorboards/7",
        }
        vertex = {"service_account": "all@proj", "network": "projects/1/global/networks/ours", "labels": {"team": "x"}}
        made = request(CONTAINER | training, vertex=vertex)
        spec = made["jobSpec"]
        assert spec["scheduling"] == {"timeout": "5400s", "restartJobOnWorkerRestart": True, "strategy": "SPOT"}
        assert (spec["serviceAccount"], spec["network"]) == ("trainer@proj", "projects/1/global/networks/theirs")
        assert spec["tensorboard"] == "projects/proj/locations/us-central1/tensorboards/7"
        assert spec["workerPoolSpecs"][0]["diskSpec"]["bootDiskSizeGb"] == 300
        assert made["labels"]["team"] == "weights"
        spec = request(CONTAINER, vertex=vertex)["jobSpec"]
        assert (spec["serviceAccount"], spec["network"]) == ("all@proj", "projects/1/global/networks/ours")

    def test_a_package_is_installed_before_the_trainer_takes_the_shell_s_place(self):
        (only,) = request({"on": "vertex", "python_package": {"image": "python:3.12"}}, PACKAGE)["jobSpec"][
            "workerPoolSpecs"
        ]
        container = only["containerSpec"]
        assert container["imageUri"] == "python:3.12"
        assert container["command"][:3] == ["sh", "-e", "-c"]
        assert container["args"] == ["--job", "gs://bkt/job.json"]
        assert "$(" not in container["command"][3]  # which Vertex would take for a variable of its own

    def test_an_accelerator_that_vertex_does_not_know_is_named(self):
        expected = r"^model\.training\.accelerator\.type: 'NVIDIA_T4'; expected one of NVIDIA_TESLA_K80, .*NVIDIA_L4"
        with pytest.raises(JobError, match=expected):
            request(CONTAINER | {"accelerator": {"type": "NVIDIA_T4"}})


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            {"build_model": "team.nets:build", "training": {"on": "vertex", "python_package": {}}},
            "model.build_model: 'team.nets:build': expected none beside training.python_package, which has this project"
            " only; use training.container",
        ),
        (
            {"training": CONTAINER | {"tensorboard": "projects/p/locations/l/tensorboards/7"}},
            "model.training.tensorboard: 'projects/p/locations/l/tensorboards/7': expected training.service_account, or"
            " vertex.service_account, that may write there",
        ),
    ],
    ids=["the team's code", "tensorboard"],
)
def test_what_cannot_work_is_said_when_the_job_file_is_read(model, problem):
    job = job_with(CONTAINER).model_dump(mode="json") | {"model": model}
    with pytest.raises(JobError) as error:
        natality_job(**job)
    assert str(error.value) == f"job: {problem}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this project, which nobody edits meanwhile."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in (*staging._PROJECT_FILES, *staging._PACKAGES):
        copy = shutil.copytree if (staging.ROOT / name).is_dir() else shutil.copy
        copy(staging.ROOT / name, folder / name)
    return folder


def local_job(folder):
    return job_with(CONTAINER).model_copy(update={"workspace": str(folder)})


class TestStaging:
    def test_the_package_is_whole_and_built_once(self, checkout, tmp_path, monkeypatch):
        package = stage_package(local_job(tmp_path), checkout)
        assert pathlib.Path(package.lock).read_bytes() == (checkout / "requirements.lock").read_bytes()
        with tarfile.open(package.sdist) as archive:
            packed = {name.partition("/")[2] for name in archive.getnames()}
        needed = {str(path.relative_to(checkout)) for path in staging._sources(checkout)} - {"requirements.lock"}
        assert needed - packed == set()
        assert not list(checkout.glob("*.egg-info"))
        assert not (checkout / "dist").exists()
        monkeypatch.setattr(staging, "_build_sdist", None)
        assert stage_package(local_job(tmp_path), checkout) == package

    def test_other_code_has_another_folder(self, checkout, tmp_path, monkeypatch):
        monkeypatch.setattr(staging, "_build_sdist", lambda root, sources: b"sdist")
        before = stage_package(local_job(tmp_path), checkout)
        prices = checkout / "beam_jobs" / "prices.yaml"
        text = prices.read_text()
        prices.write_text(f"{text}\n")
        after = stage_package(local_job(tmp_path), checkout)
        prices.write_text(text)
        (checkout / "configs" / "__pycache__").mkdir(exist_ok=True)
        (checkout / "configs" / "__pycache__" / "x.pyc").write_bytes(b"x")
        assert before.sdist != after.sdist
        assert stage_package(local_job(tmp_path), checkout) == before

    def test_half_an_upload_is_none(self, checkout, tmp_path, monkeypatch):
        monkeypatch.setattr(staging, "_build_sdist", lambda root, sources: b"sdist")
        package = stage_package(local_job(tmp_path), checkout)
        os.unlink(package.sdist)
        pathlib.Path(package.lock).write_text("half")
        stage_package(local_job(tmp_path), checkout)
        assert pathlib.Path(package.lock).read_bytes() == (checkout / "requirements.lock").read_bytes()

    def test_what_is_installed_without_a_checkout_is_refused(self, tmp_path):
        expected = r"model\.training\.python_package: \S+/setup\.py: not there; expected a checkout of this project"
        with pytest.raises(JobError, match=expected):
            stage_package(local_job(tmp_path), tmp_path)

    def test_a_build_that_fails_is_one_line(self, checkout, tmp_path):
        broken = tmp_path / "broken"
        shutil.copytree(checkout, broken)
        (broken / "setup.py").write_text("raise SystemExit('no such luck')\n")
        with pytest.raises(ForetableError, match=r"cannot build a source distribution: no such luck$"):
            stage_package(local_job(tmp_path), broken)


FAKE_TRAINER = """
import json, os, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
local = lambda path: pathlib.Path(os.environ["FORETABLE_GCS_MOUNT"], path.removeprefix("gs://"))
examples = json.loads((local(given["--run-dir"]) / "examples.json").read_text())["digest"]
for epoch in (1, 2):
    state = local(os.environ["AIP_CHECKPOINT_DIR"]) / f"epoch-0000{epoch}" / "state.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("{}")
model = local(os.environ["AIP_MODEL_DIR"])
model.mkdir(exist_ok=True)
(model / "saved_model.pb").write_text("graph")
local(given["--result"]).write_text(json.dumps({"examples": examples, "model_version": f"v-{os.environ['CLOUD_ML_JOB_ID']}"}))
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_POLL_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "LONGEST_POLL_SECONDS", 0.3)
    monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 0.0)


@pytest.fixture
def twin(vertex_twin):
    vertex_twin.faults.clear()
    vertex_twin.all_jobs.clear()
    yield vertex_twin
    vertex_twin.faults.clear()
    vertex_twin.stop()


@pytest.fixture
def cloud_night(cloud, twin):
    """Makes a night of its own workspace on the twins from training settings."""

    def make(training):
        return night_of(job_with(training, cloud.storage.url(), twin.endpoint, cloud.storage.endpoint))

    return make


class TestLauncher:
    """With a trainer that trains nothing."""

    @pytest.fixture
    def night(self, cloud_night, monkeypatch):
        monkeypatch.setattr(custom_jobs, "TRAINER", ("python", "-c", FAKE_TRAINER))
        night = cloud_night(CONTAINER)
        storage.write_json(night.run.file("examples.json"), {"digest": EXAMPLES})
        return night

    def train(self, night, examples=EXAMPLES):
        return train_on_vertex(night, night.trained_job.model.training, examples)

    def test_takes_what_the_trainer_left_and_takes_it_again(self, twin, night):
        done = self.train(night)
        (job,) = twin.jobs()
        assert done == {"model_version": f"v-{job.id}"}
        assert job.message.display_name.startswith(f"{NAME}-")
        assert self.train(night) == done
        assert len(twin.jobs()) == 1

    @pytest.mark.parametrize("gone", ["trainer.json", "model/saved_model.pb"])
    def test_trains_anew_where_something_of_it_is_gone(self, twin, night, gone):
        self.train(night)
        storage._objects().delete([night.run.file(*gone.split("/"))])
        self.train(night)
        assert [job.message.display_name[-2:] == "-2" for job in twin.jobs()] == [False, True]

    def test_other_examples_are_another_job(self, twin, night):
        first = self.train(night)
        storage.write_json(night.run.file("examples.json"), {"digest": "4567"})
        second = self.train(night, "4567")
        storage.write_json(night.run.file("examples.json"), {"digest": EXAMPLES})
        third = self.train(night)  # what lies there is the second one's
        assert len({done["model_version"] for done in (first, second, third)}) == 3

    def test_a_trainer_that_leaves_nothing_is_an_error(self, night, monkeypatch):
        monkeypatch.setattr(custom_jobs, "TRAINER", ("python", "-c", "pass"))
        with pytest.raises(
            ForetableError, match=r"^train: custom job \S+ is done, but gs://\S+/trainer\.json or model/"
        ):
            self.train(night)

    def test_a_trainer_that_fails_says_why(self, night, monkeypatch):
        program = (
            "import sys; print('epoch 1'); sys.exit('train: the losses are nan; lower model.training.learning_rate')"
        )
        monkeypatch.setattr(custom_jobs, "TRAINER", ("python", "-c", program))
        with pytest.raises(ForetableError) as error:
            self.train(night)
        assert "failed: The replica workerpool0-0 exited with a non-zero status of 1" in str(error.value)
        assert "train: the losses are nan; lower model.training.learning_rate; see https://console" in str(error.value)

    def test_a_package_is_staged_beside_the_runs(self, cloud_night, checkout, monkeypatch):
        monkeypatch.setattr(custom_jobs, "TRAINER", ("python", "-c", FAKE_TRAINER))
        monkeypatch.setattr("beam_jobs.vertex.training.stage_package", lambda job: stage_package(job, checkout))
        night = cloud_night({"on": "vertex", "python_package": {}})
        storage.write_json(night.run.file("examples.json"), {"digest": EXAMPLES})
        assert self.train(night)["model_version"].startswith("v-")
        staged = storage.list_files(storage.join(night.job.workspace, ".vertex"), "**")
        assert [path.rpartition("/")[2].split("-")[0] for path in staged] == ["foretable", "requirements.lock"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory that is ready to be trained on."""
    folder = tmp_path_factory.mktemp("run")
    prepare(folder, natality_job(), natality_rows(640), natality_rows(100, seed=1))
    marker = json.loads((folder / "examples.json").read_text())
    marker |= {"format": 1, "digest": EXAMPLES, "training_due": True}
    (folder / "examples.json").write_text(json.dumps(marker))
    return folder


def uploaded(night, run_dir):
    """The night with the run directory's files in its own."""
    for path in run_dir.rglob("*"):
        if path.is_file() and path.name != "job.json":
            storage.write_bytes(night.run.file(*path.relative_to(run_dir).parts), path.read_bytes())
    storage.write_json(night.run.file("job.json"), night.job.model_dump(mode="json"))
    return night


def trained(night):
    """The marker's body, but for the seconds and the place; and the model's weights as types, shapes and bytes."""
    body = train_stage.run(night)
    assert body.pop("trained_in") == night.run.path
    for epoch in body["history"]:
        del epoch["seconds"]
    with storage.local_copy(night.run.file("model")) as model:
        reader = tf.train.load_checkpoint(f"{model}/variables/variables")
        names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
        values = [reader.get_tensor(name) for name in names]  # each export has them in another order
    return body, sorted((str(value.dtype), value.shape, value.tobytes()) for value in values)


@pytest.mark.slow
class TestTraining:
    @pytest.fixture(scope="class")
    def laptop(self, cloud, run_dir):
        job = job_with(LONG, cloud.storage.url(), storage_endpoint=cloud.storage.endpoint)
        return trained(uploaded(night_of(job), run_dir))

    def test_a_job_that_is_preempted_makes_the_laptop_s_model(self, twin, cloud_night, run_dir, laptop):
        from twins.vertex_faults import JobFault

        twin.faults.on_job("custom", JobFault(preempt_after_checkpoints=2))
        night = uploaded(cloud_night(CONTAINER | LONG | {"spot": True}), run_dir)
        body, weights = trained(night)
        (job,) = twin.jobs()
        assert job.attempts == 2
        (resumed,) = [json.loads(line) for line in job.output if line.startswith('{"event": "resumed"')]
        assert resumed["epoch"] >= 1
        assert body == laptop[0]
        assert len(weights) > 4
        assert weights == laptop[1]
        assert any(path.endswith(".v2") for path in storage.list_files(night.run.file("logs"), "**"))

    def test_two_workers_agree_with_one(self, twin, cloud_night, run_dir, laptop):
        night = uploaded(cloud_night(CONTAINER | {"strategy": "multi_worker", "replica_count": 2}), run_dir)
        body, weights = trained(night)
        losses = [[epoch["eval_loss"] for epoch in each["history"][: SMALL["epochs"]]] for each in (body, laptop[0])]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert [value[:2] for value in weights] == [value[:2] for value in laptop[1]]
        assert [len(variables["TF_CONFIG"]) > 0 for variables in twin.jobs()[0].environments] == [True, True]

    def test_the_staged_package_installs_and_runs(self, checkout, tmp_path):
        """The container's own command, with pip told not to fetch what is here already."""
        bucket = tmp_path / "gcs" / "bkt"
        package = stage_package(local_job(bucket), checkout)
        package = StagedPackage(
            *(f"gs://{path.removeprefix(f'{tmp_path}/gcs/')}" for path in dataclasses.astuple(package))
        )
        (only,) = request({"on": "vertex", "python_package": {}}, package)["jobSpec"]["workerPoolSpecs"]
        python = tmp_path / "bin" / "python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        target = tmp_path / "installed"
        environment = os.environ | {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "FORETABLE_GCS_MOUNT": str(bucket.parent),
            "PYTHONPATH": str(target),
            "PIP_TARGET": str(target),
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which pip reads as its own --no-build-isolation
        }
        command = [*only["containerSpec"]["command"], "--help"]
        output = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
        assert output.startswith("usage: python -m models.trainer")
        for name in ("models/trainer.py", "beam_jobs/prices.yaml", "beam_jobs/report/templates/report.html"):
            assert (target / name).read_bytes() == (checkout / name).read_bytes()
