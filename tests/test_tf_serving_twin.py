"""The stand-in of TensorFlow Serving's REST API: what it reads, refuses and prints, by the words of its C++ source."""

import json
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from twins.tf_serving_answers import answer, decimals
from twins.tf_serving_json import Input, InvalidError, read_request, tensors

X, N, S = Input("x", "float32"), Input("n", "int64"), Input("s", "object")


def read(inputs, body):
    return tensors(read_request(body if isinstance(body, bytes) else json.dumps(body).encode()), inputs)


def test_instances_become_columns():
    arrays, has_rows = read(
        [X, N, S],
        {"instances": [{"x": 1, "n": -(2**63), "s": "é"}, {"x": 0.1, "n": 2**63 - 1, "s": {"b64": "/wA="}}]},
    )
    assert has_rows
    assert {name: (array.dtype, array.tolist()) for name, array in arrays.items()} == {
        "n": (np.int64, [-(2**63), 2**63 - 1]),
        "s": (object, ["é".encode(), b"\xff\x00"]),
        "x": (np.float32, [1.0, np.float32(0.1)]),
    }


def test_the_only_input_needs_no_name():
    assert read([X], {"instances": [[1, 2], [3, 4]]})[0]["x"].tolist() == [[1, 2], [3, 4]]
    assert read([S], {"instances": [{"b64": "YQ=="}, "b"]})[0]["s"].tolist() == [b"a", b"b"]
    assert read([X], {"instances": [{"x": 1}, {"x": 2}]})[0]["x"].tolist() == [1, 2]


def test_columns_may_come_as_they_are():
    arrays, has_rows = read([X, N], {"inputs": {"x": [[1.5]], "n": 7}})
    assert not has_rows
    assert {name: array.tolist() for name, array in arrays.items()} == {"x": [[1.5]], "n": 7}
    assert read([X], {"inputs": [1, 2]})[0]["x"].tolist() == [1, 2]


def test_nan_and_infinity_are_numbers():
    values = read([X], b'{"instances": [NaN, Infinity, -Infinity]}')[0]["x"]
    assert math.isnan(values[0])
    assert values[1:].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("inputs", "body", "words"),
    [
        ([X], b"{", "JSON Parse error"),
        ([X], [1], "Is not object"),
        ([X], {}, "Missing 'inputs' or 'instances' key"),
        ([X], {"instances": []}, "No values in 'instances' array"),
        ([X], {"instances": 1}, "Excepting 'instances' to be an list/array"),
        ([X], {"instances": [1], "inputs": 1}, "expecting only one of 'inputs' or 'instances' keys"),
        ([X, N], {"instances": [1]}, "instances is a plain list, but expecting list of objects"),
        ([X, N], {"instances": [{"x": 1, "y": 2}]}, "key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: y"),
        ([X, N], {"instances": [{"x": 1}]}, "keys must be equal to: n,x"),
        ([X], {"instances": [{"x": 1}, 2]}, "Expecting object but got list at item 1 of input list"),
        ([X], {"instances": [1, {"x": 2}]}, "Expecting value/list but got object at item 1 of input list"),
        ([X], {"instances": [1, [2]]}, "Expecting shape [] but got: [1]"),
        ([X], {"instances": [[1], [2, 3]]}, "Expecting tensor size: 1 but got: 2"),
        ([X], {"instances": [[[1], 2]]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ([X], {"instances": [None]}, "JSON Value: null Type: Null is not of expected type: float"),
        ([X], {"instances": ["1"]}, 'JSON Value: "1" Type: String is not of expected type: float'),
        ([X], {"instances": [True]}, "Type: True is not of expected type: float"),
        ([X], {"instances": [2**24]}, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ([X], {"instances": [1e39]}, "to float without loss of precision."),
        ([N], {"instances": [1.0]}, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ([N], {"instances": [2**63]}, "is not of expected type: int64"),
        ([S], {"instances": [1]}, "JSON Value: 1 Type: Number is not of expected type: string"),
        ([S], {"instances": [{"b64": "%"}]}, "Unable to base64 decode"),
        ([X], {"inputs": {"y": 1}}, "Missing named input: x in 'inputs' object."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(inputs, body, words):
    with pytest.raises(InvalidError) as refusal:
        read(inputs, body)
    assert words in str(refusal.value)


@hypothesis.given(st.lists(st.floats(width=32), min_size=1))
def test_floats_read_back_to_themselves(values):
    array = np.array(values, np.float32)
    texts = decimals(array)
    back = np.array(json.loads(f"[{','.join(texts)}]"), np.float64).astype(np.float32)
    np.testing.assert_array_equal(back, array)
    assert all("." in text or "e" in text or text.strip("-") in ("NaN", "Infinity") for text in texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2, "0.2"), (1.0, "1.0"), (9e6, "9e+06"), (16777216.0, "16777216.0"), (1 / 3, "0.333333343"), (-0.0, "-0.0")],
)
def test_floats_are_printed_as_short_as_the_server_does(value, text):
    assert decimals(np.array([value], np.float32)) == [text]


def test_doubles_have_seventeen_digits_where_they_need_them():
    assert decimals(np.array([0.1, 1 / 3, 1e22])) == ["0.1", "0.33333333333333331", "1e+22"]


def test_predictions_are_objects_of_several_outputs_and_values_of_one():
    scores = np.array([[0.5, 1], [np.nan, 2]], np.float32)
    names = np.array([b'a"', "é".encode()], object)
    assert answer({"scores": scores}, True) == b'{"predictions": [[0.5, 1.0],\n[NaN, 2.0]]}'
    assert answer({"s": names, "n": np.array([2**63 - 1, 0])}, True).decode() == (
        '{"predictions": [{"n": 9223372036854775807, "s": "a\\""},\n{"n": 0, "s": "é"}]}'
    )
    assert answer({"raw_bytes": np.array([b"\xff"], object)}, True) == b'{"predictions": [{"b64": "/w=="}]}'
    assert answer({"s": np.array([b"\xff"], object)}, True) == b'{"predictions": ["\xff"]}'  # no UTF-8, and so printed
    assert answer({"scores": scores[:1]}, False) == b'{"outputs": [[0.5, 1.0]]}'


def test_outputs_without_a_row_for_each_instance_are_an_error():
    with pytest.raises(InvalidError, match="Tensor name: y has no shape information"):
        answer({"y": np.float32(1)[()].reshape(())}, True)
    with pytest.raises(InvalidError, match="Tensor name: z has inconsistent batch size: 1 expecting: 2"):
        answer({"y": np.zeros(2), "z": np.zeros(1)}, True)
