"""The night end to end, by the command line: what is published is what the model says, and reruns do nothing twice."""

import itertools
import json
import os
import pathlib
import re

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import FIRST_DATE, SECOND_DATE, SMALL, Workspace

STAGES = ("prepare", "train", "evaluate", "plan", "precompute", "publish", "monitor")


def catalog(workspace):
    return str(workspace.folder / "natality" / "natality.duckdb")


def rows(workspace, sql):
    with duckdb.connect(catalog(workspace), read_only=True) as connection:
        return connection.sql(sql).fetchall()


def test_every_stage_says_one_line(published):
    assert re.findall(r"^(\w+) +\d+\.\d s  ", published.first.err, re.MULTILINE) == list(STAGES)
    assert published.first.out == ""


def test_the_table_equals_the_serving_signature_bit_for_bit(published):
    """The same rows, asked of the exported model directly, a block at a time."""
    import tensorflow as tf

    run_path = published.run_path()
    serving = tf.saved_model.load(str(run_path / "model")).signatures["serving_default"]
    compared = 0
    for shard in sorted((run_path / "predictions").glob("part-*.parquet")):
        parquet = pq.ParquetFile(shard)
        for group in range(parquet.num_row_groups):
            block = parquet.read_row_group(group)
            inputs = {}
            for name in ("is_male", "plurality"):
                inputs[name] = tf.constant([value or "" for value in block[name].to_pylist()])
            for name in ("mother_age", "gestation_weeks"):
                values = block[name].to_numpy().astype(np.float32)
                inputs[name] = tf.constant(values)
            expected = serving(**inputs)["weight_pounds"].numpy()
            np.testing.assert_array_equal(block["weight_pounds"].to_numpy(), expected)
            compared += block.num_rows
    assert compared == rows(published, "SELECT count(*) FROM natality_predictions")[0][0]


def test_every_point_is_in_the_table_once(published):
    examples = [pq.read_table(path) for path in (published.run_path() / "examples").glob("train-*.parquet")]
    space = [
        ["(other)", "False", "True", "Unknown"],
        [12 + step / 2 for step in range(87)] + [None],
        ["(other)", *{value for table in examples for value in table["plurality"].to_pylist()}],
        [17 + step / 4 for step in range(121)] + [None],
    ]
    several = ("Twins(2)", "Triplets(3)", "Quadruplets(4)")
    expected = [p for p in itertools.product(*space) if not (p[0] == "Unknown" and p[2] in several)]
    found = rows(published, "SELECT is_male, mother_age, plurality, gestation_weeks FROM natality_predictions")
    assert len(found) == len(expected)
    assert set(found) == set(expected)


def test_the_second_night_scores_with_the_first_ones_model(published):
    assert "no training is due: scoring with model" in published.second.err
    first, second = published.run_path(FIRST_DATE), published.run_path(SECOND_DATE)
    blessing = json.loads((second / "blessing.json").read_text())
    assert blessing["baseline_note"] == "the same model, published for 2026-01-05"
    assert not (second / "model").exists()
    assert json.loads((second / "training.json").read_text())["trained_in"] == str(first)
    for shard in (first / "predictions").glob("part-*.parquet"):
        assert (second / "predictions" / shard.name).read_bytes() == shard.read_bytes()


def test_a_rerun_does_nothing_twice(published):
    run_path = published.run_path(SECOND_DATE)
    before = {
        path: path.stat().st_mtime_ns for path in run_path.rglob("*") if path.is_file() and path.name != "log.txt"
    }
    again = published.run("run", "--date", str(SECOND_DATE))
    assert [line.split()[0] for line in again.err.splitlines()[1:]] == list(STAGES)
    assert all("done before" in line for line in again.err.splitlines()[1:])
    after = {path: path.stat().st_mtime_ns for path in run_path.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert after == before


def test_noise_goes_to_the_log(published):
    assert (published.run_path() / "log.txt").stat().st_size > 0
    for word in ("WARNING", "tensorflow", "apache_beam", "I0000"):
        assert word not in published.first.err


def test_runs_and_status_tell_what_is_published(published):
    runs = published.json("runs")["runs"]
    assert [(run["run_date"], run["status"]) for run in runs] == [("2026-01-06", "current"), ("2026-01-05", "kept")]
    status = published.json("status")
    assert status["published"]["run_date"] == "2026-01-06"
    assert [night["finished"] for night in status["nights"]] == [list(STAGES)] * 2


def test_lookup_answers_a_hit_from_the_table(published):
    key = ["is_male=True", "mother_age=29", "plurality=Single(1)", "gestation_weeks=39"]
    answer = published.json("lookup", *key)
    where = "is_male = 'True' AND mother_age = 29 AND plurality = 'Single(1)' AND gestation_weeks = 39"
    ((weight,),) = rows(published, f"SELECT weight_pounds FROM natality_predictions WHERE {where}")
    assert answer["hit"]
    assert answer["row"]["weight_pounds"] == weight


def test_lookup_names_the_feature_and_its_nearest_values_on_a_miss(published):
    key = ["is_male=True", "mother_age=29.1", "plurality=Single(1)", "gestation_weeks=39"]
    miss = published.run("lookup", *key, code=4)
    assert "mother_age" in miss.err
    assert "nearest: 29, 29.5" in miss.err
    assert miss.out == ""


def test_query_is_read_only(published):
    assert published.json("query", "SELECT count(*) AS n FROM natality_runs")["rows"] == [{"n": 2}]
    refused = published.run("query", "DROP VIEW natality_predictions", code=2)
    assert len(refused.err.splitlines()) == 1


def test_skew_finds_none(published):
    report = published.json("skew", "--date", str(FIRST_DATE), "--rows", "500")
    assert report["rows"] == 500
    assert set(report["mismatches"].values()) == {0}
    assert "mother_age_z_score" in report["mismatches"]


def test_plan_prints_axes_and_totals(published):
    plan = published.json("plan", "--date", str(FIRST_DATE))
    sizes = {axis["name"]: axis["rows"] for axis in plan["axes"]}
    assert (sizes["is_male"], sizes["mother_age"], sizes["gestation_weeks"]) == (4, 88, 122)
    assert plan["cardinality"] == 4 * 88 * sizes["plurality"] * 122
    assert plan["rows"] == rows(published, "SELECT count(*) FROM natality_predictions")[0][0]
    assert plan["bytes"] > 0


def test_export_is_self_contained(published, tmp_path):
    target = tmp_path / "handed_on.duckdb"
    published.run("export", "--to", str(target))
    with duckdb.connect(str(target), read_only=True) as connection:
        ((count,),) = connection.sql("SELECT count(*) FROM natality_predictions").fetchall()
        ((tables,),) = connection.sql("SELECT count(*) FROM duckdb_views() WHERE sql LIKE '%parquet%'").fetchall()
    assert count == rows(published, "SELECT count(*) FROM natality_predictions")[0][0]
    assert tables == 0


def test_a_night_that_is_not_blessed_publishes_nothing(published):
    strict = Workspace(published.folder, *SMALL, "evaluation.thresholds=[{metric: mae, upper_bound: 0.01}]")
    before = rows(published, "SELECT run_id FROM natality_runs WHERE status = 'current'")
    refused = strict.run("run", "--date", "2026-01-07", code=3)
    assert "is not blessed: mae is" in refused.err
    assert rows(published, "SELECT run_id FROM natality_runs WHERE status = 'current'") == before
    assert not list(strict.run_path("2026-01-07").glob("plan.json"))
    again = strict.run("precompute", "--date", "2026-01-07", code=3)
    assert "is not blessed: mae is" in again.err


def test_a_stage_whose_input_is_missing_names_the_command(published):
    refused = published.run("evaluate", "--date", "2026-02-01", code=3)
    assert "foretable prepare" in refused.err
    assert "--date 2026-02-01` first" in refused.err


def test_two_runs_at_once_one_refuses(published):
    first = published.start("run", "--date", "2026-01-08")
    lock = published.folder / "natality" / "2026-01-08" / ".lock"
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None
    second = published.run("run", "--date", "2026-01-08", code=3)
    assert "natality for 2026-01-08 is running already" in second.err
    first.communicate()
    assert first.returncode == 0


def test_a_workspace_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    failed = Workspace(tmp_path / "file", *SMALL).run("run", code=5)
    assert len(failed.err.splitlines()) == 1
    assert failed.err.startswith("error: cannot write ")


@pytest.mark.parametrize("arguments", [("--help",), ("validate", "nowhere.yaml")], ids=str)
def test_help_and_config_errors_import_no_tensorflow(arguments):
    """Held by what is imported, not by a clock."""
    import subprocess
    import sys

    script = (
        "import sys, runpy\n"
        f"sys.argv = ['foretable', *{arguments!r}]\n"
        "try:\n    runpy.run_module('beam_jobs', run_name='__main__')\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('tensorflow', 'apache_beam', 'pyarrow', 'duckdb') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_rollback_shows_the_earlier_night_again(published):
    """Last, because it changes what the others look at."""
    published.run("rollback", "--to", str(FIRST_DATE))
    assert published.json("status")["published"]["run_date"] == str(FIRST_DATE)
    published.run("rollback", "--to", str(SECOND_DATE))
    refused = published.run("rollback", "--to", "2020-01-01", code=3)
    assert "2026-01-05" in refused.err
    assert os.path.lexists(catalog(published))
    assert pathlib.Path(catalog(published)).stat().st_size > 0
