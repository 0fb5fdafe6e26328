"""Checkpoints: a training that is killed after any epoch, and run again, ends in the weights of one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from run_directories import natality_job, natality_rows, prepare

from models import trainer
from models.trainer import train

JOB = natality_job(
    model={
        "network": {"hidden": [8], "dropout": 0.1},
        "training": {"epochs": 9, "batch_size": 32, "learning_rate": 0.5, "early_stopping_patience": 1},
    }
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("run"), JOB, natality_rows(600), natality_rows(100, seed=1))


@pytest.fixture(scope="module")
def undisturbed(run_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = without_seconds(train(JOB, str(run_dir), str(folder / "model"), None, str(folder / "checkpoints")))
    assert done == without_seconds(train(JOB, str(run_dir), str(folder / "other")))  # checkpoints change nothing
    return done


def without_seconds(done):
    return {**done, "history": [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in done["history"]]}


class KilledError(Exception):
    pass


def train_and_die(run_dir, folder, epoch, monkeypatch):
    """Trains until the epoch has been announced, which is before it is saved."""

    def announce(event, **body):
        if event == "epoch" and body["epoch"] == epoch:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "print_event", announce)
        with pytest.raises(KilledError):
            train(JOB, str(run_dir), str(folder / "model"), None, str(folder / "checkpoints"))


def test_killed_after_each_epoch_in_turn(run_dir, undisturbed, tmp_path, monkeypatch, capsys):
    epochs = undisturbed["epochs"]
    for epoch in range(2, epochs + 1):
        train_and_die(run_dir, tmp_path, epoch, monkeypatch)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"epoch-{epoch - 1:05d}"]
    capsys.readouterr()
    done = train(JOB, str(run_dir), str(tmp_path / "model"), None, str(tmp_path / "checkpoints"))
    assert without_seconds(done) == undisturbed
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"event": "resumed", "epoch": epochs - 1, "epochs": 9}


def test_killed_before_the_model_was_written(run_dir, undisturbed, tmp_path):
    """Early stopping had the last word already: there is nothing left to train."""
    assert undisturbed["epochs"] < 9
    folders = [str(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        done = train(JOB, str(run_dir), folder, None, str(tmp_path / "checkpoints"))
        assert without_seconds(done) == undisturbed


@pytest.mark.parametrize("damage", ["half a checkpoint", "of another job", "of other examples"])
def test_a_checkpoint_that_is_of_no_use_is_not_used(damage, run_dir, undisturbed, tmp_path, monkeypatch, capsys):
    started_in = run_dir
    if damage == "of other examples":
        started_in = tmp_path / "run"
        shutil.copytree(run_dir, started_in)
        marker = json.loads((started_in / "examples.json").read_text())
        (started_in / "examples.json").write_text(json.dumps({**marker, "digest": "another"}))
    train_and_die(started_in, tmp_path, 3, monkeypatch)
    state = tmp_path / "checkpoints" / "epoch-00002" / "state.json"
    if damage == "half a checkpoint":
        state.unlink()
    elif damage == "of another job":
        state.write_text(json.dumps({**json.loads(state.read_text()), "definition": "another"}))
    done = train(JOB, str(run_dir), str(tmp_path / "model"), None, str(tmp_path / "checkpoints"))
    assert without_seconds(done) == undisturbed
    assert '"resumed"' not in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_that_is_killed(run_dir, undisturbed, tmp_path):
    command = [sys.executable, "-m", "models.trainer", "--job", run_dir / "job.json", "--run-dir", run_dir]
    environment = os.environ | {"AIP_MODEL_DIR": str(tmp_path / "model"), "AIP_CHECKPOINT_DIR": str(tmp_path / "saved")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    while json.loads(process.stdout.readline())["epoch"] < 2:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "model").exists()
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    events = [json.loads(line) for line in output.splitlines()]
    assert events[0]["event"] == "resumed"
    assert without_seconds(events[-1]) == {"event": "done", **undisturbed}
