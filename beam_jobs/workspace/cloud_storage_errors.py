"""What Cloud Storage's client and Beam's raise, as one line that names the resource and the mend."""

import re

from beam_jobs.endpoints import LOGIN, credentials_problem
from configs.errors import ForetableError

AGAIN = "run again: what is finished is kept"
NO_BUCKET = "bucket does not exist"  # Cloud Storage's words; an object's absence has the same status
_PERMISSION = re.compile(r"storage\.\w+\.\w+")
# As the client and Beam put it: the status, what was called, and the server's own words.
_ANSWER = re.compile(
    r"\b(?P<status>[45]\d\d) (?P<verb>GET|POST|PUT|PATCH|DELETE) https?://[^/\s]+/\S*?/b/(?P<bucket>[^/?\s]+)"
    r"(?:/o(?:/(?P<name>[^?\s]*?))?)?(?:\?(?P<query>\S*?))?: (?P<words>[^\n]*)"
)
_PERMISSIONS = {"GET": "storage.objects.get", "DELETE": "storage.objects.delete"}
_VIEWER = ("storage.objects.get", "storage.objects.list", "storage.buckets.get")


def explained(error: BaseException, path: str, permission: str) -> ForetableError:
    """The error of a call on the object or glob at `path` that needs `permission`."""
    if (problem := credentials_problem(error)) is not None:
        return ForetableError(f"{path}: {problem}")
    cause = getattr(error, "cause", None)  # of a RetryError: the last try's
    status = _status(error) or (_status(cause) if cause is not None else None)
    return _error_of(status, path, permission, str(error) if status is not None else _innermost(cause or error))


def explained_text(text: str) -> ForetableError | None:
    """The error in a worker's traceback that ends in an answer of Cloud Storage, if it does."""
    answers = list(_ANSWER.finditer(text))
    if not answers:
        return None
    answer = answers[-1]
    path = f"gs://{answer['bucket']}" + (f"/{answer['name'].replace('%2F', '/')}" if answer["name"] else "")
    permission = _PERMISSIONS.get(answer["verb"], "storage.objects.create")
    if answer["verb"] == "GET" and not answer["name"]:
        permission = "storage.objects.list"
    status = int(answer["status"])
    if status == 404 and "upload_id=" in (answer["query"] or ""):  # of an upload; the bucket was there when it began
        return ForetableError(f"{path}: Cloud Storage lost an upload; {AGAIN}")
    return _error_of(status, path, permission, answer["words"])


def _error_of(status: int | None, path: str, permission: str, words: str) -> ForetableError:
    bucket = path.removeprefix("gs://").partition("/")[0]
    if status == 404:
        if permission == "storage.objects.get" and NO_BUCKET not in words:
            return ForetableError(f"{path}: is not there any more; {AGAIN}")
        return ForetableError(
            f"{path}: there is no bucket {bucket!r}; make it with `gcloud storage buckets create gs://{bucket}`,"
            " or correct the name in the job file"
        )
    if status == 401:
        return ForetableError(f"{path}: the Google Cloud credentials are not accepted; {LOGIN}")
    if status == 403:
        denied = (_PERMISSION.findall(words) or [permission])[0]
        role = "roles/storage.objectViewer" if denied in _VIEWER else "roles/storage.objectUser"
        grant = f"grant {role} on gs://{bucket} to whoever runs the job"
        return ForetableError(f"{path}: permission {denied} is denied; {grant}")
    reason = f"answered {status}" if status is not None else f"does not answer ({_first_line(words)})"
    return ForetableError(f"{path}: Cloud Storage {reason}; {AGAIN}")


def _status(error: BaseException) -> int | None:
    code = getattr(error, "code", None)
    if code is None:
        code = getattr(getattr(error, "response", None), "status_code", None)
    return int(code) if isinstance(code, int) else None


def _innermost(error: BaseException) -> str:
    """What the network said, which Google's client wraps in requests' words, and requests in urllib3's."""
    inner: object = error
    while isinstance(inner, BaseException):
        error, inner = inner, getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
    return str(error) or type(error).__name__


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 200 else line[:199] + "…"
