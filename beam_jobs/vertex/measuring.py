"""What a plan says of batch prediction: distinct instances as planned, and a batch time that is measured here."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_jobs.night import Night, feature_types
from beam_jobs.vertex.artifact import TEXT
from beam_jobs.vertex.instances import EXAMPLE, example_instances
from beam_jobs.vertex.sizing import resize, size_batches
from beam_jobs.workspace import artifacts
from configs.job import Job
from configs.precomputing import VertexBatchPrecompute
from transforms.scoring.batch_time import median_seconds, text_call
from transforms.scoring.foreign_models import ForeignScorer
from transforms.scoring.serving import Scorer, ServingScorer, load_model
from transforms.space.input_space import InputSpace, load_axes
from transforms.space.planning import Plan

MARKER_KEY = "batch_prediction"
"""Of the sizing in `plan.json`, beside the plan: the plan itself knows no cloud."""


def distinct_instances(planned: Plan) -> int:
    """Instances to send: combinations of the axes' classes, but never more than there are rows.

    With `exclude`, a few may turn out not to be needed.
    """
    cells = math.prod(axis.rows if axis.classes is None else axis.classes for axis in planned.axes)
    return min(cells, planned.rows)


def measured_sizing(job: Job, model: artifacts.ScoringModel, space: InputSpace, planned: Plan) -> dict[str, Any]:
    """The sizing by `MARKER_KEY`, or nothing where predictions are computed in the pipeline."""
    precompute = job.precompute
    if not isinstance(precompute, VertexBatchPrecompute):
        return {}
    seconds = batch_seconds(job, model, space, precompute.batch_size)
    return {MARKER_KEY: size_batches(distinct_instances(planned), seconds, precompute).to_json()}


def planned_sizing(night: Night, marker: Mapping[str, Any]) -> dict[str, Any]:
    """As `measured_sizing`, of a finished plan's marker and for the settings of now, which do not make another plan.

    The batch time of the marker holds, unless it is of another batch size.
    """
    job = night.job
    if not isinstance(job.precompute, VertexBatchPrecompute):
        return {}
    if MARKER_KEY in marker and (sizing := resize(marker[MARKER_KEY], job.precompute)) is not None:
        return {MARKER_KEY: sizing.to_json()}
    space = artifacts.space_of(job, load_axes(night.run.file("axes")))
    model = artifacts.scoring_model(job, night.run.path)
    return measured_sizing(job, model, space, Plan.from_json(marker["plan"]))


def batch_seconds(job: Job, model: artifacts.ScoringModel, space: InputSpace, batch_size: int) -> float:
    """Seconds of a call of the signature that is registered, on a batch of points from all over the space.

    JSON and HTTP, which it comes by on Vertex AI, are not in it, and the machine is this one.

    Raises:
        ForetableError: the model's signature is not one for the job's features.
    """
    types, outputs = feature_types(job), artifacts.outputs_of(job, model)
    points = space.points(np.random.default_rng(0).integers(0, space.cardinality, batch_size))
    with artifacts.local_model(model) as model_dir:
        loaded = load_model(model_dir)
        foreign = artifacts.foreign_call_of(job)
        if foreign is None and TEXT in loaded.signatures:
            texts = example_instances(space.inputs(points.positions), types).column(EXAMPLE)
            return median_seconds(text_call(loaded.signatures[TEXT], EXAMPLE, texts))
        scorer: Scorer = (  # a model of before there was that signature still shows about what it takes
            ServingScorer(model_dir, types, outputs, space)
            if foreign is None
            else ForeignScorer(model_dir, foreign, types, outputs, space)
        )
        return median_seconds(lambda: scorer.score(points))
