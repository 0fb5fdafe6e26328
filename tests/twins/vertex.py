"""Vertex AI on loopback: takes the unpatched clients' calls over REST, and does in processes what they ask for.

Bodies are read by `google.cloud.aiplatform_v1`'s own protos, and what those do not know is refused. A custom job runs
its containers' commands; a batch prediction job and an endpoint load the registered SavedModel and answer as TensorFlow
Serving does. `VertexTwin.faults` lets calls and jobs misbehave.

What it does not model, so that nobody takes it for the cloud:
- containers: a command runs with this Python and this project's packages, whatever its image is; an image's own
  entrypoint and a `python_package_spec` cannot run; `pip install` only looks whether the files are there; a serving
  container is always TensorFlow Serving, by what the source of its REST API says;
- machines, accelerators, networks, disks, capacity, start-up times, autoscaling: replicas share this machine, and end
  when the first one is done;
- permissions, quotas and service accounts, but for the faults that a test asks for; encryption keys;
- gcsfuse: the mount is one folder for all replicas, filled when a job starts, whose changes are uploaded a few times a
  second; that folders cannot be renamed, nor files be appended to, is not enforced;
- Cloud Storage's and BigQuery's locations, which have to be Vertex's own;
- how batch prediction divides its input, retries calls, and orders its output; its limits on a request's size and time;
  formats other than jsonl and BigQuery; that a job may give up when too many instances fail;
- how numbers travel in batch prediction, which is documented nowhere: the twin makes all of them doubles on their way
  in, and on their way out if it is told to;
- in which state and with which words a job ends whose time is up, and some other words: only those are Google's that
  have a source beside them;
- how late lines reach Cloud Logging, and in which order: all of them so late as a test says (`log_seconds`); logs of
  batch prediction's containers;
- TensorBoard, experiments, metadata, persistent resources, explanations, monitoring, private and dedicated endpoints;
- gRPC, read masks, etags, audit, prices.
"""

import contextlib
import functools
import http.server
import json
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from twins import vertex_endpoints, vertex_jobs, vertex_models
from twins.bigquery import BigQueryTwin
from twins.proxy import LostReplyError, reset
from twins.storage import StorageTwin
from twins.vertex_batch import run_batch
from twins.vertex_custom import run_custom
from twins.vertex_logging import list_entries
from twins.vertex_serving import Serving
from twins.vertex_state import VertexTwin
from twins.vertex_wire import Call, RawReply, RefusalError, Route, as_json, read_call

ANY = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/(?P<rest>.+)")


OPERATIONS: list[Route] = [
    ("GET", r"(?P<resource>\w+/[^/:]+)/operations", VertexTwin.list_operations),
    ("GET", r"(?P<resource>(?:\w+/[^/]+/)?operations/[^/:]+)", VertexTwin.operation),
    ("POST", r"(?P<resource>(?:\w+/[^/]+/)?operations/[^/:]+):wait", VertexTwin.operation),
]
ROUTES: list[tuple[str, re.Pattern, Callable]] = [
    (method, re.compile(pattern), answer)
    for method, pattern, answer in (
        *OPERATIONS,
        *vertex_jobs.routes(run_custom, run_batch),
        *vertex_models.ROUTES,
        *vertex_endpoints.ROUTES,
    )
]


def serve(twin: VertexTwin, call: Call) -> Any:
    """What a call answers.

    Raises:
        RefusalError: it is refused.
        LostReplyError: by a fault of the tests.
    """
    fault = twin.faults.of_call(call)
    act = functools.partial(_act, twin, call)
    return act() if fault is None else fault(call, act)


def _act(twin: VertexTwin, call: Call) -> Any:
    if (call.method, call.path) == ("POST", "/v2/entries:list"):
        return list_entries(twin, call)
    place = ANY.fullmatch(call.path)
    for method, pattern, answer in ROUTES if place else ():
        if method == call.method and (match := pattern.fullmatch(place["rest"])):
            names = {"project": place["project"], "region": place["region"], **match.groupdict()}
            return answer(twin, Call(call.method, call.path, call.query, call.body, call.content_type, names))
    raise RefusalError("UNIMPLEMENTED", f"the twin knows no {call.method} {call.path}")


def reply(twin: VertexTwin, call: Call) -> tuple[int, str, bytes]:
    """Status, content type and body of a call's answer."""
    try:
        answer = serve(twin, call)
    except RefusalError as refusal:
        return refusal.status, "application/json; charset=UTF-8", json.dumps(refusal.body).encode()
    if isinstance(answer, RawReply):
        return 200, answer.content_type, answer.body
    if isinstance(answer, Message) or hasattr(type(answer), "pb"):
        with twin.lock:
            answer = as_json(answer, "enum-encoding=int" in call.query.get("$alt", ""))
    return 200, "application/json; charset=UTF-8", json.dumps(answer).encode()


@contextlib.contextmanager
def vertex_server(
    folder: pathlib.Path, storage: StorageTwin, bigquery: BigQueryTwin | None, environment: dict[str, str]
) -> Iterator[VertexTwin]:
    """Runs the service in a thread of the tests, and its work in processes that end with it.

    Args:
        folder: for what its jobs need.
        bigquery: None where no job reads or writes tables.
        environment: of custom jobs; addresses and credentials of the other twins.
    """
    twin = VertexTwin(folder, storage, bigquery, environment)
    twin.serving = Serving(folder / "serving", twin)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms between its two writes

        def answer(self):
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = read_call(self.command, self.path, text, self.headers.get("Content-Type", ""))
            try:
                status, content_type, body = reply(twin, call)
            except LostReplyError:
                reset(self.connection)
                self.close_connection = True
                return
            self.send_response_only(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names that the library calls

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # the library's 5 lets a burst of calls wait for seconds

    server = Server(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a caller that hangs up is no news
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    twin.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield twin
    finally:
        server.shutdown()
        server.server_close()
        twin.stop()
