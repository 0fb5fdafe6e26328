"""A published axis of intervals: every number finds its own, by lookup and by SQL, and verification proves them all."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import COLUMNS, DAY, make_night, points, prediction, publish

from beam_jobs.commands.reading import write_query
from beam_jobs.lookup import Fault, Hit, Miss, find
from beam_jobs.published_axes import PublishedAxis, interval_text, read_axes
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.warehouses.key_query import key_query
from configs.errors import JobError, RefusedError
from transforms.scoring.shards import TableColumn

AXES = {
    "sex": {"sex": ["True", "False", None]},
    "age": {
        "age_from": [12.0, 20.0, 29.3700008392334, None],
        "age_to": [20.0, 29.3700008392334, 55.000003814697266, None],
        "age_is_missing": [False, False, False, True],
    },
    "siblings": {"siblings_from": [None, 1], "siblings_to": [1, None]},
    "weeks": {"weeks": [38.0, None]},
}
INTERVALS = ("age", "siblings")
TABLE_COLUMNS = (
    TableColumn("weeks", "float", "key"),
    TableColumn("age_from", "float", "key"),
    TableColumn("age_to", "float", "key"),
    TableColumn("age_is_missing", "bool", "key"),
    TableColumn("sex", "string", "key"),
    TableColumn("siblings_from", "int", "key"),
    TableColumn("siblings_to", "int", "key"),
    COLUMNS[-1],
)


class Named:
    """What reading a table needs of a job."""

    name = "natality"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("natality")
    warehouse = DuckDBWarehouse(str(folder / "natality.duckdb"))
    publish(warehouse, make_night(folder, axes=AXES, columns=TABLE_COLUMNS, intervals_of=INTERVALS))
    return warehouse


def look_up(warehouse, age="29", siblings="0"):
    return find(warehouse, "natality", {"sex": "True", "age": age, "siblings": siblings, "weeks": "38"})


def bounds(found):
    return found.row["age_from"], found.row["age_to"]


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        ("12", (12.0, 20.0)),
        ("19.999", (12.0, 20.0)),
        ("20", (20.0, 29.3700008392334)),
        ("29.36999", (20.0, 29.3700008392334)),
        ("29.37", (29.3700008392334, 55.000003814697266)),  # the model's 29.37 is the edge
        ("55", (29.3700008392334, 55.000003814697266)),
        ("19.9999999999", (20.0, 29.3700008392334)),  # the model's is 20
        ("", (None, None)),
    ],
)
def test_a_number_finds_the_interval_that_the_model_sees_it_in(published, age, expected):
    found = look_up(published, age)
    assert isinstance(found, Hit)
    assert bounds(found) == expected
    assert found.row["age_is_missing"] is (age == "")


@pytest.mark.parametrize(("siblings", "low"), [("0", None), ("-9223372036854775807", None), ("1", 1), (str(10**30), 1)])
def test_a_whole_number_finds_its_interval(published, siblings, low):
    assert look_up(published, siblings=siblings).row["siblings_from"] == low


def test_every_row_is_found_by_a_number_of_each_of_its_intervals(published):
    for position, point in enumerate(points(AXES)):
        age = "" if point["age_is_missing"] else str(point["age_from"])
        siblings = "0" if point["siblings_from"] is None else "1"
        key = {"sex": point["sex"] or "", "age": age, "siblings": siblings, "weeks": str(point["weeks"] or "")}
        expected = {column.name: point.get(column.name, prediction(position)) for column in TABLE_COLUMNS}
        assert find(published, "natality", key) == Hit(expected, DAY, "a1", "model-a1")


def test_a_number_in_no_interval_is_a_miss_that_names_the_nearest(published):
    miss = look_up(published, "60")
    assert miss == Miss(
        "value",
        (
            Fault(
                {"age": 60.0},
                (
                    {"age": "[29.3700008392334, 55.000003814697266)"},
                    {"age": "[20, 29.3700008392334)"},
                    {"age": "[12, 20)"},
                ),
            ),
        ),
    )
    assert str(look_up(published, "3")).startswith("age=3 is not in the table; nearest: [12, 20), [20, ")
    assert str(look_up(published, siblings="")) == "siblings=null is not in the table; nearest: (-inf, 1), [1, inf)"


def test_a_key_names_the_feature_and_not_its_bounds(published):
    with pytest.raises(JobError, match=r"unknown column 'age_from': expected weeks, age, sex, siblings"):
        find(published, "natality", {"age_from": "12"})
    with pytest.raises(JobError, match="no value of age: expected weeks=… age=… sex=… siblings=…"):
        find(published, "natality", {"sex": "True", "siblings": "0", "weeks": "38"})
    with pytest.raises(JobError, match="age='old': expected a number"):
        look_up(published, "old")
    with pytest.raises(JobError, match=r"siblings='1\.5': expected a whole number"):
        look_up(published, siblings="1.5")


@hypothesis.given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1, unique=True
    ),
    st.floats(allow_nan=False),
)
def test_each_number_has_exactly_one_of_intervals_that_cover_the_line(edges, value):
    edges = sorted(edges)
    axis = PublishedAxis(pa.table({"x_from": pa.array([None, *edges]), "x_to": pa.array([*edges, None])}), "x")
    with np.errstate(over="ignore"):
        seen = np.float32(value)
    if 0 < abs(seen) < np.finfo(np.float32).smallest_normal:
        seen = np.float32(0)
    assert axis.find_interval(value) == np.searchsorted(np.float32(edges), seen, side="right")
    assert axis.find_interval(None) is None


def test_intervals_as_text():
    assert [interval_text(*pair) for pair in ((12.0, 20.5), (None, 3), (3, None), (None, None))] == [
        "[12, 20.5)",
        "(-inf, 3)",
        "[3, inf)",
        "(-inf, inf)",
    ]


def test_sql_answers_its_example_and_any_other_key(published):
    sql = write_query(Named, published)
    (row,) = published.query(sql).to_pylist()
    assert list(row) == ["sex", "age", "siblings", "weeks", "weight"]
    asked = {name: "" if row[name] is None else str(row[name]) for name in ("sex", "age", "siblings", "weeks")}
    assert find(published, "natality", asked).row["weight"] == row["weight"]
    key = sql[sql.index("SELECT CAST") : sql.index("\n)")]
    for age, siblings, weeks in (("29.37", "7", "38.0"), ("NULL", "0", "NULL"), ("54.9", "1", "38")):
        other = (
            f"SELECT CAST('False' AS VARCHAR) AS sex, CAST({age} AS FLOAT) AS age, CAST({siblings} AS BIGINT) AS siblings,"
            f" CAST({weeks} AS DOUBLE) AS weeks"
        )
        (row,) = published.query(sql.replace(key, other)).to_pylist()
        texts = {"sex": "False", "age": age, "siblings": siblings, "weeks": weeks}
        found = find(published, "natality", {name: "" if text == "NULL" else text for name, text in texts.items()})
        assert row["weight"] == found.row["weight"]
    (row,) = published.query(sql.replace(key, "SELECT 'x' AS sex, 60 AS age, 1 AS siblings, 38 AS weeks")).to_pylist()
    assert row["weight"] is None


@pytest.mark.parametrize("edge", [20.0, 0.0, 2.0**25, 1e30, -(2.0**26), 1e-20, float("inf")])
def test_sql_and_lookup_agree_about_numbers_beside_an_edge(tmp_path, edge):
    edge = float(np.float32(edge))
    axes = {"age": {"age_from": [None, edge], "age_to": [edge, None]}, "weeks": {"weeks": [38.0]}}
    columns = tuple(column for column in TABLE_COLUMNS if column.name in ("weeks", "age_from", "age_to", "weight"))
    warehouse = DuckDBWarehouse(str(tmp_path / "natality.duckdb"))
    publish(warehouse, make_night(tmp_path, axes=axes, columns=columns, intervals_of=("age",)))

    def find_weight(age):
        return find(warehouse, "natality", {"age": repr(age), "weeks": "38"}).row["weight"]

    first, _ = sorted(warehouse.query("FROM natality_predictions").to_pylist(), key=lambda row: row["age_to"] is None)
    record = warehouse.current("natality")
    sql = key_query(record, read_axes(record), first)
    (row,) = warehouse.query(sql).to_pylist()
    assert (row["weight"], find_weight(row["age"])) == (first["weight"],) * 2
    key = sql[sql.index("SELECT CAST") : sql.index("\n)")]
    below, above = (float(np.nextafter(np.float32(edge), np.float32(side))) for side in (-np.inf, np.inf))
    for age in (below, edge, above, -1e-40, 1e-40, -2e-38):
        other = f"SELECT CAST('{age!r}' AS FLOAT) AS age, CAST(38 AS DOUBLE) AS weeks"
        (row,) = warehouse.query(sql.replace(key, other)).to_pylist()
        assert row["weight"] == find_weight(age), age


def test_verification_proves_intervals_too(tmp_path):
    def swapped(rows):
        (a, first), (b, second) = rows[2], rows[3]
        keys = [column.name for column in TABLE_COLUMNS if column.role == "key"]
        spoiled = [(a, first | {k: second[k] for k in keys}), (b, second | {k: first[k] for k in keys})]
        return [*rows[:2], *spoiled, *rows[4:]]

    night = make_night(tmp_path, axes=AXES, columns=TABLE_COLUMNS, intervals_of=INTERVALS, rewrite=swapped)
    warehouse = DuckDBWarehouse(str(tmp_path / "x.duckdb"))
    warehouse.load(night)
    with pytest.raises(
        RefusedError, match=r"check 'keys' failed: 2 rows .* first weeks=NULL age_from=12\.0 age_to=20\.0"
    ):
        warehouse.verify(night)


def test_intervals_may_be_excluded_by_their_bounds(tmp_path):
    def is_excluded(point):
        return (point["age_from"] or 0) >= 20 and point["sex"] == "True"

    night = make_night(
        tmp_path,
        axes=AXES,
        columns=TABLE_COLUMNS,
        intervals_of=INTERVALS,
        exclude="age_from >= 20 AND sex = 'True'",
        is_excluded=is_excluded,
    )
    warehouse = DuckDBWarehouse(str(tmp_path / "x.duckdb"))
    publish(warehouse, night)
    assert look_up(warehouse, "29") == Miss("excluded", exclude="age_from >= 20 AND sex = 'True'")
    assert bounds(look_up(warehouse, "")) == (None, None)


def test_an_axis_says_whose_intervals_it_has(published):
    axes = read_axes(published.current("natality"))
    assert [axis.asked for axis in axes] == [("sex",), ("age",), ("siblings",), ("weeks",)]
    metadata = pq.read_schema(published.current("natality").axes[1]).metadata[b"foretable"]
    assert json.loads(metadata) == {"name": "age", "kind": "buckets"}
