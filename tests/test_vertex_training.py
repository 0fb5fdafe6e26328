"""Training on Vertex AI: what the launcher takes, and that the model is the laptop's."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf
from run_directories import natality_job, natality_rows, prepare
from training_jobs import (
    CONTAINER,
    NAME,
    SMALL,
    copy_checkout,
    job_with,
    local_job,
    night_of,
    request,
)

from beam_jobs.stages import train as train_stage
from beam_jobs.vertex import custom_jobs, logs, waiting
from beam_jobs.vertex.staging import StagedPackage, stage_package
from beam_jobs.vertex.training import train_on_vertex
from beam_jobs.workspace import storage
from configs.errors import ForetableError

pytestmark = pytest.mark.slow  # trainers in processes of their own; `test_vertex_custom_jobs.py` is the quick one

LONG = {"epochs": 60, "early_stopping_patience": 60}
"""Seconds after its first checkpoints: time to be preempted in."""


EXAMPLES = "0123"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


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
def twin(clean_vertex_twin):
    return clean_vertex_twin


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
        # Its stdout and its stderr are two streams: which one's line is the last is not certain.
        assert "train: the losses are nan; lower model.training.learning_rate" in str(error.value)
        assert "; see https://console" in str(error.value)

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
