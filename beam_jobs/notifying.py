"""Tells a job's hooks how the night ended. Whatever a hook does, the night goes its way: a failure is one warning line.

What is sent is the object of `night_news`, `format` 1. Secrets come from the environment when a request is made; no
message names a URL's path, a header, or a command's arguments.
"""

import json
import os
import re
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs.notifying import AnyNotification, CommandNotification, Event, WebhookNotification

FORMAT = 1
_EVENTS: Mapping[str, Event] = {
    "published": "published",
    "kept": "published",
    "refused": "refused",
    "failed": "failed",
}


def night_news(
    job: str,
    run_date: str,
    run_id: str | None,
    outcome: Mapping[str, Any],
    summary: Mapping[str, Any] | None = None,
    report: str | None = None,
) -> dict[str, Any]:
    """The body that every hook gets.

    Args:
        run_id: None where the night ended before it had one, because a source is missing, say.
        outcome: of `outcome.Outcome`.
        summary: of `history.NightSummary`, as far as the night came.
        report: path of report.html, if it was written.
    """
    known = summary or {}
    return {
        "format": FORMAT,
        "job": job,
        "run_date": run_date,
        "run_id": run_id,
        "status": outcome["status"],
        "exit_code": outcome["exit_code"],
        "stage": outcome["stage"],
        "line": outcome["line"],
        "text": f"{job} {run_date} {outcome['status']}: {outcome['line']}",
        "rows": known.get("rows"),
        "seconds": known.get("seconds"),
        "model_version": known.get("model_version"),
        "metrics": known.get("metrics") or {},
        "changed_fraction": known.get("changed_fraction"),
        "warnings": known.get("warnings") or [],
        "report": report,
    }


def tell(hooks: Sequence[AnyNotification], news: Mapping[str, Any], say: Callable[[str, str | None], None]) -> None:
    """Tells each hook that wants to hear of this end, one after the other.

    Args:
        say: prints a line with a style for a person.
    """
    event = _EVENTS[news["status"]]
    body = json.dumps(news, ensure_ascii=False, default=str).encode()
    for hook in hooks:
        if event not in hook.on:
            continue
        try:
            problem = _run(hook, body) if isinstance(hook, CommandNotification) else _post_within(hook, body)
        except Exception as error:  # a hook is never worth a night; the text may hold a secret
            problem = type(error).__name__
        if problem is None:
            say(f"notify       {_name(hook)}: told", "dim")
        else:
            say(f"warning: notify: {_name(hook)}: {problem}; the night is not affected", "yellow")


def _name(hook: AnyNotification) -> str:
    if isinstance(hook, CommandNotification):
        return f"command {hook.command[0]}"
    parts = urllib.parse.urlsplit(hook.url)
    return f"webhook {parts.scheme}://{parts.hostname}" if parts.hostname else "webhook"


def _run(hook: CommandNotification, body: bytes) -> str | None:
    """Runs the command; what it prints goes where the noise goes."""
    try:
        # A session of its own, so that a command that hangs is ended with all that it started.
        process = subprocess.Popen(hook.command, stdin=subprocess.PIPE, stdout=2, stderr=2, start_new_session=True)
    except OSError as error:
        return f"cannot be run: {(error.strerror or type(error).__name__).lower()}"
    try:
        process.communicate(body, timeout=hook.timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"did not end within {hook.timeout_seconds:g} s (timeout_seconds) and was killed"
    return None if process.returncode == 0 else f"ended with exit code {process.returncode}"


def _post_within(hook: WebhookNotification, body: bytes) -> str | None:
    """Posts in a thread: a client's timeout is for each read, and a server may drip."""
    answers: list[str | None] = []

    def post() -> None:
        try:
            answers.append(_post(hook, body))
        except Exception as error:
            answers.append(type(error).__name__)

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(hook.timeout_seconds)
    return answers[0] if answers else f"no answer within {hook.timeout_seconds:g} s (timeout_seconds)"


def _post(hook: WebhookNotification, body: bytes) -> str | None:
    import requests

    try:
        url = _expanded(hook.url)
        headers = {"Content-Type": "application/json"} | {name: _expanded(v) for name, v in hook.headers.items()}
    except KeyError as error:
        return f"environment variable {error.args[0]} is not set"
    try:
        response = requests.post(
            url, data=body, headers=headers, timeout=hook.timeout_seconds, allow_redirects=False, stream=True
        )
    except requests.Timeout:
        return f"no answer within {hook.timeout_seconds:g} s (timeout_seconds)"
    except requests.RequestException as error:
        return _reason(error)
    with response:
        if response.is_redirect:
            return f"answered {response.status_code}, a redirect, which is not followed: give the final address as url"
        return None if response.ok else f"answered {response.status_code}"


def _expanded(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], text)


def _reason(error: BaseException) -> str:
    """What the operating system said; never the client's own text, which names the whole URL."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None and seen.strerror:
            return seen.strerror.lower()
        inner = next((part for part in seen.args if isinstance(part, BaseException)), None)
        inner = inner or getattr(seen, "reason", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return type(error).__name__
