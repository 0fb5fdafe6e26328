"""The last nights: each run directory in numbers, whatever became of it, and what a person sees of them."""

import dataclasses
import json
import pathlib

import pytest
from nights import DAY
from report_nights import ONE_DAY, changes_tree, make_job, write_night

from beam_jobs.commands.reading import list_runs
from beam_jobs.commands.tables import print_runs
from beam_jobs.history import list_nights, summarize_night
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.workspace.night_files import NightFiles
from beam_jobs.workspace.run_directory import MARKERS


def summary_of(run):
    return summarize_night(NightFiles.of(run.path))


def write_json(run, name, tree):
    pathlib.Path(run.path, name).write_text(json.dumps(tree), encoding="utf-8")


def outcome(status="failed", line="broke", stage="plan", finished_at="2030-01-01T00:00:00+00:00"):
    return {"status": status, "exit_code": 5, "line": line, "stage": stage, "finished_at": finished_at}


def test_a_published_night_in_numbers(tmp_path):
    run = write_night(tmp_path)
    write_json(run, "changes.json", changes_tree())
    found = dataclasses.asdict(summary_of(run))
    assert found.pop("finished_at").endswith("+00:00")
    assert found == {
        "run_date": str(DAY),
        "run_id": "r1",
        "status": "published",
        "line": "24 rows verified; natality_predictions in natality.duckdb",
        "stage": None,
        "exit_code": 0,
        "seconds": 11.0,
        "rows": 24,
        "bad_rows": 1,
        "model_version": "model-r1",
        "trained": True,
        "metrics": {"example_count": 20, "mae": 0.75, "rmse": 1.0, "mae_constant": 0.9, "label_mean": 7.0},
        "drift": 1.5,  # against the last night, which is nearer than the one before it
        "drifted_feature": "weeks",
        "changed_fraction": 0.25,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("until", "blessed", "kept_outcome", "status", "stage", "line"),
    [
        ("evaluate", True, None, "unfinished", "plan", "it was killed, or it runs now"),
        ("evaluate", False, None, "refused", "evaluate", "mae is worse than it may be"),
        ("evaluate", True, outcome(), "failed", "plan", "broke"),
        ("precompute", True, outcome("refused", "no", "publish"), "refused", "publish", "no"),
        ("publish", True, outcome("refused", "no", "publish"), "published", None, "24 rows verified"),
    ],
    ids=["killed", "not blessed", "failed", "refused", "accepted after a refusal"],
)
def test_the_end_of_a_night(tmp_path, until, blessed, kept_outcome, status, stage, line):
    run = write_night(tmp_path, until=until, blessed=blessed)
    if kept_outcome is not None:
        write_json(run, "outcome.json", kept_outcome)
    found = summary_of(run)
    assert (found.status, found.stage) == (status, stage)
    assert found.line.startswith(line)


def test_nights_are_listed_newest_first_and_of_a_date_the_last_one_first(tmp_path):
    write_night(tmp_path, run_id="r0", date=DAY - ONE_DAY)
    failed = write_night(tmp_path, run_id="r1", until="plan")
    write_json(failed, "outcome.json", outcome())
    write_night(tmp_path, run_id="r2")
    nights = list_nights(str(tmp_path / "natality"))
    assert [(night.run_id, night.status) for night in nights] == [
        ("r1", "failed"),  # in the year 2030
        ("r2", "published"),
        ("r0", "published"),
    ]
    assert [night.run_id for night in list_nights(str(tmp_path / "natality"), 2)] == ["r1", "r2"]


def test_what_the_monitor_kept_outlives_the_files_of_an_expired_night(tmp_path):
    run = write_night(tmp_path)
    before = summary_of(run)
    run.write_marker(MARKERS["monitor"], {"night": before.to_json(), "report": None}, {}, 1.0)
    for name in ("published.json", "manifest.json"):
        pathlib.Path(run.path, name).unlink()
    assert list_nights(str(tmp_path / "natality")) == [before]


def test_a_folder_without_nights_has_none(tmp_path):
    assert list_nights(str(tmp_path / "nowhere")) == []
    (tmp_path / "natality" / "2024-01-01" / "r1").mkdir(parents=True)
    (tmp_path / "natality" / "2024-01-01" / "r1" / "log.txt").write_text("it began")
    assert list_nights(str(tmp_path / "natality")) == []


def test_runs_are_those_on_record_and_those_that_came_to_nothing(tmp_path, capsys):
    job = make_job(tmp_path)
    write_night(tmp_path, run_id="r0", date=DAY - ONE_DAY)
    write_night(tmp_path)
    failed = write_night(tmp_path, run_id="r2", date=DAY + ONE_DAY, until="plan")
    write_json(failed, "outcome.json", outcome(line="the disk is full"))
    runs = list_runs(job, DuckDBWarehouse(str(tmp_path / "natality" / "natality.duckdb")))
    assert [(run["run_id"], run["status"], run["rows"], run["seconds"]) for run in runs] == [
        ("r2", "failed", None, 10.25),
        ("r1", "current", 24, 11.0),
        ("r0", "kept", 24, 11.0),
    ]
    print_runs(job, runs)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == [str(DAY + ONE_DAY), "r2", "failed", "10.2", "s", "0.75", "150%", "of", "its", "threshold", "m1", "the", "disk", "is", "full"]  # fmt: skip
    assert lines[2][:6] == ["*", str(DAY), "r1", "current", "24", "11.0"]
    assert "the disk is full" not in " ".join(lines[2])
    assert lines[-5] == ["since", str(DAY - ONE_DAY), "least", "greatest"]
    assert lines[-4] == ["rows", "▄▄·", "24", "24"]
    assert lines[-3] == ["time", "██▁", "10.2", "s", "11.0", "s"]
