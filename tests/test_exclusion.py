"""Exclusion: exactly the points for which the condition is true, tabulated or not."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from configs.errors import JobError, RefusedError
from transforms.space import exclusion
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace

AXES = (
    Axis("a", "values", pa.table({"a": pa.array([1, None, 3], pa.int64())})),
    Axis("b", "values", pa.table({"b": pa.array(["x", "y"])})),
    Axis("c", "values", pa.table({"c": pa.array([0.5, 1.5, None, 2.5])})),
)
CONDITIONS = {
    "a = 1": lambda a, b, c: a == 1,
    "c > 1 AND b = 'y'": lambda a, b, c: c is not None and c > 1 and b == "y",
    "a IS NULL OR c > a": lambda a, b, c: a is None or (c is not None and c > a),
    "NULL": None,
    "B = 'x' AND a = 3 AND c IS NULL": lambda a, b, c: b == "x" and a == 3 and c is None,
    "a = 99": lambda a, b, c: False,
}


@pytest.mark.parametrize("condition", [condition for condition, holds in CONDITIONS.items() if holds])
@pytest.mark.parametrize("tabulated", [True, False], ids=["tabulated", "by block"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["a b c", "c a b"])
def test_excludes_what_brute_force_does(condition, tabulated, order, monkeypatch):
    if not tabulated:
        monkeypatch.setattr(exclusion, "MAX_TABULATED", 1)
        monkeypatch.setattr(exclusion, "_CHUNK_ROWS", 5)
    space = InputSpace(tuple(AXES[index] for index in order), ("a", "b", "c"), condition)
    positions = np.arange(space.cardinality)
    expected = [CONDITIONS[condition](**row) for row in space.columns(positions).to_pylist()]
    found = Exclusion(space)
    assert found.mask(positions).tolist() == expected
    assert found.mask(positions[::-1]).tolist() == expected[::-1]
    assert found.excluded_count == sum(expected)
    assert found.included(3, 20).positions.tolist() == [index for index in range(3, 20) if not expected[index]]
    assert found.included_count(3, 20) == 17 - sum(expected[3:20])


@hypothesis.given(st.integers(0, 23), st.integers(0, 24), st.sampled_from(["a = 1", "c > 1 AND b = 'y'", None]))
def test_ranges_add_up(start, middle, condition):
    found = Exclusion(InputSpace(AXES, exclude=condition))
    middle = max(start, middle)
    assert [
        *found.included(start, middle).positions,
        *found.included(middle, 24).positions,
    ] == found.included(start, 24).positions.tolist()
    assert found.included_count(0, 24) == 24 - found.excluded_count


LINES = tuple(
    Axis(name, "range", pa.table({name: pa.array(range(rows), pa.int64())})) for name, rows in (("i", 400), ("j", 1000))
)


@pytest.mark.parametrize(
    ("condition", "share"),
    [
        (None, 6 * BLOCK_ROWS / 400_000),
        ("i < 60", 5 * BLOCK_ROWS / 340_000),
        ("i = 131 OR i = 399", 4 * BLOCK_ROWS / 398_000),
        ("j = 3", 0.0),
    ],
)
def test_share_of_rows_in_full_blocks(condition, share):
    assert Exclusion(InputSpace(LINES, exclude=condition)).whole_share == share


def test_share_of_rows_in_full_blocks_of_a_large_space_is_near():
    axes = (Axis("h", "range", pa.table({"h": pa.array(range(1000), pa.int64())})), *LINES)
    found = Exclusion(InputSpace(axes, exclude="h < 250 AND j = 3"))
    assert found.whole_share == pytest.approx(0.75, abs=0.15)
    assert found.whole_share == Exclusion(InputSpace(axes, exclude="h < 250 AND j = 3")).whole_share


def test_enumerates_only_the_axes_that_the_condition_names():
    wide = tuple(Axis(f"w{i}", "values", pa.table({f"w{i}": pa.array(range(10**4))})) for i in range(5))
    found = Exclusion(InputSpace((*wide, *AXES), exclude="a = 1 AND c IS NULL"))
    assert found.excluded_count == 10**20 * 2
    assert found.mask(np.array([0, 2, 8, 24 * 10**14 + 2])).tolist() == [False, True, False, True]


def test_without_a_condition_nothing_is_excluded():
    found = Exclusion(InputSpace(AXES))
    assert found.excluded_count == 0
    assert not found.mask(np.arange(24)).any()
    assert found.included(2, 5).positions.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ("a == ", JobError, "input_space.exclude: 'a == ': "),
        ("d = 1", JobError, "unknown column 'd'"),
        ("1 = 1", JobError, "names no column"),
        ("a + 1", JobError, "expected true or false for each point, got int64"),
        ("a = 1 OR a <> 1 OR a IS NULL", RefusedError, "excludes every point"),
    ],
)
def test_refuses_a_condition(condition, error, message):
    with pytest.raises(error) as caught:
        assert Exclusion(InputSpace(AXES, exclude=condition)).excluded_count
    assert message in str(caught.value)
    assert "input_space.exclude" in str(caught.value)
