"""A BigQuery source as of one moment, against the twin: what its fingerprint sees, and what a run keeps.

The twin keeps no history: it takes a snapshot time and answers with the table as it is now.
"""

import dataclasses
import datetime
import json

import pytest
from bigquery_tables import BigQuery
from google.cloud import bigquery

from beam_jobs.sources import open_source, source_fingerprint
from beam_jobs.warehouses.bigquery.pins import Pin, pin_bigquery
from beam_jobs.workspace.run_directory import RunDirectory
from configs.errors import JobError


@pytest.fixture(scope="module")
def warehouse(bigquery_twin):
    return BigQuery(bigquery_twin)


def test_fingerprint_changes_with_the_rows_and_nothing_else(warehouse):
    def fingerprints():
        return [source_fingerprint(source, warehouse.endpoints) for source in (table, query, both)]

    table = warehouse.table("printed", "SELECT 1 AS x")
    warehouse.table("printed_too", "SELECT 1 AS x")
    query = warehouse.asking(f"SELECT x FROM {table.table}")
    both = warehouse.asking(f"SELECT x FROM {table.table} JOIN {table.table}_too USING (x)")
    before = fingerprints()
    assert fingerprints() == before
    assert len(set(before)) == 3
    warehouse.query(f"INSERT INTO {table.table} (x) VALUES (2)")
    after = fingerprints()
    assert all(one != other for one, other in zip(before, after, strict=True))
    warehouse.query(f"INSERT INTO {table.table}_too (x) VALUES (2)")
    assert [one == other for one, other in zip(after, fingerprints(), strict=True)] == [True, True, False]


def test_a_run_keeps_its_pin(warehouse, tmp_path):
    source = warehouse.table("kept", "SELECT 1 AS x")
    run = RunDirectory(str(tmp_path), datetime.date(2026, 1, 5), "r1")
    first = open_source(source, {"x": "int"}, run, warehouse.endpoints).pin
    (path,) = tmp_path.glob("2026-01-05/r1/sources/*.json")
    assert Pin(**json.loads(path.read_text())) == first
    warehouse.query(f"INSERT INTO {source.table} (x) VALUES (2)")
    assert open_source(source, {"x": "int"}, run, warehouse.endpoints).pin == first
    other_run = open_source(source, {"x": "int"}, dataclasses.replace(run, run_id="r2"), warehouse.endpoints).pin
    assert (first.rows, other_run.rows) == (1, 2)
    assert first.snapshot_time < other_run.snapshot_time
    assert first.fingerprint != other_run.fingerprint == source_fingerprint(source, warehouse.endpoints)


def test_a_pin_too_old_to_be_read_back_is_taken_anew(warehouse, tmp_path):
    source = warehouse.table("old", "SELECT 1 AS x")
    run = RunDirectory(str(tmp_path), datetime.date(2026, 1, 5), "r1")
    first = open_source(source, {"x": "int"}, run, warehouse.endpoints).pin
    (path,) = tmp_path.glob("2026-01-05/r1/sources/*.json")
    before = datetime.datetime.fromisoformat(first.pinned_at) - datetime.timedelta(hours=41)
    path.write_text(json.dumps(dataclasses.asdict(first) | {"pinned_at": before.isoformat()}))
    again = open_source(source, {"x": "int"}, run, warehouse.endpoints).pin
    assert again.snapshot_time > first.snapshot_time
    assert Pin(**json.loads(path.read_text())) == again


def test_what_is_no_query_is_not_run(warehouse):
    source = warehouse.table("spared", "SELECT 1 AS x")
    deleting = warehouse.asking(f"DELETE FROM `{source.table}` WHERE TRUE")
    for use in (
        lambda: source_fingerprint(deleting, warehouse.endpoints),
        lambda: warehouse.read(deleting, {"x": "int"}),
    ):
        with pytest.raises(JobError, match=r"query 'DELETE FROM .*: is no query, but DELETE; expected one SELECT$"):
            use()
    assert warehouse.read(source, {"x": "int"}) == {"x": [1]}


def test_the_snapshot_is_never_before_the_last_change(warehouse, monkeypatch):
    changed = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    source = warehouse.table("later", "SELECT 1 AS x")
    monkeypatch.setattr(bigquery.Table, "modified", property(lambda table: changed))
    pin = pin_bigquery(source, warehouse.endpoints, "r1")
    assert pin.snapshot_time == "2099-01-01T00:00:00.001000+00:00"


def test_a_query_runs_once_a_run(warehouse):
    source = warehouse.asking("SELECT RAND() AS x, 'a' AS word")
    columns = {"x": "float", "word": "string"}
    first = warehouse.read(source, columns)
    assert first["word"] == ["a"]
    assert warehouse.read(source, columns) == first
    assert warehouse.read(source, columns, run_id="r2") != first


def test_a_query_whose_result_has_gone_runs_again(warehouse):
    source = warehouse.asking("SELECT RAND() AS x")
    pin = pin_bigquery(source, warehouse.endpoints, "gone")
    warehouse.client.delete_table(pin.table)
    again = pin_bigquery(source, warehouse.endpoints, "gone")
    assert again.table != pin.table
    assert len(warehouse.read(source, {"x": "float"}, run_id="gone")["x"]) == 1
