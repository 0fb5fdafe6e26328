"""An HTTP proxy in a thread of the tests, which may look at a call, answer it itself, change it or lose its reply."""

import contextlib
import dataclasses
import http.client
import http.server
import socket
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}
SLOWEST_ORIGIN_SECONDS = 300


class LostReplyError(Exception):
    """The connection is reset in place of a reply."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A call on its way to the server."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        """Parameters behind the path."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))

    @property
    def resource(self) -> str:
        """The path without parameters, escapes as they came."""
        return urllib.parse.urlsplit(self.path).path

    def __str__(self) -> str:
        return f"{self.method} {self.resource}"


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the caller gets."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Forward = Callable[[Request], Reply]
Answer = Callable[[Request, Forward], Reply]
"""Answers a call, by means of the server or without it; raises `LostReplyError` to reset the connection."""


@contextlib.contextmanager
def proxy(origin: str, answer: Answer, port: int = 0) -> Iterator[str]:
    """Runs a proxy before the server at `origin` (`http://host:port`) until the block ends; yields its own address.

    Args:
        port: that it listens on; 0 for any free one.
    """
    address = urllib.parse.urlsplit(origin)

    def forward(request: Request) -> Reply:
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=SLOWEST_ORIGIN_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            return Reply(response.status, tuple(response.getheaders()), response.read())

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms between its two writes

        def answer(self):
            request = Request(self.command, self.path, tuple(self.headers.items()), self.read_body())
            try:
                reply = answer(request, forward)
            except LostReplyError:
                reset(self.connection)
                self.close_connection = True
                return
            self.send_response_only(reply.status)
            for name, value in reply.headers:
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names that the library calls

        def read_body(self):
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # the library's 5 lets a burst of calls wait for seconds

    server = Server(("127.0.0.1", port), Handler)
    server.handle_error = lambda *_: None  # a caller that hangs up, such as a process that is killed, is no news
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reset(connection: socket.socket) -> None:
    """Closes a connection so that its other end sees a reset, and not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    connection.close()
