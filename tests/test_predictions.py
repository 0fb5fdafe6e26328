"""What a batch prediction job wrote, read strictly: each shape that a server writes, and one line on each that is wrong."""

import base64
import json
from decimal import Decimal, localcontext

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from beam_jobs.vertex.decoding import decode
from beam_jobs.vertex.exchanges import output_tables
from beam_jobs.vertex.predictions import Failure, error_lines, error_row, prediction_lines, prediction_rows
from configs.errors import ForetableError
from configs.outputs import Output

PRICE = Output(name="price", type="float", columns=("price",))
LEVEL = Output(name="level", type="int", columns=("level",))
GRADE = Output(name="grade", type="string", columns=("grade",))
SHARES = Output(name="shares", type="float", columns=("low", "high"))
PLACE = Output(name="place", type="int[]", columns=("place",))


def answered(*predictions, where="gs://b/prediction.results-0"):
    """Lines as a job writes them, of predictions in JSON."""
    return prediction_lines([f'{{"key": "{i}", "prediction": {p}}}'.encode() for i, p in enumerate(predictions)], where)


def decoded(output, *predictions):
    return decode(answered(*predictions), (output,))[output.name]


@pytest.mark.parametrize(
    ("output", "predictions", "expected"),
    [
        (PRICE, ["1.5", "-0.0", "3"], np.float32([1.5, -0.0, 3])),
        (PRICE, ["[1.5]", "[2]"], np.float32([1.5, 2])),
        (PRICE, ['{"price": 1.5}', '{"price": 2.5, "other": 0}'], np.float32([1.5, 2.5])),
        (LEVEL, ["9223372036854775807", "-9223372036854775808"], np.int64([2**63 - 1, -(2**63)])),
        (LEVEL, ["3.0", '"9007199254740992"'], np.int64([3, 2**53])),
        (LEVEL, ["9007199254740992", "9007199254740993"], np.int64([2**53, 2**53 + 1])),
        (SHARES, ["[0.25, 0.75]", "[1, 0]"], np.float32([[0.25, 0.75], [1, 0]])),
        (PLACE, ["[1, 2, 3]", "[4, 5, 6]"], np.int64([[1, 2, 3], [4, 5, 6]])),
        (PLACE, ["[1]"], np.int64([[1]])),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, list) else "",
)
def test_shapes_that_a_server_writes(output, predictions, expected):
    found = decoded(output, *predictions)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_text_and_bytes():
    odd = bytes(range(256))
    b64 = json.dumps({"b64": base64.b64encode(odd).decode()})
    found = decoded(GRADE, '"höher ☂"', '"\\u00fc"', '""', b64, '["x"]'[1:-1])
    assert found.tolist() == ["höher ☂".encode(), "ü".encode(), b"", odd, b"x"]
    (row,) = decode(answered(f'{{"grade": {b64}, "price": 1}}'), (GRADE, PRICE))["grade"]
    assert row == odd


@hypothesis.given(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["short", "serving", "double"])
)
def test_every_float_comes_back_bit_for_bit(value, writer):
    number = np.float32(value)
    text = {"short": str(number), "serving": f"{value:.9g}", "double": repr(value)}[writer]
    text = text if set(text) & {".", "e"} else f"{text}.0"
    assert decoded(PRICE, text).tobytes() == number.tobytes()


@hypothesis.given(st.floats(2**-100, 2**100, width=32), st.integers(-3, 3), st.booleans())
def test_a_decimal_is_rounded_once(value, steps, in_a_list):
    low, high = np.float32(value), np.nextafter(np.float32(value), np.float32(np.inf))
    with localcontext(prec=300):
        middle = (Decimal(float(low)) + Decimal(float(high))) / 2
        written = middle + steps * middle * Decimal("1e-25")
    text = f"[{written}]" if in_a_list else str(written)
    even = low if low.view(np.uint32) % 2 == 0 else high
    expected = even if steps == 0 else (low, high)[steps > 0]
    assert decoded(PRICE, "0.5" if not in_a_list else "[0.5]", text)[1] == expected


@pytest.mark.parametrize(
    "word", ["NaN", "Infinity", "-Infinity", '"NaN"', '"-Infinity"', "null", "1e400", "1" + "0" * 400]
)
def test_what_is_no_number_comes_through_for_the_check_of_predictions(word):
    found = decoded(PRICE, "1.5", word)
    assert found[0] == 1.5
    assert not np.isfinite(found[1])


@pytest.mark.parametrize(
    ("output", "prediction", "problem"),
    [
        (PRICE, "true", "output 'price' is True; expected a number"),
        (PRICE, '"1.5"', "output 'price' is '1.5'; expected a number"),
        (PRICE, "[1.5, 2.5]", r"output 'price' is \[1.5, 2.5\]; expected a list of 1 value"),
        (PRICE, '{"prise": 1}', r"\{'prise': 1\}: expected an object with output 'price'"),
        (LEVEL, "9007199254740993.0", "output 'level' is 9007199254740992.0; expected a whole number that no double"),
        (LEVEL, "1.5", "output 'level' is 1.5; expected a whole number that no double has rounded; use precompute.on"),
        (LEVEL, "9223372036854775808", "output 'level' is 9223372036854775808; expected a whole number of 64 bits"),
        (LEVEL, "9007199254740992", "output 'level' is 9007199254740992; expected a whole number that no double has"),
        (LEVEL, "null", "output 'level' is None; expected a whole number"),
        (GRADE, "1", "output 'grade' is 1; expected text"),
        (GRADE, '{"b64": "?"}', "output 'grade' is {'b64': '\\?'}; expected base64"),
        (SHARES, "0.5", r"output 'shares' is 0.5; expected a list of 2 values"),
        (SHARES, "[0.5]", r"output 'shares' is \[0.5\]; expected a list of 2 values"),
        (PLACE, "1", "output 'place' is 1; expected a list of values"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 24 else "",
)
def test_a_value_of_another_type_is_named(output, prediction, problem):
    with pytest.raises(ForetableError, match=rf"^gs://b/prediction.results-0: instance 0: {problem}"):
        decoded(output, prediction)


def test_a_bad_value_among_good_ones_is_named_by_its_key():
    good = {PRICE: "1.5", LEVEL: "2", GRADE: '"a"', SHARES: "[1, 2]", PLACE: "[1]"}
    for output, value in good.items():
        with pytest.raises(ForetableError, match=f"instance 2: output '{output.name}' is"):
            decoded(output, value, value, "[true, {}]", value)
    with pytest.raises(ForetableError, match=r"instance 1: 1\.5: expected an object with output 'price'"):
        decode(answered('{"price": 1, "level": 2}', "1.5"), (PRICE, LEVEL))


def test_keys_stand_beside_predictions_or_in_the_instance():
    lines = [
        b'{"prediction": 1.5, "key": "7"}',
        b'{"instance": {"key": "123456789012", "example": "x"}, "prediction": 2.5}',
        b"",
        b'{"key": 3, "prediction": 3.5}',
        b'{"key": "4", "error": {"code": 3, "message": "too\\n hot"}}',
    ]
    answers = prediction_lines(lines, "file")
    assert answers.cells().tolist() == [7, 123456789012, 3]
    assert decode(answers, (PRICE,))["price"].tolist() == [1.5, 2.5, 3.5]
    assert answers.failures == [Failure("4", "too hot")]
    assert answers.exact(2) == Decimal("3.5")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"key": "1", "prediction":', r"line 12: not JSON: b'\{\"key\": \"1\", \"prediction\":'"),
        (b"\xff\xfe", "line 12: not JSON"),
        (b'"text"', "line 12: not a prediction with its key: 'text'"),
        (b'{"prediction": 1.5}', r"line 12: not a prediction with its key: \{'prediction': 1.5\}"),
        (b'{"key": "1"}', r"line 12: not a prediction with its key: \{'key': '1'\}"),
        (b'{"key": null, "prediction": 1}', "line 12: not a prediction with its key"),
        (b'1], [{"key": "1", "prediction": 1}', "line 12: not JSON"),
        (b'{"key": "1", "prediction": 1}, {"key": "2", "prediction": 1}', "line 12: not JSON"),
    ],
    ids=range(8),
)
def test_a_garbage_line_is_named(line, problem):
    good = b'{"key": "0", "prediction": 1.5}'
    with pytest.raises(ForetableError, match=rf"^file: {problem}"):
        prediction_lines([good, good, line, good], "file", first_line=10)


@pytest.mark.parametrize("key", ["-1", "1.0", "", "x", "²", "1e3", str(2**63), "9" * 5000], ids=lambda key: key[:25])
def test_a_key_that_is_no_cell_is_refused(key):
    answers = prediction_lines([f'{{"key": "{each}", "prediction": 1}}'.encode() for each in ("7", key)], "file")
    with pytest.raises(ForetableError, match=r"^file: key .*: no instance has it"):
        answers.cells()


def test_rows_of_a_table_have_json_text_or_values():
    of_text = prediction_rows(
        ["1", "2"], ['{"price": 1.5, "level": 9007199254740993}', '{"price": 2, "level": 2}'], "t"
    )
    assert decode(of_text, (PRICE, LEVEL))["level"].tolist() == [2**53 + 1, 2]
    assert of_text.cells().tolist() == [1, 2]
    values = prediction_rows(["5"], [{"price": 1.5, "level": 3}], "t")
    assert decode(values, (PRICE, LEVEL))["price"].tolist() == [1.5]
    assert decode(prediction_rows(["5"], ["Bern"], "t"), (GRADE,))["grade"].tolist() == [b"Bern"]
    with pytest.raises(ForetableError, match=r"^t: key None: expected a string"):
        prediction_rows([None], ["1"], "t")


def test_error_lines_name_their_instances_or_only_a_reason():
    lines = [
        b'{"key": "3", "error": {"code": 3, "message": "bad input"}}',
        b'{"instance": {"key": "4"}, "error": "no memory"}',
        b"('Post request fails. Cannot get predictions. Error: 503.', 64)",
        b'{"error": {"message": "lost"}}',
        b"\xff",
    ]
    assert error_lines(lines) == [
        Failure("3", "bad input"),
        Failure("4", "no memory"),
        Failure(None, "('Post request fails. Cannot get predictions. Error: 503.', 64)"),
        Failure(None, "lost"),
        Failure(None, "\ufffd"),
    ]


def test_rows_of_an_error_table():
    assert error_row("3", {"code": 3, "message": "bad"}) == Failure("3", "bad")
    assert error_row("3", '{"code": 3, "message": "bad"}') == Failure("3", "bad")
    assert error_row(None, "bad") == Failure(None, "bad")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("predictions_2026_01_05T01", {"predictions": "predictions_2026_01_05T01", "errors": "errors_2026_01_05T01"}),
        ("p.d.predictions_predictions", {"predictions": "predictions_predictions", "errors": "errors_predictions"}),
        ("p.d.answers", {"predictions": "answers"}),
        ("p.predictions.answers", {"predictions": "answers"}),
        ("", {}),
    ],
)
def test_no_table_of_predictions_is_taken_for_one_of_errors(table, expected):
    assert output_tables(table) == expected
