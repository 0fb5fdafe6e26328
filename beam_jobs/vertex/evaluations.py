"""A model's metrics as an evaluation that Vertex AI's console shows: Google's own fields, and ours as its metadata."""

from google.cloud.aiplatform_v1 import types
from google.protobuf import struct_pb2

from beam_jobs.model_registry import ModelVersion
from configs.job import Job, TrainedJob
from configs.modeling import Regression

_SCHEMA = "gs://google-cloud-aiplatform/schema/modelevaluation/{kind}_metrics_1.0.0.yaml"
_FIELDS = {
    "regression": {"mae": "meanAbsoluteError", "rmse": "rootMeanSquaredError", "r2": "rSquared"},
    "classification": {"auc": "auRoc", "auc_precision_recall": "auPrc", "log_loss": "logLoss"},
}
"""Fields of the schema by our metrics' names; all of them are optional.

https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models.evaluations
"""


def model_evaluation(job: Job, model: ModelVersion) -> types.ModelEvaluation:
    """The evaluation of a model on the eval split of the night that trained it."""
    is_regression = isinstance(job, TrainedJob) and isinstance(job.task, Regression)
    kind = "regression" if is_regression else "classification"
    metrics, metadata = struct_pb2.Struct(), struct_pb2.Struct()
    metrics.update({field: model.metrics[name] for name, field in _FIELDS[kind].items() if name in model.metrics})
    metadata.update(
        {
            "run_id": model.run_id,
            "run_date": model.run_date.isoformat(),
            "model_version": model.model_version,
            "transform_hash": model.transform_hash,
            "data_fingerprint": model.data_fingerprint,
            "metrics": model.metrics,
        }
    )
    return types.ModelEvaluation(
        display_name=f"eval split of {model.run_date}",
        metrics_schema_uri=_SCHEMA.format(kind=kind),
        metrics=struct_pb2.Value(struct_value=metrics),
        metadata=struct_pb2.Value(struct_value=metadata),
    )
