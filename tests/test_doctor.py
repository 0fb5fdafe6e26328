"""The doctor finds what would end a job, says how to mend it, and lets a healthy one through."""

import json

import pytest
from conftest import FIRST_DATE, NATALITY, ListedConsole
from doctor_reports import TAG, by_check, report_on
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from twins import dataflow as dataflow_twin
from twins.dataflow import dataflow_server
from typer.testing import CliRunner

from beam_jobs.cli import app
from beam_jobs.dataflow.runner import job_name
from beam_jobs.doctor import machine
from beam_jobs.doctor.examination import examine
from beam_jobs.doctor.permissions import STORAGE
from beam_jobs.night import Night
from beam_jobs.pipelines import Step
from configs.loading import load_job


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
