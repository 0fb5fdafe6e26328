"""The DuckDB warehouse: what readers see at every moment, whatever they hold open and whenever the night is killed."""

import dataclasses
import datetime
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import duckdb
import pytest
from nights import AXES, COLUMNS, DAY, make_night, points, prediction, publish

from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from configs.errors import ForetableError, JobError, RefusedError
from transforms.scoring.shards import TableColumn

ONE_DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def processes():
    """Starts processes in milliseconds, because they inherit the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nights", "beam_jobs.warehouses.duckdb.warehouse"])
    with pytest.MonkeyPatch.context() as patch:  # the fork server's imports do not see this process's sys.path
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@pytest.fixture
def warehouse(tmp_path):
    return DuckDBWarehouse(str(tmp_path / "natality" / "natality.duckdb"))


def read(path, sql):
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def table_of(night_value=0.0, axes=AXES):
    """Rows that `make_night` publishes."""
    return [(*point.values(), prediction(i, night_value)) for i, point in enumerate(points(axes))]


def nights(tmp_path, count, **settings):
    return [
        make_night(tmp_path, run_date=DAY + i * ONE_DAY, run_id=f"r{i}", night_value=i, **settings)
        for i in range(count)
    ]


def test_a_published_night_is_a_view_with_the_shards_rows_in_order(tmp_path, warehouse):
    record = publish(warehouse, make_night(tmp_path))
    assert read(warehouse.location, "FROM natality_predictions") == table_of()
    assert read(warehouse.location, "FROM natality_20240101_a1") == table_of()
    types = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'natality_predictions'"
    assert read(warehouse.location, types) == [
        ("sex", "VARCHAR"),
        ("weeks", "DOUBLE"),
        ("children", "BIGINT"),
        ("weight", "FLOAT"),
    ]
    assert (record.status, record.rows, record.table) == ("current", 24, "natality_20240101_a1")
    assert warehouse.current("natality") == record


def test_tables_and_columns_say_what_they_are(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path, description="Analyst's weight"))
    views = dict(read(warehouse.location, "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"))
    assert views == {
        "natality_20240101_a1": "Analyst's weight (Night of 2024-01-01, run a1, model model-a1)",
        "natality_predictions": "Analyst's weight (Night of 2024-01-01, run a1, model model-a1)",
        "natality_history": "The nights of natality that are kept, one run for each date",
        "natality_changes": "Nothing: there is no night to compare that of 2024-01-01 with",
    }
    columns = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'natality_predictions'"
    assert read(warehouse.location, columns) == [
        ("sex", "Sex of the child"),
        ("weeks", "Weeks of gestation"),
        ("children", None),
        ("weight", "Predicted: weight"),
    ]


def test_runs_and_history_keep_the_nights(tmp_path, warehouse):
    for night in nights(tmp_path, 3, metrics={"mae": 0.75, "r2": float("nan")}):
        publish(warehouse, night)
    runs = "SELECT run_date, run_id, status, rows, model_version, table_name, metrics, accepted FROM natality_runs"
    assert read(warehouse.location, runs) == [
        (
            DAY + i * ONE_DAY,
            f"r{i}",
            "current" if i == 2 else "kept",
            24,
            f"model-r{i}",
            f"natality_2024010{i + 1}_r{i}",
            {"mae": 0.75, "r2": None},
            {},
        )
        for i in (2, 1, 0)
    ]
    history = "SELECT * FROM natality_history WHERE sex = 'True' AND weeks = 38 AND children = 1 ORDER BY run_date"
    assert read(warehouse.location, history) == [
        (DAY + i * ONE_DAY, f"r{i}", "True", 38.0, 1, prediction(0, i)) for i in range(3)
    ]
    assert [record.run_id for record in warehouse.runs("natality")] == ["r2", "r1", "r0"]


def test_history_has_one_run_for_each_date_and_columns_of_all_nights(tmp_path, warehouse):
    first, second = (make_night(tmp_path, run_id=run_id, night_value=i) for i, run_id in enumerate(["a", "b"]))
    grams = (*COLUMNS[:-1], TableColumn("grams", "float", "output"))
    third = make_night(tmp_path, run_date=DAY + ONE_DAY, columns=grams, accepted={"schema": "grams from now on"})
    for night in (first, second, third):
        publish(warehouse, night)
    where = "WHERE sex = 'True' AND weeks = 38 AND children = 1 ORDER BY run_date"
    assert read(warehouse.location, f"SELECT run_date, run_id, weight, grams FROM natality_history {where}") == [
        (DAY, "b", prediction(0, 1), None),
        (DAY + ONE_DAY, "a1", None, prediction(0)),
    ]
    assert read(warehouse.location, "SELECT accepted FROM natality_runs LIMIT 1") == [
        ({"schema": "grams from now on"},)
    ]


def test_the_same_night_again_changes_nothing(tmp_path, warehouse):
    night = make_night(tmp_path)
    first = publish(warehouse, night)
    link = os.readlink(warehouse.location)
    assert publish(warehouse, night) == first
    assert os.readlink(warehouse.location) == link


def test_a_changed_schema_is_judged_alike_on_a_second_try(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path))
    grams = (*COLUMNS[:-1], TableColumn("grams", "float", "output"))
    night = make_night(tmp_path, run_date=DAY + ONE_DAY, columns=grams)
    with pytest.raises(RefusedError, match="check 'schema' failed: column 'weight' is gone"):
        publish(warehouse, night)
    assert read(warehouse.location, "FROM natality_predictions") == table_of()
    accepting = dataclasses.replace(night, accepted={"schema": "grams from now on"})
    publish(warehouse, accepting)
    assert warehouse.verify(accepting).checks[-1].accepted == "grams from now on"


def test_a_night_that_comes_late_does_not_hide_a_newer_one(tmp_path, warehouse):
    early, newer = nights(tmp_path, 2)
    publish(warehouse, newer)
    record = publish(warehouse, early)
    assert record.status == "kept"
    assert publish(warehouse, early) == record
    assert read(warehouse.location, "FROM natality_predictions") == table_of(1)
    assert read(warehouse.location, "SELECT DISTINCT run_id FROM natality_history ORDER BY 1") == [("r0",), ("r1",)]


def test_rollback_and_forward_again(tmp_path, warehouse):
    first, second = nights(tmp_path, 2)
    publish(warehouse, first)
    publish(warehouse, second)
    assert warehouse.rollback("natality", DAY).run_id == "r0"
    assert read(warehouse.location, "FROM natality_predictions") == table_of(0)
    assert [(r.run_id, r.status) for r in warehouse.runs("natality")] == [("r1", "kept"), ("r0", "current")]
    publish(warehouse, second)
    assert read(warehouse.location, "FROM natality_predictions") == table_of(1)


def test_rollback_to_a_night_that_is_not_kept_says_which_are(tmp_path, warehouse):
    for night in nights(tmp_path, 2):
        publish(warehouse, night)
    with pytest.raises(RefusedError, match="no night of 2023-12-31 is kept; kept: 2024-01-01, 2024-01-02"):
        warehouse.rollback("natality", DAY - ONE_DAY)
    with pytest.raises(RefusedError, match="other: no night of 2024-01-01 is kept; kept: none"):
        warehouse.rollback("other", DAY)


def test_retention_deletes_old_nights_but_never_the_current_one(tmp_path, warehouse):
    kept = nights(tmp_path, 4)
    for night in kept:
        publish(warehouse, night)
    warehouse.rollback("natality", DAY)
    pathlib.Path(kept[1].run_dir, "predictions", "notes.txt").write_text("somebody's")
    expired = warehouse.expire("natality", DAY + 4 * ONE_DAY, retention_days=2)
    assert [record.run_id for record in expired] == ["r2", "r1"]
    assert [(r.run_id, r.status) for r in warehouse.runs("natality")] == [
        ("r3", "kept"),
        ("r2", "expired"),
        ("r1", "expired"),
        ("r0", "current"),
    ]
    files = [sorted(path.name for path in pathlib.Path(night.run_dir).rglob("*.*")) for night in kept]
    whole = ["00-sex.parquet", "01-weeks.parquet", "02-children.parquet", "manifest.json"]
    shards = [f"part-0000{i}-of-00003.parquet" for i in range(3)]
    assert files == [whole + shards, [*whole[:3], "notes.txt"], whole[:3], whole + shards]
    assert not pathlib.Path(kept[2].run_dir, "predictions").exists()
    assert read(warehouse.location, "FROM natality_predictions") == table_of(0)
    with pytest.raises(RefusedError, match="kept: 2024-01-01, 2024-01-04"):
        warehouse.rollback("natality", DAY + ONE_DAY)
    assert warehouse.expire("natality", DAY + 4 * ONE_DAY, retention_days=2) == ()


def test_retention_leaves_the_night_that_readers_saw_before(tmp_path, warehouse):
    """However short it is: the changes are told against that night, and a rollback goes back to it."""
    tables = []
    for day in range(3):
        compared_with = tables[-1] if tables else None
        night = make_night(
            tmp_path, run_date=DAY + day * ONE_DAY, run_id=f"r{day}", night_value=day, compared_with=compared_with
        )
        publish(warehouse, night)
        tables.append(night.table)
        warehouse.expire("natality", night.run_date, retention_days=1)
    assert [(r.run_id, r.status) for r in warehouse.runs("natality")] == [
        ("r2", "current"),
        ("r1", "kept"),
        ("r0", "expired"),
    ]
    changes = "SELECT count(*) FROM natality_changes WHERE change_kind = 'changed'"
    assert read(warehouse.location, changes) == [(24,)]
    warehouse.rollback("natality", DAY + ONE_DAY)
    assert read(warehouse.location, "FROM natality_predictions") == table_of(1)


def test_retention_of_nothing_makes_no_catalog(warehouse):
    assert warehouse.expire("natality", DAY, retention_days=1) == ()
    assert not os.path.lexists(warehouse.location)
    assert warehouse.current("natality") is None


def test_two_jobs_share_a_catalog(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path))
    publish(warehouse, make_night(tmp_path, job="taxi", night_value=5))
    assert read(warehouse.location, "FROM natality_predictions") == table_of()
    assert read(warehouse.location, "FROM taxi_predictions") == table_of(5)
    assert [record.job for record in warehouse.runs("taxi")] == ["taxi"]
    assert warehouse.expire("taxi", DAY + 99 * ONE_DAY, retention_days=1) == ()


def test_one_jobs_lost_files_do_not_stop_another(tmp_path, warehouse):
    lost = make_night(tmp_path, job="taxi")
    publish(warehouse, lost)
    pathlib.Path(lost.run_dir, "predictions", "part-00001-of-00003.parquet").unlink()
    publish(warehouse, make_night(tmp_path))
    assert read(warehouse.location, "FROM natality_predictions") == table_of()
    assert [record.status for record in warehouse.runs("taxi")] == ["lost"]
    assert warehouse.query("SELECT status FROM taxi_runs").to_pylist() == [{"status": "lost"}]


def publish_in_child(location, night):
    publish(DuckDBWarehouse(location), night)


def test_jobs_that_publish_at_once_lose_nothing(tmp_path, warehouse, processes):
    jobs = [f"job_{i}" for i in range(6)]
    arguments = [(warehouse.location, make_night(tmp_path, job=job, night_value=i)) for i, job in enumerate(jobs)]
    children = [processes.Process(target=publish_in_child, args=arguments_of_one) for arguments_of_one in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 6
    for i, job in enumerate(jobs):
        assert read(warehouse.location, f"FROM {job}_predictions") == table_of(i)


ANALYST = """
    import duckdb, sys
    connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read-only")
    if sys.argv[2] == "writing":
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x")
    print(connection.execute("SELECT max(weight) FROM natality_predictions").fetchone()[0], flush=True)
    sys.stdin.readline()
    if sys.argv[2] != "read-only":
        connection.execute("CREATE OR REPLACE TABLE mine AS SELECT 2 AS x")
    print(connection.execute("SELECT max(weight) FROM natality_predictions").fetchone()[0], flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["read-only", "read-write", "writing"])
def test_an_analysts_open_connection_neither_blocks_nor_breaks(tmp_path, warehouse, mode):
    first, second, third = nights(tmp_path, 3)
    publish(warehouse, first)
    command = [sys.executable, "-c", textwrap.dedent(ANALYST), warehouse.location, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as analyst:
        highest = max(row[-1] for row in table_of(0))
        assert float(analyst.stdout.readline()) == highest
        publish(warehouse, second)
        assert read(warehouse.location, "FROM natality_predictions") == table_of(1)
        assert warehouse.query("SELECT count(*) AS n FROM natality_predictions").to_pylist() == [{"n": 24}]
        analyst.stdin.write("\n")
        analyst.stdin.flush()
        assert float(analyst.stdout.readline()) == highest  # nothing changes under an open connection
        publish(warehouse, third)
        assert read(warehouse.location, "FROM natality_predictions") == table_of(2)
        analyst.stdin.write("\n")
        analyst.stdin.flush()
        assert analyst.wait(20) == 0
    warehouse.rollback("natality", DAY)
    warehouse.rollback("natality", DAY + ONE_DAY)
    assert read(warehouse.location, "FROM natality_predictions") == table_of(1)
    # What no connection holds any more is gone, but for the version before this one.
    assert len(list(pathlib.Path(f"{warehouse.location}.versions").glob("*.duckdb"))) == 2


def test_an_analyst_who_writes_right_now_does_not_stop_our_queries(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path))
    command = [sys.executable, "-c", textwrap.dedent(ANALYST), warehouse.location, "writing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as analyst:
        analyst.stdout.readline()
        with pytest.raises(duckdb.IOException):
            read(warehouse.location, "FROM natality_predictions")
        assert warehouse.query("FROM natality_predictions").num_rows == 24
        analyst.kill()


def die_at(location, night, folder, step, today):
    """Publishes and expires in this process, which kills itself at its n-th change of a file."""
    steps = 0

    def count(event, arguments):
        nonlocal steps
        changes = event in ("os.rename", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock")
        changes |= event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wa"
        if changes and (event == "fcntl.flock" or folder in str(arguments)):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    warehouse = DuckDBWarehouse(location)
    publish(warehouse, night)
    warehouse.expire(night.job, today, retention_days=2)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)], ids=["some steps", "all steps"])
def test_killed_at_any_step_readers_see_a_whole_night_and_a_rerun_completes(tmp_path, processes, every):
    for kills in itertools.count():
        step = kills * every + 1
        folder = tmp_path / f"kill-{kills}"
        warehouse = DuckDBWarehouse(str(folder / "natality.duckdb"))
        oldest, old, new = nights(folder, 3)
        publish(warehouse, oldest)
        publish(warehouse, old)
        today = DAY + 2 * ONE_DAY
        child = processes.Process(target=die_at, args=(warehouse.location, new, str(folder), step, today))
        child.start()
        child.join(60)
        rows = read(warehouse.location, "FROM natality_predictions")
        assert rows in (table_of(1), table_of(2)), f"after a kill at step {step}"
        for record in warehouse.runs("natality"):  # whatever the catalog still shows can be read
            if record.status in ("current", "kept"):
                assert read(warehouse.location, f"SELECT count(*) FROM {record.table}") == [(24,)]
        publish(warehouse, new)
        warehouse.expire("natality", today, retention_days=2)
        assert read(warehouse.location, "FROM natality_predictions") == table_of(2)
        assert [(r.run_id, r.status) for r in warehouse.runs("natality")] == [
            ("r2", "current"),
            ("r1", "kept"),
            ("r0", "expired"),
        ]
        assert not pathlib.Path(oldest.run_dir, "predictions").exists()
        assert not list(folder.rglob("*.building*"))
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert kills * every >= 15


def publish_and_roll_back(location, first, second, times):
    warehouse = DuckDBWarehouse(location)
    for _ in range(times):
        publish(warehouse, second)
        warehouse.rollback(first.job, first.run_date)


def test_readers_never_see_a_mixed_or_missing_night(tmp_path, warehouse, processes):
    first, second = nights(tmp_path, 2)
    publish(warehouse, first)
    child = processes.Process(target=publish_and_roll_back, args=(warehouse.location, first, second, 15))
    child.start()
    seen = {0: 0, 1: 0}
    while child.is_alive():
        rows = read(warehouse.location, "FROM natality_predictions")
        assert rows in (table_of(0), table_of(1))
        seen[int(rows == table_of(1))] += 1
    assert child.exitcode == 0
    assert all(seen.values()), seen


def test_a_file_that_is_no_catalog_of_ours_is_left_alone(tmp_path, warehouse):
    pathlib.Path(warehouse.location).parent.mkdir()
    with duckdb.connect(warehouse.location) as connection:
        connection.execute("CREATE TABLE precious AS SELECT 1 AS x")
    with pytest.raises(
        RefusedError, match=r"natality\.duckdb is there and is no catalog of foretable's; move it, or set"
    ):
        publish(warehouse, make_night(tmp_path))
    assert read(warehouse.location, "FROM precious") == [(1,)]


def test_another_versions_catalog_is_refused(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path))
    (state,) = pathlib.Path(f"{warehouse.location}.versions").glob("*.json")
    state.write_text(json.dumps({"format": 99}))
    with pytest.raises(RefusedError, match="format 99, this version of foretable reads 1"):
        warehouse.current("natality")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    warehouse = DuckDBWarehouse(str(tmp_path / "file" / "natality.duckdb"))
    with pytest.raises(ForetableError, match=r"file/natality\.duckdb"):
        publish(warehouse, make_night(tmp_path))


def test_paths_need_no_taming(tmp_path):
    folder = tmp_path / "it's a=b" / "ü space"
    warehouse = DuckDBWarehouse(str(folder / "the catalog.duckdb"))
    publish(warehouse, make_night(folder))
    assert read(warehouse.location, "FROM natality_predictions") == table_of()


def test_a_relative_path_holds_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warehouse = DuckDBWarehouse("natality.duckdb")
    publish(warehouse, make_night("workspace"))
    monkeypatch.chdir("/")
    assert read(tmp_path / "natality.duckdb", "FROM natality_predictions") == table_of()


def test_a_catalog_behind_a_url_is_a_mistake_in_the_job():
    with pytest.raises(JobError, match=r"warehouse\.path: 'gs://bucket/x\.duckdb': expected a local path"):
        DuckDBWarehouse("gs://bucket/x.duckdb")


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT max(children) AS n FROM natality_predictions", [{"n": 2}]),
        ("WITH t AS (FROM natality_runs) SELECT rows FROM t;", [{"rows": 24}]),
        ("FROM natality_history SELECT DISTINCT run_id", [{"run_id": "a1"}]),
    ],
)
def test_queries_are_answered(tmp_path, warehouse, sql, rows):
    publish(warehouse, make_night(tmp_path))
    assert warehouse.query(sql).to_pylist() == rows
    assert warehouse.query(f"EXPLAIN ANALYZE {sql}").num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW natality_predictions",
        "DELETE FROM natality_runs",
        "COPY natality_predictions TO 'out.csv'",
        "EXPLAIN ANALYZE COPY natality_predictions TO 'out.csv'",
        "SELECT 1; DROP TABLE natality_runs",
        "ATTACH 'other.duckdb'",
        "",
    ],
)
def test_a_statement_that_would_write_is_refused(tmp_path, warehouse, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    publish(warehouse, make_night(tmp_path))
    with pytest.raises(JobError, match="expected one SELECT: the warehouse is read-only here"):
        warehouse.query(sql)
    assert not (tmp_path / "out.csv").exists()


def test_a_wrong_query_is_one_line(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path))
    with pytest.raises(JobError) as wrong:
        warehouse.query("SELECT wieght FROM natality_predictions")
    assert "weight" in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_an_export_stands_alone(tmp_path, warehouse):
    first, second = nights(tmp_path, 2)
    publish(warehouse, first)
    publish(warehouse, second)
    target = tmp_path / "handed on.duckdb"
    assert warehouse.export("natality", str(target)) == 24
    for path in tmp_path.rglob("part-*.parquet"):
        path.unlink()
    assert read(target, "FROM natality_predictions") == table_of(1)
    assert read(target, "SELECT run_id, status FROM natality_runs") == [("r1", "current"), ("r0", "kept")]
    comments = (
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'natality_predictions' AND column_name = 'weeks'"
    )
    assert read(target, comments) == [("Weeks of gestation",)]
    assert sorted(path.name for path in tmp_path.glob("handed*")) == ["handed on.duckdb"]


def test_an_export_replaces_only_when_told_and_never_the_catalog(tmp_path, warehouse):
    with pytest.raises(RefusedError, match="nothing of natality is published yet"):
        warehouse.export("natality", str(tmp_path / "out.duckdb"))
    publish(warehouse, make_night(tmp_path))
    target = tmp_path / "out.duckdb"
    target.write_text("precious")
    with pytest.raises(RefusedError, match=r"out\.duckdb: is there already; add --force to replace it"):
        warehouse.export("natality", str(target))
    assert target.read_text() == "precious"
    assert warehouse.export("natality", str(target), force=True) == 24
    assert read(target, "FROM natality_predictions") == table_of()
    with pytest.raises(RefusedError, match="is the catalog itself"):
        warehouse.export("natality", warehouse.location, force=True)
    with pytest.raises(ForetableError, match="cannot write the export"):
        warehouse.export("natality", str(tmp_path / "no" / "folder" / "out.duckdb"))


def test_row_finds_exactly_the_key(tmp_path, warehouse):
    record = publish(warehouse, make_night(tmp_path))
    for position, point in enumerate(points(AXES)):
        assert warehouse.row(record, point, position) == {**point, "weight": prediction(position)}
    assert warehouse.row(record, {"sex": "True", "weeks": 99.0, "children": 1}, 0) is None
    assert warehouse.row(record, {"sex": "True", "weeks": 38.0, "children": 1}, 10_000) is None
