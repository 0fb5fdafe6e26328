"""The Vertex twin's jobs: made, found, listed, cancelled, deleted, and their states."""

import re
import threading
import traceback
from collections.abc import Callable
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2
from google.rpc import status_pb2

from twins.vertex_filters import page_of
from twins.vertex_models import find_version
from twins.vertex_state import Job, State, VertexTwin
from twins.vertex_wire import (
    Call,
    RefusalError,
    Route,
    as_json,
    check_folder,
    check_labels,
    check_text,
    invalid,
    now,
)

FILTERED = ("display_name", "state", "create_time", "labels")
MACHINE_TYPE = re.compile(r"[a-z][a-z0-9]*-[a-z0-9-]+")
FORMATS = {"jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list"}


class JobFailedError(Exception):
    """A job's end.

    Attributes:
        code: of `google.rpc.Code`.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


Work = Callable[[VertexTwin, Job], None]
"""Does what a running job is for, and raises `JobFailedError` where it cannot."""


def create_custom(work: Work) -> Callable[[VertexTwin, Call], Any]:
    """Makes custom jobs that do `work`."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        message = call.message(v1.CustomJob, "custom_job")
        check_custom(message)
        return _start(twin, call, Job("custom", message), "customJobs", work)

    return answer


def create_batch(work: Work) -> Callable[[VertexTwin, Call], Any]:
    """Makes batch prediction jobs that do `work`."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        message = call.message(v1.BatchPredictionJob, "batch_prediction_job")
        check_batch(message)
        find_version(twin, message.model)
        return _start(twin, call, Job("batch", message), "batchPredictionJobs", work)

    return answer


def _start(twin: VertexTwin, call: Call, job: Job, collection: str, work: Work) -> Any:
    job.message.name = twin.name(call, collection, twin.new_id())
    job.fault = twin.faults.of_job(job.kind, job.message.display_name)
    twin.update(job, state=State.JOB_STATE_PENDING, create_time=now())
    with twin.lock:
        twin.all_jobs[job.message.name] = job
        answer = as_json(job.message)
    threading.Thread(target=_run, args=(twin, job, work), daemon=True).start()
    return answer


def _run(twin: VertexTwin, job: Job, work: Work) -> None:
    fault = job.fault
    if fault.never_starts:
        twin.update(job, state=State.JOB_STATE_QUEUED)
    job.is_cancelled.wait(None if fault.never_starts else twin.pending_seconds)
    state, error = State.JOB_STATE_SUCCEEDED, None
    if not job.is_cancelled.is_set():
        twin.update(job, state=State.JOB_STATE_RUNNING, start_time=now())
        for line in fault.lines:
            job.say(line, "ERROR" if fault.error else "INFO", "workerpool0-0")
        try:
            if fault.error:
                raise JobFailedError(*fault.error)
            if fault.never_ends:
                job.is_cancelled.wait()
            else:
                work(twin, job)
        except JobFailedError as failure:
            state, error = State.JOB_STATE_FAILED, status_pb2.Status(code=failure.code, message=str(failure))
        except RefusalError as refusal:
            state, error = State.JOB_STATE_FAILED, status_pb2.Status(code=9, message=refusal.message)
        except Exception:
            text = f"the twin failed:\n{traceback.format_exc()}"
            state, error = State.JOB_STATE_FAILED, status_pb2.Status(code=13, message=text)
    if job.is_cancelled.is_set():
        state, error = State.JOB_STATE_CANCELLED, status_pb2.Status(code=1, message="CANCELED")
    twin.update(job, state=state, end_time=now(), **({"error": error} if error else {}))


def check_custom(message: v1.CustomJob) -> None:
    """Refuses a custom job as the service does, for what can be seen in the request."""
    check_text("custom_job.display_name", message.display_name)
    check_labels("custom_job.labels", message.labels)
    spec = message.job_spec
    if not spec.worker_pool_specs:
        raise invalid("custom_job.job_spec.worker_pool_specs", "Required field is not set.")
    for index, pool in enumerate(spec.worker_pool_specs):
        field = f"custom_job.job_spec.worker_pool_specs[{index}]"
        if index and not v1.WorkerPoolSpec.pb(pool).ByteSize():
            continue  # a pool that is left out
        if "container_spec" not in pool and "python_package_spec" not in pool:
            raise invalid(f"{field}.task", "Required field is not set.")
        if "container_spec" in pool and not pool.container_spec.image_uri:
            raise invalid(f"{field}.container_spec.image_uri", "Required field is not set.")
        if not MACHINE_TYPE.fullmatch(pool.machine_spec.machine_type):
            text = f'Machine type "{pool.machine_spec.machine_type}" is not supported.'
            raise invalid(f"{field}.machine_spec.machine_type", text)
        if bool(pool.machine_spec.accelerator_count) != bool(pool.machine_spec.accelerator_type):
            raise invalid(f"{field}.machine_spec", "Accelerator type and accelerator count must be set together.")
        if pool.replica_count < 1 or (index == 0 and pool.replica_count != 1):
            text = "Replica count of the first worker pool must be 1." if index == 0 else "Replica count is not set."
            raise invalid(f"{field}.replica_count", text)
    if spec.base_output_directory.output_uri_prefix:
        field = "custom_job.job_spec.base_output_directory.output_uri_prefix"
        check_folder(field, spec.base_output_directory.output_uri_prefix)
    if spec.tensorboard and not (spec.service_account and spec.base_output_directory.output_uri_prefix):
        text = "A service account and a base output directory must be set when a tensorboard is."
        raise invalid("custom_job.job_spec.tensorboard", text)


def check_batch(message: v1.BatchPredictionJob) -> None:
    """Refuses a batch prediction job as the service does, for what can be seen in the request."""
    check_text("batch_prediction_job.display_name", message.display_name)
    check_labels("batch_prediction_job.labels", message.labels)
    if not message.model:
        raise invalid("batch_prediction_job.model", "Required field is not set.")
    source, output, instance = message.input_config, message.output_config, message.instance_config
    for field, name in (("input_config.instances_format", source.instances_format),
                        ("output_config.predictions_format", output.predictions_format)):  # fmt: skip
        if name not in FORMATS:
            what = "Instance" if field.startswith("input") else "Prediction"
            raise invalid(f"batch_prediction_job.{field}", f'{what} format "{name}" is not supported for the Model.')
    if (source.instances_format == "bigquery") != ("bigquery_source" in source):
        raise invalid("batch_prediction_job.input_config.source", "The source does not match the instances format.")
    if (output.predictions_format == "bigquery") != ("bigquery_destination" in output):
        raise invalid("batch_prediction_job.output_config.destination", "It does not match the predictions format.")
    if "gcs_source" in source and not source.gcs_source.uris:
        raise invalid("batch_prediction_job.input_config.gcs_source.uris", "Required field is not set.")
    if "gcs_destination" in output:
        field = "batch_prediction_job.output_config.gcs_destination.output_uri_prefix"
        check_folder(field, output.gcs_destination.output_uri_prefix)
    if instance.key_field and output.predictions_format == "bigquery":
        # https://github.com/googleapis/python-aiplatform/issues/4514, though the proto's comment speaks of it.
        raise RefusalError("INVALID_ARGUMENT", '"bigquery" output format does not support key_field.')
    if instance.included_fields and instance.excluded_fields:
        text = "included_fields and excluded_fields cannot be set together."
        raise invalid("batch_prediction_job.instance_config", text)
    if instance.instance_type not in ("", "object", "array"):
        raise invalid("batch_prediction_job.instance_config.instance_type", f"{instance.instance_type!r}.")
    resources = message.dedicated_resources
    if not MACHINE_TYPE.fullmatch(resources.machine_spec.machine_type):
        text = f'Machine type "{resources.machine_spec.machine_type}" is not supported.'
        raise invalid("batch_prediction_job.dedicated_resources.machine_spec.machine_type", text)


def get(kind: str) -> Callable[[VertexTwin, Call], Any]:
    """Gives a job of a kind."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        return twin.job(call, kind).message

    return answer


def list_jobs(kind: str, field: str) -> Callable[[VertexTwin, Call], Any]:
    """Lists jobs of a kind, newest first."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        twin.check_location(call)
        with twin.lock:
            newest_first = [job.message for job in reversed(twin.jobs(kind))]
            found, token = page_of(call, newest_first, FILTERED, twin.longest_page)
            return {field: [as_json(message) for message in found], "nextPageToken": token}

    return answer


def cancel(kind: str) -> Callable[[VertexTwin, Call], Any]:
    """Starts to cancel a job."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        job = twin.job(call, kind)
        if job.has_ended:
            text = f"The job is in state {job.message.state.name}, and cannot be cancelled: {job.message.name}"
            raise RefusalError("FAILED_PRECONDITION", text)
        twin.update(job, state=State.JOB_STATE_CANCELLING)
        job.is_cancelled.set()
        return {}

    return answer


def delete(kind: str) -> Callable[[VertexTwin, Call], Any]:
    """Deletes a job that has ended."""

    def answer(twin: VertexTwin, call: Call) -> Any:
        job = twin.job(call, kind)
        if not job.has_ended:
            text = f"The job is in state {job.message.state.name}, and cannot be deleted: {job.message.name}"
            raise RefusalError("FAILED_PRECONDITION", text)

        def work() -> Any:
            twin.all_jobs.pop(job.message.name, None)
            return empty_pb2.Empty()

        return twin.operate(job.message.name, v1.DeleteOperationMetadata(), work)

    return answer


def routes(custom: Work, batch: Work) -> list[Route]:
    """Routes of both kinds of jobs, which do this work."""
    kinds = (("custom", "customJobs", create_custom(custom)), ("batch", "batchPredictionJobs", create_batch(batch)))
    return [
        route
        for kind, collection, create in kinds
        for route in (
            ("POST", collection, create),
            ("GET", collection, list_jobs(kind, collection)),
            ("GET", f"{collection}/(?P<id>[^/:]+)", get(kind)),
            ("POST", f"{collection}/(?P<id>[^/:]+):cancel", cancel(kind)),
            ("DELETE", f"{collection}/(?P<id>[^/:]+)", delete(kind)),
        )
    ]
