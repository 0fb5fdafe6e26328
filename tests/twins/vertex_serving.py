"""The container that the Vertex twin serves models with: TensorFlow Serving's stand-in, in one process for all models.

What it is given is copied when a model is first used, as Vertex copies artifacts; so a model outlives its folder.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

from twins.processes import ATTACH
from twins.vertex_wire import RefusalError

TESTS = pathlib.Path(__file__).parent.parent
VERTEX_IMAGE = re.compile(r"docker\.pkg\.dev/vertex-ai/prediction/")
MODEL_FILE = "saved_model.pb"
LONGEST_CALL_SECONDS = 300


@dataclasses.dataclass
class Serving:
    """The server.

    Attributes:
        folder: of the models' copies and of its log.
        twin: whose Cloud Storage has the models.
    """

    folder: pathlib.Path
    twin: Any
    _names: dict[str, str] = dataclasses.field(default_factory=dict)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _process: subprocess.Popen | None = None
    _port: int = 0

    def start(self) -> None:
        """Starts the server, unless it runs; who knows that it will be needed may do so early."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def load(self, version: Any) -> None:
        """Loads a model's version, a `Model` of the API.

        Raises:
            RefusalError: it has no artifact, not the one that its container wants, or it cannot be loaded.
        """
        self._names[version.artifact_uri] = name = self._copy(version)
        status, answer = self._call("GET", f"/v1/models/{name}", b"")
        if status != 200:
            text = "Model server never became ready. Please validate that your model file or container configuration are valid."
            raise RefusalError("INVALID_ARGUMENT", f"{text} {answer.decode()}")

    def predict(self, version: Any, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request in JSON."""
        if version.artifact_uri not in self._names:
            self.load(version)
        return self._call("POST", f"/v1/models/{self._names[version.artifact_uri]}:predict", body)

    def _copy(self, version: Any) -> str:
        uri, client = version.artifact_uri, self.twin.storage_client()
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        prefix = f"{prefix.rstrip('/')}/"
        blobs = {blob.name.removeprefix(prefix): blob for blob in client.list_blobs(bucket, prefix=prefix)}
        if not blobs:
            raise RefusalError("INVALID_ARGUMENT", f"Model directory {uri} is expected to contain files, and is empty.")
        inner = self._inner(version, list(blobs))
        digest = hashlib.sha256()
        for name in sorted(blobs):
            digest.update(f"{name} {blobs[name].md5_hash} {blobs[name].generation} {uri}\n".encode())
        identity = digest.hexdigest()[:16]
        target = self.folder / "models" / identity
        with self._lock:
            if not target.exists():
                written = target.with_suffix(".part")
                for name, blob in blobs.items():
                    if name.startswith(inner) and not name.endswith("/"):
                        path = written / name.removeprefix(inner)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        blob.download_to_filename(str(path))
                written.rename(target)
        return identity

    def _inner(self, version: Any, names: list[str]) -> str:
        """Which sub-folder of the artifact is the model.

        Vertex's own images take the folder itself, TensorFlow Serving the highest of its versions' folders.
        https://cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts
        https://www.tensorflow.org/tfx/serving/serving_basic (`model_base_path`)
        """
        image = version.container_spec.image_uri
        if VERTEX_IMAGE.search(image):
            found = [""] if MODEL_FILE in names else []
            wanted = MODEL_FILE
        else:
            numbers = [name.partition("/")[0] for name in names if name.endswith(f"/{MODEL_FILE}")]
            found = [f"{number}/" for number in sorted(filter(str.isdigit, numbers), key=int)]
            wanted = f"NUMBER/{MODEL_FILE}"
        if not found:
            text = f"Model directory {version.artifact_uri} is expected to contain {wanted} for the container {image}."
            raise RefusalError("INVALID_ARGUMENT", text)
        return found[-1]

    def _call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.start()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONGEST_CALL_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

    def _start(self) -> None:
        (self.folder / "models").mkdir(parents=True, exist_ok=True)
        started = threading.Event()

        def run() -> None:  # in a thread that lives as long as the process: see ATTACH
            program = [sys.executable, "-m", "twins.tf_serving", str(self.folder / "models")]
            quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
            with open(self.folder / "log.txt", "ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", ATTACH, str(os.getpid()), *program],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, **quiet, "PYTHONPATH": str(TESTS)},
                )
            assert self._process.stdout is not None
            self._port = int(self._process.stdout.readline() or 0)
            started.set()
            self._process.wait()

        threading.Thread(target=run, daemon=True).start()
        started.wait(LONGEST_CALL_SECONDS)
        if not self._port:
            raise RuntimeError(f"the model server did not start: {self.folder / 'log.txt'}")

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
