"""The trainer: the same weights twice, early stopping, events, and how it fails."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_directories import natality_job, natality_rows, prepare

from configs.errors import ForetableError, JobError
from models import trainer
from models.dataset import open_split
from models.trainer import model_version, train

TESTS = pathlib.Path(__file__).parent
JOB = natality_job()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("run"), JOB, natality_rows(600), natality_rows(100, seed=1))


def command(run_dir, model_dir, *more):
    arguments = ["--job", str(run_dir / "job.json"), "--run-dir", str(run_dir), "--model-dir", str(model_dir), *more]
    return [sys.executable, "-m", "models.trainer", *arguments]


def test_the_same_job_twice_gives_the_same_weights(run_dir, tmp_path):
    """Here and in a process of its own, where other things ran before."""
    here = train(JOB, str(run_dir), str(tmp_path / "here"))
    log_dir, result_path = tmp_path / "logs", tmp_path / "result.json"
    arguments = command(run_dir, tmp_path / "there", "--log-dir", str(log_dir), "--result", str(result_path))
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in result.stdout.splitlines()]  # nothing else is on stdout
    assert [event.pop("event") for event in events] == ["epoch", "epoch", "epoch", "done"]
    *epochs, there = events
    assert [(event["epoch"], event.pop("epochs")) for event in epochs] == [(1, 3), (2, 3), (3, 3)]
    assert there["history"] == epochs
    assert json.loads(result_path.read_text()) == {"examples": "0123", **there}
    assert logged_losses(log_dir) == [(event["loss"], event["eval_loss"]) for event in epochs]
    assert there["transform_hash"] == json.loads((run_dir / "examples.json").read_text())["transform_hash"]
    assert without_seconds(here) == without_seconds(there)
    row = {"is_male": ["True"], "plurality": ["Twins(2)"], "mother_age": [30.0], "siblings": tf.constant([1], tf.int64)}
    inputs = {name: tf.constant(values) for name, values in row.items()}
    predictions = [
        tf.saved_model.load(str(tmp_path / name)).signatures["serving_default"](**inputs)["weight_pounds"].numpy()
        for name in ("here", "there")
    ]
    assert predictions[0].tobytes() == predictions[1].tobytes()


def without_seconds(done):
    history = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in done["history"]]
    return {**done, "history": history}


def test_a_split_too_large_for_memory_is_streamed(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "open_split", functools.partial(open_split, memory_limit_bytes=0))
    done = train(JOB, str(run_dir), str(tmp_path / "model"))
    losses = [epoch["eval_loss"] for epoch in done["history"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def logged_losses(log_dir):
    (path,) = log_dir.glob("events.*")
    values = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            values[event.step, value.tag] = tf.make_ndarray(value.tensor).item()
    steps = sorted({step for step, _ in values})
    return [
        (pytest.approx(values[step, "loss"], rel=1e-6), pytest.approx(values[step, "eval_loss"], rel=1e-6))
        for step in steps
    ]


def test_early_stopping_keeps_the_best_epochs_weights(run_dir, tmp_path):
    settings = {"epochs": 40, "early_stopping_patience": 2, "learning_rate": 0.3, "batch_size": 32}
    job = natality_job(model={"network": {"hidden": [32]}, "training": settings})
    done = train(job, str(run_dir), str(tmp_path / "model"))
    losses = [epoch["eval_loss"] for epoch in done["history"]]
    assert done["epochs"] == len(losses) == done["best_epoch"] + 2 < 40
    assert done["best_epoch"] == int(np.argmin(losses)) + 1


def test_a_training_that_diverges_fails_and_writes_no_model(run_dir, tmp_path):
    job = natality_job(model={"training": {"learning_rate": 1e30, "epochs": 3}})
    with pytest.raises(ForetableError, match=r"train: epoch 1: the losses are .*; lower model.training.learning_rate"):
        train(job, str(run_dir), str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_an_error_is_one_line_and_an_exit_code(run_dir, tmp_path):
    job = natality_job(model={"build_model": "no_such_module:build"})
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "result.json").write_text("of a model that is replaced")
    arguments = command(run_dir, tmp_path / "model", "--result", str(tmp_path / "result.json"))
    arguments[arguments.index("--job") + 1] = str(tmp_path / "job.json")
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert not (tmp_path / "result.json").exists()
    assert result.returncode == JobError.exit_code
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("model.build_model: 'no_such_module:build': cannot import no_such_module: No module named")


def test_an_unprepared_run_directory(tmp_path):
    with pytest.raises(ForetableError, match=r"examples.json: not there; run foretable prepare"):
        train(JOB, str(tmp_path), str(tmp_path / "model"))


@pytest.mark.slow
def test_it_dies_with_its_parent(run_dir, tmp_path):
    # A training that would take minutes, started by a process that is then killed.
    job = natality_job(model={"training": {"epochs": 1_000_000, "early_stopping_patience": 1_000_000}})
    (tmp_path / "job.json").write_text(job.model_dump_json())
    arguments = command(run_dir, tmp_path / "model")
    arguments[arguments.index("--job") + 1] = str(tmp_path / "job.json")
    starter = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", starter, *arguments], stdout=subprocess.PIPE, text=True)
    trainer_process = int(parent.stdout.readline())
    while '"epoch"' not in parent.stdout.readline():
        assert parent.poll() is None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while is_running(trainer_process) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_running(trainer_process)
    assert not (tmp_path / "model").exists()


def is_running(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    status = pathlib.Path(f"/proc/{process_id}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_model_version_depends_on_weights_transform_and_outputs():
    def model(bias):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.set_weights([np.ones((1, 1), np.float32), np.array([bias], np.float32)])
        return model

    version = model_version(model(0.0), "hash", ["y"])
    assert len(version) == 16
    assert version == model_version(model(0.0), "hash", ["y"])
    others = [
        model_version(model(np.nextafter(np.float32(0), np.float32(1))), "hash", ["y"]),
        model_version(model(0.0), "other", ["y"]),
        model_version(model(0.0), "hash", ["z"]),
    ]
    assert len({version, *others}) == 4
