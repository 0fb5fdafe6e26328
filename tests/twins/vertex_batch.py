"""The Vertex twin's batch prediction jobs at work: instances in batches to the model, predictions to files or tables."""

import json
import random
import threading
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format
from google.rpc import status_pb2

from twins.vertex_instances import Instance, as_doubles, batches, read_lines, read_table, request_body
from twins.vertex_jobs import JobFailedError
from twins.vertex_models import find_version
from twins.vertex_predictions import Results, write_files, write_tables
from twins.vertex_state import Job, VertexTwin

BATCH_SIZE = 64  # https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions (BATCH_SIZE)
MOST_PARTIAL_FAILURES = 20


def run_batch(twin: VertexTwin, job: Job) -> None:
    """Runs a batch prediction job to its end."""
    message = job.message
    version = find_version(twin, message.model)
    twin.update(job, model_version_id=version.version_id)
    storage, source = twin.storage_client(), message.input_config
    schema: list[Any] = []
    if source.instances_format == "jsonl":
        instances = read_lines(storage, list(source.gcs_source.uris), message.instance_config)
    elif source.instances_format == "bigquery":
        uri = source.bigquery_source.input_uri
        instances, schema = read_table(twin.bigquery_client(), uri, message.instance_config)
    else:
        raise JobFailedError(12, f"the twin does not read {source.instances_format}")
    twin.serving.load(version)
    job.say(f"Predicting {len(instances)} instances with {message.model}@{version.version_id}.")
    results = _predict(twin, job, version, instances)
    if job.is_cancelled.is_set():
        return
    order = random.Random(job.id)
    _misbehave(job, results, order)
    model, created = version.display_name, message.create_time
    output = message.output_config
    if output.predictions_format == "jsonl":
        prefix = output.gcs_destination.output_uri_prefix
        folder = write_files(storage, prefix, model, created, results, order)
        twin.update(job, output_info=v1.BatchPredictionJob.OutputInfo(gcs_output_directory=folder))
    elif output.predictions_format == "bigquery":
        uri = output.bigquery_destination.output_uri
        dataset, table = write_tables(twin.bigquery_client(), uri, model, created, schema, results, order)
        info = v1.BatchPredictionJob.OutputInfo(bigquery_output_dataset=dataset, bigquery_output_table=table)
        twin.update(job, output_info=info)
    else:
        raise JobFailedError(12, f"the twin does not write {output.predictions_format}")
    reasons = list(dict.fromkeys(reason for _, reason in results.failed))[:MOST_PARTIAL_FAILURES]
    twin.update(job, partial_failures=[status_pb2.Status(code=13, message=reason) for reason in reasons])


def _predict(twin: VertexTwin, job: Job, version: Any, instances: list[Instance]) -> Results:
    """Calls the model, a batch after another; one that fails takes all of its instances with it."""
    results, message = Results(), job.message
    parameters = None
    if "model_parameters" in message:
        parameters = json_format.MessageToDict(v1.BatchPredictionJob.pb(message).model_parameters)
    size = message.manual_batch_tuning_parameters.batch_size or BATCH_SIZE
    formed = [instance for instance in instances if not instance.problem]
    results.failed = [(instance, instance.problem) for instance in instances if instance.problem]
    for number, batch in enumerate(batches(formed, size)):
        if job.is_cancelled.is_set():
            break
        if number < job.fault.fail_batches:
            status, answer = 504, b"upstream request timeout"
        else:
            status, answer = twin.serving.predict(version, request_body([each.sent for each in batch], parameters))
        if status == 200:
            predictions = json.loads(answer)["predictions"]
            if twin.predictions_are_doubles:
                predictions = as_doubles(predictions)
            results.predicted += zip(batch, predictions, strict=True)
        else:
            reason = (
                f"Post request fails. Cannot get predictions. Error: Exceeded retries: Non-OK result {status}"
                f" ({answer.decode(errors='replace')}) from server, retry=3, elapsed=600.04s."
            )
            results.failed += [(instance, reason) for instance in batch]
        done, failed = len(results.predicted), len(results.failed)
        stats = v1.CompletionStats(
            successful_count=done, failed_count=failed, incomplete_count=len(instances) - done - failed
        )
        twin.update(job, completion_stats=stats)
        threading.Event().wait(twin.batch_seconds)
    return results


def _misbehave(job: Job, results: Results, order: random.Random) -> None:
    """Loses, fails and repeats instances as the job's fault says."""
    fault = job.fault
    wanted = fault.lose + fault.fail + fault.repeat
    if wanted > len(results.predicted):
        raise JobFailedError(13, f"the twin is to lose, fail or repeat {wanted} of {len(results.predicted)} instances")
    chosen = order.sample(range(len(results.predicted)), wanted)
    lost, failed, repeated = (
        set(chosen[: fault.lose]),
        set(chosen[fault.lose : fault.lose + fault.fail]),
        set(chosen[fault.lose + fault.fail :]),
    )
    again = [results.predicted[index] for index in repeated]
    results.failed += [(results.predicted[index][0], "Failed to predict the instance.") for index in sorted(failed)]
    results.predicted = [
        each for index, each in enumerate(results.predicted) if index not in lost and index not in failed
    ] + again
    job.message.completion_stats.successful_count -= fault.fail
    job.message.completion_stats.failed_count += fault.fail
