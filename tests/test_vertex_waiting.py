"""A night waits for its jobs on Vertex AI, attaches to those of an earlier try, and explains those that fail."""

import dataclasses
import datetime
import os
import signal
import time

import pytest
from interrupts import Terminal, when
from vertex_launching import NAME, be_impatient, created, end, fault, message, night_of, run_to_end

from beam_jobs.vertex import logs, service
from beam_jobs.vertex.jobs import VertexJobs
from beam_jobs.vertex.logs import last_lines
from beam_jobs.vertex.service import VertexService
from beam_jobs.vertex.waiting import run_jobs
from configs.errors import ForetableError

URL = "https://console.cloud.google.com/ai/platform/locations/us-central1/training/{}?project=proj"
QUOTAS = "https://console.cloud.google.com/iam-admin/quotas?project=proj"
CPUS = "aiplatform.googleapis.com/custom_model_training_cpus"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    be_impatient(monkeypatch)


@pytest.fixture
def twin(clean_vertex_twin):
    return clean_vertex_twin


@pytest.fixture
def night(twin):
    return night_of(twin.endpoint)


@pytest.fixture
def jobs(night):
    return VertexJobs(VertexService.of(night.job), "custom")


class TestWaiting:
    def test_a_job_runs_once_and_again_where_its_output_is_gone(self, twin, jobs, night):
        seen = []

        def run(**settings):
            return run_jobs(jobs, [message()], night, "train", lambda now: seen.append(now[0].state), **settings)

        (job,) = run()
        assert (job.display_name, job.state) == (NAME, "SUCCEEDED")
        assert night.console.lines[0] == f"train        custom job {NAME}: {URL.format(job.id)}"
        assert night.console.lines[-1] == "train        custom job: succeeded"
        assert seen[-1] == "SUCCEEDED"

        assert run() == [job]
        assert f"train        custom job {NAME} was done before: {URL.format(job.id)}" in night.console.lines
        assert created(twin) == [NAME]

        run(has_output=lambda _: False)
        assert created(twin) == [NAME, f"{NAME}-2"]

    def test_the_same_night_again_attaches_to_the_running_job(self, twin, jobs, night):
        twin.faults.on_job("custom", fault(never_ends=True))
        running = jobs.create(message())
        attached = lambda: any("attached to" in line for line in night.console.lines)  # noqa: E731
        when(attached, lambda: end(twin, running))
        assert run_jobs(jobs, [message()], night, "train")[0].name == running.name
        assert created(twin) == [NAME]

    def test_a_job_that_failed_has_its_log_s_end_in_the_error_and_the_next_try_the_next_name(self, twin, jobs, night):
        lines = ("epoch 1", "  \n", "Traceback (most recent call last):", "  File x", "train: the losses are nan")
        twin.faults.on_job("custom", fault(error=(3, "The replica workerpool0-0 exited with 5."), lines=lines))
        with pytest.raises(ForetableError) as error:
            run_jobs(jobs, [message()], night, "train")
        (failed,) = jobs.find(NAME)
        assert str(error.value) == (
            f"train: custom job {NAME} failed: The replica workerpool0-0 exited with 5; its log ends with:"
            f" Traceback (most recent call last): | File x | train: the losses are nan; see {URL.format(failed.id)}"
        )
        assert night.console.lines[-1] == "train        epoch 1"
        run_jobs(jobs, [message()], night, "train")
        assert created(twin) == [NAME, f"{NAME}-2"]

    @pytest.mark.parametrize("way", ["forbidden", "gone", "nonsense", "empty"])
    def test_a_log_that_cannot_be_read_does_not_hide_the_failure(self, twin, jobs, night, way):
        from twins.vertex_faults import connection_reset, permission_denied

        answers = {
            "forbidden": permission_denied("logging.logEntries.list"),
            "gone": connection_reset,
            "nonsense": lambda call, serve: {"entries": 3},
            "empty": lambda call, serve: {},
        }
        twin.faults.on_call("POST", "entries:list$", answers[way])
        twin.faults.on_job("custom", fault(error=(13, "Internal error."), lines=("a line",)))
        with pytest.raises(ForetableError) as error:
            run_jobs(jobs, [message()], night, "train")
        (failed,) = jobs.find(NAME)
        assert str(error.value) == f"train: custom job {NAME} failed: Internal error; see {URL.format(failed.id)}"

    def test_a_quota_that_ends_a_job_is_asked_for(self, twin, jobs, night):
        from twins.vertex_faults import QUOTA_FAULT

        twin.faults.on_job("custom", QUOTA_FAULT)
        with pytest.raises(
            ForetableError, match=rf"failed: out of quota: {CPUS} in us-central1; request more on https"
        ):
            run_jobs(jobs, [message()], night, "train")

    def test_where_one_of_several_fails_the_others_are_cancelled(self, twin, jobs, night):
        twin.faults.on_job("custom", fault(never_ends=True))
        twin.faults.on_job("custom", fault(error=(3, "Bad.")))
        with pytest.raises(ForetableError, match=rf"^train: custom job {NAME}-b failed: Bad; see https"):
            run_jobs(jobs, [message(f"{NAME}-a"), message(f"{NAME}-b")], night, "train")
        assert run_to_end(jobs, jobs.find(f"{NAME}-a")[0]).state == "CANCELLED"

    def test_several_come_back_in_their_order(self, jobs, night):
        wanted = [f"{NAME}-{letter}" for letter in "cab"]
        found = run_jobs(jobs, [message(name) for name in wanted], night, "train")
        assert [job.display_name for job in found] == wanted

    def test_a_job_that_does_not_end_is_given_up_and_cancelled(self, twin, jobs, night):
        twin.faults.on_job("custom", fault(never_ends=True))
        with pytest.raises(ForetableError, match=rf"^train: custom job {NAME} has not ended in 0.5 s and is cancelled"):
            run_jobs(jobs, [message()], night, "train", timeout_seconds=0.5)
        assert run_to_end(jobs, jobs.find(NAME)[0]).state == "CANCELLED"

    def test_one_that_is_being_cancelled_is_waited_for(self, twin, jobs, night):
        """It still writes where the next one is to write."""
        from google.cloud.aiplatform_v1 import JobState

        twin.faults.on_job("custom", fault(never_ends=True))
        first = jobs.create(message())
        when(lambda: jobs.get(first.name).state == "RUNNING").join()
        twin.update(twin.all_jobs[first.name], state=JobState.JOB_STATE_CANCELLING)
        is_told = lambda: any("is being cancelled" in line for line in night.console.lines)  # noqa: E731
        still_one = []
        when(is_told, lambda: (time.sleep(0.3), still_one.append(created(twin)), end(twin, first, "CANCELLED")))
        assert run_jobs(jobs, [message()], night, "train")[0].display_name == f"{NAME}-2"
        assert still_one == [[NAME]]

    def test_one_that_somebody_cancels_is_no_output(self, twin, jobs, night):
        twin.faults.on_job("custom", fault(never_ends=True))
        when(lambda: created(twin), lambda: jobs.cancel(jobs.find(NAME)[0].name))
        with pytest.raises(ForetableError, match=rf"^train: custom job {NAME} was cancelled; see https"):
            run_jobs(jobs, [message()], night, "train")

    @pytest.mark.parametrize("answer", ["y", "n", None], ids=["cancel", "leave", "nobody to ask"])
    def test_an_interrupt_asks_whether_to_cancel(self, twin, jobs, night, monkeypatch, answer):
        twin.faults.on_job("custom", fault(never_ends=True))
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        when(
            lambda: night.console.lines[-1:] == ["train        custom job: running"],
            lambda: os.kill(os.getpid(), signal.SIGINT),
        )
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, [message()], night, "train")
        (job,) = jobs.find(NAME)
        if answer == "y":
            assert night.console.lines[-1] == f"train        cancelling custom job {NAME}; the same command starts anew"
            assert run_to_end(jobs, job).state == "CANCELLED"
            return
        command = f"gcloud ai custom-jobs cancel {job.name} --project=proj --region=us-central1"
        assert night.console.lines[-1] == f"train        {command}"
        assert job.state == "RUNNING"

    def test_an_interrupt_while_a_job_is_made_finds_it(self, twin, jobs, night, monkeypatch):
        monkeypatch.setattr("sys.stdin", Terminal("y"))
        twin.faults.on_job("custom", fault(never_ends=True))

        create = jobs.service.jobs.create_custom_job

        def create_and_interrupt(**arguments):
            create(**arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(jobs.service.jobs, "create_custom_job", create_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, [message()], night, "train")
        assert run_to_end(jobs, jobs.find(NAME)[0]).state == "CANCELLED"

    def test_an_interrupt_whose_job_cannot_be_looked_for_or_cancelled_is_still_one(
        self, twin, jobs, night, monkeypatch
    ):
        from twins.vertex_faults import permission_denied

        names = [f"{NAME}-{letter}" for letter in "abcd"]
        monkeypatch.setattr("sys.stdin", Terminal("y"))
        twin.faults.on_job("custom", fault(never_ends=True), count=3)

        def interrupt_the_last(**arguments):
            if arguments["custom_job"].display_name == names[-1]:
                twin.faults.on_call("GET", "customJobs$", permission_denied("aiplatform.customJobs.list"))
                twin.faults.on_call("POST", ":cancel$", permission_denied("aiplatform.customJobs.cancel"))
                raise KeyboardInterrupt
            return create(**arguments)

        create = jobs.service.jobs.create_custom_job
        monkeypatch.setattr(jobs.service.jobs, "create_custom_job", interrupt_the_last)
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, [message(name) for name in names], night, "train")
        first, second, third = (jobs.find(name)[0] for name in names[:3])
        unknown, unlisted, *last = night.console.lines[-5:]
        assert unknown.startswith(
            f"train        custom job {names[0]} may run: vertex in proj, us-central1: cannot list"
        )
        assert unlisted.startswith(f"train        custom job {names[3]} is not listed; if it was submitted, it shows")
        assert last == [
            f"train        cancelling custom job {names[2]}; the same command starts anew",
            f"train        custom job {names[1]}: left running; the same command attaches, and this cancels:",
            f"train        gcloud ai custom-jobs cancel {second.name} --project=proj --region=us-central1",
        ]
        assert run_to_end(jobs, third).state == "CANCELLED"
        assert [jobs.get(job.name).has_ended for job in (first, second)] == [False, False]


class TestARefusedSubmission:
    NAMES = tuple(f"{NAME}-{letter}" for letter in "abc")

    @pytest.mark.parametrize("refusal", ["quota", "permission", "request"])
    def test_what_was_submitted_before_is_cancelled(self, twin, jobs, night, refusal):
        from twins import vertex_faults

        refusals = {
            "quota": vertex_faults.quota_exceeded(),
            "permission": vertex_faults.permission_denied("aiplatform.customJobs.create"),
            "request": vertex_faults.refusal("INVALID_ARGUMENT"),
        }
        twin.faults.on_job("custom", fault(never_ends=True), count=2)
        twin.faults.on_call("POST", "customJobs$", refusals[refusal], skip=2)
        with pytest.raises(ForetableError, match=rf"cannot create custom job {NAME}-c: "):
            run_jobs(jobs, [message(name) for name in self.NAMES], night, "train")
        assert [run_to_end(jobs, jobs.find(name)[0]).state for name in self.NAMES[:2]] == ["CANCELLED"] * 2
        assert created(twin) == list(self.NAMES[:2])
        said = "train        cancelling 2 custom jobs, submitted before the one that was refused"
        assert night.console.lines[-1] == said

    def test_what_was_submitted_before_an_outage_runs_on_for_the_same_command(self, twin, jobs, night, monkeypatch):
        from twins.vertex_faults import refusal

        monkeypatch.setattr(service, "RETRY_SECONDS", 0.2)
        twin.faults.on_job("custom", fault(never_ends=True))
        twin.faults.on_call("POST", "customJobs$", refusal("UNAVAILABLE"), skip=1, count=1000)
        with pytest.raises(ForetableError, match=rf"cannot create custom job {NAME}-b: no answer .*; run again: the s"):
            run_jobs(jobs, [message(name) for name in self.NAMES], night, "train")
        (job,) = jobs.find(self.NAMES[0])
        assert not job.has_ended
        assert night.console.lines[-2:] == [
            f"train        custom job {self.NAMES[0]}: left running; the same command attaches, and this cancels:",
            f"train        gcloud ai custom-jobs cancel {job.name} --project=proj --region=us-central1",
        ]


def test_the_log_is_that_of_the_job_and_its_end_is_shown(twin, jobs):
    twin.faults.on_job("custom", fault(error=(3, "x"), lines=tuple(f"line {number}" for number in range(30))))
    job = run_to_end(jobs, jobs.create(message()))
    twin.faults.on_job("custom", fault(error=(3, "x"), lines=("not ours",)))
    run_to_end(jobs, jobs.create(message("another")))
    assert last_lines(jobs.service, job, 4) == ["line 26", "line 27", "line 28", "line 29"]


def test_lines_of_one_instant_stay_in_their_order(twin, jobs):
    twin.faults.on_job("custom", fault(error=(3, "x"), lines=[f"line {number}" for number in range(12)]))
    job = run_to_end(jobs, jobs.create(message()))
    (lines,) = [running.lines for running in twin.jobs()]
    lines[:] = [dataclasses.replace(line, time=lines[0].time) for line in lines]
    assert last_lines(jobs.service, job, 4) == ["line 8", "line 9", "line 10", "line 11"]


class TestLateLines:
    """Cloud Logging has lines some seconds after they were written."""

    @pytest.fixture(autouse=True)
    def _patient(self, twin, monkeypatch):
        monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 20.0)
        monkeypatch.setattr(logs, "SETTLED_SECONDS", 1.0)
        monkeypatch.setattr(twin, "log_seconds", 0.5)

    @staticmethod
    def failed(twin, jobs, *texts_and_seconds):
        """A job that failed, with lines so many seconds from now."""
        texts = tuple(text for text, _ in texts_and_seconds)
        twin.faults.on_job("custom", fault(error=(3, "x"), lines=texts))
        job = run_to_end(jobs, jobs.create(message()))
        (running,) = twin.jobs()
        now = datetime.datetime.now(datetime.UTC)
        twin.update(running, create_time=now - datetime.timedelta(hours=1), end_time=now)
        running.lines[:] = [
            dataclasses.replace(line, time=now + datetime.timedelta(seconds=seconds))
            for line, (_, seconds) in zip(running.lines, texts_and_seconds, strict=True)
        ]
        return jobs.get(job.name)

    def test_a_burst_that_arrives_in_parts_is_shown_to_its_end(self, twin, jobs):
        job = self.failed(twin, jobs, ("Traceback", -1), ("  File x", -0.1), ("the losses are nan", 0.2))
        assert last_lines(jobs.service, job) == ["Traceback", "  File x", "the losses are nan"]

    def test_lines_of_minutes_ago_are_not_taken_for_the_last(self, twin, jobs, monkeypatch):
        monkeypatch.setattr(logs, "SETTLED_SECONDS", 0.05)
        job = self.failed(twin, jobs, ("epoch 1", -300), ("epoch 2", -200), ("the losses are nan", 0.2))
        assert last_lines(jobs.service, job, 2) == ["epoch 2", "the losses are nan"]

    def test_a_job_that_was_silent_before_its_end_is_not_waited_for_longer(self, twin, jobs, monkeypatch):
        monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 0.2)
        monkeypatch.setattr(logs, "SETTLED_SECONDS", 0.05)
        job = self.failed(twin, jobs, ("epoch 1", -300))
        assert last_lines(jobs.service, job) == ["epoch 1"]
