"""Jobs that tests start on the Vertex twin, and the night that they are of."""

import datetime
import time

from conftest import NATALITY, ListedConsole

from beam_jobs.night import Night
from beam_jobs.vertex import jobs as vertex_jobs
from beam_jobs.vertex import logs, service, waiting
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.loading import load_job

NAME = "foretable-natality-train-abcdef012345"


def night_of(endpoint="http://127.0.0.1:9", run_id="abcdef012345", **changes):
    """A night of the natality job with Vertex at an endpoint."""
    overrides = [
        "workspace=gs://bkt/ws",
        "warehouse={kind: bigquery, project: proj, dataset: births}",
        "vertex={project: proj, region: us-central1, labels: {team: births}}",
        f"endpoints={{vertex: '{endpoint}', logging: '{endpoint}'}}",
    ]
    job = load_job(NATALITY, overrides).model_copy(update=changes)
    run = RunDirectory(job_folder(job), datetime.date(2026, 1, 5), run_id)
    return Night(job, NATALITY, run, ListedConsole())


def message(name=NAME, *command):
    """A custom job whose container does next to nothing."""
    from google.cloud.aiplatform_v1 import types

    container = types.ContainerSpec(image_uri="image", command=command or ("python", "-c", "print('done')"))
    pool = types.WorkerPoolSpec(
        machine_spec=types.MachineSpec(machine_type="n1-standard-4"), replica_count=1, container_spec=container
    )
    return types.CustomJob(
        display_name=name,
        job_spec=types.CustomJobSpec(worker_pool_specs=[pool]),
        labels={"foretable_job": "natality"},
    )


def fault(**settings):
    from twins.vertex_faults import JobFault

    return JobFault(**settings)


def created(twin):
    """Display names of the jobs that there are, in the order of their creation."""
    return [job.message.display_name for job in twin.jobs()]


def run_to_end(jobs, job):
    deadline = time.monotonic() + 20
    while not job.has_ended and time.monotonic() < deadline:
        time.sleep(0.02)
        job = jobs.get(job.name)
    return job


def end(twin, job, state="SUCCEEDED"):
    """Lets a job that never ends end so."""
    from google.cloud.aiplatform_v1 import JobState

    twin.update(twin.all_jobs[job.name], state=JobState[f"JOB_STATE_{state}"])


def be_impatient(monkeypatch):
    """Polls and tries again in moments."""
    monkeypatch.setattr(service, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(vertex_jobs, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "FIRST_POLL_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "LONGEST_POLL_SECONDS", 0.1)
    monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 0.0)
