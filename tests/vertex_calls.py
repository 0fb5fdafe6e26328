"""Calls that a person makes of Vertex AI: by the generated clients, with as little said as it takes."""

import json
import threading
import time

import numpy as np
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2

ENDED = (v1.JobState.JOB_STATE_SUCCEEDED, v1.JobState.JOB_STATE_FAILED, v1.JobState.JOB_STATE_CANCELLED)
CONTAINER = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"


class Clients:
    """The generated clients, over REST."""

    def __init__(self, endpoint):
        options = {
            "credentials": AnonymousCredentials(),
            "transport": "rest",
            "client_options": {"api_endpoint": endpoint},
        }
        self.jobs, self.models = v1.JobServiceClient(**options), v1.ModelServiceClient(**options)
        self.endpoints, self.predictions = v1.EndpointServiceClient(**options), v1.PredictionServiceClient(**options)


def save_served_model(vertex_twin, folder):
    """Uploads a SavedModel with two signatures, of several inputs and outputs and of one string; returns its folder."""
    threading.Thread(target=vertex_twin.serving.start, daemon=True).start()  # it imports TensorFlow, too
    import tensorflow as tf

    inputs = (
        tf.TensorSpec([None], tf.float32, "x"),
        tf.TensorSpec([None], tf.int64, "n"),
        tf.TensorSpec([None], tf.string, "s"),
    )

    @tf.function(input_signature=inputs)
    def several(x, n, s):
        tf.debugging.assert_non_negative(n)
        return {"third": x + 1 / 3, "next": n + 1, "pair": tf.stack([x, -x], 1), "s": s, "s_bytes": s}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "example")])
    def lengths(example):
        return {"length": tf.strings.length(example)}

    model = tf.Module()
    model.several, model.lengths = several, lengths
    tf.saved_model.save(model, str(folder), {"serving_default": several, "lengths": lengths})
    url = vertex_twin.storage.url()
    put(vertex_twin, url, folder)
    return url


def third(x):
    """The first output for `x`, as nine digits."""
    return float(f"{np.float32(x) + np.float32(1 / 3):.9g}")


def put(twin, url, folder):
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    for path in folder.rglob("*"):
        if path.is_file():
            blob = twin.storage_client().bucket(bucket).blob(f"{prefix}/{path.relative_to(folder).as_posix()}")
            blob.upload_from_filename(str(path))


def write(twin, url, text):
    bucket, _, name = url.removeprefix("gs://").partition("/")
    twin.storage_client().bucket(bucket).blob(name).upload_from_string(text)


def files(twin, url):
    """Texts of objects by their names below a folder."""
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    blobs = twin.storage_client().list_blobs(bucket, prefix=f"{prefix}/")
    return {blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes().decode() for blob in blobs}


def pool(*command, replicas=1, args=()):
    container = {"image_uri": "python:3.11", "command": list(command), "args": list(args)}
    return {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": replicas, "container_spec": container}


def custom_job(name, *pools, labels=None, **spec):
    return v1.CustomJob(display_name=name, labels=labels or {}, job_spec={"worker_pool_specs": list(pools), **spec})


def ended(get, name, seconds=60):
    deadline = time.monotonic() + seconds
    while (job := get(name=name)).state not in ENDED:
        assert time.monotonic() < deadline, f"{name} is {job.state.name}"
        time.sleep(0.05)
    return job


def run_custom(twin, clients, *arguments, **spec):
    job = clients.jobs.create_custom_job(parent=twin.parent, custom_job=custom_job(*arguments, **spec))
    return ended(clients.jobs.get_custom_job, job.name)


def upload(twin, clients, artifact="gs://bkt/model", image=CONTAINER, **fields):
    request = {name: fields.pop(name) for name in ("model_id", "parent_model") if name in fields}
    model = {"display_name": "a model", "artifact_uri": artifact, "container_spec": {"image_uri": image}, **fields}
    return clients.models.upload_model({"parent": twin.parent, "model": model, **request}).result()


def values(*instances):
    return [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]


def deployed(model, **fields):
    resources = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}
    return {"model": model, "dedicated_resources": resources, **fields}


LINES = [{"key": str(n), "x": n, "n": n, "s": f"é{n}"} for n in range(20)]


def run_batch(twin, clients, model, lines=LINES, **fields):
    folder = twin.storage.url()
    write(twin, f"{folder}/in-0.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines[::2]))
    write(twin, f"{folder}/in-1.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines[1::2]))
    job = {
        "display_name": "batch",
        "model": model,
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": [f"{folder}/in-*.jsonl"]}},
        "instance_config": {"instance_type": "object", "key_field": "key"},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": f"{folder}/out"},
        },
        "dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-4"}, "starting_replica_count": 1},
        "manual_batch_tuning_parameters": {"batch_size": 4},
        **fields,
    }
    created = clients.jobs.create_batch_prediction_job(parent=twin.parent, batch_prediction_job=job)
    return ended(clients.jobs.get_batch_prediction_job, created.name)


def output(twin, job):
    """Lines of a job's result files, and of its error files."""
    found = files(twin, job.output_info.gcs_output_directory)
    lines = {"prediction.results": [], "prediction.errors_stats": []}
    for name, text in found.items():
        lines[name.partition("-")[0]] += text.splitlines()
    return [json.loads(line) for line in lines["prediction.results"]], lines["prediction.errors_stats"]
