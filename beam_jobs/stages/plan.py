"""plan: the axes as files, the size of their product, and what scoring it takes, measured by a short trial."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from beam_jobs.night import Night, Stage, feature_types, model_settings
from beam_jobs.sources import axis_source
from beam_jobs.stages import prepare, train
from beam_jobs.vertex.measuring import MARKER_KEY, measured_sizing
from beam_jobs.workspace import artifacts, storage
from configs.job import ForeignJob, Job
from configs.space import BucketsAxis
from transforms.examples.reading import read_table
from transforms.scoring.serving import load_model
from transforms.space.axes import Axis, build_axis
from transforms.space.input_space import InputSpace, save_axes
from transforms.space.intervals import build_buckets_axis
from transforms.space.planning import Plan, make_plan


def run(night: Night) -> dict[str, object]:
    """Writes the axes and plans scoring their product."""
    model = artifacts.scoring_model(night.job, night.run.path)
    if isinstance(night.job, ForeignJob):
        night.console.line("plan         the model brings no transform graph: axis factoring and classes are off")
    space = build_space(night, model)
    plan = plan_space(night, model, space)
    save_axes(space, night.run.file("axes"))
    return {"plan": plan.to_json(), **measured_sizing(night.job, model, space, plan)}


def build_space(night: Night, model: artifacts.ScoringModel) -> InputSpace:
    """The input space that the job file declares, with the vocabularies of the model's own transform graph."""
    job = night.job
    with artifacts.vocabularies_of(model) as words:
        axes = {
            name: build_axis(
                name,
                node,
                job.features,
                read=lambda axis, columns: read_table(night.open_source(axis_source(axis), columns), columns),
                words=words,
                examples=lambda: _examples(night),
            )
            for name, node in job.input_space.axes.items()
            if not isinstance(node, BucketsAxis)
        }
    axes |= _buckets_axes(job, model, axes)
    return artifacts.space_of(job, tuple(axes[name] for name in job.input_space.axes))


def _buckets_axes(job: Job, model: artifacts.ScoringModel, others: Mapping[str, Axis]) -> dict[str, Axis]:
    """The axes of intervals, found on the model with a value of each other axis beside them."""
    nodes = {name: node for name, node in job.input_space.axes.items() if isinstance(node, BucketsAxis)}
    if not nodes:
        return {}
    example = {name: node.range[0] if node.range else 0.0 for name, node in nodes.items()}
    for axis in others.values():
        example |= axis.inputs.slice(0, 1).to_pylist()[0]
    with artifacts.local_model(model) as model_path:
        loaded = load_model(model_path)
        return {name: build_buckets_axis(name, node, job.features, loaded, example) for name, node in nodes.items()}


def plan_space(night: Night, model: artifacts.ScoringModel, space: InputSpace) -> Plan:
    """Plans scoring the space with the model."""
    job = night.job
    with artifacts.local_model(model) as model_path:
        return make_plan(
            space,
            model_path,
            job.features,
            artifacts.outputs_of(job, model),
            job.precompute.shard_blocks,
            job.input_space.max_points,
            foreign=artifacts.foreign_call_of(job),
        )


def _examples(night: Night) -> pa.Table:
    """Features of tonight's examples, both splits; of the source itself where no night has read it, or ever will."""
    types = feature_types(night.job)
    if isinstance(night.job, ForeignJob):
        assert night.job.source is not None, night.job.name
        return read_table(night.open_source(night.job.source, types), types)
    if night.run.read_marker(prepare.STAGE.marker) is None:
        return read_table(night.open_source(night.trained_job.source, types), types)
    shards = storage.list_files(night.run.file("examples"), "*.parquet")
    return pa.concat_tables(artifacts.read_examples(shard, list(types)) for shard in shards)


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    plan = Plan.from_json(marker["plan"])
    excluded = f" ({plan.excluded:,} points excluded)" if plan.excluded else ""
    sizes = " x ".join(f"{axis.name} {axis.rows:,}" for axis in plan.axes)
    sizing = marker.get(MARKER_KEY)
    time = f"about {plan.seconds:.1f} s" if sizing is None else f"{sizing['instances']:,} instances for Vertex AI"
    return f"{plan.rows:,} rows{excluded}, {time} and {plan.bytes / 1e6:.1f} MB: {sizes}"


STAGE = Stage("plan", (prepare.STAGE, train.STAGE), run, summary, model_settings)
