"""precompute: every block of the planned space, scored and written as Parquet shards that a manifest names."""

from typing import Any

from beam_jobs.foreign_models import GivenModel, check_unchanged
from beam_jobs.night import Night, Stage, feature_types
from beam_jobs.pipelines import Step, run_step
from beam_jobs.stages import evaluate, plan, train
from beam_jobs.workspace import artifacts, storage
from configs.errors import ForetableError
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import Manifest, make_manifest
from transforms.space.planning import Plan


def run(night: Night) -> dict[str, Any]:
    """Scores the space; shards that an earlier try finished are checked and kept."""
    planned = night.run.read_marker(plan.STAGE.marker)
    assert planned is not None
    space_plan = Plan.from_json(planned["plan"])
    model = artifacts.scoring_model(night.job, night.run.path)
    folder, records_path = night.run.file("predictions"), night.run.file("shards.json")
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
    step = Step("precompute", transform, records_path, version=f"{model.model_version} {space_plan.space_hash}")
    finished = lambda: len(storage.list_files(folder, "part-*.parquet"))  # noqa: E731
    with night.console.progress("precompute", "shards", space_plan.shards, finished):
        run_step(step, night)
    if isinstance(model, GivenModel):
        check_unchanged(model)
    records = [ShardRecord(**record) for record in storage.read_json(records_path)]
    manifest = make_manifest(records, space_plan.columns, transform.fingerprint)
    if manifest.rows != space_plan.rows or len(records) != space_plan.shards:
        raise ForetableError(
            f"precompute: {manifest.rows:,} rows in {len(records)} shards, planned were {space_plan.rows:,} in "
            f"{space_plan.shards}; run `foretable precompute` again"
        )
    storage.remove_all_but(folder, {record.name for record in records})
    return {"manifest": manifest.to_json()}


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    manifest = Manifest.from_json(marker["manifest"])
    size, count = sum(shard.bytes for shard in manifest.shards), len(manifest.shards)
    return f"{manifest.rows:,} rows in {count} shard{'s' if count > 1 else ''}, {size / 1e6:.1f} MB"


STAGE = Stage("precompute", (train.STAGE, evaluate.STAGE, plan.STAGE), run, summary)
