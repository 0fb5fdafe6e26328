"""Jobs on Vertex AI: found by name, never doubled, waited for; what goes wrong is one line that says what to ask for."""

import datetime
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import requests.exceptions
from conftest import NATALITY, ListedConsole
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from beam_jobs.night import Night
from beam_jobs.vertex import jobs as vertex_jobs
from beam_jobs.vertex import logs, names, service, waiting
from beam_jobs.vertex.errors import explanation, is_passing, request_for
from beam_jobs.vertex.jobs import VertexJobs
from beam_jobs.vertex.logs import last_lines
from beam_jobs.vertex.service import VertexService, idempotent
from beam_jobs.vertex.waiting import run_jobs
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.errors import ForetableError, JobError
from configs.loading import load_job

WHERE = "vertex in proj, us-central1: cannot create custom job J"
QUOTAS = "https://console.cloud.google.com/iam-admin/quotas?project=proj"
CPUS = "aiplatform.googleapis.com/custom_model_training_cpus"
NAME = "foretable-natality-train-abcdef012345"
URL = "https://console.cloud.google.com/ai/platform/locations/us-central1/training/{}?project=proj"


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


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(service, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(vertex_jobs, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "FIRST_POLL_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "LONGEST_POLL_SECONDS", 0.1)
    monkeypatch.setattr(logs, "LONGEST_WAIT_SECONDS", 0.0)


@pytest.fixture
def twin(vertex_twin):
    vertex_twin.faults.clear()
    vertex_twin.all_jobs.clear()
    yield vertex_twin
    vertex_twin.faults.clear()
    vertex_twin.stop()


@pytest.fixture
def night(twin):
    return night_of(twin.endpoint)


@pytest.fixture
def jobs(night):
    return VertexJobs(VertexService.of(night.job), "custom")


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


def when(condition, action=lambda: None):
    """Does something from another thread once something is so."""

    def watch():
        while not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


class TestNames:
    def test_say_job_step_run_version_and_attempt(self):
        night = night_of()
        assert names.display_name(night, "train") == NAME
        version = names.display_name(night, "precompute", "0123456789abcdef/1")
        assert re.fullmatch("foretable-natality-precompute-abcdef012345-[0-9a-f]{8}", version)
        assert version != names.display_name(night, "precompute", "0123456789abcdef/2")
        assert [names.attempt_name(NAME, attempt) for attempt in (1, 2)] == [NAME, f"{NAME}-2"]

    def test_fit_vertex_s_limits_for_the_longest_job(self):
        night = night_of(name="b" + "_long" * 12 + "_x")
        assert len(night.job.name) == 63
        name = names.attempt_name(names.display_name(night, "precompute", "v"), 100)
        assert len(name) <= 128
        assert names.resource_id(night_of(name="a_").job) != names.resource_id(night_of(name="a").job)
        assert len(names.resource_id(night.job)) == 63
        assert names.resource_id(night.job) != names.resource_id(night_of(name="b" + "_long" * 12 + "_y").job)
        assert all(len(value) <= 63 for value in names.labels(night, "train").values())

    def test_labels_are_those_of_the_job_file_and_ours(self):
        assert names.labels(night_of(), "train", {"team": "weights", "cost": "a"}) == {
            "team": "weights",
            "cost": "a",
            "foretable_job": "natality",
            "foretable_step": "train",
            "foretable_run_id": "abcdef012345",
            "foretable_run_date": "2026-01-05",
        }


DENIED = (
    "Permission 'aiplatform.customJobs.create' denied on resource"
    " '//aiplatform.googleapis.com/projects/proj/locations/us-central1' (or it may not exist)."
)
RATE = (
    "Quota exceeded for quota metric 'Resource management requests' and limit 'Resource management requests per"
    " minute per region' of service 'aiplatform.googleapis.com' for consumer 'projects/1'."
)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (
            exceptions.PermissionDenied(DENIED),
            ForetableError,
            f"{WHERE}: permission aiplatform.customJobs.create is missing on projects/proj/locations/us-central1;"
            f" ask for roles/aiplatform.user ({DENIED[:-1]})",
        ),
        (
            exceptions.Forbidden("POST https://us-central1-aiplatform.googleapis.com/v1/x: Forbidden."),
            ForetableError,
            f"{WHERE}: permission aiplatform.customJobs.create is missing on projects/proj;"
            " ask for roles/aiplatform.user (Forbidden)",
        ),
        (
            exceptions.Forbidden("Vertex AI API has not been used in project 1 before or it is disabled."),
            ForetableError,
            f"{WHERE}: the API is off; run `gcloud services enable aiplatform.googleapis.com --project=proj`",
        ),
        (
            exceptions.InvalidArgument(
                "You do not have permission to act as service_account: sa@proj.iam.gserviceaccount.com."
                " (or it may not exist)."
            ),
            ForetableError,
            f"{WHERE}: no permission to act as sa@proj.iam.gserviceaccount.com;"
            " ask for roles/iam.serviceAccountUser on that service account",
        ),
        (
            exceptions.ResourceExhausted(f"The following quota metrics exceed quota limits: {CPUS},{CPUS[:-4]}gpus"),
            ForetableError,
            f"{WHERE}: out of quota: {CPUS}, {CPUS[:-4]}gpus in us-central1; request more on {QUOTAS},"
            " or ask for less in the job file",
        ),
        (
            exceptions.TooManyRequests(RATE),
            ForetableError,
            f"{WHERE}: out of quota: {RATE[:-1]} in us-central1; request more on {QUOTAS},"
            " or ask for less in the job file",
        ),
        (
            exceptions.RetryError("timeout", exceptions.ServiceUnavailable("The service is away.\nTry later.")),
            ForetableError,
            f"{WHERE}: no answer (The service is away); run again: the same command attaches to what runs",
        ),
        (
            requests.exceptions.ConnectionError("refused"),
            ForetableError,
            f"{WHERE}: no answer (refused); run again: the same command attaches to what runs",
        ),
        (
            exceptions.NotFound("no such project"),
            ForetableError,
            f"{WHERE}: not found (no such project); check vertex.project and vertex.region in the job file",
        ),
        (
            exceptions.BadRequest('Machine type "n9" is not supported.'),
            JobError,
            f'{WHERE}: Machine type "n9" is not supported; check vertex, model.training and precompute in the job file',
        ),
        (
            exceptions.Unauthenticated("who?"),
            ForetableError,
            f"{WHERE}: the credentials are not accepted (who?); run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
        (
            DefaultCredentialsError("none found"),
            ForetableError,
            "no Google Cloud credentials (none found); run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
        (
            exceptions.RetryError("timeout", RefreshError("revoked")),
            ForetableError,
            "the Google Cloud credentials have expired or been revoked (revoked);"
            " run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_wrong_is_one_line_with_what_to_ask_for(error, kind, line):
    found = explanation(error, "create custom job J", "aiplatform.customJobs.create", "proj", "us-central1")
    assert (type(found), str(found)) == (kind, line)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.ServiceUnavailable("x"), True),
        (exceptions.DeadlineExceeded("x"), True),
        (exceptions.InternalServerError("x"), True),
        (requests.exceptions.ReadTimeout("x"), True),
        (exceptions.TooManyRequests(RATE), True),
        (exceptions.ResourceExhausted(f"The following quota metrics exceed quota limits: {CPUS}"), False),
        (exceptions.PermissionDenied("x"), False),
        (exceptions.InvalidArgument("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_passes_by_itself(error, expected):
    assert is_passing(error) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Quota exhausted. Please reach out to ai-platform-unified-feedback@google.com for quota increase",
            "out of quota: Quota exhausted. Please reach out to ai-platform-unified-feedback@google.com for quota"
            f" increase in us-central1; request more on {QUOTAS}, or ask for less in the job file",
        ),
        (
            "Resources are insufficient in region: us-central1",
            "Resources are insufficient in region: us-central1; no such machine is free in us-central1:"
            " run again later, or change machine_type or vertex.region",
        ),
        (
            "sa@proj does not have storage.objects.get access. Permission 'storage.objects.get' denied on resource"
            " 'projects/_/buckets/bkt' (or it may not exist)",
            "permission storage.objects.get is missing on projects/_/buckets/bkt; ask for roles/storage.objectUser"
            " (sa@proj does not have storage.objects.get access. Permission 'storage.objects.get' denied on resource"
            " 'projects/_/buckets/bkt' (or it may not exist))",
        ),
        ("The replica workerpool0-0 exited with a non-zero status of 1", None),
        ("", None),
    ],
    ids=["quota of batch prediction", "no machines", "permission", "our own failure", "none"],
)
def test_why_a_job_failed_says_what_to_request(text, expected):
    assert request_for(text, "proj", "us-central1") == (text if expected is None else expected)


def test_clients_are_not_imported_before_they_are_asked_for():
    """They take seconds."""
    modules = "beam_jobs.cli, beam_jobs.vertex.training"
    ask = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('google.cloud.aiplatform')])"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "[]\n"


class TestCalls:
    def test_a_passing_fault_is_tried_again(self, twin, jobs):
        from twins.vertex_faults import connection_reset, rate_limited, refusal

        for each in (refusal("UNAVAILABLE"), connection_reset, refusal("INTERNAL"), rate_limited()):
            twin.faults.on_call("GET", "customJobs$", each)
        assert jobs.find(NAME) == []
        assert (twin.faults.happened, len(twin.faults.calls)) == (4, 5)

    def test_a_lasting_one_is_given_up(self, twin, jobs, monkeypatch):
        from twins.vertex_faults import refusal

        monkeypatch.setattr(service, "RETRY_SECONDS", 0.3)
        twin.faults.on_call("GET", "customJobs$", refusal("UNAVAILABLE"), count=1000)
        with pytest.raises(
            ForetableError, match=r"^vertex in proj, us-central1: cannot list the custom jobs: no answer"
        ):
            jobs.find(NAME)

    def test_jobs_are_found_by_their_whole_name_newest_first(self, jobs):
        first, second = jobs.create(message()), jobs.create(message())
        jobs.create(message(f"{NAME}-2"))
        assert [job.name for job in jobs.find(NAME)] == [second.name, first.name]
        assert jobs.find(NAME[:-1]) == []

    def test_active_ones_are_of_a_job_file_or_of_any(self, twin, jobs):
        twin.faults.on_job("custom", fault(never_ends=True), count=2)
        running, other = jobs.create(message()), message("foretable-other-train-1")
        other.labels["foretable_job"] = "other"
        theirs = jobs.create(other)
        unlabelled = message("somebody's")
        unlabelled.labels.clear()
        jobs.create(unlabelled)
        run_to_end(jobs, jobs.create(message(f"{NAME}-2")))
        assert [job.name for job in jobs.active("natality")] == [running.name]
        assert {job.name for job in jobs.active()} == {running.name, theirs.name}

    def test_cancelling_what_has_ended_asks_for_nothing(self, twin, jobs):
        job = run_to_end(jobs, jobs.create(message()))
        jobs.cancel(job.name)
        assert not any(call.endswith(":cancel") for call in twin.faults.calls)

    def test_cancelling_what_ends_meanwhile_is_no_error(self, twin, jobs):
        twin.faults.on_job("custom", fault(never_ends=True))
        job = jobs.create(message())
        when(lambda: jobs.get(job.name).state == "RUNNING").join()

        def end_first(call, serve):
            end(twin, job)
            return serve()

        twin.faults.on_call("POST", ":cancel$", end_first)
        jobs.cancel(job.name)
        assert jobs.get(job.name).state == "SUCCEEDED"

    def test_operations_of_other_clients_are_explained_alike(self, jobs):
        name = f"{jobs.service.parent}/models/nothing"
        with pytest.raises(ForetableError, match=r"^vertex in proj, us-central1: cannot see the model: not found"):
            with jobs.service.explained("see the model", "aiplatform.models.get"):
                jobs.service.models.get_model(name=name, **idempotent())

    def test_a_service_that_is_not_there_is_one_line(self, monkeypatch):
        monkeypatch.setattr(service, "RETRY_SECONDS", 0.1)
        jobs = VertexJobs(VertexService.of(night_of().job), "custom")
        with pytest.raises(
            ForetableError, match=r"^vertex in proj, us-central1: cannot list the custom jobs: no answer"
        ):
            jobs.find(NAME)


def run_to_end(jobs, job):
    deadline = time.monotonic() + 20
    while not job.has_ended and time.monotonic() < deadline:
        time.sleep(0.02)
        job = jobs.get(job.name)
    return job


class TestCreation:
    @pytest.mark.parametrize("name", ["lost_reply", "connection_reset", "refused", "refused after acting", "limited"])
    def test_a_passing_fault_makes_one_job(self, twin, jobs, name):
        from twins import vertex_faults

        faults = {
            "refused": vertex_faults.refusal("UNAVAILABLE"),
            "refused after acting": vertex_faults.refusal_after_acting("INTERNAL"),
            "limited": vertex_faults.rate_limited(),
        }
        twin.faults.on_call("POST", "customJobs$", faults.get(name) or getattr(vertex_faults, name))
        job = jobs.create(message())
        assert created(twin) == [NAME]
        assert job.name == twin.jobs()[0].message.name

    def test_a_job_that_shows_late_is_not_made_again(self, twin, jobs, monkeypatch):
        from twins.vertex_faults import lost_reply, refusal

        twin.faults.on_call("POST", "customJobs$", lost_reply)
        twin.faults.on_call("GET", "customJobs$", refusal("UNAVAILABLE"), count=3)
        jobs.create(message())
        assert created(twin) == [NAME]

    def test_used_up_quota_is_asked_for_at_once(self, twin, jobs):
        from twins.vertex_faults import quota_exceeded

        twin.faults.on_call("POST", "customJobs$", quota_exceeded(), count=1000)
        with pytest.raises(ForetableError) as error:
            jobs.create(message())
        line = f"vertex in proj, us-central1: cannot create custom job {NAME}: out of quota: {CPUS} in us-central1;"
        assert str(error.value).startswith(line)
        assert len(twin.faults.calls) == 1

    def test_a_missing_permission_is_asked_for_at_once(self, twin, jobs):
        from twins.vertex_faults import permission_denied

        twin.faults.on_call("POST", "customJobs$", permission_denied("aiplatform.customJobs.create"), count=1000)
        with pytest.raises(
            ForetableError, match=r"aiplatform\.customJobs\.create is missing on .* roles/aiplatform\.user"
        ):
            jobs.create(message())
        assert len(twin.faults.calls) == 1

    def test_a_bad_setting_is_the_job_file_s(self, jobs):
        bad = message()
        bad.job_spec.worker_pool_specs[0].machine_spec.machine_type = "fast"
        with pytest.raises(JobError, match=r'Machine type "fast" is not supported.*; check vertex, model\.training'):
            jobs.create(bad)


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


def end(twin, job, state="SUCCEEDED"):
    """Lets a job that never ends end so."""
    from google.cloud.aiplatform_v1 import JobState

    twin.update(twin.all_jobs[job.name], state=JobState[f"JOB_STATE_{state}"])


def test_the_log_is_that_of_the_job_and_its_end_is_shown(twin, jobs):
    twin.faults.on_job("custom", fault(error=(3, "x"), lines=tuple(f"line {number}" for number in range(30))))
    job = run_to_end(jobs, jobs.create(message()))
    twin.faults.on_job("custom", fault(error=(3, "x"), lines=("not ours",)))
    run_to_end(jobs, jobs.create(message("another")))
    assert last_lines(jobs.service, job, 4) == ["line 26", "line 27", "line 28", "line 29"]


class Terminal:
    """Standard input with, or without, a person at it."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return self.answer is not None

    def readline(self):
        return f"{self.answer}\n"
