"""One worker process against one a core, on the same space: `python -m benchmarks.processes MODEL_FOLDER [POINTS]`.

The model folder is `small` of a workspace that `python -m benchmarks.scoring --workspace FOLDER` kept.
"""

import os
import sys

from benchmarks.models import load_built_model
from benchmarks.precomputing import plan_space, time_precompute
from benchmarks.spaces import make_space


def main(folder: str, points: int) -> None:
    """Prints the seconds of the whole pipeline for each, the engine being loaded already in this process."""
    model, space = load_built_model("small", folder), make_space("small", points)
    plan = plan_space(model, space)
    several = ("--direct_running_mode=multi_processing", f"--direct_num_workers={os.cpu_count()}")
    for options in ((), several):
        seconds = time_precompute(model, space, plan, options)
        print(f"{' '.join(options) or 'one process'}: {seconds:.1f} s for {points:,} points")


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])) if len(sys.argv) > 2 else 100_000_000)
