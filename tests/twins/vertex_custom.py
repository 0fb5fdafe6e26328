"""The Vertex twin's custom jobs at work: a process for each replica, with Vertex's variables and a mount.

https://cloud.google.com/vertex-ai/docs/training/code-requirements#environment-variables
https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from typing import Any

from google.cloud import aiplatform_v1 as v1

from twins.processes import ATTACH, ROOT, free_ports
from twins.vertex_jobs import JobFailedError
from twins.vertex_mount import Mount, named_places
from twins.vertex_state import PROJECT_NUMBER, Job, VertexTwin
from twins.vertex_wire import as_json

UPLOAD_SECONDS, WATCH_SECONDS = 0.3, 0.05
PREEMPTION_WATCH_SECONDS = 0.005  # a small model's checkpoint is there for that long only
LONGEST_READ_SECONDS = 5  # of what a process wrote before it ended
MOST_RESTARTS = 6  # https://cloud.google.com/vertex-ai/docs/training/use-spot-vms#preemption-handling
TASKS = ("chief", "worker", "ps", "evaluator")
OUTPUT_FOLDERS = {"AIP_MODEL_DIR": "model", "AIP_CHECKPOINT_DIR": "checkpoints", "AIP_TENSORBOARD_LOG_DIR": "logs"}
# What a container's Python has is not for the twin to install: it looks whether the files to install are there.
PIP = """\
import os, sys
for word in sys.argv[1:]:
    if "/" in word and "://" not in word and not os.path.exists(word):
        sys.exit(f"ERROR: Could not open requirements file or package: {word}")
print("Successfully installed", *[os.path.basename(word) for word in sys.argv[1:] if "/" in word])
"""
SHIM = """\
#!/bin/sh
if [ "$1" = -m ] && [ "$2" = pip ]; then shift 2; exec "{python}" "{pip}" "$@"; fi
exec "{python}" "$@"
"""


class PreemptedError(Exception):
    """The machines of a job are taken away."""


def run_custom(twin: VertexTwin, job: Job) -> None:
    """Runs a custom job to its end, and anew where its machines are taken away and its scheduling allows that."""
    scheduling = job.message.job_spec.scheduling
    is_spot = scheduling.strategy == v1.Scheduling.Strategy.SPOT
    restarts = (scheduling.restart_job_on_worker_restart or is_spot) and not scheduling.disable_retries
    while True:
        job.attempts += 1
        with tempfile.TemporaryDirectory(dir=twin.folder) as folder:
            try:
                Attempt(twin, job, pathlib.Path(folder)).run()
                return
            except PreemptedError:
                if not restarts or job.attempts > MOST_RESTARTS:
                    raise JobFailedError(8, "STOCKOUT: the machines were preempted.") from None
                job.say("The machines were preempted; the job is restarted.", "WARNING")


class Attempt:
    """One run of all replicas of a job, on machines that are new."""

    def __init__(self, twin: VertexTwin, job: Job, folder: pathlib.Path):
        self.twin, self.job, self.folder = twin, job, folder
        self.spec = job.message.job_spec
        self.base = self.spec.base_output_directory.output_uri_prefix.rstrip("/")
        texts = [json.dumps(as_json(self.spec)), self.base]
        buckets = [bucket.name for bucket in twin.storage_client().list_buckets()]
        self.mount = Mount(folder / "gcs", twin.storage_client(), named_places(texts, buckets))
        self.mount.folder.mkdir()
        self.readers: list[threading.Thread] = []

    def run(self) -> None:
        """Runs them until the first one is done, or one has failed."""
        self.mount.fill()
        try:
            self._watch(self._start())
        finally:
            for process in self.job.processes:
                kill(process)
            for process in self.job.processes:
                process.wait()
            for reader in self.readers:
                reader.join(LONGEST_READ_SECONDS)
            self.job.processes.clear()
            self.mount.upload(is_last=True)

    def _watch(self, replicas: list[tuple[str, subprocess.Popen]]) -> None:
        fault, limit = self.job.fault, self.spec.scheduling.timeout
        deadline = time.monotonic() + limit.total_seconds() if limit else None
        uploads_at = time.monotonic() + UPLOAD_SECONDS
        while not self.job.is_cancelled.is_set():
            codes = {task: process.poll() for task, process in replicas}
            failed = [task for task, code in codes.items() if code]
            if failed:
                raise JobFailedError(3, self._failure(failed[0], codes[failed[0]]))
            if codes[replicas[0][0]] == 0:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise JobFailedError(4, "CustomJob timed out.")
            if time.monotonic() >= uploads_at:
                self.mount.upload()
                uploads_at = time.monotonic() + UPLOAD_SECONDS
            is_due = fault.preempt_after_checkpoints is not None and self.job.preempted < fault.preemptions
            if is_due:
                self.job.checkpoints |= self.mount.written(f"{self.base}/checkpoints", fault.checkpoint_file)
                if len(self.job.checkpoints) >= fault.preempt_after_checkpoints * (self.job.preempted + 1):
                    self.job.preempted += 1
                    raise PreemptedError
            self.job.is_cancelled.wait(PREEMPTION_WATCH_SECONDS if is_due else WATCH_SECONDS)

    def _failure(self, task: str, code: int) -> str:
        """As Vertex words it; a process that was killed by a signal ends like a shell's."""
        logs = f'resource.type="ml_job"\nresource.labels.job_id="{self.job.id}"'
        query = f"project={PROJECT_NUMBER}&resource=ml_job%2Fjob_id%2F{self.job.id}"
        address = f"https://console.cloud.google.com/logs/viewer?{query}&advancedFilter={urllib.parse.quote(logs)}"
        status = code if code > 0 else 128 - code
        return (
            f"The replica {task} exited with a non-zero status of {status}. To find out more about why your job exited"
            f" please check the logs: {address}"
        )

    def _start(self) -> list[tuple[str, subprocess.Popen]]:
        pools = [
            (index, pool)
            for index, pool in enumerate(self.spec.worker_pool_specs)
            if v1.WorkerPoolSpec.pb(pool).ByteSize()
        ]
        ports = iter(free_ports(sum(pool.replica_count for _, pool in pools)))
        hosts = {index: [f"127.0.0.1:{next(ports)}" for _ in range(pool.replica_count)] for index, pool in pools}
        return [
            (f"workerpool{index}-{number}", self._replica(hosts, index, number, pool))
            for index, pool in pools
            for number in range(pool.replica_count)
        ]

    def _replica(self, hosts: dict[int, list[str]], index: int, number: int, pool: Any) -> subprocess.Popen:
        task = f"workerpool{index}-{number}"
        container = pool.container_spec
        if not container.command:
            raise JobFailedError(12, f"{task}: the twin runs commands, and {container.image_uri!r} is given none")
        folder = self.folder / task
        (folder / "tmp").mkdir(parents=True)
        shims(folder / "bin")
        variables = self._variables(hosts, index, number) | {entry.name: entry.value for entry in container.env}
        environment = {
            **os.environ,
            **self.twin.environment,
            # The twin's own folder is not the image's: processes find this project's packages, and not its tests.
            "PYTHONPATH": str(ROOT),
            "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
            "TMPDIR": str(folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "FORETABLE_GCS_MOUNT": str(self.mount.folder),
            **variables,
        }
        words = [_expanded(word, variables) for word in (*container.command, *container.args)]
        if words[0] in ("python", "python3"):
            words[0] = sys.executable
        self.job.environments.append(variables)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", ATTACH, str(os.getpid()), *_found(words, folder / "bin")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self.job.processes.append(process)
        for stream, severity in ((process.stdout, "INFO"), (process.stderr, "ERROR")):
            self.readers.append(threading.Thread(target=self._read, args=(stream, task, severity), daemon=True))
            self.readers[-1].start()
        return process

    def _read(self, stream: Any, task: str, severity: str) -> None:
        with contextlib.suppress(ValueError), stream:
            for line in stream:
                self.job.say(line.decode(errors="replace").rstrip("\n"), severity, task)

    def _variables(self, hosts: dict[int, list[str]], index: int, number: int) -> dict[str, str]:
        spec = as_json(self.spec)
        pools = {f"workerpool{pool}": addresses for pool, addresses in hosts.items()}
        common = {"environment": "cloud", "job": spec}
        place = {"cluster": pools, "task": {"type": f"workerpool{index}", "index": number}}
        variables = {
            "CLOUD_ML_JOB_ID": self.job.id,
            "CLOUD_ML_PROJECT_ID": PROJECT_NUMBER,
            "CLUSTER_SPEC": json.dumps(place | common),
        }
        if self.base:
            variables |= {name: f"{self.base}/{folder}/" for name, folder in OUTPUT_FOLDERS.items()}
        if sum(map(len, hosts.values())) > 1:  # a single replica has none
            cluster = {TASKS[pool]: addresses for pool, addresses in hosts.items() if TASKS[pool] != "evaluator"}
            place = {"cluster": cluster, "task": {"type": TASKS[index], "index": number}}
            variables["TF_CONFIG"] = json.dumps(place | common)
        return variables


def shims(folder: pathlib.Path) -> None:
    """Puts `python`, `python3` and `pip` into a folder: this Python, which has what is to be installed."""
    folder.mkdir()
    pip = folder / "pip.py"
    pip.write_text(PIP)
    for name in ("python", "python3"):
        (folder / name).write_text(SHIM.format(python=sys.executable, pip=pip))
    for name in ("pip", "pip3"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{pip}" "$@"\n')
    for path in folder.iterdir():
        path.chmod(0o755)


def _expanded(word: str, variables: dict[str, str]) -> str:
    """`$(NAME)` stands for a variable, as the containers' own service has it; an unknown one stays."""
    return re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), word)


def _found(words: list[str], folder: pathlib.Path) -> list[str]:
    """The command with the full path of its program, which `execv` wants."""
    if "/" not in words[0]:
        for place in (str(folder), *os.environ.get("PATH", "").split(":")):
            path = pathlib.Path(place, words[0])
            if path.is_file() and os.access(path, os.X_OK):
                return [str(path), *words[1:]]
        raise JobFailedError(3, f"exec: {words[0]!r}: executable file not found in $PATH")
    return words


def kill(process: subprocess.Popen) -> None:
    """Ends a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
