"""The doctor finds what would end a job, says how to mend it, and lets a healthy one through."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import apache_beam
import grpc
import pytest
from bigquery_tables import BigQuery
from conftest import FIRST_DATE, NATALITY, ROOT, ListedConsole
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.aiplatform_v1 import types
from google.cloud.bigquery_storage_v1.types import CreateReadSessionRequest, ReadSession
from twins import dataflow as dataflow_twin
from twins.dataflow import dataflow_server
from typer.testing import CliRunner

import beam_jobs
from beam_jobs import endpoints
from beam_jobs.cli import app
from beam_jobs.dataflow.runner import job_name
from beam_jobs.doctor import cloud as cloud_checks
from beam_jobs.doctor import machine
from beam_jobs.doctor import vertex as vertex_checks
from beam_jobs.doctor.examination import examine
from beam_jobs.doctor.findings import Finding
from beam_jobs.doctor.images import code_digest, image_tag
from beam_jobs.doctor.locations import location_checks, vertex_location_checks
from beam_jobs.doctor.permissions import PUBLISHING, STORAGE, needed_permissions
from beam_jobs.night import Night
from beam_jobs.pipelines import Step
from beam_jobs.sources import sources_of
from beam_jobs.vertex import service as vertex_service
from beam_jobs.vertex.leftovers import deployed_models
from beam_jobs.vertex.service import VertexService
from configs.cloud import DataflowRunner
from configs.loading import load_job
from configs.sources import BigQuerySource

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSIONS = f"{beam_jobs.__version__}-py{PYTHON}-beam{apache_beam.__version__}"
TAG = f"{VERSIONS}-{code_digest()}"


def report_on(*overrides):
    job = load_job(NATALITY, overrides)
    endpoints.use_endpoints(job)
    return examine(job, NATALITY)


def by_check(report):
    return {finding["check"]: (finding["status"], finding["found"]) for finding in report["findings"]}


class TestOnALaptop:
    def test_a_healthy_job(self, tmp_path):
        report = report_on(f"workspace={tmp_path}")
        assert list(by_check(report)) == ["python", "packages", "memory", "workspace", "warehouse", "source"]
        assert report["healthy"]
        assert report["permissions"] == {}

    def test_nothing_is_made(self, tmp_path):
        report_on(f"workspace={tmp_path}/new")
        assert list(tmp_path.iterdir()) == []

    def test_a_workspace_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        report = report_on(f"workspace={tmp_path}/file")
        assert by_check(report)["workspace"] == (
            "fail",
            f"{tmp_path}/file/natality: cannot be written: not a directory",
        )
        assert not report["healthy"]

    def test_a_source_that_is_not_there(self, tmp_path):
        report = report_on(f"workspace={tmp_path}", f"source={{kind: csv, files: '{tmp_path}/births-*.csv'}}")
        assert by_check(report)["source"] == ("fail", f"source.files: no file matches '{tmp_path}/births-*.csv'")

    def test_a_given_model_that_is_not_there(self, tmp_path):
        path = tmp_path / "job.yaml"
        axes = "{rooms: {range: [1, 8]}}"
        path.write_text(
            f"name: rent\nworkspace: {tmp_path}\nmodel: {{saved_model: {tmp_path}/away}}\nfeatures: {{rooms: {{type: float}}}}\ninput_space: {{axes: {axes}}}"
        )
        found = by_check(examine(load_job(str(path)), str(path)))
        assert found["model"] == ("fail", f"model.saved_model: '{tmp_path}/away': no saved_model.pb there")

    def test_the_command_ends_with_3_and_the_mend(self, tmp_path):
        (tmp_path / "file").touch()
        result = CliRunner().invoke(app, ["doctor", NATALITY, "--set", f"workspace={tmp_path}/file"])
        assert result.exit_code == 3
        assert f"FAIL  workspace    {tmp_path}/file/natality: cannot be written: not a directory" in result.stdout
        assert "mend: set workspace: to a folder of yours" in result.stdout
        result = CliRunner().invoke(app, ["doctor", NATALITY, "--json", "--set", f"workspace={tmp_path}/file"])
        assert (result.exit_code, json.loads(result.stdout)["healthy"]) == (3, False)

    def test_json_is_one_object(self, tmp_path):
        result = CliRunner().invoke(app, ["doctor", NATALITY, "--json", "--set", f"workspace={tmp_path}"])
        assert result.exit_code == 0
        assert json.loads(result.stdout)["healthy"] is True


class TestPackages:
    def test_another_version_than_the_locks(self, tmp_path):
        lock = tmp_path / "requirements.lock"
        lock.write_text("numpy==0.1\n    # via\n    #   keras\nno-such-package==1\n")
        (finding,) = machine.package_checks(lock)
        assert (finding.status, finding.mend) == ("warn", "pip install --requirement requirements.lock")
        assert finding.found.startswith("not as in requirements.lock: numpy ")
        assert "no-such-package" not in finding.found

    def test_a_lock_for_several_pythons(self, tmp_path):
        import numpy

        lock = tmp_path / "requirements.lock"
        lock.write_text(f"numpy==0.1 ; python_version < '3'\nnumpy=={numpy.__version__} ; python_version >= '3'\n")
        assert [finding.status for finding in machine.package_checks(lock)] == ["ok"]

    def test_no_lock(self, tmp_path):
        assert [finding.status for finding in machine.package_checks(tmp_path / "away.lock")] == ["warn"]


@pytest.mark.parametrize(
    ("dataset", "bucket", "region", "expected"),
    [
        ("US", "EUROPE-WEST1", None, ["ok"]),
        ("EU", "EUROPE-WEST1", None, ["ok"]),
        ("EU", "EU", "europe-west4", ["ok"]),
        ("EU", "US", "us-central1", ["fail"]),
        ("europe-west1", "EU", None, ["fail"]),
        ("europe-west1", "EUROPE-WEST1", "europe-west1", ["ok"]),
        ("us-east1", "US-EAST1", "us-central1", ["ok", "warn"]),
        ("EU", "EUROPE-WEST2", None, ["fail"]),
        ("EU", "EUROPE-WEST6", None, ["fail"]),
        ("EU", "EUROPE-WEST12", None, ["ok"]),
        ("EU", "EUR4", None, ["warn"]),
        ("europe-west4", "EUR4", "europe-west4", ["warn", "warn"]),
        (None, "US", "us-central1", []),
        (None, "US", "northamerica-northeast1", ["warn"]),
        (None, "EU", "europe-west2", ["warn"]),
        (None, "EU", "us-central1", ["warn"]),
    ],
)
def test_which_places_go_together(dataset, bucket, region, expected):
    assert [finding.status for finding in location_checks(dataset, bucket, region)] == expected


@pytest.mark.parametrize(
    ("region", "bucket", "instances", "predicts", "expected"),
    [
        ("us-central1", "US-CENTRAL1", None, True, ["ok"]),
        ("us-central1", "US", "US", True, ["ok"]),
        ("europe-west4", "US", None, True, ["fail"]),
        ("europe-west4", "US", None, False, ["warn"]),
        ("us-central1", "US", "EU", True, ["fail"]),
        ("europe-west4", "US", "US", True, ["fail", "fail"]),
        ("europe-west2", "EU", None, True, ["fail"]),
        ("northamerica-northeast1", "US", None, True, ["fail"]),
        ("europe-west4", "EUR4", None, True, ["warn"]),
    ],
)
def test_vertex_reads_and_writes_in_its_own_region(region, bucket, instances, predicts, expected):
    findings = list(vertex_location_checks(region, bucket, instances, predicts))
    assert [finding.status for finding in findings] == expected


@pytest.mark.parametrize(
    ("tag", "status", "found"),
    [
        (TAG, "ok", f"image {TAG}, as here"),
        (f"0.0.1-py{PYTHON}-beam{apache_beam.__version__}", "fail", "the image has another version 0.0.1 (here: "),
        (f"{beam_jobs.__version__}-py3.9-beam2.70.0", "fail", f"python 3.9 (here: {PYTHON}), beam 2.70.0 (here: "),
        (
            f"{VERSIONS}-0123456789ab",
            "fail",
            f"the image has another code 0123456789ab (here: {TAG.rpartition('-')[2]})",
        ),
        (VERSIONS, "warn", "its tag does not say which code it has"),
        ("latest", "warn", "its tag does not say its versions"),
    ],
)
def test_the_image_against_what_is_here(tag, status, found):
    image = f"region-docker.pkg.dev/p/r/foretable:{tag}"
    (finding,) = cloud_checks.image_checks(
        DataflowRunner(kind="dataflow", project="p", region="r", sdk_container_image=image)
    )
    assert finding.status == status
    assert found in finding.found


@pytest.mark.parametrize(
    ("present", "status"),
    [(("setup.py", "requirements.lock"), "ok"), (("setup.py",), "warn"), ((), "fail")],
    ids=["both", "no lock", "neither"],
)
def test_a_setup_file_needs_the_lock_beside_it(tmp_path, present, status):
    for name in present:
        (tmp_path / name).touch()
    runner = DataflowRunner(kind="dataflow", project="p", region="r", setup_file=str(tmp_path / "setup.py"))
    assert [finding.status for finding in cloud_checks.image_checks(runner)] == [status]


@pytest.fixture
def checkout(tmp_path):
    """As much of one as an image's tag tells of."""
    (tmp_path / "beam_jobs" / "doctor").mkdir(parents=True)
    for name in ("beam_jobs/__init__.py", "beam_jobs/doctor/images.py", "beam_jobs/prices.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes"),
    [("beam_jobs/doctor/images.py", True), ("requirements.lock", True), ("beam_jobs/prices.yaml", False)],
)
def test_the_tag_follows_code_and_lock(checkout, name, changes):
    before = image_tag("3.11", "2.77.0", checkout)
    assert before.rpartition("-")[0] == f"{beam_jobs.__version__}-py3.11-beam2.77.0"
    with (checkout / name).open("a") as file:
        file.write("# one more line\n")
    assert (image_tag("3.11", "2.77.0", checkout) != before) == changes


def test_make_image_writes_the_tag_that_the_doctor_reads(tmp_path):
    """With a `docker` that says what it was called with, and a Python that has no packages."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@"\n')
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["make", "-s", "image", f"IMAGE_PYTHON={PYTHON}", f"PYTHON={sys.executable} -S", "IMAGE=r/foretable"]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    build = f"build --build-arg PYTHON={PYTHON} --build-arg BEAM={apache_beam.__version__} --tag r/foretable:{TAG} ."
    assert told.splitlines() == [build, f"r/foretable:{TAG}"]


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


class TestOnTheTwins:
    @pytest.fixture(scope="class")
    def dataflow(self, cloud, tmp_path_factory):
        with dataflow_server(tmp_path_factory.mktemp("dataflow"), cloud.storage, cloud.environment) as twin:
            yield twin

    @pytest.fixture(scope="class")
    def settings(self, cloud, dataflow):
        image = f"region-docker.pkg.dev/proj/r/foretable:{TAG}"
        runner = f"runner={{kind: dataflow, project: proj, region: us-central1, sdk_container_image: '{image}'}}"
        return [*cloud.overrides(dataflow=dataflow.endpoint), runner]

    def test_a_healthy_job(self, settings):
        report = report_on(*settings)
        assert {check: status for check, (status, _) in by_check(report).items() if status != "ok"} == {}
        assert report["permissions"]["Cloud Storage"] == list(STORAGE)
        assert "dataflow.jobs.create" in report["permissions"]["Dataflow"]
        assert "bigquery.tables.updateData" in report["permissions"]["BigQuery"]

    def test_a_dataset_that_is_not_there(self, settings):
        report = report_on(*settings, "warehouse.dataset=nowhere")
        (finding,) = [finding for finding in report["findings"] if finding["check"] == "warehouse"]
        assert (finding["status"], finding["found"]) == ("fail", "warehouse.dataset: proj.nowhere is not there")
        assert finding["mend"] == "make it: bq --location=US mk --dataset proj:nowhere"

    def test_a_bucket_that_is_not_there(self, settings):
        report = report_on(*settings, "workspace=gs://no-such-bucket/ws")
        status, found = by_check(report)["workspace"]
        assert status == "fail"
        assert "no-such-bucket" in found

    def test_only_this_jobs_own_runs_are_left(self, settings, dataflow):
        """Of jobs whose names start with this one's, each would be cancelled with the command that is told."""
        night = Night.of(load_job(NATALITY, settings), NATALITY, FIRST_DATE, ListedConsole())
        steps = (Step("ingest", None, ""), Step("precompute", None, "", version="v"), Step("traffic", None, ""))
        ours = [job_name(night, step, attempt) for step in steps for attempt in (1, 2)]
        theirs = [name.replace("natality", f"natality-{more}") for name in ours for more in ("real", "ingest")]
        for index, name in enumerate([*ours, *theirs]):
            place = {"id": str(index), "name": name, "projectId": "proj", "location": "us-central1"}
            dataflow.jobs[name] = dataflow_twin.Job(place | {"currentState": "JOB_STATE_RUNNING"})
        try:
            found = [finding for finding in report_on(*settings)["findings"] if finding["check"] == "leftovers"]
        finally:
            dataflow.jobs.clear()
        told = {finding["found"]: finding["mend"] for finding in found if finding["status"] == "warn"}
        assert told == {
            f"Dataflow job {name} still runs": f"gcloud dataflow jobs cancel {index} --project=proj --region=us-central1"
            for index, name in enumerate(ours)
        }

    def test_beams_own_bucket(self, settings, cloud):
        """It may be another than the workspace's."""
        job = load_job(NATALITY, settings)
        bucket = job.workspace.split("/")[2]
        same = {
            finding["found"] for finding in report_on(*settings, f"runner.temp_location=gs://{bucket}/temp")["findings"]
        }
        assert not any("temp_location" in found for found in same)
        found = by_check(report_on(*settings, "runner.temp_location=gs://no-such-bucket/temp"))
        assert found["workspace"][0] == "ok"
        assert found["buckets"] == ("fail", "gs://no-such-bucket/temp/.doctor: there is no bucket 'no-such-bucket'")

    def test_a_table_that_nobody_names(self, settings, cloud):
        job = load_job(NATALITY, settings)
        options = {"api_endpoint": cloud.bigquery.endpoint}
        client = bigquery.Client("proj", AnonymousCredentials(), client_options=options)
        client.create_table(
            bigquery.Table(f"proj.{job.warehouse.dataset}.natality_20260101_abc", [bigquery.SchemaField("a", "INT64")])
        )
        client.create_table(
            bigquery.Table(f"proj.{job.warehouse.dataset}.theirs_20260101_abc", [bigquery.SchemaField("a", "INT64")])
        )
        found = [finding for finding in examine(job, NATALITY)["findings"] if finding["check"] == "leftovers"]
        assert [(finding["status"], finding["found"], finding["mend"]) for finding in found] == [
            (
                "warn",
                "table natality_20260101_abc: no night names it, and it never expires",
                f"bq rm proj:{job.warehouse.dataset}.natality_20260101_abc",
            )
        ]


class TestPermissions:
    @pytest.fixture
    def job(self, tmp_path):
        return load_job(NATALITY, [f"workspace={tmp_path}", "warehouse={kind: bigquery, project: mine, dataset: d}"])

    @contextlib.contextmanager
    def answering(self, granted, monkeypatch, status=200):
        """A resource manager that grants these permissions; gives what was asked, by project."""
        asked_of = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["permissions"]
                asked_of[self.path.removeprefix("/v1/projects/").removesuffix(":testIamPermissions")] = asked
                body = json.dumps({"permissions": [name for name in asked if name in granted]}).encode()
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(cloud_checks, "RESOURCE_MANAGER", f"http://127.0.0.1:{server.server_port}")
        yield asked_of
        server.shutdown()
        server.server_close()

    @pytest.fixture(autouse=True)
    def credentials(self, metadata_twin, monkeypatch):
        for name, value in metadata_twin.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        endpoints._google_credentials.cache_clear()
        yield
        endpoints._google_credentials.cache_clear()

    @pytest.mark.parametrize(
        ("missing", "expected"),
        [
            ((), [("ok", "BigQuery in mine: all that is needed")]),
            (("bigquery.jobs.create",), [("fail", "BigQuery in mine: missing bigquery.jobs.create")]),
            (
                ("bigquery.tables.create",),
                [("warn", "BigQuery in mine: not granted by the project: bigquery.tables.create")],
            ),
        ],
        ids=["all", "on the project", "on the dataset"],
    )
    def test_what_the_project_grants(self, job, monkeypatch, missing, expected):
        needed = needed_permissions(job, ())["BigQuery"]
        with self.answering(set(needed) - set(missing), monkeypatch):
            found = list(cloud_checks.permission_checks(job, ()))
        assert [(finding.status, finding.found) for finding in found] == expected

    def test_a_manager_that_will_not_say(self, job, monkeypatch):
        with self.answering((), monkeypatch, status=403):
            (finding,) = cloud_checks.permission_checks(job, ())
        mend = "gcloud services enable cloudresourcemanager.googleapis.com --project=mine"
        assert finding == Finding("permissions", "warn", "cannot ask what may be done in mine (HTTP 403)", mend)

    ASKED = ("bigquery.jobs.create", "bigquery.readsessions.create", "bigquery.readsessions.getData")

    @pytest.mark.parametrize(
        ("source", "project"),
        [
            ("table: theirs.d.births", "theirs"),
            ("table: theirs.d.births, project: payer", "payer"),
            ("query: SELECT 1, project: payer", "payer"),
            ("query: SELECT 1", "proj"),
        ],
        ids=["table", "table that another project pays for", "query", "query of the credentials' own project"],
    )
    def test_who_pays_for_reading_is_asked(self, tmp_path, monkeypatch, source, project):
        """Whatever the warehouse is."""
        job = load_job(NATALITY, [f"workspace={tmp_path}", f"source={{kind: bigquery, {source}}}"])
        with self.answering({"bigquery.jobs.create"}, monkeypatch) as asked_of:
            (finding,) = cloud_checks.permission_checks(job, sources_of(job))
        assert {project: tuple(names) for project, names in asked_of.items()} == {project: self.ASKED}
        assert finding == Finding(
            "permissions",
            "fail",
            f"BigQuery in {project}: missing bigquery.readsessions.create, bigquery.readsessions.getData",
            f"ask {project}'s owner for them: roles/bigquery.jobUser, roles/bigquery.readSessionUser",
        )

    def test_each_project_that_pays_is_asked_for_its_own(self, job, monkeypatch):
        source = BigQuerySource(kind="bigquery", table="theirs.d.births", project="payer")
        with self.answering((), monkeypatch) as asked_of:
            list(cloud_checks.permission_checks(job, (source,)))
        assert {project: tuple(names) for project, names in asked_of.items()} == {
            "mine": PUBLISHING,
            "payer": self.ASKED,
        }

    @pytest.mark.parametrize(
        ("stands_in", "found"),
        [
            ("storage: 'http://127.0.0.1:1'", "sa@proj.iam.gserviceaccount.com"),
            ("bigquery: 'http://127.0.0.1:1'", "sa@proj.iam.gserviceaccount.com"),
            (
                "bigquery: 'http://127.0.0.1:1', bigquery_storage: '127.0.0.1:1'",
                "none needed: servers stand in for bigquery, bigquery_storage",
            ),
        ],
        ids=["of a service that the job does not use", "of a part", "of all"],
    )
    def test_a_server_for_one_service_does_for_no_other(self, tmp_path, stands_in, found):
        settings = [f"workspace={tmp_path}", "source={kind: bigquery, table: p.d.t}", f"endpoints={{{stands_in}}}"]
        job = load_job(NATALITY, settings)
        assert list(cloud_checks.credentials_check(job, sources_of(job))) == [Finding("credentials", "ok", found)]


class TestReading:
    """What is read from BigQuery and Cloud Storage, on a laptop's workspace."""

    @pytest.fixture
    def tables(self, cloud):
        return BigQuery(cloud.bigquery)

    @staticmethod
    def found(tmp_path, source, endpoints):
        flow = ", ".join(f"{name}: '{address}'" for name, address in endpoints.items())
        settings = [f"workspace={tmp_path}", f"source={{{source}}}", f"endpoints={{{flow}}}"]
        return {
            finding["check"]: (finding["status"], finding["found"], finding["mend"])
            for finding in report_on(*settings)["findings"]
        }

    def test_a_table_is_tried_by_the_storage_read_api(self, tables, tmp_path):
        path = tables.table("births", "SELECT 1 AS is_male").table
        addresses = tables.endpoints.model_dump(exclude_none=True)
        found = self.found(tmp_path, f"kind: bigquery, table: {path}", addresses)
        assert found["source"] == ("ok", f"bigquery {path}", "")

    def test_a_table_that_may_be_looked_at_and_not_read(self, tables, tmp_path):
        path = tables.table("births", "SELECT 1 AS is_male").table
        said = "Access Denied: user does not have 'bigquery.readsessions.create' permission for 'projects/proj'"
        asked = []

        def refuse(request, context):
            asked.append((request.parent, request.max_stream_count))
            context.abort(grpc.StatusCode.PERMISSION_DENIED, said)

        create = grpc.unary_unary_rpc_method_handler(
            refuse, CreateReadSessionRequest.deserialize, ReadSession.serialize
        )
        handlers = grpc.method_handlers_generic_handler(
            "google.cloud.bigquery.storage.v1.BigQueryRead", {"CreateReadSession": create}
        )
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers([handlers])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            addresses = {"bigquery": tables.endpoints.bigquery, "bigquery_storage": address}
            found = self.found(tmp_path, f"kind: bigquery, table: {path}, project: payer", addresses)
        finally:
            server.stop(None)
        assert found["source"] == (
            "fail",
            f"{path}: permission denied: bigquery.readsessions.create ({said})",
            "ask the project's owner for roles/bigquery.readSessionUser",
        )
        assert asked == [("projects/payer", 1)]

    def test_each_bucket_is_looked_at(self, cloud, tmp_path):
        """As the job will use it: files of a source are only read."""
        address = {"storage": cloud.storage.endpoint}
        bucket = cloud.storage.url().split("/")[2]
        before = sorted(cloud.storage.folder.rglob("*"))
        for name, expected in (
            (bucket, ("ok", f"gs://{bucket}, of files of a source: can be read", "")),
            (
                "no-such-bucket",
                (
                    "fail",
                    "gs://no-such-bucket/*.csv: there is no bucket 'no-such-bucket'",
                    "make it with `gcloud storage buckets create gs://no-such-bucket`, or correct the name in the job file",
                ),
            ),
        ):
            found = self.found(tmp_path, f"kind: csv, files: 'gs://{name}/*.csv'", address)
            assert found["buckets"] == expected
            assert "workspace" in found
        assert sorted(cloud.storage.folder.rglob("*")) == before
