"""The doctor on Vertex AI: what runs there, as whom, with which code, and what is left and billed."""

import threading

import pytest
from conftest import NATALITY
from doctor_reports import TAG, by_check, report_on
from google.cloud.aiplatform_v1 import types

from beam_jobs.doctor import vertex as vertex_checks
from beam_jobs.doctor.permissions import needed_permissions
from beam_jobs.vertex import service as vertex_service
from beam_jobs.vertex.leftovers import deployed_models
from beam_jobs.vertex.service import VertexService
from configs.loading import load_job


class TestVertexWithoutAsking:
    """What the job file alone says about Vertex AI."""

    @staticmethod
    def job(*overrides):
        on_vertex = ["workspace=gs://bucket/ws", "vertex={project: mine, region: us-central1}"]
        return load_job(NATALITY, [*on_vertex, "warehouse={kind: bigquery, project: mine, dataset: d}", *overrides])

    @pytest.mark.parametrize(
        ("training", "expected"),
        [
            (f"container: 'us-docker.pkg.dev/mine/r/foretable:{TAG}'", [("ok", f"image {TAG}, as here")]),
            (
                f"container: 'us-docker.pkg.dev/theirs/r/foretable:{TAG}'",
                [("ok", f"image {TAG}, as here"), ("warn", "the image lies in theirs, not in mine")],
            ),
            ("container: 'gcr.io/mine/foretable:latest'", [("warn", "its tag does not say its versions")]),
            ("python_package: {}", [("ok", "installs this package and requirements.lock in docker.io/library/pyt")]),
            (
                "python_package: {image: 'us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest'}",
                [("warn", "its tag does not say which Python it has")],
            ),
            ("python_package: {image: 'python:3.10-slim'}", [("fail", "python:3.10-slim has Python 3.10")]),
        ],
        ids=["image", "of another project", "latest", "package", "no Python in its tag", "too old a Python"],
    )
    def test_whether_a_custom_job_will_have_this_code(self, training, expected):
        job = self.job(f"model.training={{on: vertex, {training}}}")
        found = [(finding.status, finding.found) for finding in vertex_checks.training_checks(job)]
        assert [status for status, _ in found] == [status for status, _ in expected]
        assert all(words in text for (_, words), (_, text) in zip(expected, found, strict=True))

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ([], [("ok", "jobs run as Vertex AI's own service agents of mine")]),
            (["vertex.service_account=a@mine.iam.gserviceaccount.com"], [("ok", "jobs run as a@mine.iam.gservice")]),
            (["vertex.service_account=a@other.iam.gserviceaccount.com"], [("warn", "is of another project than mine")]),
            (
                ["precompute={on: vertex_batch, instances_format: bigquery, dataset: theirs.d}"],
                [("ok", "jobs run as Vertex AI's own"), ("warn", "instances lie in another project than mine")],
            ),
            (
                ["vertex.serving={image: 'us-docker.pkg.dev/theirs/r/serving:1', port: 8501}"],
                [("ok", "jobs run as Vertex AI's own"), ("warn", "the serving image lies in theirs, not in mine")],
            ),
            (
                [
                    "vertex.serving={image: 'us-docker.pkg.dev/mine/r/serving:1', port: 8501}",
                    "vertex.service_account=a@mine.iam.gserviceaccount.com",
                ],
                [("ok", "jobs run as a@mine"), ("ok", "a@mine.iam.gserviceaccount.com reads the serving image, for ")],
            ),
        ],
        ids=["nobody", "of the project", "of another project", "tables elsewhere", "image elsewhere", "own image"],
    )
    def test_as_whom_jobs_run(self, settings, expected):
        found = [(finding.status, finding.found) for finding in vertex_checks.agent_checks(self.job(*settings))]
        assert [status for status, _ in found] == [status for status, _ in expected]
        assert all(words in text for (_, words), (_, text) in zip(expected, found, strict=True))

    def test_permissions(self):
        registry = needed_permissions(self.job(), ())
        assert "aiplatform.models.upload" in registry["Vertex AI"]
        assert "Cloud Logging" not in registry
        assert not any("Jobs" in name or name.startswith("iam.") for name in registry["Vertex AI"])
        every = needed_permissions(
            self.job(
                "model.training={on: vertex, container: i, service_account: a@mine.iam.gserviceaccount.com}",
                "precompute={on: vertex_batch}",
            ),
            (),
        )
        assert {"aiplatform.customJobs.create", "aiplatform.batchPredictionJobs.cancel"} <= {*every["Vertex AI"]}
        assert "iam.serviceAccounts.actAs" in every["Vertex AI"]
        assert every["Cloud Logging"] == ("logging.logEntries.list",)


class TestOnTheVertexTwin:
    @pytest.fixture
    def settings(self, cloud, vertex_twin):
        training = f"{{on: vertex, container: 'us-docker.pkg.dev/proj/r/foretable:{TAG}'}}"
        addresses = {"vertex": vertex_twin.endpoint, "logging": vertex_twin.endpoint}
        return [
            *cloud.overrides(**addresses),
            "vertex={project: proj, region: us-central1}",
            f"model.training={training}",
            "precompute={on: vertex_batch, instances_format: bigquery}",
        ]

    def test_a_healthy_job(self, settings):
        report = report_on(*settings)
        found = [finding for finding in report["findings"] if finding["check"] in ("vertex", "training", "leftovers")]
        assert {finding["status"] for finding in found} == {"ok"}
        assert by_check(report)["vertex"] == ("ok", "Vertex AI in proj, us-central1 answers")

    def test_what_is_left_running_and_deployed(self, settings, vertex_twin):
        """Of this job; what another job runs is its own matter."""
        service = VertexService.of(load_job(NATALITY, settings))
        ours, theirs = {"foretable_job": "natality"}, {"foretable_job": "other"}
        pool = {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "container_spec": {"image_uri": "i", "command": ["sleep", "600"]},
        }
        jobs = [
            service.jobs.create_custom_job(
                parent=service.parent,
                custom_job={"display_name": name, "labels": labels, "job_spec": {"worker_pool_specs": [pool]}},
            )
            for name, labels in (("foretable-natality-train-1", ours), ("foretable-other-train-1", theirs))
        ]
        try:
            left = [finding for finding in report_on(*settings)["findings"] if finding["status"] == "warn"]
        finally:
            for job in jobs:
                service.jobs.cancel_custom_job(name=job.name)
        (finding,) = [finding for finding in left if finding["check"] == "leftovers"]
        assert finding["found"].startswith("custom job foretable-natality-train-1 is ")
        cancel = f"gcloud ai custom-jobs cancel {jobs[0].name} --project=proj --region=us-central1"
        assert finding["mend"].endswith(cancel)

    def test_a_deployment_that_is_under_way_is_billed_soon(self, settings, vertex_twin):
        service = VertexService.of(load_job(NATALITY, settings))
        endpoint = types.Endpoint(display_name="foretable-natality")
        request = types.CreateEndpointRequest(
            parent=service.parent, endpoint=endpoint, endpoint_id="foretable-natality"
        )
        made = service.endpoints.create_endpoint(request=request).result(timeout=30)
        may_end, done = threading.Event(), types.DeployModelResponse()
        vertex_twin.operate(made.name, types.DeployModelOperationMetadata(), lambda: may_end.wait(60) and done)
        try:
            found = [left.machines for left in deployed_models(service, load_job(NATALITY, settings))]
        finally:
            may_end.set()
            vertex_twin.endpoints.clear()
        assert found == [("a model that is being deployed",)]

    def test_an_endpoint_with_a_model_on_it_is_billed(self, settings, vertex_twin):
        """This job's own by its id; one that carries the job's label, by the page where a person undeploys it."""
        service = VertexService.of(load_job(NATALITY, settings))
        for name, labels in (("foretable-natality", {}), ("by-hand", {"foretable_job": "natality"}), ("theirs", {})):
            endpoint = types.Endpoint(display_name=name, labels=labels)
            request = types.CreateEndpointRequest(parent=service.parent, endpoint=endpoint, endpoint_id=name)
            made = service.endpoints.create_endpoint(request=request).result(timeout=30)
            machines = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}
            machines["max_replica_count"] = 3
            deployed = types.DeployedModel(id="1", model_version_id="4", dedicated_resources=machines)
            vertex_twin.endpoints[made.name].deployed_models.append(deployed)
        try:
            found = [finding for finding in report_on(*settings)["findings"] if finding["check"] == "leftovers"]
        finally:
            vertex_twin.endpoints.clear()
        billed = "is billed by the hour: 1 to 3 n1-standard-2 for version 4"
        (by_hand, ours) = [finding for finding in found if finding["status"] == "warn"]
        assert (ours["found"], ours["mend"]) == (
            f"endpoint foretable-natality {billed}",
            f"foretable endpoint undeploy {NATALITY}",
        )
        assert by_hand["found"] == f"endpoint by-hand {billed}"
        assert by_hand["mend"].startswith("undeploy it on https://console.cloud.google.com/ai/platform/")

    def test_vertex_that_does_not_answer(self, settings, monkeypatch):
        monkeypatch.setattr(vertex_service, "RETRY_SECONDS", 0.1)
        report = report_on(*settings, "endpoints.vertex=http://127.0.0.1:9")
        status, found = by_check(report)["vertex"]
        assert status == "fail"
        assert found.startswith("vertex in proj, us-central1: cannot list the custom jobs")
