"""Hooks: what they are sent, and that nothing that they do is felt by the night. Real servers and real commands."""

import datetime
import http.server
import json
import pathlib
import socket
import sys
import threading
import time

import pytest
from conftest import ListedConsole
from nights import DAY
from report_nights import make_job, write_night

from beam_jobs.night import Night
from beam_jobs.notifying import night_news, tell
from beam_jobs.reporting import tell_no_start, tell_publication, watched
from beam_jobs.workspace.outcome import Outcome
from configs.errors import ForetableError, JobError, RefusedError
from configs.job import Job
from configs.loading import parse_job, read_yaml

SECRET = "s3cr3t-t0k3n"
KEYS = ["format", "job", "run_date", "run_id", "status", "exit_code", "stage", "line", "text", "rows", "seconds", "model_version", "metrics", "changed_fraction", "warnings", "report"]  # fmt: skip


class Receiver(http.server.ThreadingHTTPServer):
    """A loopback server that keeps what it is sent.

    Attributes:
        status: that it answers.
        received: path, headers and body of each request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.received, self.seconds, self.drip = 200, [], 0.0, False
        self.release = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), json.loads(body)))
        if self.server.drip:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self.server.release.wait(0.05):  # every read gets a byte in time, and no answer ever ends
                self.wfile.write(b"X")
                self.wfile.flush()
            return
        self.server.release.wait(self.server.seconds)
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def receiver(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def job_with(folder, *hooks) -> Job:
    return make_job(folder, notify=list(hooks))


def news(status="published", line="all is well"):
    outcome = Outcome(status, {"refused": 3, "failed": 5}.get(status, 0), line, None)
    return night_news("natality", "2026-11-20", "r1", outcome.to_json())


def told(job, body):
    lines = []
    tell(job.notify, body, lambda text, style: lines.append(text))
    return lines


def test_a_webhook_gets_the_documented_body_with_its_secret(tmp_path, receiver, monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    hook = {"kind": "webhook", "url": f"{receiver.url}/night", "headers": {"Authorization": "Bearer ${HOOK_TOKEN}"}}
    job = job_with(tmp_path, hook)
    lines = told(job, news())
    ((path, headers, body),) = receiver.received
    assert path == "/night"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert list(body) == KEYS
    assert body["format"] == 1
    assert body["text"] == "natality 2026-11-20 published: all is well"
    assert lines == ["notify       webhook http://127.0.0.1: told"]
    assert SECRET not in job.model_dump_json()


@pytest.mark.parametrize(
    ("status", "told_of"), [("published", ["a"]), ("kept", ["a"]), ("refused", ["b"]), ("failed", [])]
)
def test_a_hook_hears_of_what_it_asked_for(tmp_path, receiver, status, told_of):
    hooks = [
        {"kind": "webhook", "url": f"{receiver.url}/a", "on": "published"},
        {"kind": "webhook", "url": f"{receiver.url}/b", "on": ["refused"]},
    ]
    told(job_with(tmp_path, *hooks), news(status))
    assert [path[1:] for path, _, _ in receiver.received] == told_of


@pytest.mark.parametrize(
    ("status", "said"), [(500, "answered 500"), (404, "answered 404"), (302, "a redirect"), (307, "a redirect")]
)
def test_a_webhook_that_refuses_is_a_warning(tmp_path, receiver, monkeypatch, status, said):
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    receiver.status = status
    hook = {"kind": "webhook", "url": receiver.url + "/${HOOK_TOKEN}", "headers": {"X-Token": "${HOOK_TOKEN}"}}
    (line,) = told(job_with(tmp_path, hook), news())
    assert line.startswith("warning: notify: webhook http://127.0.0.1: ")
    assert said in line
    assert SECRET not in line
    assert [path for path, _, _ in receiver.received] == [f"/{SECRET}"]  # a redirect carries it nowhere


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_a_webhook_that_hangs_is_given_up(tmp_path, receiver, drip):
    receiver.seconds, receiver.drip = 600, drip
    hook = {"kind": "webhook", "url": receiver.url, "timeout_seconds": 0.3}
    (line,) = told(job_with(tmp_path, hook), news())
    assert "no answer within 0.3 s (timeout_seconds)" in line


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        hook = {"kind": "webhook", "url": f"http://127.0.0.1:{taken.getsockname()[1]}/${{HOOK_TOKEN}}"}
        (line,) = told(job_with(tmp_path, hook), news())
    assert line == "warning: notify: webhook http://127.0.0.1: connection refused; the night is not affected"


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({"url": "${NO_SUCH_HOOK}"}, "environment variable NO_SUCH_HOOK is not set"),
        ({"url": "http://127.0.0.1:1", "headers": {"A": "${NO_SUCH_HOOK}"}}, "environment variable NO_SUCH_HOOK is not set"),
        ({"url": "http://127.0.0.1:1", "headers": {"A": "${BROKEN_HOOK}"}}, "InvalidHeader"),
        ({"url": "${BROKEN_HOOK}"}, "InvalidURL"),
    ],
)  # fmt: skip
def test_a_webhook_that_cannot_be_made_names_what_is_missing_and_no_secret(tmp_path, monkeypatch, hook, said):
    monkeypatch.setenv("BROKEN_HOOK", f"{SECRET}\nmore")
    (line,) = told(job_with(tmp_path, {"kind": "webhook", **hook}), news())
    assert said in line
    assert SECRET not in line


def test_a_command_gets_the_body_on_its_standard_input(tmp_path):
    kept = tmp_path / "kept.json"
    command = [
        sys.executable,
        "-c",
        "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())",
        str(kept),
    ]
    lines = told(job_with(tmp_path, {"kind": "command", "command": command}), news("refused", "it's “bad”"))
    body = json.loads(kept.read_text())
    assert (body["status"], body["exit_code"], body["line"]) == ("refused", 3, "it's “bad”")
    assert lines == [f"notify       command {sys.executable}: told"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/hook"], "cannot be run: no such file or directory"),
        (["/"], "cannot be run: permission denied"),
        ([sys.executable, "-c", f"raise SystemExit(7)  # {SECRET}"], "ended with exit code 7"),
        ([sys.executable, "-c", "import os; os.close(0)"], "told"),
    ],
    ids=["missing", "not a program", "exit code", "does not read"],
)
def test_a_command_that_fails_is_a_warning(tmp_path, command, said):
    big = news() | {"line": "x" * 1_000_000}
    (line,) = told(job_with(tmp_path, {"kind": "command", "command": command}), big)
    assert said in line
    assert SECRET not in line


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    child = tmp_path / "child"
    script = f"sleep 600 & echo $! > {child}; wait"
    hook = {"kind": "command", "command": ["sh", "-c", script], "timeout_seconds": 1}
    (line,) = told(job_with(tmp_path, hook), news())
    assert "did not end within 1 s (timeout_seconds) and was killed" in line
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(child.read_text().strip()):
        time.sleep(0.05)
    assert not _runs(child.read_text().strip())


def _runs(process_id):
    try:
        state = pathlib.Path("/proc", process_id, "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_one_hook_that_fails_does_not_keep_the_next_from_hearing(tmp_path, receiver):
    hooks = [{"kind": "command", "command": ["/no/such/hook"]}, {"kind": "webhook", "url": receiver.url}]
    lines = told(job_with(tmp_path, *hooks), news())
    assert len(receiver.received) == 1
    assert len(lines) == 2


def night_of(folder, run, *hooks):
    console = ListedConsole()
    return Night(job_with(folder, *hooks), "job.yaml", run, console), console


def end_with(error, night, stage=None):
    with watched(night) as progress:
        progress.stage = stage
        raise error


@pytest.mark.parametrize(
    ("error", "status", "exit_code", "line"),
    [
        (RefusedError("no\nand no"), "refused", 3, "no; and no"),
        (ForetableError("broke"), "failed", 5, "broke"),
        (JobError("wrong"), "failed", 2, "wrong"),
        (KeyError("x"), "failed", 5, "KeyError: 'x'"),
    ],
)
def test_an_error_is_recorded_reported_told_and_goes_on_its_way(tmp_path, receiver, error, status, exit_code, line):
    run = write_night(tmp_path, until="evaluate")
    night, console = night_of(tmp_path, run, {"kind": "webhook", "url": receiver.url})
    with pytest.raises(type(error)) as caught:
        end_with(error, night, stage="plan")
    assert caught.value is error
    outcome = json.loads(pathlib.Path(run.file("outcome.json")).read_text())
    assert {name: outcome[name] for name in ("status", "exit_code", "line", "stage")} == {
        "status": status,
        "exit_code": exit_code,
        "line": line,
        "stage": "plan",
    }
    assert outcome["versions"]["foretable"].count("+") == 1
    ((_, _, body),) = receiver.received
    assert (body["status"], body["exit_code"], body["line"], body["stage"]) == (status, exit_code, line, "plan")
    assert body["metrics"]["mae"] == 0.75
    assert body["report"] == run.file("report.html")
    page = pathlib.Path(run.file("report.html")).read_text()
    assert {"refused": "Refused by plan", "failed": "Failed in plan"}[status] in page
    assert console.lines[0] == f"the report is {run.file('report.html')}"


def test_a_report_that_cannot_be_made_is_one_line_and_hides_nothing(tmp_path, monkeypatch):
    run = write_night(tmp_path, until="evaluate")
    night, console = night_of(tmp_path, run)

    def fail(*arguments):
        raise RuntimeError("no paper\nleft")

    monkeypatch.setattr("beam_jobs.report.writing.render", fail)
    with pytest.raises(RefusedError, match=r"^no$"):
        end_with(RefusedError("no"), night)
    assert console.lines == ["warning: no report: RuntimeError: no paper; `foretable report job.yaml` tries again"]


def test_a_workspace_that_cannot_be_written_hides_nothing(tmp_path, receiver):
    run = write_night(tmp_path, until="evaluate")
    night, console = night_of(tmp_path, run, {"kind": "webhook", "url": receiver.url})
    (tmp_path / "natality" / str(DAY) / "r1" / "outcome.json").mkdir()
    with pytest.raises(ForetableError, match=r"^broke$"):
        end_with(ForetableError("broke"), night)
    assert console.lines[0].startswith("warning: the night's end cannot be recorded: ForetableError: cannot write ")
    assert receiver.received[0][2]["status"] == "failed"


def test_a_published_night_is_told_with_its_numbers(tmp_path, receiver):
    run = write_night(tmp_path)
    night, _ = night_of(tmp_path, run, {"kind": "webhook", "url": receiver.url})
    kept = {"status": "published", "line": "24 rows verified"}
    tell_publication(night, {"night": kept, "report": run.file("report.html")})
    ((_, _, body),) = receiver.received
    assert (body["status"], body["rows"], body["metrics"]["mae"], body["run_id"]) == ("published", 24, 0.75, "r1")


def test_a_night_that_could_not_start_is_told_without_a_run(tmp_path, receiver):
    job = job_with(tmp_path, {"kind": "webhook", "url": receiver.url})
    tell_no_start(job, datetime.date(2026, 11, 20), ForetableError("source: no such file"), ListedConsole())
    ((_, _, body),) = receiver.received
    assert (body["status"], body["run_id"], body["line"], body["report"]) == (
        "failed",
        None,
        "source: no such file",
        None,
    )


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ({"kind": "webhook", "url": "ftp://x"}, "notify.0.url: 'ftp://x': string should match"),
        ({"kind": "command", "command": []}, "notify.0.command: \\[\\]: value should have at least 1 item"),
        ({"kind": "command", "command": ["a"], "on": ["never"]}, "notify.0.on.0: 'never': input should be 'published'"),
        ({"kind": "mail"}, "notify.0: unknown kind 'mail', expected one of command, webhook"),
        ({"kind": "command", "command": ["a"], "timeout": 3}, "notify.0.timeout: unknown setting .*did you mean 'timeout_sec"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_hook_is_one_line(tmp_path, hook, problem):
    with pytest.raises(JobError, match=problem):
        job_with(tmp_path, hook)


def test_yaml_leaves_on_the_word_that_it_is(tmp_path):
    tree = make_job(tmp_path).model_dump(mode="json")
    assert read_yaml("{on: [yes, No, off, true, False]}") == {"on": ["yes", "No", "off", True, False]}
    job = parse_job({**tree, "notify": read_yaml("[{kind: command, command: page, on: failed}]")})
    assert job.notify[0].on == ("failed",)
    assert job.digest() == make_job(tmp_path).digest()  # whom a night tells changes nothing that is published
