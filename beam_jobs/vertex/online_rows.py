"""One key, asked of the endpoint: parsed like a lookup's, encoded as an instance, answered as a row of the table.

The values need not be in any axis: that is what the endpoint is for.
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from beam_jobs import lineage
from beam_jobs.foreign_models import given_model
from beam_jobs.key_text import check_names, parse_key, parse_value
from beam_jobs.model_registry import ModelVersion
from beam_jobs.vertex.decoding import decode
from beam_jobs.vertex.instances import example_instances, json_lines, object_instances
from beam_jobs.vertex.online import OnlineEndpoint
from beam_jobs.vertex.predictions import Answers
from beam_jobs.vertex.registry import VertexRegistry
from beam_jobs.warehouses.base import Cell, Value
from beam_jobs.workspace import artifacts
from configs.errors import ForetableError, JobError, RefusedError
from configs.job import ForeignJob, Job
from configs.outputs import Output
from transforms.columns import arrow_schema
from transforms.scoring.engine import prediction_arrays

_LARGEST_INT = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class OnlineAnswer:
    """A row as the endpoint answered it.

    Attributes:
        row: the key's values, then the model's outputs as columns of the table.
        version: of the model that answered, as is all that follows.
    """

    row: dict[str, Cell]
    version: str
    model_version: str
    run_date: datetime.date


def predict_row(job: Job, arguments: Sequence[str]) -> OnlineAnswer:
    """Asks the job's endpoint about the key given as `column=value` arguments.

    Raises:
        JobError: a feature is unknown, has no value, or one that is not of its type or may not be missing.
        RefusedError: nothing is deployed.
        ForetableError: the endpoint could not answer, or gave what is no prediction.
    """
    values = parse_features(job, arguments)
    endpoint = OnlineEndpoint(job)
    answer = endpoint.predict(encode_instance(job, values))
    version = next((each for each in VertexRegistry(job).versions() if each.version == answer.version), None)
    if version is None:
        raise ForetableError(
            f"{endpoint.name}: version {answer.version} answered, which is not in the registry any more"
        )
    where = f"{endpoint.name}, version {answer.version}"
    outputs = _outputs(job, version)
    predictions = decode(Answers(where, ["asked"], [answer.value], lambda index: answer.value), outputs)
    names = [name for output in outputs for name in output.columns]
    columns = dict(zip(names, prediction_arrays(predictions, outputs), strict=True))
    row: dict[str, Cell] = {**values, **{name: column[0].as_py() for name, column in columns.items()}}
    return OnlineAnswer(row, version.version, version.model_version, version.run_date)


def parse_features(job: Job, arguments: Sequence[str]) -> dict[str, Value]:
    """The features' values in `column=value` arguments, in the job file's order; missing is None.

    Raises:
        JobError: as `predict_row`.
    """
    key = parse_key(arguments)
    check_names(list(job.features), key)
    values = {name: parse_value(name, feature.type, key[name]) for name, feature in job.features.items()}
    for name, value in values.items():
        if value is None and not job.features[name].may_be_missing:
            raise JobError(f"{name}={key[name]!r}: expected a value: the feature may not be missing")
        if isinstance(value, int) and not -_LARGEST_INT <= value <= _LARGEST_INT:
            raise JobError(f"{name}={key[name]!r}: expected a whole number of 64 bits")
    return values


def encode_instance(job: Job, values: Mapping[str, Value]) -> dict[str, Any]:
    """What the endpoint is sent for a row.

    Raises:
        RefusedError: JSON would change a value of a model that somebody else made.
    """
    types = {name: feature.type for name, feature in job.features.items()}
    rows = pa.RecordBatch.from_pylist([dict(values)], arrow_schema(types))
    if not isinstance(job, ForeignJob):
        instances = example_instances(rows, types)
    else:
        from transforms.scoring.foreign_models import ForeignCall, foreign_inputs
        from transforms.space.axes import Axis
        from transforms.space.input_space import InputSpace

        space = InputSpace((Axis("key", "rows", pa.Table.from_batches([rows])),), tuple(types))
        call = ForeignCall.of(job.model.signature, job.features)
        with artifacts.local_model(given_model(job)) as model_dir:
            inputs = foreign_inputs(model_dir, call, types, space)
        instances = object_instances({name: taken for name, (_, taken) in inputs.items()})
    instance: dict[str, Any] = json.loads(json_lines(instances))
    return instance


def _outputs(job: Job, version: ModelVersion) -> tuple[Output, ...]:
    """Outputs of the version that answered, which may know other classes than the job's next one."""
    if isinstance(job, ForeignJob):
        return artifacts.outputs_of(job, given_model(job))
    model = lineage.model_of(version.run_path)
    if model is None:
        raise RefusedError(f"{version.run_path}: training.json of {version} is gone, so its outputs have no names")
    return artifacts.outputs_of(job, model)
