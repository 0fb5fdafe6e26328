"""Values as the job's column types: what passes, what is missing, what is a fault."""

import datetime
import decimal
import math

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pytest

from transforms.columns import ARROW_TYPES, MISSING_INT
from transforms.examples.readers.conversion import convert, parse_text


@pytest.mark.parametrize(
    ("column_type", "texts", "values", "faults"),
    [
        ("string", ["a", "", None, " b "], ["a", None, None, " b "], {}),
        ("float", ["1.5", " 2 ", "", None, "-1e3", "+4"], [1.5, 2.0, None, None, -1000.0, 4.0], {}),
        ("float", ["nan", "NaN"], [None, None], {}),
        ("float", ["x", "1.0"], [None, 1.0], {0: "expected a number"}),
        ("float", ["1_0", "0x10", "1,5", "٣"], [None] * 4, dict.fromkeys(range(4), "expected a number")),
        ("float", ["inf", "1e400", "-Infinity"], [None] * 3, dict.fromkeys(range(3), "expected a finite number")),
        ("int", ["40", "40.0", "4e1", " 7", "", None], [40, 40, 40, 7, None, None], {}),
        ("int", ["9223372036854775807", "x"], [2**63 - 1, None], {1: "expected a whole number"}),
        ("int", ["9223372036854775808", "40.5"], [None, None], dict.fromkeys(range(2), "expected a whole number")),
        ("int", ["nan", "1"], [None, 1], {}),
        ("int", [str(MISSING_INT), "1"], [None, 1], {0: "stands for a missing int inside the graph"}),
        ("int", [], [], {}),
    ],
)
def test_parse_text(column_type, texts, values, faults):
    parsed = parse_text(pa.array(texts, pa.string()), column_type)
    assert parsed.values.to_pylist() == values
    assert parsed.values.type == ARROW_TYPES[column_type]
    assert parsed.faults == faults


DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-(10**17), max_value=10**17)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.none() | DECIMALS, max_size=20))
@pytest.mark.parametrize("scale", [20, 38], ids=["128_bits", "256_bits"])
def test_a_decimal_is_its_plain_digits_and_the_nearest_float(scale, numbers):
    array = pa.array(numbers, pa.decimal128(38, 20) if scale == 20 else pa.decimal256(76, 38))
    assert convert(array, "float").values.to_pylist() == [None if n is None else float(n) for n in numbers]
    for text, number in zip(convert(array, "string").values.to_pylist(), numbers, strict=True):
        assert (text is None) == (number is None)
        if number is not None:
            assert decimal.Decimal(text) == number
            assert "E" not in text
            assert "." not in text or not text.endswith(("0", "."))


@hypothesis.given(st.lists(st.one_of(st.none(), st.floats(allow_infinity=False)), max_size=30))
def test_floats_survive_their_text(values):
    texts = [None if value is None else repr(value) for value in values]
    expected = [None if value is None or math.isnan(value) else value for value in values]
    assert parse_text(pa.array(texts, pa.string()), "float").values.to_pylist() == expected


@hypothesis.given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=30), st.booleans())
def test_ints_survive_their_text_beside_any_other_value(values, with_fault):
    texts = [str(value) for value in values] + ["x"] * with_fault
    assert parse_text(pa.array(texts, pa.string()), "int").values.to_pylist() == values + [None] * with_fault


DATE = datetime.date(2026, 1, 31)


@pytest.mark.parametrize(
    ("column_type", "array", "values", "faults"),
    [
        ("float", pa.array([1, None], pa.int32()), [1.0, None], {}),
        ("float", pa.array([1.5, math.nan], pa.float32()), [1.5, None], {}),
        ("float", pa.array([math.inf, 1.0]), [None, 1.0], {0: "expected a finite number"}),
        ("float", pa.array([decimal.Decimal("1.25")]), [1.25], {}),
        ("float", pa.array([True, False]), [1.0, 0.0], {}),
        ("float", pa.array(["1.5", None]), [None, None], {0: "expected a number, got string"}),
        ("float", pa.nulls(2), [None, None], {}),
        ("int", pa.array([40.0, 40.5, math.nan]), [40, None, None], {1: "expected a whole number, got double"}),
        ("int", pa.array([1e300]), [None], {0: "expected a whole number, got double"}),
        ("int", pa.array([1, 2**63], pa.uint64()), [1, None], {1: "expected a whole number, got uint64"}),
        ("int", pa.array([MISSING_INT]), [None], {0: "stands for a missing int inside the graph"}),
        ("int", pa.array([True, None]), [1, None], {}),
        ("int", pa.array([DATE]), [None], {0: "expected a whole number, got date32[day]"}),
        ("string", pa.array(["a", "", None]).dictionary_encode(), ["a", None, None], {}),
        ("string", pa.array([b"a", b"\xff"]), ["a", None], {1: "expected UTF-8 text, got binary"}),
        ("string", pa.array([7, 2**63 - 1]), ["7", "9223372036854775807"], {}),
        ("string", pa.array([DATE]), ["2026-01-31"], {}),
        ("string", pa.array([["a"], None]), [None, None], {0: "expected UTF-8 text, got list<item: string>"}),
    ],
)
def test_convert(column_type, array, values, faults):
    converted = convert(array, column_type)
    assert converted.values.to_pylist() == values
    assert converted.values.type == ARROW_TYPES[column_type]
    assert converted.faults == faults
