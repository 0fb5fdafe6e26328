"""A step of a stage as a Dataflow job, whose name says which night and step it is.

The same night submitted again finds the first try's job by its name: it attaches to one that runs, takes the output of
one that is done, and submits under the next name after one that failed, or whose output is not there any more.
"""

import hashlib
import logging
import re
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.dataflow.options import dataflow_options
from beam_jobs.dataflow.service import ERROR, WARNING, DataflowJob, DataflowService, explained
from beam_jobs.night import Night
from beam_jobs.pipelines import Step, our_error
from configs.cloud import DataflowRunner
from configs.errors import ForetableError

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.25, 5.0
# Dataflow tells that a job failed before it tells why.
LONGEST_WAIT_FOR_REASON_SECONDS = 50.0
_LONGEST_REASON = 400
_LOGGER = logging.getLogger(__name__)


def job_name(night: Night, step: Step, attempt: int) -> str:
    """Name of the step's job: of lower-case letters, digits and dashes, as Dataflow takes it."""
    name = f"foretable-{night.job.name.replace('_', '-')}-{step.name}-{night.run.run_id}"
    if step.version:
        name += f"-{hashlib.sha256(step.version.encode()).hexdigest()[:8]}"
    return name if attempt == 1 else f"{name}-{attempt}"


def run_on_dataflow(step: Step, night: Night, runner: DataflowRunner) -> None:
    """Runs the step to its end, on the job that an earlier try of the same night left if there is one.

    Raises:
        ForetableError: the job failed or was cancelled; what a worker raised of ours comes back as it was.
        KeyboardInterrupt: the user wants no more; the job was cancelled or left running, as they chose.
    """
    service = DataflowService(PipelineOptions(dataflow_options(night, runner, step.name, "foretable")))
    job, name = _earlier_job(service, night, step)
    try:
        if job is None:
            step.clear()
            job = _submit(service, night, runner, step, name)
            _say(night, step, f"Dataflow job {job.name}: {job.console_url}")
        elif job.has_ended:
            _say(night, step, f"Dataflow job {job.name} was done before: {job.console_url}")
            return
        else:
            _say(night, step, f"attached to Dataflow job {job.name}: {job.console_url}")
        ended = _watch(service, night, step, job)
    except KeyboardInterrupt:
        for running in _active(service, name):  # of which we may not know yet
            _cancel_or_leave(service, night, step, running)
        raise
    if ended.state != "DONE":
        raise _failure(service, step, ended)
    if not step.is_finished:
        raise ForetableError(
            f"{step.name}: {ended.console_url} is done, but {step.output} is not there, or not of this job; run again"
        )


def _earlier_job(service: DataflowService, night: Night, step: Step) -> tuple[DataflowJob | None, str]:
    """The job to attach to, or None and the first name that no failed try has."""
    attempt = 1
    while found := service.find(name := job_name(night, step, attempt)):
        for job in found:
            if not job.has_ended or (job.state == "DONE" and step.is_finished):
                return job, name
        attempt += 1
    return None, name


def _submit(service: DataflowService, night: Night, runner: DataflowRunner, step: Step, name: str) -> DataflowJob:
    from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

    pipeline = beam.Pipeline(options=PipelineOptions(dataflow_options(night, runner, step.name, name)))
    step.define(pipeline)
    try:
        with explained("submit a job", "dataflow.jobs.create", service.project, service.region):
            job_id = pipeline.run().job_id()
    except (DataflowJobAlreadyExistsError, ForetableError):
        # Another launcher was faster, or the answer to our own call was lost and Beam's client called again.
        active = _active(service, name)
        if not active:
            raise
        return active[0]
    return service.get(job_id)


def _active(service: DataflowService, name: str) -> list[DataflowJob]:
    return [job for job in service.find(name) if not job.has_ended]


def _watch(service: DataflowService, night: Night, step: Step, job: DataflowJob) -> DataflowJob:
    """Shows the job's states and warnings until its last state."""
    seen: set[str] = set()
    state, poll_seconds = "", FIRST_POLL_SECONDS
    while True:
        for message in service.messages(job.id):
            if message.id not in seen:
                seen.add(message.id)
                _LOGGER.info("%s %s: %s", job.name, message.importance, message.text)
                if message.importance in (WARNING, ERROR) and not job.has_ended:
                    _say(night, step, _one_line(message.text), "yellow")
        if job.state != state:
            state = job.state
            _say(night, step, f"Dataflow: {state.lower().replace('_', ' ')}")
        if job.has_ended:
            return job
        time.sleep(poll_seconds)
        poll_seconds = min(poll_seconds * 1.3, LONGEST_POLL_SECONDS)
        job = service.get(job.id)


def _failure(service: DataflowService, step: Step, job: DataflowJob) -> ForetableError:
    """The error that ended the job, with the page where a person sees the rest."""
    if job.state != "FAILED":
        return ForetableError(f"{step.name}: Dataflow job {job.name} is {job.state.lower()}; see {job.console_url}")
    reasons = _error_texts(service, job)
    for reason in reversed(reasons):
        raised = our_error(reason)
        if raised is not None:
            return type(raised)(f"{raised} (Dataflow job {job.name}: {job.console_url})")
    # A worker's traceback says more than that some work item failed four times.
    tracebacks = [reason for reason in reasons if "Traceback" in reason]
    last = _one_line((tracebacks or reasons or ["it gave no reason"])[-1])
    return ForetableError(f"{step.name}: Dataflow job {job.name} failed: {last}; see {job.console_url}")


def _error_texts(service: DataflowService, job: DataflowJob) -> list[str]:
    waited = 0.0
    while True:
        texts = [message.text for message in service.messages(job.id) if message.importance == ERROR]
        if texts or waited >= LONGEST_WAIT_FOR_REASON_SECONDS:
            return texts
        time.sleep(1)
        waited += 1


def _cancel_or_leave(service: DataflowService, night: Night, step: Step, job: DataflowJob) -> None:
    """Asks whether to cancel the job; where nobody can be asked, or nobody answers, it goes on."""
    if night.console.confirm(f"cancel Dataflow job {job.name}?"):
        service.cancel(job.id)
        _say(night, step, f"cancelling Dataflow job {job.name}; the same command starts it anew")
        return
    _say(night, step, f"Dataflow job {job.name} goes on: the same command attaches to it,")
    _say(night, step, f"and this one cancels it: {service.cancel_command(job.id)}")


def _say(night: Night, step: Step, text: str, style: str | None = "dim") -> None:
    night.console.line(f"{step.name:<12} {text}", style)


def _one_line(text: str) -> str:
    """What a person needs of a message: of a traceback, the error itself."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if "Traceback" in text:
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Warning|Interrupt)\b.*:", line)]
        lines = raised[-1:] or lines[-1:]
    return re.sub(r" \[while running .*\]", "", lines[0] if lines else text)[:_LONGEST_REASON]
