"""train: the trainer in a process of its own, or the last blessed model on a night when none is due.

A process of its own, because that is how it runs in a custom job on Vertex AI too, and because TensorFlow's determinism
and thread settings are for a whole process.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from beam_jobs import lineage
from beam_jobs.night import Night, Stage
from beam_jobs.stages import prepare
from beam_jobs.workspace import storage
from configs.errors import ForetableError
from configs.training import VertexTraining
from transforms.files import upload_folder

MODEL, LOGS = "model", "tensorboard"


def run(night: Night) -> dict[str, Any]:
    """Trains, or names the model that tonight scores with.

    Raises:
        ForetableError: the trainer failed.
    """
    prepared = night.run.read_marker(prepare.STAGE.marker)
    assert prepared is not None
    is_due = prepared["training_due"]
    reused = None if is_due else lineage.model_to_reuse(night.trained_job, night.run, night.train_now)
    if reused is not None:
        return {
            "trained_in": reused.run_path,
            "model_version": reused.model_version,
            "transform_hash": reused.transform_hash,
            "trained_on": reused.run_date.isoformat(),
        }
    training = night.trained_job.model.training
    if isinstance(training, VertexTraining):
        from beam_jobs.vertex.training import train_on_vertex  # its clients take seconds to import

        done = train_on_vertex(night, training, prepared["digest"])
    else:
        done = _train_here(night)
    return {
        "trained_in": night.run.path,
        "run_id": night.run.run_id,
        "run_date": night.run.run_date.isoformat(),
        "definition": lineage.model_definition(night.trained_job),
        "classes": prepared["classes"],
        "data_fingerprint": night.data_fingerprint,
        **{name: value for name, value in done.items() if name != "event"},
    }


def _train_here(night: Night) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="foretable-") as temporary:
        if not storage.is_local(night.run.path):
            return _train_on_copies(night, os.path.join(temporary, "run"), temporary)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(night.run.file(MODEL))
        return _train(night, night.run.path, temporary)


def _train_on_copies(night: Night, run_path: str, logs: str) -> dict[str, Any]:
    """Trains in a local folder that gets what the trainer reads, and uploads what it writes; the graph comes last."""
    for name in ("job.json", prepare.STAGE.marker):
        storage.download(night.run.file(name), os.path.join(run_path, name))
    for name in ("transform_output", "transformed_examples"):
        storage.download_folder(night.run.file(name), os.path.join(run_path, name))
    done = _train(night, run_path, logs)
    for name in (LOGS, MODEL):
        upload_folder(os.path.join(run_path, name), night.run.file(name), last="saved_model.pb")
    return done


def _train(night: Night, run_path: str, logs: str) -> dict[str, Any]:
    model_path, log_path = os.path.join(run_path, MODEL), os.path.join(run_path, LOGS)
    command = [
        sys.executable,
        "-m",
        "models.trainer",
        "--job",
        os.path.join(run_path, "job.json"),
        "--run-dir",
        run_path,
    ]
    command += ["--model-dir", model_path, "--log-dir", log_path]
    error_path = os.path.join(logs, "trainer.log")
    epochs_done, last = 0, None
    with open(error_path, "w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            epochs = night.trained_job.model.training.epochs
            with night.console.progress("train", "epochs", epochs, lambda: epochs_done):
                for line in process.stdout:
                    event = _event(line)
                    epochs_done = event.get("epoch", epochs_done)
                    last = event if event.get("event") == "done" else last
                code = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        output = errors.read()
    sys.stderr.write(output)
    sys.stderr.flush()
    if code != 0 or last is None:
        lines = [line for line in output.splitlines() if line.strip()]
        raise ForetableError(f"train: the trainer ended with exit code {code}: {lines[-1] if lines else 'no message'}")
    return last


def _event(line: str) -> dict[str, Any]:
    """One line of the trainer's progress; a team's own `build_model` may print other things, which go to the log."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and "event" in event:
        return event
    sys.stderr.write(line)
    return {}


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    if "trained_on" in marker:
        return f"no training is due: scoring with model {marker['model_version']} of {marker['trained_on']}"
    return f"model {marker['model_version']}, {marker['parameters']:,} parameters, {marker['epochs']} epochs"


STAGE = Stage("train", (prepare.STAGE,), run, summary, makes_model=True)
