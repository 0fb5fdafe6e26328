"""Calls as Vertex AI's REST API takes and answers them: protos in JSON, refusals in Google's words, operations."""

import dataclasses
import datetime
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import field_mask_pb2, json_format

TYPE_URL = "type.googleapis.com/"
UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(.*?)" at "(.*?)"')
BAD_VALUE = re.compile(r"Failed to parse (\w+) field: (.*)", re.DOTALL)
LABEL_KEY, LABEL_VALUE = re.compile(r"[\w-]{1,63}"), re.compile(r"[\w-]{0,63}")
STATUS_CODES = {
    "INVALID_ARGUMENT": (400, 3),
    "FAILED_PRECONDITION": (400, 9),
    "PERMISSION_DENIED": (403, 7),
    "NOT_FOUND": (404, 5),
    "ALREADY_EXISTS": (409, 6),
    "RESOURCE_EXHAUSTED": (429, 8),
    "INTERNAL": (500, 13),
    "UNIMPLEMENTED": (501, 12),
    "UNAVAILABLE": (503, 14),
}
"""Canonical names with their HTTP status and their number in `google.rpc.Status`."""


class RefusalError(Exception):
    """A call that is answered with an error.

    Attributes:
        name: canonical, such as `NOT_FOUND`.
    """

    def __init__(self, name: str, message: str, details: list[dict[str, Any]] | None = None):
        super().__init__(message)
        self.name, self.message, self.details = name, message, details or []

    @property
    def status(self) -> int:
        """Of HTTP."""
        return STATUS_CODES[self.name][0]

    @property
    def body(self) -> dict[str, Any]:
        """As Google's services put it: https://cloud.google.com/apis/design/errors#http_mapping."""
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": self.name}
        return {"error": error | ({"details": self.details} if self.details else {})}


def invalid(field: str, message: str) -> RefusalError:
    """A value that the service refuses, as Vertex words it."""
    violation = {
        "@type": f"{TYPE_URL}google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": message}],
    }
    text = f"List of found errors:\t1.Field: {field}; Message: {message}\t"
    return RefusalError("INVALID_ARGUMENT", text, [violation])


def missing(what: str, name: str) -> RefusalError:
    """A resource that is not there."""
    return RefusalError("NOT_FOUND", f"The {what} does not exist: {name}")


@dataclasses.dataclass(frozen=True)
class RawReply:
    """An answer that is no JSON of ours."""

    body: bytes
    content_type: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A call.

    Attributes:
        path: without version and parameters, its escapes undone: ids arrive percent-encoded, `@` and all.
        names: what the route's pattern found in the path.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    content_type: str = "application/json"
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def location(self) -> str:
        """Name of the resource's location."""
        return f"projects/{self.names['project']}/locations/{self.names['region']}"

    def message(self, kind: type, field: str = "") -> Any:
        """The body as a message of proto-plus; what the proto does not know is refused.

        Args:
            field: of the request that the body stands for, in the words of a refusal.
        """
        message = kind.pb(kind())
        try:
            text = self.body.decode() or "{}"
            json_format.Parse(text, message)
        except (json_format.ParseError, UnicodeDecodeError) as error:
            raise _unreadable(str(error), field) from error
        return kind.wrap(message)

    def parameter(self, name: str) -> str:
        """A parameter of the query in camelCase or snake_case; empty where it is not given."""
        return self.query.get(name) or self.query.get(re.sub("([A-Z])", r"_\1", name).lower(), "")

    def mask(self) -> list[str]:
        """Paths of the update mask, in snake_case."""
        text = self.parameter("updateMask")
        if not text:
            raise invalid("update_mask", "Required field is not set.")
        mask = field_mask_pb2.FieldMask()
        if not text.startswith('"'):
            text = json.dumps(",".join(map(_camel, text.split(","))))
        json_format.Parse(text, mask)
        return list(mask.paths)


Answer = Callable[[Any, Call], Any]
Route = tuple[str, str, Answer]
"""Method, pattern behind `projects/P/locations/R/`, and what answers the call: a dict, a message or a `RawReply`."""


def _camel(path: str) -> str:
    return re.sub("_([a-z])", lambda found: found[1].upper(), path)


def _unreadable(text: str, field: str) -> RefusalError:
    if unknown := UNKNOWN_FIELD.search(text):
        # "CustomJob.jobSpec.workerPoolSpecs[0]" is 'custom_job.job_spec.worker_pool_specs[0]' in Google's words.
        where = unknown[3].partition(".")[2]
        where = ".".join(filter(None, (field, re.sub("(?<!^)([A-Z])", r"_\1", where).lower())))
        place = f" at '{where}'" if where else ""
        words = f'Invalid JSON payload received. Unknown name "{unknown[2]}"{place}: Cannot find field.'
        violation = {"field": where, "description": words}
    elif value := BAD_VALUE.search(text):
        words = f"Invalid value at '{'.'.join(filter(None, (field, value[1])))}': {value[2].strip()}"
        violation = {"field": value[1], "description": words}
    else:
        words = f"Invalid JSON payload received. {text}"
        violation = {"field": field, "description": words}
    details = {"@type": f"{TYPE_URL}google.rpc.BadRequest", "fieldViolations": [violation]}
    return RefusalError("INVALID_ARGUMENT", words, [details])


def as_json(message: Any, enums_as_numbers: bool = False) -> dict[str, Any]:
    """A message of proto-plus or of protobuf as the REST API prints it."""
    plain = type(message).pb(message) if hasattr(type(message), "pb") else message
    return json_format.MessageToDict(plain, use_integers_for_enums=enums_as_numbers)


def packed(message: Any) -> dict[str, Any]:
    """A message as the `Any` of an operation."""
    plain = type(message).pb(message) if hasattr(type(message), "pb") else message
    return {"@type": TYPE_URL + plain.DESCRIPTOR.full_name, **as_json(plain)}


def now() -> datetime.datetime:
    """The time of day, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def check_text(field: str, text: str, longest: int = 128) -> None:
    """Refuses a display name that is empty or too long."""
    if not text:
        raise invalid(field, "Required field is not set.")
    if len(text) > longest:
        raise invalid(field, f"String length should be at most {longest}.")


def check_labels(field: str, labels: Mapping[str, str]) -> None:
    """Refuses labels of the wrong form: https://cloud.google.com/resource-manager/docs/labels-overview#requirements."""
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or key != key.lower() or not key[0].isalpha():
            raise invalid(
                field, f"Label key {key} is invalid: it should be at most 63 characters of a-z, 0-9, _ and -."
            )
        if not LABEL_VALUE.fullmatch(value) or value != value.lower():
            raise invalid(
                field, f"Label value {value} of key {key} is invalid: expected a-z, 0-9, _ and -, at most 63."
            )
    if len(labels) > 64:
        raise invalid(field, "At most 64 labels are allowed.")


def check_folder(field: str, uri: str) -> None:
    """Refuses what is no place in Cloud Storage."""
    if not re.fullmatch(r"gs://[a-z0-9][-_.a-z0-9]+(/.*)?", uri):
        raise invalid(field, f"{uri!r} is not a valid Google Cloud Storage URI. It should start with gs://.")


def read_call(method: str, target: str, body: bytes, content_type: str) -> Call:
    """The call of an HTTP request."""
    address = urllib.parse.urlsplit(target)
    path = re.sub("^/(v1|v1beta1|ui)/", "", urllib.parse.unquote(address.path))
    return Call(method, path, dict(urllib.parse.parse_qsl(address.query)), body, content_type)
