"""SQL expressions: what they see, what they give, and how they are refused."""

import math

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pytest

from configs.errors import JobError
from transforms.sql import evaluate_expression, referenced_columns

TABLE = pa.table(
    {
        "fare": pa.array([10.0, 5.0, None, 20.0]),
        "tips": pa.array([3.0, 1.0, 2.0, None]),
        "Pickup Area": pa.array(["a", "b", None, "d"]),
    }
)


def test_evaluates_each_row_in_order_with_nulls():
    assert evaluate_expression("tips > 0.2 * fare", TABLE).to_pylist() == [True, False, None, None]
    batch = TABLE.to_batches()[0]
    assert evaluate_expression("\"Pickup Area\" IN ('a', 'd')", batch).to_pylist() == [True, False, None, True]
    assert evaluate_expression("1", TABLE).to_pylist() == [1, 1, 1, 1]
    assert evaluate_expression("fare + 1 -- with a comment", TABLE).to_pylist() == [11, 6, None, 21]
    assert len(evaluate_expression("fare", TABLE.slice(0, 0))) == 0


@hypothesis.given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=50))
def test_equals_the_same_comparison_in_python(values):
    expected = [None if value is None else value > 0.5 for value in values]
    assert evaluate_expression("x > 0.5", pa.table({"x": pa.array(values, pa.float64())})).to_pylist() == expected


def test_keeps_the_order_of_many_rows():
    table = pa.table({"x": range(300_000)})
    assert evaluate_expression("x + 1", table).equals(pa.array(range(1, 300_001)))


def test_division_by_zero_is_the_database_s():
    assert evaluate_expression("tips / (fare - fare)", TABLE).to_pylist()[0] in (None, math.inf)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("tips > 0.2 * fare", ("fare", "tips")),
        ("TIPS IS NULL", ("tips",)),
        ("\"Pickup Area\" = 'tips'", ("Pickup Area",)),
        ("CASE WHEN fare BETWEEN 1 AND tips THEN 1 ELSE 0 END", ("fare", "tips")),
        ("len(list_filter([1, 2], lambda fares: fares > tips)) > 0", ("tips",)),
        ("true", ()),
    ],
)
def test_referenced_columns(expression, expected):
    assert referenced_columns(expression, TABLE.column_names) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("tip > 1", "unknown column 'tip'; did you mean 'tips'?"),
        ("zzz > 1", "unknown column 'zzz', expected one of fare, tips, Pickup Area"),
        ("tips >", "syntax error"),
        ("tips) FROM examples WHERE (true", "syntax error"),
        ("tips) AS value FROM examples WHERE (true", "syntax error"),
        ("1) AS value FROM examples UNION ALL SELECT (2", "expected one SQL expression"),
        ("1), (2", "expected one SQL expression, got 2"),
        ("1) AS value FROM examples; SELECT (2", "expected one SQL expression"),
        ("sum(fare) > 1", "got sum(), an aggregate"),
        ("row_number() OVER () > 1", "got a window function"),
        ("fare > (SELECT 1)", "got a subquery"),
        ("*", "got a star"),
        ("random() < fare", "got random(), which differs from call to call"),
        ("now() IS NULL", "which differs from call to call"),
        ("unnest([1, 2])", "expected one value a row"),
        ('CAST("Pickup Area" AS INTEGER)', "onversion Error"),
        ("nosuch(fare)", "nosuch does not exist"),
        ("(SELECT content FROM read_text('/etc/hostname'))", "got a subquery"),
    ],
)
def test_refuses_in_one_line_that_names_the_expression(expression, message):
    with pytest.raises(JobError) as caught:
        evaluate_expression(expression, TABLE)
    assert message in str(caught.value)
    assert repr(expression) in str(caught.value)
    assert "\n" not in str(caught.value)
