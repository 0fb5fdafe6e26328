"""What `plan` says of a space against what scoring takes: `python -m benchmarks.estimates MODEL_FOLDER [POINTS]`.

Scores the points (1e8 unless said), and plans a space of ten times as many: its estimate is held against ten times the
measured seconds. The model folder is `small` of a workspace that `python -m benchmarks.scoring --workspace FOLDER`
kept.
"""

import sys

from benchmarks.models import load_built_model
from benchmarks.precomputing import plan_space, time_precompute
from benchmarks.spaces import make_space

ROUNDS = 3


def main(folder: str, points: int) -> None:
    """Prints the estimates beside the truth, in rounds: a machine that changes its speed shows in them."""
    model, space, larger = (
        load_built_model("small", folder),
        make_space("small", points),
        make_space("small", 10 * points),
    )
    for number in range(1, ROUNDS + 1):
        estimate, plan = plan_space(model, larger).seconds, plan_space(model, space)
        seconds = time_precompute(model, space, plan)
        print(
            f"round {number}: {points:.0e} points in {seconds:.1f} s, planned {plan.seconds:.1f} s"
            f" ({plan.seconds / seconds - 1:+.0%}); {10 * points:.0e} planned {estimate:.1f} s,"
            f" extrapolated {10 * seconds:.1f} s ({estimate / (10 * seconds) - 1:+.0%})",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])) if len(sys.argv) > 2 else 100_000_000)
