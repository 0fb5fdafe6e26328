"""precompute: every block of the planned space, scored and written as Parquet shards that a manifest names."""

from typing import Any

from beam_jobs.foreign_models import GivenModel, check_unchanged
from beam_jobs.night import Night, Stage, feature_types, model_settings
from beam_jobs.pipelines import Step, run_step
from beam_jobs.stages import evaluate, plan, train
from beam_jobs.workspace import artifacts, storage
from configs.errors import ForetableError
from configs.precomputing import VertexBatchPrecompute
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import Manifest, make_manifest
from transforms.space.planning import Plan


def run(night: Night) -> dict[str, Any]:
    """Scores the space, where the job file says."""
    planned = night.run.read_marker(plan.STAGE.marker)
    assert planned is not None
    space_plan = Plan.from_json(planned["plan"])
    model = artifacts.scoring_model(night.job, night.run.path)
    folder = night.run.file("predictions")
    storage.make_folder(folder)
    transform = PrecomputePredictions(
        plan=space_plan,
        axes_dir=night.run.file("axes"),
        model_dir=model.model_path,
        features=feature_types(night.job),
        outputs=artifacts.outputs_of(night.job, model),
        predictions_dir=folder,
        model_version=model.model_version,
        transform_hash=model.transform_hash,
        foreign=artifacts.foreign_call_of(night.job),
    )
    if isinstance(night.job.precompute, VertexBatchPrecompute):
        from beam_jobs.vertex.batch_prediction import precompute_on_vertex

        records = precompute_on_vertex(night, transform, model)
    else:
        records = _run_pipeline(transform, night)
    if isinstance(model, GivenModel):
        check_unchanged(model)
    manifest = make_manifest(records, space_plan.columns, transform.fingerprint, night.job.precompute.on)
    if manifest.rows != space_plan.rows or len(records) != space_plan.shards:
        raise ForetableError(
            f"precompute: {manifest.rows:,} rows in {len(records)} shards, planned were {space_plan.rows:,} in "
            f"{space_plan.shards}; run `foretable precompute` again"
        )
    storage.remove_all_but(folder, {record.name for record in records})
    return {"manifest": manifest.to_json()}


def _run_pipeline(transform: PrecomputePredictions, night: Night) -> list[ShardRecord]:
    """Runs the transform on the job's runner; shards that an earlier try finished are checked and kept."""
    records_path = night.run.file("shards.json")
    version = f"{transform.model_version} {transform.plan.space_hash}"
    records = lambda: [ShardRecord(**record) for record in storage.read_json(records_path)]  # noqa: E731
    holds = lambda: transform.holds(records())  # noqa: E731 - another model's shards have the same names
    finished = lambda: len(storage.list_files(transform.predictions_dir, "part-*.parquet"))  # noqa: E731
    with night.console.progress("precompute", "shards", transform.plan.shards, finished):
        run_step(Step("precompute", transform, records_path, version, holds), night)
    return records()


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    manifest = Manifest.from_json(marker["manifest"])
    size, count = sum(shard.bytes for shard in manifest.shards), len(manifest.shards)
    return f"{manifest.rows:,} rows in {count} shard{'s' if count > 1 else ''}, {size / 1e6:.1f} MB"


STAGE = Stage("precompute", (train.STAGE, evaluate.STAGE, plan.STAGE), run, summary, model_settings)
