"""BigQuery on loopback: local-bigquery, GoogleSQL on DuckDB, with the REST and the Storage Read API.

It stands behind a proxy that adds what it lacks: a query that is asked again under one `requestId` has one answer.
"""

import contextlib
import dataclasses
import json
import pathlib
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator

from twins.processes import accepts_tcp, answers_http, running, twin_environment
from twins.proxy import Forward, Reply, Request, proxy
from twins.storage import StorageTwin

PROJECT = "proj"


@dataclasses.dataclass(frozen=True)
class BigQueryTwin:
    """A running server.

    Attributes:
        endpoint: `http://127.0.0.1:port` of the REST API.
        storage_endpoint: `127.0.0.1:port` of the Storage Read API, by gRPC without TLS.
    """

    endpoint: str
    storage_endpoint: str
    project: str = PROJECT

    def new_dataset(self, location: str = "US") -> str:
        """Makes a dataset that no other test uses; returns its name."""
        name = f"d_{uuid.uuid4().hex[:12]}"
        body = {"datasetReference": {"projectId": self.project, "datasetId": name}, "location": location}
        request = urllib.request.Request(
            f"{self.endpoint}/bigquery/v2/projects/{self.project}/datasets",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60):
            return name


@contextlib.contextmanager
def bigquery_server(folder: pathlib.Path, storage: StorageTwin) -> Iterator[BigQueryTwin]:
    """Runs the server with its data and log in `folder`; it loads `gs://` objects from the storage twin's folder."""
    twins = twin_environment()
    environment = {"HOME": str(twins / "home"), "GCS_LOCAL_ROOT": str(storage.folder), "STORAGE_EMULATOR_HOST": ""}

    def command(ports):
        addresses = ["--host", "127.0.0.1", "--port", str(ports[0]), "--grpc-port", str(ports[1])]
        program = str(twins / "bin" / "local-bigquery")
        return [program, *addresses, "--project", PROJECT, "--data-dir", str(folder / "data")]

    def is_ready(ports):
        url = f"http://127.0.0.1:{ports[0]}/bigquery/v2/projects/{PROJECT}/datasets"
        return accepts_tcp(ports[1]) and answers_http(url)

    with running(command, 2, is_ready, folder / "log.txt", environment) as (rest, grpc):
        with proxy(f"http://127.0.0.1:{rest}", answer_once) as endpoint:
            yield BigQueryTwin(endpoint, f"127.0.0.1:{grpc}")


def answer_once(request: Request, forward: Forward) -> Reply:
    """Answers a repeated query by the result of the first one, as BigQuery does.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query (`requestId`)
    """
    reply = forward(request)
    if not (request.method == "POST" and request.resource.endswith("/queries") and reply.status == 409):
        return reply
    asked = json.loads(request.body)
    limits = {"maxResults": asked.get("maxResults"), "timeoutMs": asked.get("timeoutMs")}
    as_integers = {
        f"formatOptions.{name}": str(value).lower() for name, value in asked.get("formatOptions", {}).items()
    }
    query = urllib.parse.urlencode({name: value for name, value in (limits | as_integers).items() if value is not None})
    headers = tuple(header for header in request.headers if not header[0].lower().startswith("content-"))
    return forward(Request("GET", f"{request.resource}/{asked['requestId']}?{query}", headers, b""))
