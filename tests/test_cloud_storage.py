"""Objects on `gs://`: whole reads and writes, preconditions, listings, folders, and errors of one line."""

import contextlib
import dataclasses
import http.server
import json
import threading

import google.auth
import pytest
from google.auth import exceptions
from google.auth.credentials import AnonymousCredentials
from twins.proxy import LostReplyError, proxy

from beam_jobs import endpoints
from beam_jobs.workspace import cloud_storage, storage
from beam_jobs.workspace.cloud_storage import ChangedError
from beam_jobs.workspace.cloud_storage_errors import explained_text
from configs.errors import ForetableError
from transforms.files import create_atomically


@pytest.fixture
def folder(cloud):
    return cloud.storage.url()


def test_json_comes_back_as_written(folder):
    path = storage.join(folder, "deep", "marker.json")
    assert not storage.exists(path)
    storage.write_json(path, {"rows": 3, "name": "Zoë"})
    assert storage.exists(path)
    assert storage.read_json(path) == {"rows": 3, "name": "Zoë"}


@pytest.mark.parametrize("content", [b"", b"\r\n", bytes(range(256)) * 5_000, b"--boundary\r\n\r\n"], ids=len)
def test_bytes_come_back_as_written(folder, content):
    storage.write_bytes(f"{folder}/object", content)
    assert storage.read_bytes(f"{folder}/object") == content


def test_an_absent_object_is_a_file_not_found_as_on_a_disk(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such object"):
        storage.read_bytes(f"{folder}/nothing")
    with pytest.raises(FileNotFoundError):
        storage.download(
            f"{folder}/nothing", str(tmp_path / "copy")
        )  # never os.devnull: the client deletes what it could not fill


def test_an_object_with_bucket_in_its_name_is_no_bucket(folder):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{folder}/bucket/of water")


def test_listing_is_sorted_and_by_glob(folder):
    names = ["b.parquet", "a.parquet", "a.tmp", "sub/c.parquet", "2026-01-05/x/job.json", "2026-01-05/x/y/job.json"]
    for name in names:
        storage.write_bytes(f"{folder}/{name}", b"")
    found = {
        pattern: [path.removeprefix(f"{folder}/") for path in storage.list_files(folder, pattern)]
        for pattern in ("*.parquet", "*/*/job.json", "**", "?.tmp")
    }
    assert found == {
        "*.parquet": ["a.parquet", "b.parquet"],
        "*/*/job.json": ["2026-01-05/x/job.json"],
        "**": sorted(names),
        "?.tmp": ["a.tmp"],
    }
    assert storage.list_files(f"{folder}/nowhere") == []


def test_strays_are_removed_and_nothing_else(folder):
    for name in ("part-0.parquet", "part-1.parquet", "part-0.parquet.json", "sub/part-1.parquet"):
        storage.write_bytes(f"{folder}/{name}", b"")
    storage.remove_all_but(folder, {"part-0.parquet"})
    left = [path.removeprefix(f"{folder}/") for path in storage.list_files(folder, "**")]
    assert left == ["part-0.parquet", "sub/part-1.parquet"]


def test_a_folder_comes_down_with_all_that_is_in_it(folder, tmp_path):
    files = {"a": b"1", "deep/er/b": b"2"}
    for name, content in files.items():
        storage.write_bytes(f"{folder}/{name}", content)
    storage.download_folder(folder, str(tmp_path))
    assert {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_folder_that_is_an_object_is_no_file(cloud, folder, monkeypatch, tmp_path):
    """Cloud Storage FUSE, which training jobs write through, makes an object of each folder."""
    storage.write_bytes(f"{folder}/model/saved_model.pb", b"graph")
    name = folder.removeprefix(f"gs://{cloud.storage.bucket}/")

    def add_folders(request, forward):
        reply = forward(request)
        if request.method != "GET" or not request.resource.endswith("/o"):
            return reply
        listed = json.loads(reply.body)
        listed["items"] = [
            *listed.get("items", []),
            *({"name": f"{name}/{each}/"} for each in ("model", "model/assets")),
        ]
        return dataclasses.replace(reply, body=json.dumps(listed).encode())

    with proxy(cloud.storage.endpoint, add_folders) as endpoint:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        assert storage.list_files(folder, "**") == [f"{folder}/model/saved_model.pb"]
        storage.download_folder(f"{folder}/model", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model.pb"]


def test_a_write_replaces_the_version_that_it_names_and_no_other(folder):
    path = f"{folder}/marker.json"
    assert storage.version_of(path) == 0
    storage.write_bytes(path, b"first", replacing=0)
    version = storage.version_of(path)
    with pytest.raises(ChangedError, match=rf"^{path}: somebody else wrote it meanwhile; run again: "):
        storage.write_bytes(path, b"other", replacing=0)
    storage.write_bytes(path, b"second", replacing=version)
    with pytest.raises(ChangedError):
        storage.write_bytes(path, b"third", replacing=version)
    assert storage.read_bytes(path) == b"second"


def test_of_many_writers_of_a_new_marker_exactly_one_wins(folder):
    outcomes = []

    def commit(number):
        try:
            storage.write_bytes(f"{folder}/marker.json", str(number).encode(), replacing=0)
            outcomes.append(number)
        except ChangedError:
            outcomes.append(None)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in outcomes if number is not None]
    assert storage.read_bytes(f"{folder}/marker.json") == str(winner).encode()


def test_a_write_whose_answer_was_lost_is_known_by_its_content(folder):
    path = f"{folder}/marker.json"
    first = cloud_storage.write(path, b"ours", replacing=0)
    assert cloud_storage.write(path, b"ours", replacing=0) == first


def lose_answers(cloud, monkeypatch, times, is_meant):
    """A proxy that loses the answer to the first calls of a kind, after the server has acted."""
    lost = []

    def lose(request, forward):
        reply = forward(request)
        if is_meant(request) and len(lost) < times:
            lost.append(request)
            raise LostReplyError
        return reply

    @contextlib.contextmanager
    def losing():
        with proxy(cloud.storage.endpoint, lose) as endpoint, monkeypatch.context() as environment:
            environment.setenv("STORAGE_EMULATOR_HOST", endpoint)
            yield
        assert len(lost) == times

    return losing()


@pytest.mark.parametrize("times", [1, 2])
def test_a_commit_whose_answer_is_lost_on_the_wire_is_a_commit(cloud, folder, monkeypatch, times):
    def is_a_write(request):
        return request.method == "POST" and request.query.get("ifGenerationMatch") == "0"

    with lose_answers(cloud, monkeypatch, times, is_a_write):
        storage.write_json(f"{folder}/marker.json", {"rows": 3}, replacing=0)
    assert storage.read_json(f"{folder}/marker.json") == {"rows": 3}
    with pytest.raises(ChangedError):
        storage.write_json(f"{folder}/marker.json", {"rows": 4}, replacing=0)


def test_a_deletion_whose_answer_is_lost_is_one(cloud, folder, monkeypatch):
    storage.write_bytes(f"{folder}/a", b"")
    with lose_answers(cloud, monkeypatch, 1, lambda request: request.method == "DELETE"):
        cloud_storage.delete([f"{folder}/a"])
    assert not storage.exists(f"{folder}/a")


def test_an_upload_of_a_pipeline_whose_answer_is_lost_is_made_again(cloud, folder, monkeypatch):
    with (
        lose_answers(cloud, monkeypatch, 1, lambda request: request.method == "PUT"),
        create_atomically(f"{folder}/a") as file,
    ):
        file.write(b"content")
    assert storage.read_bytes(f"{folder}/a") == b"content"


def test_a_missing_bucket_is_one_line_with_its_mend(cloud):
    expected = (
        r"^gs://no-such-bucket/.*: there is no bucket 'no-such-bucket'; make it with `gcloud storage buckets create"
    )
    for call in (
        lambda: storage.write_bytes("gs://no-such-bucket/a/b.json", b""),
        lambda: storage.list_files("gs://no-such-bucket/a"),
    ):
        with pytest.raises(ForetableError, match=expected) as caught:
            call()
        assert "\n" not in str(caught.value)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers everything with one status and Cloud Storage's words for it."""

    status, words = 403, ""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps({"error": {"code": self.status, "message": self.words}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def answering(monkeypatch):
    """Starts a server that answers everything with a status."""
    servers = []

    def start(status, words):
        verbs = {f"do_{verb}": Server.answer for verb in ("GET", "POST", "PUT", "DELETE")}
        handler = type("Answer", (Server,), {"status": status, "words": words, **verbs})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{servers[-1].server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


DENIED = (
    "sa@p.iam.gserviceaccount.com does not have {0} access to the Google Cloud Storage object. "
    "Permission '{0}' denied on resource (or it may not exist)."
)
WRITE, READ, LIST, DELETE = (
    lambda: storage.write_bytes("gs://bkt/a/b", b""),
    lambda: storage.read_bytes("gs://bkt/a/b"),
    lambda: storage.list_files("gs://bkt/a"),
    lambda: cloud_storage.delete(["gs://bkt/a/b"]),
)


@pytest.mark.parametrize(
    ("call", "permission", "role"),
    [
        (WRITE, "storage.objects.create", "objectUser"),
        (WRITE, "storage.objects.delete", "objectUser"),
        (READ, "storage.objects.get", "objectViewer"),
        (LIST, "storage.objects.list", "objectViewer"),
        (DELETE, "storage.objects.delete", "objectUser"),
    ],
    ids=["create", "overwrite", "read", "list", "delete"],
)
@pytest.mark.parametrize("words", [DENIED, "Forbidden"], ids=["with words", "without"])
def test_a_denied_permission_is_named_with_the_role_that_has_it(answering, call, permission, role, words):
    if words == "Forbidden" and call is WRITE:
        permission = "storage.objects.create"
    answering(403, words.format(permission))
    with pytest.raises(ForetableError) as caught:
        call()
    where = "gs://bkt/a/*" if call is LIST else "gs://bkt/a/b"
    grant = f"grant roles/storage.{role} on gs://bkt to whoever runs the job"
    assert str(caught.value) == f"{where}: permission {permission} is denied; {grant}"


@pytest.mark.parametrize("status", [500, 429, 503])
def test_a_server_that_only_fails_is_given_up_and_named(answering, status, monkeypatch):
    monkeypatch.setattr(cloud_storage, "_RETRY", cloud_storage._RETRY.with_timeout(0.5))
    answering(status, "try later")
    with pytest.raises(
        ForetableError, match=rf"^gs://bkt/a/b: Cloud Storage answered {status}; run again: what is fin"
    ):
        READ()


def test_a_server_that_is_not_there_is_given_up_and_named(monkeypatch):
    monkeypatch.setattr(cloud_storage, "_RETRY", cloud_storage._RETRY.with_timeout(0.5))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(ForetableError, match=r"^gs://bkt/a/b: Cloud Storage does not answer \(.*refused") as caught:
        READ()
    assert "\n" not in str(caught.value)


def test_no_credentials_for_the_cloud_itself_is_one_line(monkeypatch):
    def none_found(scopes):
        raise exceptions.DefaultCredentialsError("Your default credentials were not found. To set up …")

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", none_found)
    endpoints._google_credentials.cache_clear()
    cloud_storage._HERE.__dict__.clear()
    with pytest.raises(
        ForetableError, match=r"no Google Cloud credentials \(.*\); run `gcloud auth application-default"
    ):
        READ()


def test_credentials_that_expire_in_the_night_are_one_line(monkeypatch):
    class Expiring(AnonymousCredentials):
        valid = True

        def before_request(self, request, method, url, headers):
            raise exceptions.RefreshError("invalid_grant: Token has been expired or revoked.", {})

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda scopes: (Expiring(), None))
    endpoints._google_credentials.cache_clear()
    cloud_storage._HERE.__dict__.clear()
    try:
        with pytest.raises(
            ForetableError, match=r"^gs://bkt/a/b: the .* expired or been revoked \(invalid_grant: .*\); run"
        ):
            READ()
    finally:
        endpoints._google_credentials.cache_clear()
        cloud_storage._HERE.__dict__.clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "google.api_core.exceptions.Forbidden: 403 POST https://storage.googleapis.com/upload/storage/v1/b/bkt/o?"
            f"uploadType=resumable: {DENIED.format('storage.objects.create')} [while running 'WriteShards']",
            "gs://bkt: permission storage.objects.create is denied; grant roles/storage.objectUser on gs://bkt to whoever"
            " runs the job",
        ),
        (
            "google.api_core.exceptions.NotFound: 404 GET https://storage.googleapis.com/storage/v1/b/bkt/o?projection="
            "noAcl&prefix=a&prettyPrint=false: The specified bucket does not exist.\n\nDuring handling of the above",
            "gs://bkt: there is no bucket 'bkt'; make it with `gcloud storage buckets create gs://bkt`, or correct the"
            " name in the job file",
        ),
        (
            "NotFound: 404 GET https://storage.googleapis.com/download/storage/v1/b/bkt/o/a%2Fb.json?alt=media: No such "
            "object: bkt/a/b.json",
            "gs://bkt/a/b.json: is not there any more; run again: what is finished is kept",
        ),
        (
            "Unauthorized: 401 GET https://storage.googleapis.com/storage/v1/b/bkt/o/a: Anonymous caller does not have …",
            "gs://bkt/a: the Google Cloud credentials are not accepted; " + endpoints.LOGIN,
        ),
        (
            "NotFound: 404 PUT http://127.0.0.1:1/upload/storage/v1/b/bkt/o?uploadType=resumable&upload_id=ab: Not Found",
            "gs://bkt: Cloud Storage lost an upload; run again: what is finished is kept",
        ),
        ("ValueError: 403 is a number", None),
    ],
    ids=["denied", "no bucket", "no object", "not accepted", "no upload", "something else"],
)
def test_a_worker_s_traceback_is_read_as_what_cloud_storage_said(text, expected):
    found = explained_text(text)
    assert (str(found) if found is not None else None) == expected
