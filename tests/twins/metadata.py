"""The metadata server of a Google Cloud machine on loopback.

Without it the first use of `gs://` without credentials waits 24 seconds for one; worker processes inherit the variables
that name it.
"""

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator

PROJECT = "proj"
ACCOUNT = "sa@proj.iam.gserviceaccount.com"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@dataclasses.dataclass(frozen=True)
class MetadataTwin:
    """A running server.

    Attributes:
        address: `127.0.0.1:port`.
    """

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What google-auth reads to find it."""
        return dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"), self.address)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what google-auth asks for: is anybody there, which project, which account, a token."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms between its two writes

    def do_GET(self):
        """Answers one question."""
        status, answer = 200, self.answer(self.path.partition("?")[0])
        if answer is None:
            status, answer = 404, "not found"
        body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response_only(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path):
        """Text or JSON at `path`, or None."""
        if path in ("", "/"):
            return "ok"
        if path.endswith("/token"):
            return {"access_token": "a-twin-has-no-secrets", "expires_in": 3600, "token_type": "Bearer"}
        if path.endswith("/project/project-id"):
            return PROJECT
        if path.endswith(("/universe/universe-domain", "/universe/universe_domain")):
            return "googleapis.com"
        if "/service-accounts/" in path:
            return {"email": ACCOUNT, "scopes": SCOPES, "aliases": ["default"]}
        return None

    def log_message(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def metadata_server() -> Iterator[MetadataTwin]:
    """Runs the server in a thread of the tests."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield MetadataTwin(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
