"""The instances of the Vertex twin's batch prediction jobs: read from files or a table, and formed for the model.

Each format's rules: https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions#input_data_requirements;
of `instanceConfig`: the comment of `BatchPredictionJob.InstanceConfig`.
"""

import base64
import dataclasses
import datetime
import decimal
import json
import re
from collections.abc import Iterator
from typing import Any

from google.cloud import aiplatform_v1 as v1

from twins.vertex_jobs import JobFailedError


@dataclasses.dataclass(frozen=True)
class Instance:
    """An instance.

    Attributes:
        sent: to the model; not there for an instance that cannot be formed.
        row: what the input has, for a table's columns; else None.
        key: of an instance that has one.
        attached: excluded fields, which come back beside the prediction.
        problem: why it cannot be formed.
    """

    sent: Any = None
    row: dict[str, Any] | None = None
    key: Any = None
    attached: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: str = ""


def as_doubles(value: Any) -> Any:
    """A JSON value as a protobuf `Value` keeps it: every number is a double, printed without a point where it is whole.

    https://protobuf.dev/reference/protobuf/google.protobuf/#value
    How numbers travel through batch prediction is documented nowhere; so the twin takes the worst.
    """
    if isinstance(value, dict):
        return {key: as_doubles(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_doubles(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        double = float(value)
        return int(double) if double.is_integer() and abs(double) < 1e21 else double
    return value


def form(config: v1.BatchPredictionJob.InstanceConfig, value: Any, row: dict[str, Any] | None = None) -> Instance:
    """The instance of a line of JSON, or of a table's row."""
    included, excluded = list(config.included_fields), set(config.excluded_fields)
    if not isinstance(value, dict):
        if config.key_field or included or excluded or config.instance_type == "object":
            return Instance(row=row, problem=f"Instance is not a JSON object: {json.dumps(value)[:200]}")
        return Instance(as_doubles(value), row)
    if config.key_field and config.key_field not in value:
        return Instance(row=row, problem=f"Key field {config.key_field} is not found in the instance.")
    if missing := [name for name in included if name not in value]:
        return Instance(row=row, problem=f"Included field {missing[0]} is not found in the instance.")
    names = [name for name in included or value if name not in excluded and name != config.key_field]
    fields = {name: as_doubles(value[name]) for name in names}
    attached = {} if config.key_field else {name: value[name] for name in value if name in excluded}
    is_array = config.instance_type == "array" or (row is not None and not config.instance_type)
    if is_array and row is None and not included:
        return Instance(problem="included_fields must be populated to convert an object to an array.")
    return Instance(list(fields.values()) if is_array else fields, row, value.get(config.key_field), attached)


def read_lines(client: Any, uris: list[str], config: v1.BatchPredictionJob.InstanceConfig) -> list[Instance]:
    """Instances in files of JSON lines; `*` in a path stands for anything but `/`, and `**` for that, too.

    Raises:
        JobFailedError: there are no such files, or none has a line.
    """
    instances: list[Instance] = []
    for uri in uris:
        bucket, _, pattern = uri.removeprefix("gs://").partition("/")
        prefix = re.split(r"[*?\[]", pattern)[0]
        wanted = _translated(pattern)
        found = [blob for blob in client.list_blobs(bucket, prefix=prefix) if wanted.fullmatch(blob.name)]
        if not found:
            raise JobFailedError(3, f"No files match the input pattern: {uri}")
        for blob in found:
            for line in blob.download_as_bytes().splitlines():
                if line.strip():
                    instances.append(_read_line(line, config))
    if not instances:
        raise JobFailedError(3, f"The input has no instances: {', '.join(uris)}")
    return instances


def _translated(pattern: str) -> re.Pattern:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(r"(\*\*|\*|\?)", pattern)
    return re.compile("".join(parts.get(word, re.escape(word)) for word in words))


def _read_line(line: bytes, config: v1.BatchPredictionJob.InstanceConfig) -> Instance:
    def refuse(token: str) -> None:
        raise ValueError(f"Invalid JSON token {token}")

    try:
        value = json.loads(line, parse_constant=refuse)  # strict JSON has no NaN
    except ValueError as error:
        return Instance(problem=f"Failed to parse the instance as JSON: {error}")
    return form(config, value)


def read_table(client: Any, uri: str, config: v1.BatchPredictionJob.InstanceConfig) -> tuple[list[Instance], list[Any]]:
    """Instances of a table's rows, by the page's conversion of types to JSON; and the table's schema.

    Raises:
        JobFailedError: there is no such table, or it is empty.
    """
    from google.api_core import exceptions

    try:
        table = client.get_table(uri.removeprefix("bq://"))
        rows = [dict(row.items()) for row in client.list_rows(table)]
    except exceptions.NotFound as error:
        raise JobFailedError(3, f"BigQuery table {uri} is not found: {error.message}") from error
    if not rows:
        raise JobFailedError(3, f"The input has no instances: {uri}")
    return [form(config, json_row(row), row) for row in rows], list(table.schema)


def json_row(row: dict[str, Any]) -> dict[str, Any]:
    """A table's row in JSON."""
    return {name: json_value(value) for name, value in row.items()}


def json_value(value: Any) -> Any:
    """A value of BigQuery in JSON: integers are numbers, numerics floats, and what has a date a string."""
    if isinstance(value, dict):
        return json_row(value)
    if isinstance(value, list):
        return [json_value(each) for each in value]
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" " if value.tzinfo else "T")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def batches(instances: list[Instance], size: int) -> Iterator[list[Instance]]:
    """Calls of the model: so many instances each, in the order of the input."""
    for start in range(0, len(instances), size):
        yield instances[start : start + size]


def request_body(sent: list[Any], parameters: Any) -> bytes:
    """Body of one call of the model."""
    body = {"instances": sent} | ({} if parameters is None else {"parameters": parameters})
    return json.dumps(body).encode()
