"""`<job>_changes`, as an analyst reads it, in both warehouses."""

import dataclasses
import datetime

import pytest
from nights import AXES, COLUMNS, DAY, make_night, points, prediction, publish
from tables import WAREHOUSES, open_tables
from test_changes import with_values

from configs.errors import JobError
from transforms.scoring.shards import TableColumn

ONE_DAY = datetime.timedelta(days=1)


@pytest.fixture(params=WAREHOUSES)
def warehouse(request, tmp_path):
    return open_tables(request, tmp_path)


def night(tmp_path, day, values=lambda position: {}, **settings):
    return make_night(tmp_path, run_date=DAY + day * ONE_DAY, run_id=f"r{day}", rewrite=with_values(values), **settings)


def rows(warehouse):
    """The view's rows by kind and key."""
    table = warehouse.query("SELECT * FROM natality_changes")
    return table.column_names, sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def expected_rows(positions, day, before, now, compared_with):
    every = points(AXES)
    return sorted(
        (
            (*every[p].values(), "changed", before(p), now(p), DAY + compared_with * ONE_DAY, DAY + day * ONE_DAY)
            for p in positions
        ),
        key=repr,
    )


def test_old_and_new_answer_of_each_key_that_changed(tmp_path, warehouse):
    publish(warehouse, night(tmp_path, 0))
    names, nothing = rows(warehouse)
    assert (names, nothing) == (
        ["sex", "weeks", "children", "change_kind", "weight_before", "weight", "run_date_before", "run_date"],
        [],
    )
    publish(warehouse, night(tmp_path, 1, lambda p: {"weight": 50.0 + p} if p in (3, 23) else {}))
    assert rows(warehouse) == (names, expected_rows([3, 23], 1, prediction, lambda p: 50.0 + p, 0))
    publish(warehouse, night(tmp_path, 2, lambda p: {"weight": 50.0} if p == 0 else {}))
    now = {0: 50.0, 3: prediction(3), 23: prediction(23)}
    before = {0: prediction(0), 3: 53.0, 23: 73.0}
    assert rows(warehouse)[1] == expected_rows([0, 3, 23], 2, before.get, now.get, 1)


def test_a_rollback_shows_the_changes_of_the_night_that_readers_see_again(tmp_path, warehouse):
    """And the night after it is compared with what readers saw, which was not the one before it by date."""
    publish(warehouse, night(tmp_path, 0))
    publish(warehouse, night(tmp_path, 1, lambda p: {"weight": 51.0} if p == 1 else {}))
    publish(warehouse, night(tmp_path, 2, lambda p: {"weight": 52.0} if p == 2 else {}))
    warehouse.rollback("natality", DAY + ONE_DAY)
    assert rows(warehouse)[1] == expected_rows([1], 1, prediction, lambda p: 51.0, 0)
    publish(warehouse, night(tmp_path, 3, lambda p: {"weight": 53.0} if p in (1, 3) else {}))
    before = {1: 51.0, 3: prediction(3)}
    assert rows(warehouse)[1] == expected_rows([1, 3], 3, before.get, lambda p: 53.0, 1)


def test_new_keys_and_gone_ones(tmp_path, warehouse):
    publish(warehouse, night(tmp_path, 0))
    columns = (*COLUMNS, TableColumn("size", "string", "output"))
    axes = {"sex": {"sex": ["True", None]}, "weeks": {"weeks": [38.0]}, "children": {"children": [2, 3]}}
    accepted = {"schema": "sizes from now on"}
    second = night(tmp_path, 1, lambda p: {"weight": 0.0}, axes=axes, columns=columns, accepted=accepted)
    publish(warehouse, second)
    table = warehouse.query("SELECT * FROM natality_changes")
    assert "size_before" not in table.column_names  # only what both nights have is compared
    found = {(row["sex"], row["weeks"], row["children"]): row for row in table.to_pylist()}
    kinds = {key: row["change_kind"] for key, row in found.items()}
    old = {tuple(point.values()) for point in points(AXES)}
    new = {tuple(point.values()) for point in points(axes)}
    assert kinds == {
        **dict.fromkeys(old - new, "gone"),
        **dict.fromkeys(new - old, "new"),
        **dict.fromkeys(old & new, "changed"),
    }
    assert (found[None, 38.0, 3]["weight_before"], found[None, 38.0, 3]["weight"]) == (None, 0.0)
    assert (found["False", 38.0, 1]["weight_before"], found["False", 38.0, 1]["weight"]) == (prediction(8), None)


def test_the_night_compared_with_outlives_its_retention(tmp_path, warehouse):
    publish(warehouse, night(tmp_path, 0))
    publish(warehouse, night(tmp_path, 1, lambda p: {"weight": 51.0}))
    assert len(rows(warehouse)[1]) == 24
    assert warehouse.expire("natality", DAY + 5 * ONE_DAY, retention_days=3) == ()
    assert len(rows(warehouse)[1]) == 24


def test_the_view_says_what_it_is(tmp_path):
    from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse

    warehouse = DuckDBWarehouse(str(tmp_path / "natality.duckdb"))
    publish(warehouse, night(tmp_path, 0))
    comment = "SELECT comment FROM duckdb_views() WHERE view_name = 'natality_changes'"
    assert warehouse.query(comment).to_pylist() == [
        {"comment": "Nothing: there is no night to compare that of 2024-01-01 with"}
    ]
    publish(warehouse, night(tmp_path, 1))
    assert warehouse.query(comment).to_pylist() == [
        {
            "comment": "What the night of 2024-01-02 changed against that of 2024-01-01: keys with another answer, "
            "new keys, and keys that are gone"
        }
    ]
    columns = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'natality_changes'"
    assert [tuple(row.values()) for row in warehouse.query(columns).to_pylist()] == [
        ("sex", "Sex of the child"),
        ("weeks", "Weeks of gestation"),
        ("children", None),
        ("change_kind", "changed, new (no answer before) or gone (no answer any more)"),
        ("weight_before", "Before: Predicted: weight"),
        ("weight", "Now: Predicted: weight"),
        ("run_date_before", "Date of the night before"),
        ("run_date", "Date of the night that readers see"),
    ]


@pytest.mark.parametrize("name", ["change_kind", "run_date_before", "weight_before"])
def test_the_columns_of_the_view_are_taken(tmp_path, warehouse, name):
    columns = (TableColumn(name, "string", "key"), COLUMNS[-1])
    made = make_night(tmp_path, axes={name: {name: ["a"]}}, columns=columns)
    with pytest.raises(JobError, match=f"'{name}': the name is taken by natality_changes"):
        warehouse.load(made)


def test_the_same_night_again_is_compared_with_the_same_one(tmp_path, warehouse):
    publish(warehouse, night(tmp_path, 0))
    second = night(tmp_path, 1, lambda p: {"weight": 51.0} if p == 1 else {})
    record = publish(warehouse, second)
    again = publish(warehouse, second)
    assert dataclasses.replace(again, published_at=record.published_at) == record
    assert record.compared_with == "natality_20240101_r0"
    assert len(rows(warehouse)[1]) == 1
