"""Jobs on Vertex AI are found, listed and cancelled, and made once whatever happens to the call."""

import pytest
from interrupts import when
from vertex_launching import NAME, be_impatient, created, end, fault, message, night_of, run_to_end

from beam_jobs.vertex import service
from beam_jobs.vertex.jobs import VertexJobs
from beam_jobs.vertex.service import VertexService, idempotent
from beam_jobs.vertex.waiting import run_jobs
from configs.errors import ForetableError, JobError

WHERE = "vertex in proj, us-central1: cannot create custom job J"


QUOTAS = "https://console.cloud.google.com/iam-admin/quotas?project=proj"


CPUS = "aiplatform.googleapis.com/custom_model_training_cpus"


URL = "https://console.cloud.google.com/ai/platform/locations/us-central1/training/{}?project=proj"


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


class TestBatchPredictionJobs:
    """The same calls, of the other kind of job."""

    @pytest.fixture
    def jobs(self, night):
        return VertexJobs(VertexService.of(night.job), "batch")

    @pytest.fixture
    def wanted(self, twin, jobs):
        from google.cloud.aiplatform_v1 import types

        container = types.ModelContainerSpec(image_uri="us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest")
        model = types.Model(display_name="a model", artifact_uri="gs://bkt/model", container_spec=container)
        uploaded = jobs.service.models.upload_model(parent=jobs.service.parent, model=model).result()
        return types.BatchPredictionJob(
            display_name=NAME,
            model=f"{uploaded.model}@{uploaded.model_version_id}",
            input_config={"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bkt/in.jsonl"]}},
            output_config={
                "predictions_format": "jsonl",
                "gcs_destination": {"output_uri_prefix": "gs://bkt/out"},
            },
            dedicated_resources={"machine_spec": {"machine_type": "n1-standard-4"}, "starting_replica_count": 1},
            labels={"foretable_job": "natality"},
        )

    @pytest.mark.parametrize("name", ["lost_reply", "connection_reset", "UNAVAILABLE", "INTERNAL", "limited"])
    def test_a_passing_fault_makes_one_job_and_is_tried_again_where_it_is_seen_and_listed(
        self, twin, jobs, wanted, name
    ):
        from twins import vertex_faults

        faults = {
            "lost_reply": vertex_faults.lost_reply,
            "connection_reset": vertex_faults.connection_reset,
            "UNAVAILABLE": vertex_faults.refusal("UNAVAILABLE"),
            "INTERNAL": vertex_faults.refusal_after_acting("INTERNAL"),
            "limited": vertex_faults.rate_limited(),
        }
        twin.faults.on_job("batch", fault(never_ends=True))
        for method, path in (
            ("POST", "batchPredictionJobs$"),
            ("GET", "batchPredictionJobs$"),
            ("GET", r"batchPredictionJobs/\d+$"),
        ):
            twin.faults.on_call(method, path, faults[name])
        job = jobs.create(wanted)
        assert created(twin) == [NAME]
        assert [each.name for each in jobs.find(NAME)] == [job.name]
        assert jobs.get(job.name).name == job.name
        assert twin.faults.happened == 4  # the job's own, too

    def test_one_that_never_starts_can_be_cancelled_by_us_and_by_a_person(self, twin, jobs, wanted):
        twin.faults.on_job("batch", fault(never_starts=True))
        job = jobs.create(wanted)
        address = f"https://us-central1-aiplatform.googleapis.com/v1/{job.name}:cancel"
        token = "$(gcloud auth print-access-token)"
        assert jobs.cancel_command(job.name) == (f'curl -X POST -H "Authorization: Bearer {token}" -d "" {address}')
        assert [each.name for each in jobs.active("natality")] == [job.name]
        jobs.cancel(job.name)
        assert run_to_end(jobs, job).state == "CANCELLED"

    def test_one_that_never_starts_is_given_up_after_its_time(self, twin, jobs, wanted, night):
        twin.faults.on_job("batch", fault(never_starts=True))
        expected = rf"^precompute: batch prediction job {NAME} has not ended in 0.3 s and is cancelled"
        with pytest.raises(ForetableError, match=expected):
            run_jobs(jobs, [wanted], night, "precompute", timeout_seconds=0.3)
        assert run_to_end(jobs, jobs.find(NAME)[0]).state == "CANCELLED"
