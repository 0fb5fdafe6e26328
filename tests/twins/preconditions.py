"""A proxy before the storage emulator that adds generation preconditions: `python -m twins.preconditions ORIGIN PORT`.

It is a process of its own. In the tests' process, garbage may be collected in any thread at any time, and a file of
Beam's that was never closed uploads its rest when it is: from a thread that waits for it while it holds up all others.
"""

import email
import json
import re
import sys
import threading
import urllib.parse

from twins.proxy import Answer, Forward, Reply, Request, proxy

OBJECT = re.compile(r"^(?:/download)?(?:/storage/v1)?/b/([^/]+)/o/([^/]+)(?:/(copyTo|rewriteTo)/b/([^/]+)/o/([^/]+))?$")
UPLOAD = re.compile(r"^(?:/upload)?(?:/storage/v1)?/b/([^/]+)/o$")
CONDITION = re.compile(r"^if(Source)?(Generation|Metageneration)(Not)?Match$")


def preconditions() -> Answer:
    """Answers as Cloud Storage does: 412 to a write, 304 to a read, whose generation is not the one that was asked for.

    Calls that carry a precondition are taken one at a time, so that of two writers exactly one finds no object.
    https://cloud.google.com/storage/docs/request-preconditions
    A resumable upload that is finished says so again when asked again, for whom the first answer did not reach.
    https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check
    """
    one_at_a_time, uploads, finished = threading.Lock(), {}, {}

    def answer(request: Request, forward: Forward) -> Reply:
        with one_at_a_time:  # the emulator itself does one thing at a time, too
            upload = request.query.get("upload_id")
            if upload in finished:
                return finished[upload]
            target = _target(request, uploads)
            for name, wanted in request.query.items():
                if condition := CONDITION.match(name):
                    if target is None:
                        return _error(501, f"the twin knows no {name} of {request}")
                    source, what, negated = condition.groups()
                    found = _resource(request, target[:2] if source else target[-2:], forward).get(what.lower(), "0")
                    if (found == wanted) == bool(negated):
                        return _error(304 if negated else 412, f"{name}={wanted}, found {found}")
            reply = forward(request)
            if upload and reply.status == 200:
                finished[upload] = reply
            for name, value in reply.headers:
                if name.lower() == "location" and target:
                    started = urllib.parse.parse_qs(urllib.parse.urlsplit(value).query)
                    uploads[started.get("upload_id", [""])[0]] = target
            return reply

    return answer


def _target(request: Request, uploads: dict) -> tuple[str, ...] | None:
    """Bucket and object that the call is about; for a copy, the source's and then the destination's."""
    if match := OBJECT.match(request.resource):
        bucket, name, copy, *destination = match.groups()
        return tuple(urllib.parse.unquote(part) for part in (bucket, name, *(destination if copy else ())))
    if match := UPLOAD.match(request.resource):
        if request.method == "GET":
            return None
        if upload := request.query.get("upload_id"):
            return uploads.get(upload)
        name = request.query.get("name") or _name_in(request)
        return (match[1], name) if name else None
    return None


def _name_in(request: Request) -> str | None:
    """Name of the object in an upload's JSON."""
    kind = {name.lower(): value for name, value in request.headers}.get("content-type", "")
    if kind.startswith("multipart/"):
        message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + request.body)
        return json.loads(message.get_payload(0).get_payload()).get("name")
    return json.loads(request.body).get("name") if kind.startswith("application/json") and request.body else None


def _resource(request: Request, target: tuple[str, ...], forward: Forward) -> dict:
    """The object's metadata, or nothing where there is no such object."""
    bucket, name = target
    path = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
    host = tuple(header for header in request.headers if header[0].lower() == "host")
    reply = forward(Request("GET", path, host, b""))
    return json.loads(reply.body) if reply.status == 200 else {}


def _error(status: int, message: str) -> Reply:
    body = {
        "error": {"code": status, "message": message, "errors": [{"reason": "conditionNotMet", "message": message}]}
    }
    return Reply(status, (("Content-Type", "application/json"),), b"" if status == 304 else json.dumps(body).encode())


if __name__ == "__main__":
    with proxy(sys.argv[1], preconditions(), int(sys.argv[2])):
        threading.Event().wait()
