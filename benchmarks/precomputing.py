"""Runs and times what the `precompute` stage runs, for the comparisons that need no cell of their own."""

import functools
import os
import tempfile
import time
from collections.abc import Sequence

import apache_beam as beam

from beam_jobs.pipelines import run_pipeline
from benchmarks.models import BuiltModel
from transforms.json_files import WriteJson
from transforms.scoring.precompute import PrecomputePredictions
from transforms.space.input_space import InputSpace, save_axes
from transforms.space.planning import Plan, make_plan

SHARD_BLOCKS = 16


def plan_space(model: BuiltModel, space: InputSpace) -> Plan:
    """The plan that `foretable plan` makes of the space, whose seconds and bytes it measures on a few blocks."""
    return make_plan(
        space,
        model.model_dir,
        model.features,
        model.outputs,
        shard_blocks=SHARD_BLOCKS,
        max_points=space.cardinality,
    )


def time_precompute(model: BuiltModel, space: InputSpace, plan: Plan, beam_options: Sequence[str] = ()) -> float:
    """Seconds of the whole pipeline, Parquet written to a folder that then goes."""
    with tempfile.TemporaryDirectory(prefix="foretable-benchmarks-") as directory:
        save_axes(space, os.path.join(directory, "axes"))
        precompute = PrecomputePredictions(
            plan=plan,
            axes_dir=os.path.join(directory, "axes"),
            model_dir=model.model_dir,
            features={name: feature.type for name, feature in model.features.items()},
            outputs=model.outputs,
            predictions_dir=directory,
            model_version=model.model_version,
            transform_hash=model.transform_hash,
        )
        records = WriteJson(os.path.join(directory, "records.json"))
        started = time.monotonic()
        run_pipeline(functools.partial(_define, precompute, records), beam_options)
        return time.monotonic() - started


def _define(precompute: PrecomputePredictions, records: WriteJson, root: beam.Pipeline) -> beam.PCollection:
    return root | precompute | records
