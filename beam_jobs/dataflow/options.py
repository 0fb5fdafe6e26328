"""Beam's options for Dataflow, from the job file's typed `runner`."""

import os

from beam_jobs.dataflow.locked_requirements import runtime_lock_file
from beam_jobs.night import Night
from beam_jobs.workspace import storage
from configs.cloud import DataflowRunner
from configs.errors import JobError

LOCK = "requirements.lock"
_LONGEST_LABEL = 63


def dataflow_options(night: Night, runner: DataflowRunner, step: str, job_name: str) -> list[str]:
    """Flags for one job, as Beam's command line takes them; those behind a bare `--` come last and win.

    Args:
        step: of the stage, such as `precompute`.

    Raises:
        JobError: `runner.setup_file` is not there.
    """
    folder = storage.join(night.job.workspace, ".dataflow")  # no job can have this name
    values = {
        "runner": "DataflowRunner",
        "project": runner.project,
        "region": runner.region,
        "job_name": job_name,
        "temp_location": runner.temp_location or storage.join(folder, "temp"),
        "staging_location": storage.join(runner.temp_location or folder, "staging"),
        "machine_type": runner.machine_type,
        "num_workers": runner.num_workers,
        "max_num_workers": runner.max_workers,
        "disk_size_gb": runner.disk_size_gb,
        "sdk_container_image": runner.sdk_container_image,
        "service_account_email": runner.service_account,
        "network": runner.network,
        "subnetwork": runner.subnetwork,
        "dataflow_endpoint": night.job.endpoints.dataflow,
    }
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    flags += [f"--labels={name}={value}" for name, value in job_labels(night, runner, step).items()]
    if not runner.use_public_ips:
        flags.append("--no_use_public_ips")
    if night.job.endpoints.dataflow is not None:
        flags.append("--no_auth")
    return [*flags, *_code_flags(runner), *_process_flags(step), *night.beam_options]


def job_labels(night: Night, runner: DataflowRunner, step: str) -> dict[str, str]:
    """Labels of a job: which night and step it is, beside those of the job file."""
    ours = {
        "foretable_job": night.job.name[:_LONGEST_LABEL],
        "foretable_step": step,
        "foretable_run_id": night.run.run_id,
        "foretable_run_date": night.run.run_date.isoformat(),
    }
    return runner.labels | ours


def _code_flags(runner: DataflowRunner) -> list[str]:
    """How workers come by this package: the image has it, or each installs it and what it needs, as locked."""
    if runner.setup_file is None:
        return ["--sdk_location=container"]
    if not os.path.isfile(runner.setup_file):
        raise JobError(f"runner.setup_file: {runner.setup_file!r}: no such file; expected setup.py of this project")
    flags = [f"--setup_file={os.path.abspath(runner.setup_file)}"]
    lock = os.path.join(os.path.dirname(os.path.abspath(runner.setup_file)), LOCK)
    if os.path.isfile(lock):
        # Not downloaded here and uploaded, which takes longer: workers get the packages from the index themselves.
        flags += [f"--requirements_file={runtime_lock_file(runner.setup_file, lock)}", "--requirements_cache=skip"]
    return flags


def _process_flags(step: str) -> list[str]:
    """Scoring shares the cores among the threads of one process; everything else gets a process for each core."""
    if step != "precompute":
        return []
    return ["--experiments=no_use_multiple_sdk_containers", "--number_of_worker_harness_threads=1"]
