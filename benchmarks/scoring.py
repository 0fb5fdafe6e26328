"""The same model and space through every path, interleaved in one run: `python -m benchmarks.scoring`.

Each cell (path, model, size) is measured in a process of its own. A round goes through all cells, path after path,
before the next one starts, so that a machine that slows down slows all paths alike.
"""

import argparse
import contextlib
import datetime
import importlib.util
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from benchmarks.cell import Cell, CellError, Measurement, measure
from benchmarks.models import MODELS
from benchmarks.paths import PATHS
from benchmarks.report import Results, describe_run, read_results, short, summarize, to_markdown
from benchmarks.spaces import SIZES
from transforms.space.blocks import BLOCK_ROWS

DEFAULT_MODELS = ("small", "medium", "wide", "buckets")
QUICK_SIZES = (100_000, 1_000_000)
# Before a path is cut it may take this many times what a cell may take: an estimate does not cost it a whole size.
_SLACK = 2.0
_MIN_ROWS = 1_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and returns the exit code."""
    options = _parse(arguments)
    workspace = pathlib.Path(options.workspace or tempfile.mkdtemp(prefix="foretable-benchmarks-"))
    (workspace / "cells").mkdir(parents=True, exist_ok=True)
    for model in options.models:
        build_model(model, workspace)
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    header = describe_run(started_at, options.seconds, options.rounds, options.processes, time_tensorflow_import())
    results = Results(header)
    earlier = read_results(options.output / "results.json") if options.add else None
    if earlier is not None:
        try:
            Results({**header}).add(earlier)
        except ValueError as error:
            print(f"--add: {error}", file=sys.stderr)
            return 2
    for _ in run_rounds(options, workspace, results):
        if options.output:
            written = Results({**header}, results.results, results.failures)
            if earlier is not None:
                written.add(earlier)
            written.write(options.output)
    if options.output:
        draw(options.output)
    print(to_markdown(results))
    return 0


def run_rounds(options: argparse.Namespace, workspace: pathlib.Path, results: Results) -> Iterator[None]:
    """Measures every cell once a round, and puts what it found so far into `results` each time it yields."""
    paths = [path for path in options.paths if _is_installed(path)]
    measured: dict[tuple[str, int, str], tuple[Cell, list[Measurement]]] = {}
    rates = {(path, model): PATHS[path].expected_rows_per_second for path in paths for model in options.models}
    for _, (model, points, path) in itertools.product(
        range(options.rounds), every_cell(options.models, options.points, paths)
    ):
        if _was_cut(path, model, points, options.seconds, measured.values()):
            continue  # it would score the same first points again
        cell, rounds = measured.get((model, points, path), (None, []))
        if cell is None:
            rows = rows_in_time(points, rates[path, model], options.seconds)
            cell = Cell(path, model, points, rows, str(workspace / model), options.processes)
        print(f"{model:8} {short(points):>5}  {path:22} ", end="", flush=True)
        try:
            measurement = measure(cell, timeout_seconds=10 * options.seconds + 120, folder=str(workspace / "cells"))
        except CellError as error:
            print(error, flush=True)
            results.failures.append({"path": path, "model": model, "points": points, "reason": str(error)})
        else:
            print(_line(cell, measurement), flush=True)
            rates[path, model] = expect_rate(measurement, rates[path, model], options.seconds)
            measured[model, points, path] = (cell, [*rounds, measurement])
            results.results = [summarize(*found) for found in measured.values()]
        yield


def _was_cut(
    path: str, model: str, points: int, seconds: float, measured: Iterable[tuple[Cell, list[Measurement]]]
) -> bool:
    """Whether the path scored the first points only of a smaller space, and took its whole time for them."""
    return any(
        (cell.path, cell.model) == (path, model)
        and cell.rows < cell.points < points
        and max(measurement.seconds for measurement in rounds) > seconds / 2
        for cell, rounds in measured
    )


def every_cell(models: Sequence[str], sizes: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Model, points and path of a round's cells: the paths are next to each other in time."""
    for model in models:
        for points in sizes:
            for path in paths:
                yield model, points, path


def rows_in_time(points: int, rows_per_second: float, seconds: float) -> int:
    """How many points take about `seconds`, in whole blocks if there are several: all, if they do not take far more."""
    if points <= rows_per_second * seconds * _SLACK:
        return points
    rows = max(int(rows_per_second * seconds), _MIN_ROWS)
    return min(rows - rows % BLOCK_ROWS if rows > BLOCK_ROWS else rows, points)


def expect_rate(measurement: Measurement, expected: float, seconds: float) -> float:
    """Rows a second to expect of the next size; a short cell says more of a path's fixed cost than of its rate."""
    rate = measurement.rows / measurement.seconds
    return rate if measurement.seconds > seconds / 10 else max(rate, expected)


def build_model(name: str, workspace: pathlib.Path) -> None:
    """Builds the model in the workspace, unless it is there already."""
    if (workspace / name / "benchmark.json").exists():
        return
    print(f"building {name}: {MODELS[name].about}", flush=True)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "benchmarks.models", name, str(workspace / name)]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


def time_tensorflow_import() -> float:
    """Seconds that a fresh process takes to import TensorFlow."""
    code = "import time; t = time.monotonic(); import tensorflow; print(time.monotonic() - t)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def draw(directory: pathlib.Path) -> None:
    """Draws the plot beside the results, where matplotlib is installed."""
    with contextlib.suppress(ImportError):
        from benchmarks.plot import draw_results

        draw_results(read_results(directory / "results.json"), directory / "results.png")


def _line(cell: Cell, measurement: Measurement) -> str:
    text = f"{short(measurement.rows / measurement.seconds):>6} rows/s, {measurement.peak_bytes / 1e6:,.0f} MB"
    text += f", {measurement.start_up_seconds:.1f} s start-up"
    return text if cell.rows == cell.points else f"{text}, on the first {short(cell.rows)}"


def _is_installed(path: str) -> bool:
    if path == "ray_data" and importlib.util.find_spec("ray") is None:
        print("ray_data: left out, Ray is not installed (pip install 'foretable[bench]')", flush=True)
        return False
    return True


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=_names(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--points", type=_numbers, help="sizes of the space, such as 1e5,1e7")
    parser.add_argument("--paths", type=_names(PATHS), default=tuple(PATHS), help=f"of {', '.join(PATHS)}")
    parser.add_argument("--seconds", type=float, help="that a cell may take, roughly; default 30")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each cell, of which the median counts")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of the paths that have some")
    parser.add_argument("--workspace", help="keeps the models here; by default a temporary folder")
    parser.add_argument("--output", type=pathlib.Path, help="folder for results.json, .md and .png; by default none")
    parser.add_argument("--add", action="store_true", help="keeps what --output has of other models, of this machine")
    parser.add_argument(
        "--quick", action="store_true", help="defaults: the small model, 1e5 and 1e6 points, 5 s a cell"
    )
    options = parser.parse_args(arguments)
    if options.add and not (options.output and (options.output / "results.json").exists()):
        parser.error("--add: expected --output FOLDER with the results.json that it adds to")
    options.models = options.models or (("small",) if options.quick else DEFAULT_MODELS)
    options.points = options.points or (QUICK_SIZES if options.quick else SIZES)
    options.seconds = options.seconds or (5.0 if options.quick else 30.0)
    return options


def _names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r}: expected some of {', '.join(known)}")
        return names

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(float(number)) for number in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
