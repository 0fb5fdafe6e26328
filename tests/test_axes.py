"""Axes: exactly the declared values, and one clear line for what is wrong with them."""

import decimal
import math

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pytest

from configs.errors import JobError, RefusedError
from configs.features import Feature
from configs.sources import ParquetSource
from configs.space import DistinctAxis, RangeAxis, RowsAxis, ValuesAxis, VocabularyAxis
from transforms.columns import ARROW_TYPES
from transforms.space.axes import build_axis

FEATURES = {
    "city": Feature(type="string", missing="Bern"),
    "area": Feature(type="float", missing=80.0),
    "rooms": Feature(type="int", missing=3),
    "state": Feature(type="string"),
    "height": Feature(type="float"),
    "floor": Feature(type="int"),
}
SOURCE = ParquetSource(kind="parquet", files=("rows.parquet",))


def build(name, node, rows=None, words=()):
    def read(axis, columns):
        assert SOURCE in (getattr(axis, "distinct", None), getattr(axis, "rows", None))
        return rows_of(columns)

    def rows_of(columns):
        return pa.table({column: pa.array(rows[column], ARROW_TYPES[kind]) for column, kind in columns.items()})

    return build_axis(
        name, node, FEATURES, read, lambda feature: words, lambda: rows_of({c: FEATURES[c].type for c in rows})
    )


def values(name, node, **sources):
    axis = build(name, node, **sources)
    assert axis.table.schema == pa.schema([(name, ARROW_TYPES[FEATURES[name].type])])
    assert axis.keys == (name,)
    return axis.table[name].to_pylist()


def test_values_in_the_order_declared():
    assert values("city", ValuesAxis(values=("Chur", None, "Basel"))) == ["Chur", None, "Basel"]
    assert values("area", ValuesAxis(values=(12, 0.1, None))) == [12.0, 0.1, None]
    assert values("rooms", ValuesAxis(values=(3, 2.0, -1))) == [3, 2, -1]
    assert math.copysign(1, values("area", ValuesAxis(values=(-0.0,)))[0]) == 1


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "city",
            (True,),
            "input_space.axes.city.values: True: expected string; YAML reads a truth value here: quote it",
        ),
        ("city", (12,), "input_space.axes.city.values: 12: expected text; quote it"),
        ("city", ("",), "input_space.axes.city.values: '': the empty string travels as the missing value; write null"),
        ("area", ("12",), "input_space.axes.area.values: '12': expected a number for a feature of type float"),
        ("area", (float("nan"),), "nan: expected a finite number"),
        ("area", (-math.inf,), "-inf: expected a finite number"),
        ("area", (1e39,), "1e+39: expected a number within float32's range"),
        ("rooms", (1.5,), "input_space.axes.rooms.values: 1.5: expected a whole number"),
        ("rooms", (2**63,), "expected a number of 64 bits"),
        ("rooms", (-(2**63),), "expected a number of 64 bits"),
        ("rooms", (False,), "False: expected int"),
        ("city", (), "input_space.axes.city: has no values"),
        ("city", ("a", "b", "a"), "input_space.axes.city: city='a' is there 2 times"),
        ("area", (0.0, -0.0), "area=0.0 is there 2 times"),
        ("area", (None, None), "area=None is there 2 times"),
        ("state", ("BE", None), "features.state declares no missing: value"),
    ],
)
def test_refuses_values(name, given, message):
    with pytest.raises(JobError) as caught:
        build(name, ValuesAxis(values=given))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_range_is_what_its_numbers_say():
    assert values("area", RangeAxis(range=(12, 13), step=0.25)) == [12.0, 12.25, 12.5, 12.75, 13.0]
    assert values("area", RangeAxis(range=(-0.1, 0.3), step=0.1, missing=True)) == [-0.1, 0.0, 0.1, 0.2, 0.3, None]
    assert values("rooms", RangeAxis(range=(-1, 3), step=2)) == [-1, 1, 3]
    assert values("area", RangeAxis(range=(5, 5))) == [5.0]


@hypothesis.given(st.integers(-(10**6), 10**6), st.integers(1, 10**4), st.integers(0, 200), st.integers(0, 6))
def test_range_has_the_literals_of_its_steps(low, step, count, digits):
    def literal(number):
        return float(decimal.Decimal(number).scaleb(-digits))

    found = values("area", RangeAxis(range=(literal(low), literal(low + step * count)), step=literal(step)))
    assert found == [literal(low + step * index) for index in range(count + 1)]


@pytest.mark.parametrize(
    ("name", "node", "message"),
    [
        ("city", RangeAxis(range=(1, 2)), "input_space.axes.city.range: [1.0, 2.0]: expected a feature of numbers"),
        ("rooms", RangeAxis(range=(1, 2), step=0.5), "input_space.axes.rooms.step: 0.5: expected a whole number"),
        ("rooms", RangeAxis(range=(0.5, 2)), "input_space.axes.rooms.range: 0.5: expected a whole number"),
        ("area", RangeAxis(range=(2, 1)), "expected the lower bound first"),
        ("area", RangeAxis(range=(0, 1), step=0.3), "such as 0.9 or 1.2"),
        ("area", RangeAxis(range=(0, 1), step=1e-9), "1,000,000,001 values, more than 10,000,000"),
        ("area", RangeAxis(range=(0, math.inf)), "inf: expected a finite number"),
        ("height", RangeAxis(range=(0, 1), missing=True), "features.height declares no missing: value"),
    ],
)
def test_refuses_a_range(name, node, message):
    with pytest.raises(JobError) as caught:
        build(name, node)
    assert message in str(caught.value)


def test_vocabulary_is_sorted_with_one_unseen_word_and_missing():
    node = VocabularyAxis(vocabulary=True)
    assert values("city", node, words=["Chur", "Basel"]) == ["Basel", "Chur", "(other)", None]
    assert values("state", node, words=["(other)", "", "(other)_"]) == ["(other)", "(other)_", "(other)__"]
    assert values("rooms", node, words=["10", "9", "-2"]) == [-2, 9, 10, 11, None]
    assert values("floor", node, words=[str(2**63 - 1), "5"]) == [5, 2**63 - 1, 4]
    assert values("floor", node) == [0]
    with pytest.raises(JobError, match=r"input_space\.axes\.area\.vocabulary: a float feature has none"):
        build("area", node)


def test_vocabulary_says_where_it_was_asked_for():
    def no_words(feature):
        raise RefusedError(f"{feature}: no vocabulary")

    with pytest.raises(RefusedError, match=r"input_space\.axes\.city\.vocabulary: city: no vocabulary"):
        build_axis("city", VocabularyAxis(vocabulary=True), FEATURES, None, no_words, None)


@pytest.mark.parametrize("source", ["examples", SOURCE])
def test_distinct_has_each_combination_once_sorted(source):
    rows = {"city": ["b", "a", "", "b", None, "a"], "area": [1, 2, math.nan, 1.0, None, -0.0], "rooms": [1] * 6}
    node = DistinctAxis(distinct=source, columns=("city", "area"))
    axis = build("places", node, rows=rows)
    assert axis.table.to_pylist() == [
        {"city": "a", "area": 0.0},
        {"city": "a", "area": 2.0},
        {"city": "b", "area": 1.0},
        {"city": None, "area": None},
    ]
    assert (axis.kind, axis.keys) == ("distinct", ("city", "area"))


def test_distinct_refuses_what_the_feature_may_not_be():
    with pytest.raises(RefusedError, match=r"input_space\.axes\.states: has the missing value, and features\.state"):
        build("states", DistinctAxis(distinct=SOURCE, columns=("state",)), rows={"state": ["a", None]})
    with pytest.raises(RefusedError, match="has no values"):
        build("states", DistinctAxis(distinct=SOURCE, columns=("state",)), rows={"state": []})


ROWS = {
    "id": ["z", "a", "m"],
    "city": ["Chur", "Bern", "Chur"],
    "area": [1.5, None, 1.5],
    "rooms": [2, 3, 2],
    "state": ["a", "b", "a"],
    "height": [1.0, 2.0, 1.0],
    "floor": [0, 1, 0],
}


def test_rows_are_kept_in_order_under_their_keys():
    axis = build("houses", RowsAxis(rows=SOURCE, keys=("id",)), rows=ROWS)
    assert axis.table.to_pydict() == ROWS
    assert axis.keys == ("id",)


@pytest.mark.parametrize(
    ("keys", "ids", "message"),
    [
        ((), ["z", "a", "m"], "input_space.axes.houses: city='Chur', area=1.5, rooms=2"),
        (("id",), ["z", "a", "z"], "id='z' is there 2 times"),
        (("id",), ["z", "", "m"], "input_space.axes.houses.keys: id is missing in 1 rows"),
    ],
)
def test_rows_refuse_keys_that_do_not_name_a_row(keys, ids, message):
    with pytest.raises(RefusedError) as caught:
        build("houses", RowsAxis(rows=SOURCE, keys=keys), rows=ROWS | {"id": ids})
    assert message in str(caught.value)
