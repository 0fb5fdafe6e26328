"""The faults that tests put before a server are what they say."""

import http.client
import http.server
import json
import subprocess
import sys
import threading
import urllib.parse

import pytest
from twins import faults


@pytest.fixture(scope="module")
def server():
    """Counts what it was asked to do."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            done.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 200_000)

        def log_message(self, *_):
            pass

    done = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.done = done
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def post(address, body=b"work"):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=10)
    connection.request("POST", "/jobs?x=1", body, {"Content-Type": "text/plain"})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize(
    ("fault", "answer", "acts"),
    [
        (faults.connection_reset, ConnectionError, False),
        (faults.lost_reply, ConnectionError, True),
        (faults.late_reset(0.01), ConnectionError, False),
        (faults.late_reset(0.01, acts=True), ConnectionError, True),
        (faults.refusal(503), 503, False),
        (faults.refusal(403, "no"), 403, False),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_one_call_of_three_has_the_fault(server, fault, answer, acts):
    weather, body = faults.Faults(), str(fault.__name__).encode()
    with weather.before(f"http://127.0.0.1:{server.server_port}") as (address,):
        weather.start(faults.once(1, fault))
        assert post(address, body)[0] == 200
        if isinstance(answer, int):
            status, content = post(address, body)
            assert (status, json.loads(content)["error"]["code"]) == (answer, answer)
        else:
            with pytest.raises(answer):
                post(address, body)
        assert post(address, body) == (200, b"x" * 200_000)
    assert server.done.count(body) == 2 + acts
    assert weather.calls == ["POST /jobs"] * 3
    assert weather.happened == 1


def test_schedules():
    def happen(schedule):
        return [schedule(n, "GET /") for n in range(6)]

    assert happen(faults.once(2, "f")) == [None, None, "f", None, None, None]
    assert happen(faults.from_call(4, "f")) == [None, None, None, None, "f", "f"]
    assert happen(faults.first_tries("f")) == ["f", None, "f", None, "f", None]
    assert happen(faults.every(2, "fg")) == [None, "f", None, "g", None, "f"]


@pytest.mark.parametrize("acts", [False, True])
def test_a_kill_at_a_call(server, acts):
    weather, body = faults.Faults(), b"killed %d" % acts
    with weather.before(f"http://127.0.0.1:{server.server_port}") as (address,):
        weather.start(faults.once(1, weather.kill(acts)))
        program = f"import urllib.request as r\nwhile True: r.urlopen({address!r}, {body!r}).read()"
        process = subprocess.Popen([sys.executable, "-c", program])
        weather.victim = process.pid
        assert process.wait(timeout=30) == -9
    assert server.done.count(body) == 1 + acts


def test_connections_break_after_so_many_bytes(server):
    origin = f"127.0.0.1:{server.server_port}"
    with faults.breaking_connections(origin, [0, 100_000]) as address:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                post(f"http://{address}")
        assert post(f"http://{address}") == (200, b"x" * 200_000)
