"""Jobs of a night on Vertex AI, from start to end: found again by name, shown while they run, explained if they fail.

The same night again attaches to a job that runs, takes the output of one that is done, and submits under the next
name after one that failed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from beam_jobs.night import Night
from beam_jobs.vertex.errors import was_not_answered
from beam_jobs.vertex.jobs import VertexJob, VertexJobs
from beam_jobs.vertex.logs import last_lines
from beam_jobs.vertex.names import attempt_name
from configs.errors import ForetableError

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.25, 10.0
SHOWN_LINES = 3
"""Of a failed job's log, in the error; the rest is shown before it."""
_LOGGER = logging.getLogger(__name__)


def run_jobs(
    jobs: VertexJobs,
    messages: Sequence[Any],
    night: Night,
    step: str,
    progress: Callable[[Sequence[VertexJob]], None] = lambda jobs: None,
    timeout_seconds: float | None = None,
    has_output: Callable[[VertexJob], bool] = lambda job: True,
) -> list[VertexJob]:
    """Runs jobs to their ends, on those that an earlier try of the same night left where there are.

    Args:
        messages: `CustomJob`s or `BatchPredictionJob`s, whose display names are those of a first try.
        step: shown before each line.
        progress: is called with the jobs, in the order of `messages`, each time that they have been asked about.
        timeout_seconds: after which what still runs is cancelled.
        has_output: whether what a job wrote that was done before is still there; else it is run anew.

    Returns:
        The jobs in the order of `messages`, all of which succeeded.

    Raises:
        ForetableError: one failed, was cancelled or refused, after the others have been cancelled; or the time is
            over; or Vertex did not answer, and what was submitted runs on.
        KeyboardInterrupt: the user wants no more; the jobs were cancelled or left running, as they chose.
    """
    names: list[str] = []
    try:
        running = _submit(jobs, messages, night, step, has_output, names)
        return _watch(jobs, running, night, step, progress, timeout_seconds)
    except KeyboardInterrupt:
        _cancel_or_leave(jobs, night, step, names)
        raise


def _submit(
    jobs: VertexJobs,
    messages: Sequence[Any],
    night: Night,
    step: str,
    has_output: Callable[[VertexJob], bool],
    names: list[str],
) -> list[VertexJob]:
    """Submits all jobs, or attaches to them; those of one that is refused would run in vain."""
    submitted: list[VertexJob] = []
    try:
        for message in messages:
            submitted.append(_attach_or_submit(jobs, message, night, step, has_output, names))
    except ForetableError as error:
        running = [job for job in submitted if not job.has_ended]
        if running and was_not_answered(error):  # nor would it answer a cancellation; the same command goes on
            _leave(jobs, night, step, running)
        elif asked := _cancel(jobs, running):
            _say(night, step, f"cancelling {_named(jobs, asked)}, submitted before the one that was refused")
        raise
    return submitted


def _attach_or_submit(
    jobs: VertexJobs,
    message: Any,
    night: Night,
    step: str,
    has_output: Callable[[VertexJob], bool],
    names: list[str],
) -> VertexJob:
    attempt = 1
    while found := jobs.find(name := attempt_name(message.display_name, attempt)):
        for job in [_decided(jobs, job, night, step) for job in found]:
            if not job.has_ended:
                names.append(name)
                _say(night, step, f"attached to {jobs.word} {name}: {job.console_url}")
                return job
            if job.has_succeeded and has_output(job):
                _say(night, step, f"{jobs.word} {name} was done before: {job.console_url}")
                return job
        attempt += 1
    named = type(message)(message)
    named.display_name = name
    names.append(name)
    job = jobs.create(named)
    _say(night, step, f"{jobs.word} {name}: {job.console_url}")
    return job


def _decided(jobs: VertexJobs, job: VertexJob, night: Night, step: str) -> VertexJob:
    """The job, once it is no longer being cancelled: till then it may still write where the next one does."""
    if job.state == "CANCELLING":
        _say(night, step, f"{jobs.word} {job.display_name} is being cancelled: {job.console_url}")
    poll_seconds = FIRST_POLL_SECONDS
    while job.state == "CANCELLING":
        time.sleep(poll_seconds)
        poll_seconds = min(poll_seconds * 1.3, LONGEST_POLL_SECONDS)
        job = jobs.get(job.name)
    return job


def _watch(
    jobs: VertexJobs,
    running: list[VertexJob],
    night: Night,
    step: str,
    progress: Callable[[Sequence[VertexJob]], None],
    timeout_seconds: float | None,
) -> list[VertexJob]:
    """Shows the jobs' states until the last of all."""
    states = [""] * len(running)
    started, poll_seconds = time.monotonic(), FIRST_POLL_SECONDS
    while True:
        for index, job in enumerate(running):
            if job.state != states[index]:
                states[index] = job.state
                which = f" {index + 1} of {len(running)}" if len(running) > 1 else ""
                _say(night, step, f"{jobs.word}{which}: {job.state.lower().replace('_', ' ')}")
        progress(running)
        failed = next((job for job in running if job.has_ended and not job.has_succeeded), None)
        if failed is not None:
            _cancel(jobs, [job for job in running if not job.has_ended])
            raise _failure(jobs, night, step, failed)
        if all(job.has_ended for job in running):
            return running
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            late = [job for job in running if not job.has_ended]
            _cancel(jobs, late)
            raise ForetableError(
                f"{step}: {jobs.word} {late[0].display_name} has not ended in {timeout_seconds:,g} s and is"
                f" cancelled; raise its timeout in the job file; see {late[0].console_url}"
            )
        time.sleep(poll_seconds)
        poll_seconds = min(poll_seconds * 1.3, LONGEST_POLL_SECONDS)
        running = [job if job.has_ended else jobs.get(job.name) for job in running]


def _failure(jobs: VertexJobs, night: Night, step: str, job: VertexJob) -> ForetableError:
    """The error that ended the job: Vertex's reason, how its log ends, and the page where a person sees the rest."""
    if job.state == "CANCELLED":
        return ForetableError(f"{step}: {jobs.word} {job.display_name} was cancelled; see {job.console_url}")
    lines = last_lines(jobs.service, job)
    for line in lines[:-SHOWN_LINES]:
        _say(night, step, line)
    ends = f"; its log ends with: {' | '.join(line.strip() for line in lines[-SHOWN_LINES:])}" if lines else ""
    state = job.state.lower().replace("_", " ")
    reason = job.error or "Vertex AI gives no reason"
    return ForetableError(f"{step}: {jobs.word} {job.display_name} {state}: {reason}{ends}; see {job.console_url}")


def _cancel(jobs: VertexJobs, running: Sequence[VertexJob]) -> list[VertexJob]:
    """Asks for the jobs' ends; that one of them cannot be asked must not hide why. Returns those that were asked."""
    asked = []
    for job in running:
        try:
            jobs.cancel(job.name)
            asked.append(job)
        except ForetableError as error:
            _LOGGER.warning("%s", error)
    return asked


def _cancel_or_leave(jobs: VertexJobs, night: Night, step: str, names: Sequence[str]) -> None:
    """Asks whether to cancel what runs; where nobody can be asked, or nobody answers, it goes on."""
    running = [job for name in names for job in _found(jobs, night, step, name) if not job.has_ended]
    if running and night.console.confirm(f"cancel {_named(jobs, running)}?"):
        if asked := _cancel(jobs, running):
            _say(night, step, f"cancelling {_named(jobs, asked)}; the same command starts anew")
        running = [job for job in running if job not in asked]
    if running:
        _leave(jobs, night, step, running)


def _found(jobs: VertexJobs, night: Night, step: str, name: str) -> list[VertexJob]:
    """The jobs of a name that was submitted, or was about to be; says so where it shows none."""
    try:
        found = jobs.find(name)
    except ForetableError as error:
        _say(night, step, f"{jobs.word} {name} may run: {error}")
        return []
    if not found:
        _say(night, step, f"{jobs.word} {name} is not listed; if it was submitted, it shows there in a minute")
    return found


def _leave(jobs: VertexJobs, night: Night, step: str, running: Sequence[VertexJob]) -> None:
    """Says what goes on, and how to end it."""
    _say(night, step, f"{_named(jobs, running)}: left running; the same command attaches, and this cancels:")
    for job in running:
        _say(night, step, jobs.cancel_command(job.name))


def _named(jobs: VertexJobs, running: Sequence[VertexJob]) -> str:
    return f"{jobs.word} {running[0].display_name}" if len(running) == 1 else f"{len(running)} {jobs.word}s"


def _say(night: Night, step: str, text: str, style: str | None = "dim") -> None:
    night.console.line(f"{step:<12} {text}", style)
