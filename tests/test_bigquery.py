"""The BigQuery warehouse against a real server: exact rows, repeated and interrupted steps, retention, rollback.

The server is a twin. What it does not show is said where it matters: it keeps expiries, labels and clustering, and an
expired table is gone for it at once; it does not refuse to cluster by a FLOAT64, bills nothing, and denies nothing.
"""

import dataclasses
import datetime
import functools

import duckdb
import pytest
from bigquery_reader import Reader, move_to_storage
from nights import AXES, COLUMNS, DAY, make_night, points, prediction, publish

from beam_jobs.warehouses.bigquery import nights as bigquery_nights
from beam_jobs.warehouses.bigquery.nights import Nights
from beam_jobs.workspace import storage
from configs.errors import JobError, RefusedError
from transforms.scoring.shards import TableColumn

ONE_DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
HERE = "sex = 'True' AND weeks = 38 AND children = 1"


@pytest.fixture
def reader(cloud):
    return Reader(cloud)


@pytest.fixture
def in_storage(cloud):
    """Moves a night's run directory to Cloud Storage."""
    return functools.partial(move_to_storage, cloud)


def table_of(night_value=0.0, axes=AXES):
    """Rows that `make_night` publishes, in order."""
    rows = [(*point.values(), prediction(i, night_value)) for i, point in enumerate(points(axes))]
    return sorted(rows, key=repr)


def nights(tmp_path, count, **settings):
    return [
        make_night(tmp_path, run_date=DAY + i * ONE_DAY, run_id=f"r{i}", night_value=i, **settings)
        for i in range(count)
    ]


@pytest.mark.parametrize("place", ["local", "gs"])
def test_a_published_night_is_a_view_with_the_shards_rows(tmp_path, reader, in_storage, place):
    night = make_night(tmp_path)
    night = in_storage(night) if place == "gs" else night
    record = publish(reader.warehouse, night)
    assert reader.rows() == reader.rows("natality_20240101_a1") == table_of()
    types = "SELECT column_name, data_type FROM INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'natality_predictions'"
    assert reader.read(f"{types} ORDER BY ordinal_position") == [
        ("sex", "STRING"),
        ("weeks", "FLOAT64"),
        ("children", "INT64"),
        ("weight", "FLOAT64"),
    ]
    assert (record.status, record.rows, record.table) == ("current", 24, "natality_20240101_a1")
    assert reader.warehouse.current("natality") == record
    jobs = [job.job_id for job in reader.client.list_jobs() if job.job_id.startswith("foretable_a1_load")]
    shards = ["_part00000", "_part00001", "_part00002"]
    assert {f"foretable_a1_load{end}" for end in ([""] if place == "gs" else shards)} <= set(jobs)


def test_tables_and_columns_say_what_they_are(tmp_path, cloud):
    reader = Reader(cloud, labels={"team": "births"})
    labels = {"run_id": "a1", "model_version": "Model/a1"}
    publish(reader.warehouse, make_night(tmp_path, description='An "analyst\'s" weight\n', labels=labels))
    about = 'An "analyst\'s" weight (Night of 2024-01-01, run a1, model model-a1)'
    for name in ("natality_20240101_a1", "natality_predictions"):
        table = reader.table(name)
        assert table.description == about
        assert [(field.name, field.description) for field in table.schema] == [
            ("sex", "Sex of the child"),
            ("weeks", "Weeks of gestation"),
            ("children", None),
            ("weight", "Predicted: weight"),
        ]
        assert table.labels["team"] == "births"
        assert table.labels["run_id"] == "a1"
        assert table.labels["foretable_job"] == "natality"
    assert reader.table("natality_20240101_a1").labels["model_version"] == "model-a1"
    # Not by weeks: BigQuery cannot cluster by a FLOAT64.
    assert reader.table("natality_20240101_a1").clustering_fields == ["sex", "children"]
    assert reader.table("natality_history").description == "The nights of natality that are kept, one run for each date"
    assert reader.table("natality_runs").description == "Every published night of natality"


@pytest.mark.slow
def test_runs_and_history_keep_the_nights(tmp_path, reader):
    for night in nights(tmp_path, 3, metrics={"mae": 0.75, "r2": float("nan")}):
        publish(reader.warehouse, night)
    runs = "SELECT run_date, run_id, status, `rows`, model_version, table_name, metrics, accepted FROM natality_runs"
    assert reader.read(f"{runs} ORDER BY run_date DESC") == [
        (
            DAY + i * ONE_DAY,
            f"r{i}",
            "current" if i == 2 else "kept",
            24,
            f"model-r{i}",
            f"natality_2024010{i + 1}_r{i}",
            [{"name": "mae", "value": 0.75}, {"name": "r2", "value": None}],
            [],
        )
        for i in (2, 1, 0)
    ]
    assert reader.read(f"SELECT * FROM natality_history WHERE {HERE} ORDER BY run_date") == [
        (DAY + i * ONE_DAY, f"r{i}", "True", 38.0, 1, prediction(0, i)) for i in range(3)
    ]
    assert [record.run_id for record in reader.warehouse.runs("natality")] == ["r2", "r1", "r0"]


@pytest.mark.slow
def test_history_has_one_run_for_each_date_and_columns_of_all_nights(tmp_path, reader):
    first, second = (make_night(tmp_path, run_id=run_id, night_value=i) for i, run_id in enumerate(["a", "b"]))
    grams = (*COLUMNS[:-1], TableColumn("grams", "float", "output"))
    third = make_night(tmp_path, run_date=DAY + ONE_DAY, columns=grams, accepted={"schema": "grams from now on"})
    whole = (*COLUMNS[:-1], TableColumn("grams", "int", "output"))
    fourth = make_night(
        tmp_path, run_date=DAY + 2 * ONE_DAY, columns=whole, rewrite=whole_numbers, accepted={"schema": "x"}
    )
    for night in (first, second, third, fourth):
        publish(reader.warehouse, night)
    sql = f"SELECT run_date, run_id, weight, grams FROM natality_history WHERE {HERE} ORDER BY run_date"
    assert reader.read(sql) == [
        (DAY, "b", prediction(0, 1), None),
        (DAY + ONE_DAY, "a1", None, prediction(0)),
        (DAY + 2 * ONE_DAY, "a1", None, 7.0),
    ]
    assert reader.read(f"SELECT accepted FROM natality_runs WHERE run_date = '{DAY + ONE_DAY}'") == [
        ([{"name": "schema", "reason": "grams from now on"}],)
    ]


def whole_numbers(rows):
    return [(position, row | {"grams": 7}) for position, row in rows]


def test_the_same_night_again_changes_nothing(tmp_path, reader):
    night = make_night(tmp_path)
    first = publish(reader.warehouse, night)
    before = {name: reader.table(name).etag for name in reader.names()}
    assert publish(reader.open(), night) == first
    assert {name: reader.table(name).etag for name in reader.names()} == before
    assert reader.rows() == table_of()


@pytest.mark.slow
def test_other_predictions_of_the_same_run_go_to_a_table_of_their_own(tmp_path, reader):
    """Such as of a model that was trained again: readers never see rows that nobody has verified."""
    publish(reader.warehouse, make_night(tmp_path / "once"))
    again = make_night(tmp_path / "again", night_value=3)
    name = reader.warehouse.load(again)
    assert name.startswith("natality_20240101_a1_")
    assert reader.rows() == table_of()
    reader.warehouse.verify(again)
    assert reader.warehouse.switch(again).table == name
    assert reader.rows() == table_of(3)
    assert reader.table("natality_20240101_a1").expires > NOW


@pytest.mark.slow
def test_a_changed_schema_needs_a_reason(tmp_path, reader):
    publish(reader.warehouse, make_night(tmp_path))
    grams = (*COLUMNS[:-1], TableColumn("grams", "float", "output"))
    night = make_night(tmp_path, run_date=DAY + ONE_DAY, columns=grams)
    with pytest.raises(RefusedError, match="check 'schema' failed: column 'weight' is gone"):
        publish(reader.warehouse, night)
    assert reader.rows() == table_of()
    refused = reader.table("natality_20240102_a1")
    assert NOW < refused.expires < NOW + 8 * ONE_DAY
    publish(reader.warehouse, dataclasses.replace(night, accepted={"schema": "grams from now on"}))
    assert reader.table("natality_20240102_a1").expires is None


@pytest.mark.slow
def test_a_night_that_comes_late_does_not_hide_a_newer_one(tmp_path, reader):
    early, newer = nights(tmp_path, 2)
    publish(reader.warehouse, newer)
    record = publish(reader.warehouse, early)
    assert record.status == "kept"
    assert publish(reader.warehouse, early) == record
    assert reader.rows() == table_of(1)
    assert reader.read("SELECT DISTINCT run_id FROM natality_history ORDER BY 1") == [("r0",), ("r1",)]
    assert reader.table(record.table).expires > NOW + 40 * ONE_DAY


def test_rollback_and_forward_again(tmp_path, reader):
    first, second = nights(tmp_path, 2)
    publish(reader.warehouse, first)
    publish(reader.warehouse, second)
    assert reader.warehouse.rollback("natality", DAY).run_id == "r0"
    assert reader.rows() == table_of(0)
    assert [(r.run_id, r.status) for r in reader.warehouse.runs("natality")] == [("r1", "kept"), ("r0", "current")]
    assert reader.table("natality_20240101_r0").expires is None
    assert reader.table("natality_20240102_r1").expires > NOW
    publish(reader.warehouse, second)
    assert reader.rows() == table_of(1)
    assert reader.read("SELECT run_id FROM natality_runs WHERE status = 'current'") == [("r1",)]


@pytest.mark.slow
def test_rollback_to_a_night_that_is_not_kept_says_which_are(tmp_path, reader):
    for night in nights(tmp_path, 2):
        publish(reader.warehouse, night)
    with pytest.raises(RefusedError, match="no night of 2023-12-31 is kept; kept: 2024-01-01, 2024-01-02"):
        reader.warehouse.rollback("natality", DAY - ONE_DAY)
    with pytest.raises(RefusedError, match="other: no night of 2024-01-01 is kept; kept: none"):
        reader.warehouse.rollback("other", DAY)


@pytest.mark.slow
@pytest.mark.parametrize("place", [pytest.param("local", marks=pytest.mark.slow), "gs"])
def test_retention_deletes_old_nights_but_never_the_current_one(tmp_path, reader, in_storage, place):
    kept = [in_storage(night) if place == "gs" else night for night in nights(tmp_path, 4)]
    for night in kept:
        storage.write_json(storage.join(night.run_dir, "shards.json"), [])
        publish(reader.warehouse, night)
    reader.warehouse.rollback("natality", DAY)
    expired = reader.warehouse.expire("natality", DAY + 4 * ONE_DAY, retention_days=2)
    assert [record.run_id for record in expired] == ["r2", "r1"]
    assert [(r.run_id, r.status) for r in reader.warehouse.runs("natality")] == [
        ("r3", "kept"),
        ("r2", "expired"),
        ("r1", "expired"),
        ("r0", "current"),
    ]
    views = ["natality_changes", "natality_history", "natality_predictions", "natality_runs"]
    assert reader.names() == ["natality_20240101_r0", "natality_20240104_r3", *views]
    assert reader.read("SELECT DISTINCT run_id FROM natality_history ORDER BY 1") == [("r0",), ("r3",)]
    files = [storage.list_files(storage.join(night.run_dir, "predictions")) for night in kept]
    assert [len(found) for found in files] == [3, 0, 0, 3]
    for name in ("manifest.json", "shards.json"):
        there = [storage.exists(storage.join(night.run_dir, name)) for night in kept]
        assert there == [True, False, False, True]
    assert reader.rows() == table_of(0)
    with pytest.raises(RefusedError, match="kept: 2024-01-01, 2024-01-04"):
        reader.warehouse.rollback("natality", DAY + ONE_DAY)
    assert reader.warehouse.expire("natality", DAY + 4 * ONE_DAY, retention_days=2) == ()


@pytest.mark.slow
def test_a_night_that_is_rolled_back_to_while_it_expires_stays(tmp_path, reader, monkeypatch):
    for night in nights(tmp_path, 3):
        publish(reader.warehouse, night)
    take_out, other = Nights.take_out, reader.open()

    def take_out_and_be_late(self, due):
        found = take_out(self, due)
        monkeypatch.undo()
        other._nights("natality").show(due[0])  # whose status a rollback has read before
        return found

    monkeypatch.setattr(Nights, "take_out", take_out_and_be_late)
    assert reader.warehouse.expire("natality", DAY + 5 * ONE_DAY, retention_days=4) == ()
    assert reader.rows() == table_of(0)
    assert storage.exists(storage.join(str(tmp_path), "natality", "2024-01-01", "r0", "manifest.json"))
    assert [(r.run_id, r.status) for r in reader.warehouse.runs("natality")] == [
        ("r2", "kept"),
        ("r1", "kept"),
        ("r0", "current"),
    ]


@pytest.mark.slow
def test_a_rollback_to_a_table_that_goes_at_the_last_moment_goes_back(tmp_path, reader, monkeypatch):
    for night in nights(tmp_path, 2):
        publish(reader.warehouse, night)
    replace = bigquery_nights.replace_view

    def replace_late(dataset, view, definition):
        is_mine = replace(dataset, view, definition)
        monkeypatch.undo()
        dataset.delete("natality_20240101_r0")
        return is_mine

    monkeypatch.setattr(bigquery_nights, "replace_view", replace_late)
    with pytest.raises(
        RefusedError, match=r"natality_20240101_r0 of 2024-01-01 was deleted .*; readers see 2024-01-02"
    ):
        reader.warehouse.rollback("natality", DAY)
    assert reader.rows() == table_of(1)
    assert [(r.run_id, r.status) for r in reader.warehouse.runs("natality")] == [("r1", "current"), ("r0", "lost")]


@pytest.mark.slow
def test_a_night_that_has_expired_is_published_anew(tmp_path, reader):
    first, second = nights(tmp_path, 2)
    publish(reader.warehouse, first)
    publish(reader.warehouse, second)
    reader.client.delete_table(f"{reader.warehouse.location}.natality_20240102_r1")  # as BigQuery does at its expiry
    assert [(r.run_id, r.status) for r in reader.warehouse.runs("natality")] == [("r1", "lost"), ("r0", "kept")]
    assert publish(reader.warehouse, second).status == "current"
    assert reader.rows() == table_of(1)
    reader.client.delete_table(f"{reader.warehouse.location}.natality_20240102_r1")
    assert publish(reader.warehouse, first).status == "current"  # nobody sees a newer one any more
    assert reader.rows() == table_of(0)


@pytest.mark.slow
def test_retention_of_nothing_makes_nothing(reader):
    assert reader.warehouse.expire("natality", DAY, retention_days=1) == ()
    assert reader.names() == []
    assert reader.warehouse.current("natality") is None
    assert reader.warehouse.runs("natality") == ()


@pytest.mark.slow
def test_nothing_of_ours_inherits_the_datasets_expiry(tmp_path, reader):
    dataset = reader.client.get_dataset(reader.warehouse.location)
    dataset.default_table_expiration_ms = 3_600_000
    reader.client.update_dataset(dataset, ["default_table_expiration_ms"])
    publish(reader.warehouse, make_night(tmp_path))
    assert {name: reader.table(name).expires for name in reader.names()} == dict.fromkeys(reader.names())


@pytest.mark.slow
def test_two_jobs_share_a_dataset(tmp_path, reader):
    publish(reader.warehouse, make_night(tmp_path))
    publish(reader.warehouse, make_night(tmp_path, job="taxi", run_id="b1", night_value=5))
    assert reader.rows() == table_of()
    assert reader.rows("taxi_predictions") == table_of(5)
    assert [record.job for record in reader.warehouse.runs("taxi")] == ["taxi"]
    assert reader.warehouse.expire("taxi", DAY + 99 * ONE_DAY, retention_days=1) == ()


@pytest.mark.slow
def test_one_run_is_published_to_two_datasets_of_a_project(tmp_path, cloud):
    """Both want the same job id, which a project has once."""
    for _ in range(2):
        reader = Reader(cloud)
        night = make_night(tmp_path / reader.dataset, run_id="b7")
        assert publish(reader.warehouse, night).status == "current"
        assert reader.rows() == table_of()


def test_somebody_elses_tables_stay_as_they_are(tmp_path, reader):
    reader.read("CREATE TABLE natality_predictions AS SELECT 1 AS x")
    with pytest.raises(RefusedError, match="natality_predictions is there and is no view of foretable's"):
        publish(reader.warehouse, make_night(tmp_path))
    assert reader.read("SELECT x FROM natality_predictions") == [(1,)]
    reader.read("DROP TABLE natality_predictions")
    reader.read("CREATE TABLE taxi_runs AS SELECT 1 AS x")
    with pytest.raises(RefusedError, match="taxi_runs is there and is no table of foretable's"):
        publish(reader.warehouse, make_night(tmp_path, job="taxi"))


def test_rows_of_exact_keys(tmp_path, reader):
    record = publish(reader.warehouse, make_night(tmp_path))
    for position, point in enumerate(points(AXES)):
        assert reader.warehouse.row(record, point, position) == {**point, "weight": prediction(position)}
    assert reader.warehouse.row(record, {"sex": "x' OR TRUE --", "weeks": 38.0, "children": 1}, 0) is None


def test_queries_read_and_nothing_else(tmp_path, reader):
    publish(reader.warehouse, make_night(tmp_path))
    table = reader.warehouse.query("SELECT sex, COUNT(*) AS n FROM natality_predictions GROUP BY sex ORDER BY sex")
    assert table.to_pylist() == [{"sex": None, "n": 8}, {"sex": "False", "n": 8}, {"sex": "True", "n": 8}]
    assert reader.warehouse.query_bytes("SELECT sex FROM natality_predictions") == 0  # the twin bills nothing
    for sql in ("DROP VIEW natality_predictions", "DELETE FROM natality_runs WHERE TRUE", "SELECT 1; SELECT 2"):
        with pytest.raises(JobError, match="expected one SELECT: the warehouse is read-only here"):
            reader.warehouse.query(sql)
    with pytest.raises(JobError, match=r"'SELEC 1': .*[Ss]yntax error"):
        reader.warehouse.query("SELEC 1")
    assert reader.rows() == table_of()


@pytest.mark.slow
def test_export_is_a_duckdb_file_of_its_own(tmp_path, reader):
    columns = (*COLUMNS, TableColumn("parts", "float[]", "output"))
    publish(reader.warehouse, make_night(tmp_path, columns=columns, rewrite=with_parts))
    path = tmp_path / "out.duckdb"
    assert reader.warehouse.export("natality", str(path)) == 24
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("FROM natality_predictions").fetchall()
        types = connection.execute(
            "SELECT data_type FROM duckdb_columns() WHERE table_name = 'natality_predictions'"
        ).fetchall()
        assert connection.execute("SELECT run_id, status FROM natality_runs").fetchall() == [("a1", "current")]
    assert sorted(rows, key=repr) == sorted(((*row, [row[3], 0.5]) for row in table_of()), key=repr)
    assert [name for (name,) in types] == ["VARCHAR", "DOUBLE", "BIGINT", "FLOAT", "FLOAT[]"]
    with pytest.raises(RefusedError, match="is there already; add --force to replace it"):
        reader.warehouse.export("natality", str(path))
    with pytest.raises(RefusedError, match="nothing of taxi is published yet"):
        reader.warehouse.export("taxi", str(path), force=True)


def with_parts(rows):
    return [(position, row | {"parts": [row["weight"], 0.5]}) for position, row in rows]


def test_a_column_that_bigquery_cannot_have_is_named(tmp_path, reader):
    columns = (*COLUMNS[:-1], TableColumn("dense/out:0", "float", "output"))
    with pytest.raises(JobError, match="column 'dense/out:0': BigQuery takes letters, digits and underscores"):
        reader.warehouse.load(make_night(tmp_path, columns=columns))
    taken = (*COLUMNS[:-1], TableColumn("Run_Date", "float", "output"))
    with pytest.raises(JobError, match="column 'Run_Date': the name is taken by natality_history"):
        reader.warehouse.load(make_night(tmp_path / "taken", columns=taken))
    assert reader.names() == []
