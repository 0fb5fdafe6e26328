"""The twins behave as the cloud does where the product relies on it, and leave nothing behind."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage
from google.cloud.storage.retry import DEFAULT_RETRY
from twins.faults import Faults, first_tries, lost_reply, once
from twins.processes import ROOT, accepts_tcp


@pytest.fixture
def bucket(storage_twin):
    options = {"api_endpoint": storage_twin.endpoint}
    client = storage.Client(project="proj", credentials=AnonymousCredentials(), client_options=options)
    return client.bucket(storage_twin.bucket)


def write_resumably(blob, content, **conditions):
    blob.chunk_size = 256 * 1024
    with blob.open("wb", **conditions) as file:
        file.write(content)


@pytest.mark.parametrize("write", [storage.Blob.upload_from_string, write_resumably], ids=["at_once", "resumable"])
def test_one_of_two_writers_finds_no_object(bucket, write, request):
    blob = bucket.blob(f"preconditions {request.node.callspec.id}/ä.json")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(write, bucket.blob(blob.name), b"%d" % n, if_generation_match=0) for n in range(8)]
    lost = [attempt.exception() for attempt in tries if attempt.exception()]
    assert ["412" in str(error) for error in lost] == [True] * 7, lost
    (winner,) = [n for n, attempt in enumerate(tries) if not attempt.exception()]
    assert blob.download_as_bytes() == b"%d" % winner


@pytest.mark.parametrize("write", [storage.Blob.upload_from_string, write_resumably], ids=["at_once", "resumable"])
def test_a_write_whose_reply_was_lost_is_answered(storage_twin, write, request):
    weather = Faults()
    with weather.before(storage_twin.endpoint) as (address,):
        client = storage.Client("proj", AnonymousCredentials(), client_options={"api_endpoint": address})
        blob = client.bucket(storage_twin.bucket).blob(f"lost reply {request.node.callspec.id}")
        weather.start(first_tries(lost_reply))
        write(blob, b"content" * 1000, retry=DEFAULT_RETRY)
        assert weather.happened > 0
        weather.stop()
        assert blob.download_as_bytes() == b"content" * 1000


def test_a_write_over_a_known_generation(bucket):
    blob = bucket.blob("known.json")
    blob.upload_from_string("1")
    before = blob.generation
    blob.upload_from_string("2", if_generation_match=before)
    with pytest.raises(PreconditionFailed):
        bucket.blob(blob.name).delete(if_generation_match=before)
    bucket.blob(blob.name).delete(if_generation_match=blob.generation)
    with pytest.raises(NotFound):
        bucket.blob(blob.name).reload()


def test_loads_what_lies_in_storage(bucket, bigquery_twin, storage_twin):
    bucket.blob("loads/a.jsonl").upload_from_string('{"a": 1}\n{"a": 2}\n')
    options = {"api_endpoint": bigquery_twin.endpoint}
    client = bigquery.Client(bigquery_twin.project, AnonymousCredentials(), client_options=options)
    table = f"{bigquery_twin.project}.{bigquery_twin.new_dataset()}.loaded"
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", autodetect=True)
    client.load_table_from_uri(storage_twin.url("loads/a.jsonl"), table, job_config=config).result()
    assert [tuple(row) for row in client.query_and_wait(f"SELECT a FROM `{table}` ORDER BY a")] == [(1,), (2,)]


def test_a_query_whose_reply_was_lost_is_answered_and_not_run_twice(bigquery_twin):
    dataset = bigquery_twin.new_dataset()
    weather = Faults()
    with weather.before(bigquery_twin.endpoint) as (address,):
        client = bigquery.Client("proj", AnonymousCredentials(), client_options={"api_endpoint": address})
        for sql, expected in (
            (f"CREATE TABLE `{dataset}.t` AS SELECT 1 AS a", []),
            (f"SELECT a FROM `{dataset}.t`", [(1,)]),
        ):
            weather.start(once(0, lost_reply))
            assert [tuple(row) for row in client.query_and_wait(sql)] == expected
            assert weather.happened == 1


def test_credentials_come_from_the_metadata_server(cloud):
    ask = "import google.auth; credentials, project = google.auth.default(); print(type(credentials).__name__, project)"
    environment = {name: value for name, value in os.environ.items() if name != "GOOGLE_CLOUD_PROJECT"}
    answer = subprocess.check_output([sys.executable, "-c", ask], text=True, env=environment)
    assert answer == "Credentials proj\n"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_no_server_outlives_the_tests(end, tmp_path, storage_twin):
    program = """
        import pathlib, sys, time
        from twins.storage import storage_server
        with storage_server(pathlib.Path(sys.argv[1])) as twin:
            print(twin.emulator, flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests"},
    )
    port = int(process.stdout.readline().rpartition(":")[2])
    assert accepts_tcp(port)
    process.send_signal(end)
    process.communicate()
    deadline = time.monotonic() + 10
    while accepts_tcp(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not accepts_tcp(port)
