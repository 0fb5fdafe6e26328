"""One worker process against one a core, on the same space: `python -m benchmarks.processes MODEL_FOLDER [POINTS]`.

The model folder is `small` of a workspace that `python -m benchmarks.scoring --workspace FOLDER` kept.
"""

import functools
import os
import sys
import tempfile
import time

import apache_beam as beam

from beam_jobs.pipelines import run_pipeline
from benchmarks.models import load_built_model
from benchmarks.spaces import make_space
from transforms.json_files import WriteJson
from transforms.scoring.precompute import PrecomputePredictions
from transforms.space.input_space import save_axes
from transforms.space.planning import make_plan


def main(folder: str, points: int) -> None:
    """Prints the seconds of the whole pipeline for each, the engine being loaded already in this process."""
    model, space = load_built_model("small", folder), make_space("small", points)
    plan = make_plan(space, model.model_dir, model.features, model.outputs, shard_blocks=16, max_points=points)
    several = ("--direct_running_mode=multi_processing", f"--direct_num_workers={os.cpu_count()}")
    for options in ((), several):
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
            run_pipeline(functools.partial(_define, precompute, records), options)
            print(f"{' '.join(options) or 'one process'}: {time.monotonic() - started:.1f} s for {points:,} points")


def _define(precompute: PrecomputePredictions, records: WriteJson, root: beam.Pipeline) -> beam.PCollection:
    return root | precompute | records


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])) if len(sys.argv) > 2 else 100_000_000)
