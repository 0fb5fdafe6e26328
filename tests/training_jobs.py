"""Jobs that train on Vertex AI, and their nights."""

import datetime
import shutil

from conftest import ListedConsole
from google.protobuf.json_format import MessageToDict
from run_directories import natality_job

from beam_jobs.night import Night
from beam_jobs.vertex import staging
from beam_jobs.vertex.custom_jobs import custom_job
from beam_jobs.vertex.staging import StagedPackage
from beam_jobs.workspace.run_directory import RunDirectory, job_folder

IMAGE = "region-docker.pkg.dev/proj/foretable/foretable:0.4.0"


CONTAINER = {"on": "vertex", "container": IMAGE}


SMALL = {"epochs": 5, "batch_size": 64, "learning_rate": 0.02}


RUN_ID = "abcdef012345"


NAME = f"foretable-natality-train-{RUN_ID}"


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


def local_job(folder):
    return job_with(CONTAINER).model_copy(update={"workspace": str(folder)})


def copy_checkout(folder):
    """A copy of this project, which nobody edits meanwhile."""
    for name in (*staging._PROJECT_FILES, *staging._PACKAGES):
        copy = shutil.copytree if (staging.ROOT / name).is_dir() else shutil.copy
        copy(staging.ROOT / name, folder / name)
    return folder
