"""Examples against a schema: what is found, in which words, and that the proposed edit mends just that."""

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.features import Feature
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.schema import infer_schema
from transforms.examples.schema_validation import check_schema
from transforms.examples.statistics import dataset_statistics

COLUMNS = {"word": "string", "x": "float", "n": "int", "street": "string"}
FEATURES = {"word": Feature(type="string", missing="none"), "x": Feature(type="float"), "n": Feature(type="int")}
STREETS = [f"street {i % 150}" for i in range(400)]
SCHEMA = """
    feature {
      name: "word" type: BYTES domain: "words" presence { min_fraction: 0.8 min_count: 1 } value_count { min: 1 max: 1 }
      distribution_constraints { min_domain_mass: 0.95 }
    }
    feature {
      name: "x" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape { }
      float_domain { min: 0 max: 10 } distribution_constraints { min_domain_mass: 0.9 }
    }
    feature { name: "n" type: INT presence { min_count: 1 } int_domain { min: 0 max: 9 } }
    feature { name: "street" type: BYTES unique_constraints { min: 10 max: 200 } }
    string_domain { name: "words" value: "a" value: "b" }
"""


def statistics(evaluation=None, **changes):
    columns = {
        "word": ["a", "b"] * 200,
        "x": [float(i % 11) for i in range(400)],
        "n": [i % 10 for i in range(400)],
        "street": STREETS,
    }
    splits = {}
    for split, edits in (("train", changes), ("eval", evaluation or {})):
        splits[split] = SplitSummary()
        rows = max((len(values) for values in edits.values()), default=400)
        arrays = {name: pa.array(edits.get(name, (columns[name] * -(-rows // 400))[:rows])) for name in columns}
        splits[split].add(pa.record_batch(arrays))
    return dataset_statistics(splits)


def check(found, schema=SCHEMA, columns=COLUMNS):
    parsed = text_format.Parse(schema, schema_pb2.Schema())
    return check_schema(parsed, found, infer_schema(found, columns, FEATURES)), parsed


def test_examples_that_keep_the_schema():
    checked, schema = check(statistics())
    assert checked.anomalies == ()
    assert checked.proposal == schema


@pytest.mark.parametrize(
    ("changes", "reason", "long"),
    [
        (
            {"word": ["a", "b"] * 174 + ["c"] * 50 + ["d"] * 2},
            "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
            "13.0% of word in the train split is not of its domain, expected at most 5.0% and 5.5% by chance: "
            "'c' (12.5%), 'd' (0.5%)",
        ),
        (
            {"word": ["a"] * 240 + [None] * 160},
            "FEATURE_TYPE_LOW_FRACTION_PRESENT",
            "word is missing in 40.0% of the train split's rows, expected at most 20.0% and 9.4% by chance "
            "(presence.min_fraction)",
        ),
        (
            {"x": [5.0] * 320 + [-3.0] * 30 + [4536.0] * 50},
            "FLOAT_TYPE_SMALL_FLOAT",
            "20.0% of x in the train split is outside 0 to 10, expected at most 10.0% and 7.3% by chance: "
            "it goes from -3 to 4536",
        ),
        (
            {"n": [1] * 399 + [10]},
            "INT_TYPE_BIG_INT",
            "0.2% of n in the train split is outside 0 to 9, expected at most 0.0%: it goes from 1 to 10",
        ),
        (
            {"street": [f"street {i % 300}" for i in range(400)]},
            "FEATURE_TYPE_HIGH_UNIQUE",
            "street has 300 different values in the train split, expected 10 to 200 (unique_constraints)",
        ),
        (
            {"street": ["street"] * 400},
            "FEATURE_TYPE_LOW_UNIQUE",
            "street has 1 different values in the train split, expected 10 to 200 (unique_constraints)",
        ),
    ],
    ids=["unknown words", "missing", "float range", "int range", "too many values", "too few values"],
)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_what_breaks_the_schema_is_named_and_the_proposal_mends_it(changes, reason, long, split):
    found = statistics(**changes) if split == "train" else statistics(evaluation=changes)
    checked, schema = check(found)
    (anomaly,) = checked.anomalies
    assert (anomaly.reason, anomaly.severity) == (reason, "ERROR")
    assert anomaly.long == long.replace("the train split", f"the {split} split")
    assert anomaly.path == f"schema.{anomaly.column}"
    assert checked.proposal != schema
    assert check_schema(checked.proposal, found, infer_schema(found, COLUMNS, FEATURES)).anomalies == ()
    untouched = [feature for feature in schema.feature if feature.name != anomaly.column]
    assert [feature for feature in checked.proposal.feature if feature.name != anomaly.column] == untouched


@pytest.mark.parametrize(
    "changes",
    [
        {"word": ["a", "b"] * 190 + ["c"] * 20},
        {"word": ["a"] * 320 + [None] * 80},
        {"x": [5.0] * 360 + [1e6] * 40},
        {"street": [f"street {i % 200}" for i in range(400)]},
    ],
    ids=["unknown words", "missing", "range", "unique"],
)
def test_the_tolerance_itself_is_tolerated(changes):
    assert check(statistics(**changes))[0].anomalies == ()


def test_both_splits_at_once_are_one_anomaly_and_one_edit():
    found = statistics(evaluation={"word": ["d"] * 400}, word=["c"] * 400)
    checked, _ = check(found)
    (anomaly,) = checked.anomalies
    assert anomaly.long.startswith("100.0% of word in the train split")
    assert list(checked.proposal.string_domain[0].value) == ["a", "b", "c", "d"]


def test_a_presence_that_is_given_up_is_no_shape_any_more():
    found = statistics(x=[1.0] * 390 + [None] * 10)
    checked, _ = check(found)
    x = checked.proposal.feature[1]
    assert not x.HasField("shape")
    assert (x.value_count.min, x.presence.min_fraction) == (1, pytest.approx(0.975))


def test_another_type_takes_over_the_column():
    schema = SCHEMA.replace('name: "word" type: BYTES', 'name: "word" type: INT')
    found = statistics()
    checked, _ = check(found, schema)
    (anomaly,) = checked.anomalies
    assert (anomaly.reason, anomaly.long) == ("UNEXPECTED_DATA_TYPE", "word is string, expected int")
    assert checked.proposal.feature[0] == infer_schema(found, COLUMNS, FEATURES).feature[0]
    assert [domain.name for domain in checked.proposal.string_domain] == ["words", "word"]


def test_new_and_vanished_columns():
    columns = {name: kind for name, kind in COLUMNS.items() if name != "n"}
    schema = SCHEMA.replace('name: "street"', 'name: "road"')
    checked, _ = check(statistics(), schema, columns)
    assert [(found.reason, found.severity, found.column) for found in checked.anomalies] == [
        ("SCHEMA_MISSING_COLUMN", "ERROR", "n"),
        ("SCHEMA_MISSING_COLUMN", "WARNING", "road"),  # the schema does not say that it has to be there
        ("SCHEMA_NEW_COLUMN", "WARNING", "street"),
    ]
    stages = {feature.name: feature.lifecycle_stage for feature in checked.proposal.feature}
    assert stages["n"] == stages["road"] == schema_pb2.DEPRECATED
    assert stages["street"] == schema_pb2.UNKNOWN_STAGE
    found = statistics()
    assert check_schema(checked.proposal, found, infer_schema(found, columns, FEATURES)).anomalies == ()


def test_rows_as_a_whole():
    schema = SCHEMA + "dataset_constraints { min_examples_count: 1000 }"
    checked, _ = check(statistics(), schema)
    assert [found.long for found in checked.anomalies] == ["800 rows, expected 1,000 or more (dataset_constraints)"]
    assert checked.proposal.dataset_constraints.min_examples_count == 800
    checked, _ = check(statistics(), SCHEMA + "dataset_constraints { max_examples_count: 100 }")
    assert [found.reason for found in checked.anomalies] == ["DATASET_HIGH_NUM_EXAMPLES"]


def many(outliers, bounds, schema):
    """Statistics of 100,000 normal numbers, some of them replaced, against a range that has all the others."""
    numbers = np.random.default_rng(7).normal(5.0, 1.0, 100_000).clip(1.0, 9.0)
    numbers[: len(outliers)] = outliers
    splits = {}
    for split in ("train", "eval"):
        splits[split] = SplitSummary(bounds=bounds)
        splits[split].add(pa.record_batch({"x": numbers}))
    return check(dataset_statistics(splits), schema, {"x": "float"})[0].anomalies


RANGE = """
    feature {
      name: "x" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape { }
      float_domain { min: 0 max: 10 } distribution_constraints { min_domain_mass: 0.99 }
    }
"""
BOUNDS = {"x": (0.0, 10.0)}


@pytest.mark.parametrize("bounds", [{}, {"x": (0.0, 9.0)}, BOUNDS], ids=["uncounted", "of another range", "counted"])
@pytest.mark.parametrize("mass", ["0.99", "0.995", "0.9999"])
def test_an_outlier_is_no_share_of_the_rows(bounds, mass):
    assert many([-50.0, 60.0], bounds, RANGE.replace("0.99", mass)) == ()


@pytest.mark.parametrize(
    ("outside", "bounds", "found"),
    [(1400, BOUNDS, "1.4%"), (3500, {}, "3.0%"), (1000, BOUNDS, None), (2, BOUNDS, None)],
    ids=["counted", "whole buckets", "as many as tolerated", "two rows"],
)
def test_a_share_of_many_numbers_outside_is_found(outside, bounds, found):
    anomalies = many([60.0] * outside, bounds, RANGE)
    expected = f"{found} of x in the train split is outside 0 to 10, expected at most 1.0% and 0.1% by chance: it goes from 1 to 60"
    assert [anomaly.long for anomaly in anomalies] == ([expected] if found else [])


def test_without_tolerance_one_row_of_many_is_named():
    (anomaly,) = many([60.0], {}, RANGE.replace("distribution_constraints { min_domain_mass: 0.99 }", ""))
    assert anomaly.long.startswith("0.001% of x in the train split is outside 0 to 10, expected at most 0.0%: ")


@pytest.mark.parametrize("value", [0.1, -0.1, 1e300, 16777217.0], ids=str)
def test_an_inferred_range_has_its_own_extremes(value):
    """A schema's floats have 32 bits, and the nearest one may leave out the very value."""
    found = statistics({"x": [value] * 400}, x=[value] * 400)
    inferred = infer_schema(found, COLUMNS, FEATURES)
    assert check_schema(inferred, found, inferred).anomalies == ()
    mended = check(found)[0].proposal
    assert check_schema(mended, found, inferred).anomalies == ()


@pytest.mark.parametrize(("missing", "found"), [(26, 0), (40, 1)])
def test_a_small_split_is_given_what_chance_makes_of_it(missing, found):
    """A column that is missing in 30 % of the rows may well be missing in 26 of 50, and hardly in 40."""
    many = statistics(word=(["a"] * 6 + ["b"] + [None] * 3) * 10_000)
    schema = infer_schema(many, COLUMNS, FEATURES)
    assert schema.feature[0].presence.min_fraction == 0.6
    night = statistics({"word": ["a"] * (50 - missing) + [None] * missing})
    anomalies = check_schema(schema, night, infer_schema(night, COLUMNS, FEATURES)).anomalies
    assert [anomaly.reason for anomaly in anomalies] == ["FEATURE_TYPE_LOW_FRACTION_PRESENT"] * found


def test_what_must_never_be_is_not_left_to_chance():
    found = statistics(x=[1.0] * 399 + [None])
    (anomaly,) = check(found)[0].anomalies
    assert anomaly.long == (
        "x is missing in 0.2% of the train split's rows, expected at most 0.0% (presence.min_fraction)"
    )
