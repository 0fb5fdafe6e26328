"""One cell of the benchmark: one path, one model, one size, in a process of its own that `benchmarks.scoring` starts.

`python -m benchmarks.cell` takes the cell as JSON on its command line and leaves what it measured as JSON in a file.
"""

import dataclasses
import glob
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from benchmarks.measuring import TreeSampler, descendants, peak_bytes_of, read_clocks
from benchmarks.models import load_built_model
from benchmarks.paths import PATHS
from benchmarks.spaces import make_space
from benchmarks.work import Work

_REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        points: of the space.
        rows: of them that are scored: the first, and fewer than all only on paths that would take too long.
        model_directory: where the model was built.
        processes: worker processes, for the paths that have some.
    """

    path: str
    model: str
    points: int
    rows: int
    model_directory: str
    processes: int


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a cell took.

    Attributes:
        rows: scored.
        seconds: from the first row to the end of the last file.
        cpu_seconds: of the same stretch, of all processes.
        start_up_seconds: from the start of the process to its first row.
        peak_bytes: memory of all processes together, start-up included.
        written_bytes: of Parquet files.
        planned_seconds: what `plan` estimated for the same rows.
    """

    rows: int
    seconds: float
    cpu_seconds: float
    start_up_seconds: float
    peak_bytes: int
    written_bytes: int
    planned_seconds: float | None = None


class CellError(Exception):
    """The cell gave no result."""


def measure(cell: Cell, timeout_seconds: float, folder: str) -> Measurement:
    """Runs the cell in a process of its own.

    Args:
        folder: for the cell's files, which go when it is measured.

    Raises:
        CellError: the process failed or did not end in time; says why in one line.
    """
    with tempfile.TemporaryDirectory(prefix=f"{cell.path}-", dir=folder, ignore_cleanup_errors=True) as directory:
        log_path = os.path.join(directory, "log")
        with open(log_path, "w+", encoding="utf-8", errors="replace") as log:
            began = time.monotonic()
            command = [sys.executable, "-m", "benchmarks.cell", json.dumps(dataclasses.asdict(cell)), directory]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            sampler = TreeSampler(process.pid)
            sampler.start()
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                raise CellError(f"not done after {timeout_seconds:.0f} s") from None
            finally:
                sampler.stop()
                _end(process)
            log.seek(0)
            output = log.read()
        # Its presence decides, not the exit code: what TensorFlow and Ray do at the interpreter's exit is not measured.
        report_path = pathlib.Path(directory, _REPORT)
        if not report_path.exists():
            raise CellError(_reason(output) or f"exit code {process.returncode}")
        report = json.loads(report_path.read_text())
    started, finished = report["started"], report["finished"]
    if started["process_id"] == finished["process_id"]:
        cpu_seconds = finished["cpu_seconds"] - started["cpu_seconds"]
    else:
        cpu_seconds = sampler.cpu_seconds_between(started["seconds"], finished["seconds"])
    return Measurement(
        rows=report["rows"],
        seconds=finished["seconds"] - started["seconds"],
        cpu_seconds=cpu_seconds,
        start_up_seconds=started["seconds"] - began,
        peak_bytes=max(report["peak_bytes"], sampler.peak_bytes()),
        written_bytes=report["written_bytes"],
        planned_seconds=report["planned_seconds"],
    )


def run(cell: Cell, directory: str) -> dict[str, Any]:
    """Runs the cell in this process and reports what only this process knows."""
    work = Work(
        model=load_built_model(cell.model, cell.model_directory),
        space=make_space(cell.model, cell.points),
        rows=cell.rows,
        directory=directory,
        processes=cell.processes,
    )
    score = PATHS[cell.path].prepare(work)
    rows = score()
    finished = read_clocks()
    planned = pathlib.Path(work.file("planned"))
    return {
        "rows": rows,
        "started": dataclasses.asdict(work.clock_started()),
        "finished": dataclasses.asdict(finished),
        "peak_bytes": peak_bytes_of(os.getpid()),
        "written_bytes": sum(map(os.path.getsize, parquet_files(directory))),
        "planned_seconds": json.loads(planned.read_text()) if planned.exists() and cell.rows == cell.points else None,
    }


def parquet_files(directory: str) -> list[str]:
    """The path's Parquet files."""
    return sorted(glob.glob(os.path.join(directory, "*.parquet")))


def _reason(output: str) -> str | None:
    """The line of a cell's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return next(reversed(errors or lines), None)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends what the cell may have left behind; a path's own processes are all its descendants."""
    if process.poll() is not None:
        return
    for process_id in reversed(descendants(process.pid)):
        try:
            os.kill(process_id, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def main() -> int:
    """Runs the cell that the command line describes."""
    cell, directory = Cell(**json.loads(sys.argv[1])), sys.argv[2]
    report = json.dumps(run(cell, directory))
    pathlib.Path(directory, _REPORT).write_text(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
