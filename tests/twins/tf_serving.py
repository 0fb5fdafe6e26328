"""Serves SavedModels as TensorFlow Serving's REST API does: `-m twins.tf_serving FOLDER`, a sub-folder for each model.

A model is loaded when it is first asked for, by a TF1-style session and the map of signatures, as the C++ server does;
a Keras model that only Python can load fails here, too. The port is the first line of the output.
"""

import http.server
import json
import pathlib
import re
import sys
import threading

import numpy as np
import tensorflow as tf

from twins.tf_serving_answers import answer
from twins.tf_serving_json import Input, InvalidError, read_request, tensors

DEFAULT_SIGNATURE = "serving_default"
PATH = re.compile(r"/v1/models/([\w-]+)(:predict)?")
THREADS = 2


class Servable:
    """A model in a session of its own."""

    def __init__(self, folder: pathlib.Path):
        threads = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=THREADS, inter_op_parallelism_threads=THREADS)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=threads)
        with self._session.graph.as_default():
            graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self._signatures = graph.signature_def

    def predict(self, text: bytes) -> bytes:
        """Answers a request.

        Raises:
            InvalidError: the request is refused, or the graph fails on it.
        """
        request = read_request(text)
        name = request.get("signature_name") or DEFAULT_SIGNATURE
        if name not in self._signatures:
            raise InvalidError(f'Serving signature name: "{name}" not found in signature def')
        signature = self._signatures[name]
        kinds = {key: tf.dtypes.as_dtype(each.dtype) for key, each in signature.inputs.items()}
        inputs = [Input(key, "object" if kind == tf.string else kind.name) for key, kind in kinds.items()]
        arrays, has_rows = tensors(request, inputs)
        feeds = {signature.inputs[key].name: array for key, array in arrays.items()}
        fetches = {key: each.name for key, each in signature.outputs.items()}
        try:
            found = self._session.run(fetches, feeds)
        except (tf.errors.OpError, ValueError) as error:
            raise InvalidError(getattr(error, "message", str(error))) from error
        # A string without dimensions comes as bytes, all else as an array.
        outputs = {key: np.array(each, object) if isinstance(each, bytes) else each for key, each in found.items()}
        return answer(outputs, has_rows)


def serve(folder: pathlib.Path) -> None:
    """Serves until the process ends."""
    servables: dict[str, Servable] = {}
    lock = threading.Lock()

    def servable(name: str) -> Servable:
        with lock:
            if name not in servables:
                servables[name] = Servable(folder / name)
            return servables[name]

    def reply(path: str, text: bytes) -> tuple[int, bytes]:
        match = PATH.fullmatch(path)
        if match is None or not (folder / match[1]).is_dir():
            return 404, error(f"Malformed request: {path}")
        try:
            model = servable(match[1])
        except Exception as failure:
            return 500, error(f"Loading servable {match[1]} failed: {failure}")
        try:
            return 200, model.predict(text) if match[2] else b'{"model_version_status": [{"state": "AVAILABLE"}]}'
        except InvalidError as refusal:
            return 400, error(str(refusal))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms between its two writes

        def answer(self):
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = reply(self.path, text)
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - names that the library calls

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def error(message: str) -> bytes:
    """An error as it is answered."""
    return json.dumps({"error": message}, indent=4).encode()


if __name__ == "__main__":
    serve(pathlib.Path(sys.argv[1]))
