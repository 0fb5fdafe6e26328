"""What the Vertex twin's batch prediction jobs write, in Google's documented shapes.

Files: https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions#example_batch_prediction_result, where
lines have `instance` (or by the comment of `InstanceConfig.key_field`, `key`) and `prediction`; errors are counted in
lines of text, as https://cloud.google.com/vertex-ai/docs/general/troubleshooting#exceeded_retries_error shows them,
which name no instance. The names `predictions_0001.jsonl` and errors with their instances, of which the comment of
`BatchPredictionJob.OutputConfig` speaks, are those of models that have schemata.

Tables: the comments of `OutputConfig.bigquery_destination`, `OutputInfo.bigquery_output_table` and
`BigQueryDestination`. That `prediction` is a STRING of JSON is what users of custom models report, and on no page.
"""

import dataclasses
import datetime
import json
import random
import re
from collections import Counter
from typing import Any

from twins.vertex_instances import Instance, json_row
from twins.vertex_jobs import JobFailedError

MOST_FILES = 4


@dataclasses.dataclass
class Results:
    """Outcome of a job.

    Attributes:
        predicted: instances with the text of their predictions, in no order.
        failed: instances with the reason; those of one call share it.
    """

    predicted: list[tuple[Instance, Any]] = dataclasses.field(default_factory=list)
    failed: list[tuple[Instance, str]] = dataclasses.field(default_factory=list)


def write_files(
    client: Any, prefix: str, model: str, created: datetime.datetime, results: Results, order: random.Random
) -> str:
    """Writes files into a new folder below the prefix; returns the folder."""
    time = created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    folder = f"{prefix.rstrip('/')}/prediction-{model}-{time}"
    lines = [json.dumps(_line(instance, prediction)) for instance, prediction in results.predicted]
    order.shuffle(lines)
    _write(client, folder, "prediction.results", lines, order.randint(1, min(MOST_FILES, len(lines) or 1)))
    counted = Counter(reason for _, reason in results.failed)
    _write(client, folder, "prediction.errors_stats", [repr((text, count)) for text, count in counted.items()], 1)
    return folder


def _line(instance: Instance, prediction: Any) -> dict[str, Any]:
    what = {"key": instance.key} if instance.key is not None else {"instance": instance.sent}
    return {**instance.attached, **what, "prediction": prediction}


def _write(client: Any, folder: str, name: str, lines: list[str], count: int) -> None:
    bucket, _, path = folder.removeprefix("gs://").partition("/")
    for number in range(count):
        part = lines[number::count]
        blob = client.bucket(bucket).blob(f"{path}/{name}-{number:05}-of-{count:05}")
        blob.upload_from_string("".join(f"{line}\n" for line in part), "application/octet-stream")


def write_tables(
    client: Any,
    uri: str,
    model: str,
    created: datetime.datetime,
    schema: list[Any],
    results: Results,
    order: random.Random,
) -> tuple[str, str]:
    """Writes a table of predictions and one of errors; returns the dataset's URI and the first one's name.

    Args:
        schema: of the input.

    Raises:
        JobFailedError: the dataset is not there, or the table is.
    """
    from google.api_core import exceptions
    from google.cloud import bigquery

    time = f"{created:%Y_%m_%dT%H_%M_%S}_{created.microsecond // 1000:03}Z"
    project, *names = uri.removeprefix("bq://").split(".")
    if not names:
        names = [re.sub(r"\W", "_", f"prediction_{model}_{time}")]
        client.create_dataset(f"{project}.{names[0]}", exists_ok=True)
        tables = ("predictions", "errors")
    else:
        tables = (names[1] if len(names) > 1 else f"predictions_{time}", f"errors_{time}")
    dataset = f"{project}.{names[0]}"
    columns = [bigquery.SchemaField(each.name, each.field_type, each.mode, fields=each.fields) for each in schema]
    status = [bigquery.SchemaField("code", "INTEGER"), bigquery.SchemaField("message", "STRING")]
    rows = [{**json_row(instance.row or {}), "prediction": json.dumps(value)} for instance, value in results.predicted]
    order.shuffle(rows)
    errors = [
        {**json_row(instance.row or {}), "errors": {"code": 13, "message": reason}}
        for instance, reason in results.failed
    ]
    contents = (
        (tables[0], [*columns, bigquery.SchemaField("prediction", "STRING")], rows),
        (tables[1], [*columns, bigquery.SchemaField("errors", "RECORD", fields=status)], errors),
    )
    for name, fields, content in contents:
        try:
            client.create_table(bigquery.Table(f"{dataset}.{name}", fields))
        except exceptions.NotFound as error:
            raise JobFailedError(3, f"BigQuery dataset {dataset} is not found.") from error
        except exceptions.Conflict as error:
            raise JobFailedError(3, f"BigQuery table {dataset}.{name} already exists.") from error
        if content:
            client.load_table_from_json(
                content, f"{dataset}.{name}", job_config=bigquery.LoadJobConfig(schema=fields)
            ).result()
    return f"bq://{dataset}", tables[0]
