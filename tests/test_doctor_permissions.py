"""What may be done in the projects that pay, in the buckets and tables that the job names."""

import concurrent.futures
import contextlib
import http.server
import json
import threading

import grpc
import pytest
from bigquery_tables import BigQuery
from conftest import NATALITY
from doctor_reports import report_on
from google.cloud.bigquery_storage_v1.types import CreateReadSessionRequest, ReadSession

from beam_jobs import endpoints
from beam_jobs.doctor import cloud as cloud_checks
from beam_jobs.doctor.findings import Finding
from beam_jobs.doctor.permissions import PUBLISHING, needed_permissions
from beam_jobs.sources import sources_of
from configs.loading import load_job
from configs.sources import BigQuerySource


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
