"""What the benchmark found, as JSON for programs and as Markdown for people."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.cell import Cell, Measurement
from benchmarks.models import MODELS
from benchmarks.paths import PATHS

PACKAGES = ("apache-beam", "tensorflow", "tensorflow-transform", "tfx-bsl", "keras", "numpy", "pyarrow", "ray")
CLOCK = (
    "rows_per_second: from a path's first row to the end of its last file, with the model loaded and called once; what"
    " comes before is start_up_seconds. The engine's clock starts earlier, before its Beam pipeline is built."
)


def describe_run(started_at: str, seconds: float, rounds: int, processes: int, import_seconds: float) -> dict[str, Any]:
    """The header of the results: machine, versions, and how each path was set up.

    Args:
        seconds: that a cell may take, roughly.
        import_seconds: of TensorFlow, which is part of every start-up but Ray's.
    """
    return {
        "started_at": started_at,
        "earlier_runs": {},
        "machine": describe_machine(),
        "versions": package_versions(PACKAGES),
        "clock": CLOCK,
        "seconds_per_cell": seconds,
        "rounds": rounds,
        "processes": processes,
        "tensorflow_import_seconds": round(import_seconds, 2),
        "models": {name: model.about for name, model in MODELS.items()},
        "paths": {name: path.settings for name, path in PATHS.items()},
    }


def describe_machine() -> dict[str, Any]:
    """The machine, and how busy it is."""
    return {
        "processor": _first_match(r"model name\s*: (.+)", "/proc/cpuinfo") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Versions of Python and of packages; None of one that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def summarize(cell: Cell, rounds: Sequence[Measurement]) -> dict[str, Any]:
    """One result: the median of a cell's rounds, and the highest of their memory peaks."""

    def median(value: Any) -> float:
        return statistics.median(value(measurement) for measurement in rounds)

    result = {
        "path": cell.path,
        "model": cell.model,
        "points": cell.points,
        "rows": cell.rows,
        "rows_per_second": round(median(lambda m: m.rows / m.seconds)),
        "rows_per_cpu_second": round(median(lambda m: m.rows / max(m.cpu_seconds, 1e-3))),
        "peak_bytes": max(m.peak_bytes for m in rounds),
        "written_bytes": rounds[0].written_bytes,
        "seconds": round(median(lambda m: m.seconds), 4),
        "start_up_seconds": round(median(lambda m: m.start_up_seconds), 2),
    }
    if all(m.planned_seconds is not None for m in rounds):
        result["planned_seconds"] = round(median(lambda m: m.planned_seconds), 3)
    return result


@dataclasses.dataclass
class Results:
    """Everything that a run found, beside what earlier runs found of other models.

    Attributes:
        header: of `describe_run`; its `earlier_runs` say when the other models' were started.
        results: of `summarize`, in the order of the cells.
        failures: cells that gave none: path, model, points, reason.
    """

    header: dict[str, Any]
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, earlier: "Results") -> None:
        """Puts the models before these that the earlier run measured, and this one does not.

        Raises:
            ValueError: that was another machine, or other versions.
        """
        for name in ("processor", "cores", "system"):
            if earlier.header["machine"][name] != self.header["machine"][name]:
                raise ValueError(f"the results that are there are of another machine: its {name} differs")
        if earlier.header["versions"] != self.header["versions"]:
            raise ValueError("the results that are there are of other versions")
        mine = {result["model"] for result in self.results}
        kept = [result for result in earlier.results if result["model"] not in mine]
        run = {name: earlier.header[name] for name in ("started_at", "seconds_per_cell")}
        runs = {result["model"]: run for result in kept}
        self.header["earlier_runs"] = runs | {
            model: before for model, before in earlier.header["earlier_runs"].items() if model in runs
        }
        self.results = [*kept, *self.results]
        self.failures = [*(failure for failure in earlier.failures if failure["model"] in runs), *self.failures]

    def write(self, directory: pathlib.Path) -> None:
        """Writes `results.json` and `results.md`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.json").write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")
        (directory / "results.md").write_text(to_markdown(self), encoding="utf-8")


def read_results(path: pathlib.Path) -> Results:
    """The results that `Results.write` wrote."""
    return Results(**json.loads(path.read_text(encoding="utf-8")))


def to_markdown(results: Results) -> str:
    """The results as tables, one a model."""
    header = results.header
    machine, versions = header["machine"], header["versions"]
    lines = ["# Scoring: this engine and what people use today", ""]
    lines += [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB;"
        f" {machine['system']}; {', '.join(f'{name} {version}' for name, version in versions.items())}."
        f" {header['started_at']}, `python -m benchmarks.scoring`, {header['rounds']} round(s), paths interleaved,"
        " each cell in a process of its own.",
        "",
        f"{header['clock']} Importing TensorFlow took {header['tensorflow_import_seconds']:.1f} s of it.",
        f"A path that would take much longer than {header['seconds_per_cell']:.0f} s scores the first points only;"
        " the table then says how many. Nothing is extrapolated.",
    ]
    for model in dict.fromkeys(result["model"] for result in results.results):
        found = [result for result in results.results if result["model"] == model]
        lines += ["", f"## {model}: {header['models'][model]}", ""]
        if (run := header["earlier_runs"].get(model)) is not None:
            lines += [f"In a run of {run['started_at']}, {run['seconds_per_cell']:.0f} s a cell.", ""]
        lines += _table(found)
    lines += ["", "## Paths", ""]
    shown = dict.fromkeys(result["path"] for result in results.results)
    lines += [f"- `{path}`: {header['paths'][path]}" for path in shown]
    if results.failures:
        lines += ["", "## No result", ""]
        lines += [f"- `{f['path']}`, {f['model']}, {f['points']:,} points: {f['reason']}" for f in results.failures]
    return "\n".join(lines) + "\n"


def _table(found: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    sizes = sorted({result["points"] for result in found})
    by_path: dict[str, dict[int, Mapping[str, Any]]] = {}
    for result in found:
        by_path.setdefault(result["path"], {})[result["points"]] = result
    columns = [f"rows/s at {short(size)}" for size in sizes]
    columns += ["rows/CPU s", "peak memory", "bytes/row", "start-up"]
    yield f"| path | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for path, results in by_path.items():
        last = results[max(results)]
        peaks = [result["peak_bytes"] for result in results.values()]
        cells = [_rate(results.get(size)) for size in sizes]
        cells += [
            short(last["rows_per_cpu_second"]),
            _range(min(peaks) / 1e6, max(peaks) / 1e6) + " MB",
            f"{last['written_bytes'] / last['rows']:.1f}" if last["written_bytes"] else "",
            f"{last['start_up_seconds']:.1f} s",
        ]
        yield f"| {path} | {' | '.join(cells)} |"


def _range(low: float, high: float) -> str:
    """The two numbers, or one if they round to the same."""
    return " to ".join(dict.fromkeys(f"{number:,.0f}" for number in (low, high)))


def _rate(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    rate = short(result["rows_per_second"])
    return rate if result["rows"] == result["points"] else f"{rate} (on {short(result['rows'])})"


def short(number: float) -> str:
    """A number with two or three digits that count: `940`, `15.2k`, `4.31M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_match(pattern: str, path: str) -> str | None:
    try:
        found = re.search(pattern, pathlib.Path(path).read_text())
    except OSError:
        return None
    return found[1] if found else None
