"""Dataflow on loopback: takes the real DataflowRunner's jobs over REST and runs what it staged, in processes.

A job's `pipeline.pb` is fetched from Cloud Storage, its container environment swapped for a worker subprocess of this
Python, and run on Beam's FnApiRunner, in an empty folder: the submitted graph, the staging and the options are the real
ones, and nothing that lies only on the launcher's path is found.

What it does not model:
- machines, autoscaling, quota, permissions, networks; containers and what is installed in them; staged packages, which
  it only holds to be there;
- retries of a failed bundle, dynamic splitting, liquid sharding: a work item that fails fails the job at once;
- Dataflow's own fusion and its shuffle, and the limits on graph size, side inputs and elements;
- metrics; messages other than states, warnings and errors; templates, updates, draining, streaming, snapshots;
- time: a job starts at once, and its failure's reason comes with it.
"""

import contextlib
import dataclasses
import datetime
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from twins.processes import ATTACH, ROOT
from twins.storage import StorageTwin

NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
JOBS = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/:]+)(/messages|/metrics)?)?")
ACTIVE = ("JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING")


@dataclasses.dataclass
class Job:
    """A job.

    Attributes:
        body: as it was submitted, and what the service adds.
        pipeline: the staged graph, once it was fetched.
    """

    body: dict[str, Any]
    messages: list[dict[str, str]] = dataclasses.field(default_factory=list)
    pipeline: bytes = b""
    process: subprocess.Popen | None = None

    @property
    def state(self) -> str:
        """Without its prefix."""
        return self.body["currentState"].removeprefix("JOB_STATE_")

    @property
    def options(self) -> dict[str, Any]:
        """Beam's options, as the launcher sent them."""
        return self.body["environment"]["sdkPipelineOptions"]["options"]

    def say(self, importance: str, text: str) -> None:
        """Adds a message."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        kind = f"JOB_MESSAGE_{importance}"
        message = {"id": f"m{len(self.messages)}", "time": now, "messageImportance": kind, "messageText": text}
        self.messages.append(message)


@dataclasses.dataclass
class DataflowTwin:
    """A running service.

    Attributes:
        endpoint: `http://localhost:port`, with the word localhost, by which Beam knows to speak REST without TLS.
        environment: of the workers, beside this process's own.
    """

    environment: dict[str, str]
    folder: pathlib.Path
    endpoint: str = ""
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one call."""
        match = JOBS.fullmatch(path)
        if match is None:
            return error(404, "NOT_FOUND", f"the twin knows no {path}")
        project, location, job_id, part = match.groups()
        with self.lock:
            if job_id is None:
                return self.create(project, location, body) if method == "POST" else self.list(location, query)
            job = self.jobs.get(job_id)
            if job is None or job.body["location"] != location:
                return error(404, "NOT_FOUND", f"no job {job_id} in {location}")
            if part == "/messages":
                return 200, {"jobMessages": job.messages}
            if part == "/metrics":
                return 200, {"metrics": []}
            if method == "PUT" and body.get("requestedState") in ("JOB_STATE_CANCELLED", 5):
                self.cancel(job)
            return 200, job.body

    def list(self, location: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Jobs of a region by their exact name, newest first."""
        wanted = query.get("name")
        found = [job.body for job in self.jobs.values() if job.body["location"] == location]
        found = [body for body in found if wanted in (None, body["name"])]
        summary = ("id", "name", "currentState", "projectId", "location", "createTime", "labels")
        return 200, {"jobs": [{key: body[key] for key in summary if key in body} for body in reversed(found)]}

    def create(self, project: str, location: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Takes a job; in place of a second active one of its name it gives the first, as Beam's client expects."""
        name = body.get("name", "")
        if not NAME.fullmatch(name):
            return error(400, "INVALID_ARGUMENT", f"job name {name!r}: expected {NAME.pattern}")
        labels = [f"{key}={value}" for key, value in body.get("labels", {}).items()]
        if bad := [label for label in labels if not LABEL.fullmatch(label)]:
            return error(400, "INVALID_ARGUMENT", f"label {bad[0]!r}: expected {LABEL.pattern}")
        for job in self.jobs.values():
            if job.body["name"] == name and job.body["currentState"] in ACTIVE:
                return 200, job.body
        job_id = f"2026-11-20_00_00_00-{len(self.jobs) + 1}"
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        place = {"id": job_id, "projectId": project, "location": location, "createTime": now}
        job = self.jobs[job_id] = Job({**body, **place, "currentState": "JOB_STATE_PENDING"})
        threading.Thread(target=self.run, args=(job,), daemon=True).start()
        return 200, job.body

    def cancel(self, job: Job) -> None:
        """Ends the job's processes."""
        with self.lock:  # a job is RUNNING before its process is known
            if job.body["currentState"] in ACTIVE:
                job.body["currentState"] = "JOB_STATE_CANCELLING"
                if job.process is not None:
                    kill(job.process)

    def run(self, job: Job) -> None:
        """Runs the job to its end."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            output, staged = pathlib.Path(folder, "output.txt"), pathlib.Path(folder, "pipeline.pb")
            temporary = pathlib.Path(folder, "tmp")
            temporary.mkdir()
            # The program of the twin is not the image's: workers find this project's packages, and not its tests.
            paths = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
            program = [sys.executable, str(pathlib.Path(__file__).with_name("dataflow_job.py"))]
            with self.lock, output.open("wb") as file:
                if job.state == "PENDING":
                    job.body["currentState"] = "JOB_STATE_RUNNING"
                    arguments = [job.options["pipelineUrl"], str(staged), *packages(job)]
                    job.process = subprocess.Popen(
                        [sys.executable, "-I", "-S", "-c", ATTACH, str(os.getpid()), *program, *arguments],
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        cwd=folder,
                        env={**os.environ, **self.environment, **paths},
                        start_new_session=True,
                    )
            code = job.process.wait() if job.process is not None else 1
            if job.process is not None:
                kill(job.process)  # the worker, should it outlive its runner
            job.pipeline = staged.read_bytes() if staged.exists() else b""
            text = output.read_text(errors="replace")
        with self.lock:
            if job.state == "CANCELLING":
                job.body["currentState"] = "JOB_STATE_CANCELLED"
            elif code == 0:
                job.body["currentState"] = "JOB_STATE_DONE"
            else:
                job.say("ERROR", text[-20_000:])
                job.say(
                    "ERROR",
                    "Workflow failed. Causes: S01:Create+Map failed., The job failed because a work item failed 4 times.",
                )
                job.body["currentState"] = "JOB_STATE_FAILED"


def packages(job: Job) -> list[str]:
    """`gs://` paths of what the launcher staged for the workers to install."""
    pools = job.body["environment"].get("workerPools", [])
    locations = [package["location"] for pool in pools for package in pool.get("packages", [])]
    return [f"gs://{location.removeprefix('storage.googleapis.com/')}" for location in locations]


def kill(process: subprocess.Popen) -> None:
    """Ends a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def error(status: int, name: str, message: str) -> tuple[int, dict[str, Any]]:
    """As Google's services put it."""
    return status, {"error": {"code": status, "status": name, "message": message}}


@contextlib.contextmanager
def dataflow_server(folder: pathlib.Path, storage: StorageTwin, environment: dict[str, str]) -> Iterator[DataflowTwin]:
    """Runs the service in a thread of the tests, and its jobs in processes that end with it.

    Args:
        environment: of the workers; addresses and credentials of the other twins.
    """
    twin = DataflowTwin({**environment, "STORAGE_EMULATOR_HOST": storage.endpoint}, folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms between its two writes

        def answer(self):
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query))
            status, answer = twin.answer(self.command, address.path, query, json.loads(text or b"{}"))
            body = json.dumps(answer).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - names that the library calls

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    twin.endpoint = f"http://localhost:{server.server_port}"
    try:
        yield twin
    finally:
        server.shutdown()
        server.server_close()
        for job in twin.jobs.values():
            twin.cancel(job)
