"""Lookups answer alike from BigQuery and from DuckDB, for every kind of axis, and so does the SQL to start from."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from bigquery_reader import Reader, move_to_storage
from nights import make_night, publish
from test_published_axes import AXES, INTERVALS, TABLE_COLUMNS, Named

from beam_jobs.commands.reading import write_query
from beam_jobs.lookup import Hit, find
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.warehouses.key_query import BigQueryKeys
from configs.errors import RefusedError

pytestmark = pytest.mark.slow  # the twin takes seconds for a night; `test_bigquery.py` has the quick ones

KEYS = {
    "a hit": {"sex": "True", "age": "29", "siblings": "0", "weeks": "38"},
    "at an edge": {"sex": "False", "age": "20", "siblings": "1", "weeks": "38"},
    "an edge as float32": {"sex": "False", "age": "29.37", "siblings": "7", "weeks": "38.0"},
    "missing values": {"sex": "", "age": "", "siblings": "0", "weeks": "null"},
    "a number in no interval": {"sex": "True", "age": "60", "siblings": "0", "weeks": "38"},
    "a word of no axis": {"sex": "Tru", "age": "29", "siblings": "0", "weeks": "38"},
    "an excluded key": {"sex": "True", "age": "29", "siblings": "0", "weeks": ""},
}
EXCLUDE = "sex = 'True' AND weeks IS NULL"


@pytest.fixture(scope="module")
def both(cloud, tmp_path_factory):
    """The same night in both warehouses; BigQuery's run directory is in Cloud Storage."""
    folder = tmp_path_factory.mktemp("natality")
    night = make_night(
        folder,
        axes=AXES,
        columns=TABLE_COLUMNS,
        intervals_of=INTERVALS,
        exclude=EXCLUDE,
        is_excluded=lambda point: point["sex"] == "True" and point["weeks"] is None,
    )
    embedded, reader = DuckDBWarehouse(str(folder / "natality.duckdb")), Reader(cloud)
    publish(embedded, night)
    publish(reader.warehouse, move_to_storage(cloud, night))
    return embedded, reader.warehouse


@pytest.mark.parametrize("key", KEYS)
def test_a_lookup_answers_as_from_duckdb(both, key):
    embedded, warehouse = both
    assert find(warehouse, "natality", KEYS[key]) == find(embedded, "natality", KEYS[key])


def test_both_warehouses_hold_the_same_rows(both):
    rows = [sorted(w.query("SELECT * FROM natality_predictions").to_pylist(), key=repr) for w in both]
    assert rows[0] == rows[1]


def test_sql_answers_its_example_and_any_other_key(both):
    _, warehouse = both
    sql = write_query(Named, warehouse)
    (row,) = warehouse.query(sql).to_pylist()
    assert list(row) == ["sex", "age", "siblings", "weeks", "weight"]
    asked = {name: "" if row[name] is None else str(row[name]) for name in ("sex", "age", "siblings", "weeks")}
    assert find(warehouse, "natality", asked).row["weight"] == row["weight"]
    example = sql[sql.index("SELECT CAST") : sql.index("\n)")]
    keys = [("False", "29.37", "7", "38.0"), ("False", "NULL", "0", "NULL"), ("False", "60", "1", "38")]
    selects = [
        f"SELECT {sex!r} AS sex, CAST({age} AS FLOAT64) AS age, {siblings} AS siblings, CAST({weeks} AS FLOAT64) AS weeks"
        for sex, age, siblings, weeks in keys
    ]
    answers = warehouse.query(sql.replace(example, " UNION ALL ".join(selects))).to_pylist()
    found = [find(warehouse, "natality", key_of(*key)) for key in keys]
    assert {row["age"]: row["weight"] for row in answers} == {
        None if key[1] == "NULL" else float(key[1]): hit.row["weight"]
        for key, hit in zip(keys, found, strict=True)
        if isinstance(hit, Hit)
    }
    assert len(answers) == 2  # 60 is in no interval


def key_of(*texts):
    names = ("sex", "age", "siblings", "weeks")
    return {name: "" if text == "NULL" else text for name, text in zip(names, texts, strict=True)}


@hypothesis.given(st.floats(min_value=-1e30, max_value=1e30).filter(lambda x: x == 0 or abs(x) > 1e-30))
def test_the_sql_rounds_as_the_model_does(value):
    """In FLOAT64 arithmetic, as BigQuery has it; halfway between two float32 numbers either is near enough."""
    rounded = eval(BigQueryKeys("p.d").as_float32("value"), {"value": value})
    below = np.nextafter(np.float32(value), np.float32(-np.inf))
    above = np.nextafter(np.float32(value), np.float32(np.inf))
    is_tie = value in ((float(below) + float(np.float32(value))) / 2, (float(above) + float(np.float32(value))) / 2)
    assert rounded == np.float32(value) or is_tie


def test_nothing_published_says_so(cloud):
    with pytest.raises(RefusedError, match="nothing of natality is published yet"):
        find(Reader(cloud).warehouse, "natality", KEYS["a hit"])
