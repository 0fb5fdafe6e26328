"""plan: the axes as files, the size of their product, and what scoring it takes, measured by a short trial."""

import pyarrow as pa

from beam_jobs import artifacts, storage
from beam_jobs.night import Night, Stage, feature_types
from beam_jobs.stages import prepare, train
from configs.job import ForeignJob
from transforms.axes import build_axis
from transforms.examples import read_table
from transforms.input_space import InputSpace, save_axes
from transforms.planning import Plan, make_plan


def run(night: Night) -> dict[str, object]:
    """Writes the axes and plans scoring their product."""
    model = artifacts.scoring_model(night.job, night.run.path)
    if isinstance(night.job, ForeignJob):
        night.console.line("plan         the model brings no transform graph: axis factoring and classes are off")
    space = build_space(night, model)
    plan = plan_space(night, model, space)
    save_axes(space, night.run.file("axes"))
    return {"plan": plan.to_json()}


def build_space(night: Night, model: artifacts.ScoringModel) -> InputSpace:
    """The input space that the job file declares, with the vocabularies of the model's own transform graph."""
    job = night.job
    with artifacts.vocabularies_of(model) as words:
        axes = tuple(
            build_axis(
                name,
                node,
                job.features,
                read=lambda source, columns: read_table(source, columns),
                words=words,
                examples=lambda: _examples(night),
            )
            for name, node in job.input_space.axes.items()
        )
    return artifacts.space_of(job, axes)


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
        return read_table(night.job.source, types)
    if night.run.read_marker(prepare.STAGE.marker) is None:
        return read_table(night.trained_job.source, types)
    shards = storage.list_files(night.run.file("examples"), "*.parquet")
    return pa.concat_tables(artifacts.read_examples(shard, list(types)) for shard in shards)


def summary(marker: dict[str, object]) -> str:
    """One line about the stage's marker."""
    plan = Plan.from_json(marker["plan"])  # type: ignore[arg-type]
    excluded = f" ({plan.excluded:,} points excluded)" if plan.excluded else ""
    sizes = " x ".join(f"{axis.name} {axis.rows:,}" for axis in plan.axes)
    return f"{plan.rows:,} rows{excluded}, about {plan.seconds:.1f} s and {plan.bytes / 1e6:.1f} MB: {sizes}"


STAGE = Stage("plan", (prepare.STAGE, train.STAGE), run, summary)
