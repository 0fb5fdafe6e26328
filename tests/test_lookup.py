"""A lookup answers the right row or says what is at fault; never another row."""

import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from nights import AXES, COLUMNS, DAY, make_night, points, prediction, publish

from beam_jobs.key_text import parse_key
from beam_jobs.lookup import Fault, Hit, Miss, find
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from configs.errors import ForetableError, JobError, RefusedError
from transforms.scoring.shards import TableColumn

ROUTES = {
    "route": {"origin": ["A", "A", "B"], "stop": ["X", "Y", "X"]},
    "hour": {"hour": [0, 12, None]},
}
ROUTE_COLUMNS = (
    TableColumn("hour", "int", "key"),
    TableColumn("origin", "string", "key"),
    TableColumn("stop", "string", "key"),
    COLUMNS[-1],
)


@pytest.fixture(scope="module")
def natality(tmp_path_factory):
    folder = tmp_path_factory.mktemp("natality")
    warehouse = DuckDBWarehouse(str(folder / "natality.duckdb"))
    exclude = {"exclude": "sex = 'True' AND children = 2"}
    publish(warehouse, make_night(folder, is_excluded=lambda p: p["sex"] == "True" and p["children"] == 2, **exclude))
    return warehouse


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routes")
    warehouse = DuckDBWarehouse(str(folder / "routes.duckdb"))
    publish(warehouse, make_night(folder, job="routes", axes=ROUTES, columns=ROUTE_COLUMNS))
    return warehouse


def key_of(point):
    return {name: "" if value is None else str(value) for name, value in point.items()}


def test_every_row_of_the_table_is_found_and_every_excluded_one_is_said_to_be(natality):
    for position, point in enumerate(points(AXES)):
        found = find(natality, "natality", key_of(point))
        if point["sex"] == "True" and point["children"] == 2:
            assert found == Miss("excluded", exclude="sex = 'True' AND children = 2")
        else:
            assert found == Hit({**point, "weight": prediction(position)}, DAY, "a1", "model-a1")


def test_every_combination_that_exists_is_found_whatever_the_order_of_columns(routes):
    for position, point in enumerate(points(ROUTES)):
        found = find(routes, "routes", key_of(point))
        assert found.row == {**point, "weight": prediction(position)}


@pytest.mark.parametrize("text", ["38.25", "38.250", " 38.25", "3825e-2", "38.2500001"])
def test_a_number_may_be_written_in_any_way_that_is_the_same_to_the_model(natality, text):
    found = find(natality, "natality", {"sex": "False", "weeks": text, "children": "1"})
    assert found.row["weeks"] == 38.25


def test_a_missing_value_is_empty_or_null(natality):
    for text in ("", "null"):
        found = find(natality, "natality", {"sex": text, "weeks": text, "children": "2"})
        assert (found.row["sex"], found.row["weeks"], found.row["children"]) == (None, None, 2)


def test_a_word_of_the_table_is_that_word_even_if_it_is_null(tmp_path):
    warehouse = DuckDBWarehouse(str(tmp_path / "words.duckdb"))
    columns = (TableColumn("word", "string", "key"), COLUMNS[-1])
    publish(warehouse, make_night(tmp_path, axes={"word": {"word": ["null", None]}}, columns=columns))
    assert find(warehouse, "natality", {"word": "null"}).row == {"word": "null", "weight": prediction(0)}
    assert find(warehouse, "natality", {"word": ""}).row == {"word": None, "weight": prediction(1)}


@pytest.mark.parametrize(
    ("changes", "faults", "line"),
    [
        (
            {"weeks": "38.3"},
            [Fault({"weeks": 38.3}, ({"weeks": 38.25}, {"weeks": 38.5}, {"weeks": 38.0}))],
            "weeks=38.3 is not in the table; nearest: 38.25, 38.5, 38",
        ),
        (
            {"sex": "true"},
            [Fault({"sex": "true"}, ({"sex": "True"}, {"sex": "False"}))],
            "sex=true is not in the table; nearest: True, False",
        ),
        (
            {"children": ""},
            [Fault({"children": None}, ({"children": 1}, {"children": 2}))],
            "children=null is not in the table; nearest: 1, 2",
        ),
        (
            {"children": "7", "weeks": "inf"},
            [
                Fault({"weeks": float("inf")}, ({"weeks": 38.0}, {"weeks": 38.25}, {"weeks": 38.5})),
                Fault({"children": 7}, ({"children": 2}, {"children": 1})),
            ],
            "weeks=inf is not in the table; nearest: 38, 38.25, 38.5; children=7 is not in the table; nearest: 2, 1",
        ),
    ],
    ids=["number", "word", "missing", "two"],
)
def test_a_miss_names_the_feature_and_what_is_near(natality, changes, faults, line):
    found = find(natality, "natality", {"sex": "False", "weeks": "38", "children": "1"} | changes)
    assert found == Miss("value", tuple(faults))
    assert str(found) == line


def test_a_combination_that_does_not_exist_is_not_a_value_that_does_not(routes):
    found = find(routes, "routes", {"origin": "B", "stop": "Y", "hour": "0"})
    near = ({"origin": "A", "stop": "Y"}, {"origin": "B", "stop": "X"})
    assert found == Miss("combination", (Fault({"origin": "B", "stop": "Y"}, near),))
    assert str(found) == (
        "origin=B stop=Y do not occur together in the table; nearest: (origin=A stop=Y), (origin=B stop=X)"
    )
    found = find(routes, "routes", {"origin": "C", "stop": "Y", "hour": "0"})
    assert (found.reason, found.faults[0].values) == ("value", {"origin": "C"})
    assert str(find(routes, "routes", {"origin": "B", "stop": "Y", "hour": "1"})).endswith(
        "hour=1 is not in the table; nearest: 0, 12"
    )


def test_the_keys_of_a_rows_axis_name_its_rows(tmp_path):
    warehouse = DuckDBWarehouse(str(tmp_path / "rows.duckdb"))
    axes = {"rows": {"id": ["b", "a", None], "weeks": [38.0, 38.0, None]}}
    columns = (TableColumn("id", "string", "key"), TableColumn("weeks", "float", "feature"), COLUMNS[-1])
    publish(warehouse, make_night(tmp_path, axes=axes, columns=columns))
    assert find(warehouse, "natality", {"id": "a"}).row == {"id": "a", "weeks": 38.0, "weight": prediction(1)}
    assert find(warehouse, "natality", {"id": ""}).row == {"id": None, "weeks": None, "weight": prediction(2)}
    with pytest.raises(JobError, match="unknown column 'weeks': expected id"):
        find(warehouse, "natality", {"id": "a", "weeks": "38"})


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ({"sex": "False", "weeks": "38"}, "no value of children: expected sex=… weeks=… children=…"),
        ({"sex": "False", "weaks": "38", "children": "1"}, "unknown column 'weaks': did you mean 'weeks'?"),
        (
            {"sex": "x", "weeks": "38", "children": "1", "weight": "7"},
            "unknown column 'weight': expected sex, weeks, children",
        ),
        ({"sex": "x", "weeks": "38,5", "children": "1"}, "weeks='38,5': expected a number, or nothing"),
        ({"sex": "x", "weeks": "nan", "children": "1"}, "weeks='nan': expected a number, or nothing"),
        ({"sex": "x", "weeks": "38", "children": "1.5"}, "children='1.5': expected a whole number, or nothing"),
        ({"sex": "x", "weeks": "38", "children": "inf"}, "children='inf': expected a whole number, or nothing"),
    ],
    ids=["absent", "misspelt", "output", "comma", "nan", "fraction", "infinite"],
)
def test_a_key_that_is_none_is_a_mistake(natality, key, problem):
    with pytest.raises(JobError) as wrong:
        find(natality, "natality", key)
    assert problem in str(wrong.value)


def test_whole_numbers_are_exact(tmp_path):
    large = 2**62 + 1
    warehouse = DuckDBWarehouse(str(tmp_path / "large.duckdb"))
    columns = (TableColumn("n", "int", "key"), COLUMNS[-1])
    publish(warehouse, make_night(tmp_path, axes={"n": {"n": [large - 1, large]}}, columns=columns))
    assert find(warehouse, "natality", {"n": str(large)}).row == {"n": large, "weight": prediction(1)}
    assert find(warehouse, "natality", {"n": "4611686018427387904.0"}).row["n"] == large - 1
    assert isinstance(find(warehouse, "natality", {"n": str(large + 1)}), Miss)
    assert isinstance(find(warehouse, "natality", {"n": str(2**80)}), Miss)


@hypothesis.given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique=True), asked=st.floats(-1e6, 1e6)
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_a_float_hits_its_own_row_or_one_that_the_model_cannot_tell_from_it(tmp_path_factory, values, asked):
    hypothesis.assume(len({value + 0.0 for value in values}) == len(values))
    folder = tmp_path_factory.mktemp("floats")
    warehouse = DuckDBWarehouse(str(folder / "floats.duckdb"))
    columns = (TableColumn("x", "float", "key"), COLUMNS[-1])
    publish(warehouse, make_night(folder, axes={"x": {"x": values}}, columns=columns))
    for value in values:
        assert find(warehouse, "natality", {"x": repr(value)}).row["x"] == value
    found = find(warehouse, "natality", {"x": repr(asked)})
    same_to_the_model = {value for value in values if np.float32(value) == np.float32(asked)}
    if isinstance(found, Hit):
        assert found.row["x"] in same_to_the_model
    else:
        assert not same_to_the_model
        (fault,) = found.faults
        nearest = sorted(abs(value - asked) for value in values)
        assert [abs(near["x"] - asked) for near in fault.nearest] == nearest[:3]


def test_nothing_published_says_what_to_run(tmp_path):
    with pytest.raises(RefusedError, match="nothing of natality is published yet; run `foretable run`"):
        find(DuckDBWarehouse(str(tmp_path / "none.duckdb")), "natality", {"sex": "x"})


def test_an_axis_that_is_gone_is_named(tmp_path):
    warehouse = DuckDBWarehouse(str(tmp_path / "x.duckdb"))
    night = make_night(tmp_path)
    publish(warehouse, night)
    pathlib.Path(night.axes[1]).unlink()
    with pytest.raises(ForetableError, match=r"01-weeks\.parquet: cannot read the axis of the published night"):
        find(warehouse, "natality", {"sex": "True", "weeks": "38", "children": "1"})


def test_a_lookup_does_not_wait_for_the_import_of_beam_or_tensorflow():
    code = "import sys, beam_jobs.lookup, beam_jobs.warehouses.duckdb.warehouse as _; print({'apache_beam', 'tensorflow'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_key_arguments():
    assert parse_key(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}
    for arguments, problem in ((["a"], "expected column=value"), (["=1"], "expected"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(JobError, match=problem):
            parse_key(arguments)
