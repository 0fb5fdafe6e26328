"""The ways to score a space that are measured, each in a module of its own."""

from benchmarks.paths import bare_loop, engine, per_row, ray_data, run_inference, tfx_bsl
from benchmarks.work import ScoringPath

PATHS: dict[str, ScoringPath] = {
    path.name: path
    for module in (bare_loop, run_inference, tfx_bsl, ray_data, per_row, engine)
    for path in module.PATHS
}
