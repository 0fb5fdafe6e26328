"""The schema: types, presence and domains, from statistics and the job."""

import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.features import Feature
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.schema import MAX_DOMAIN_VALUES, infer_schema
from transforms.examples.statistics import dataset_statistics


def test_infer_schema():
    rows = 2600
    summary = SplitSummary()
    summary.add(
        pa.record_batch(
            {
                "word": pa.array(["b", "a", None] + ["a"] * (rows - 3)),
                "x": pa.array([1.0] * rows),
                "id": pa.array([str(i) for i in range(rows)]),
                "month": pa.array([None] + [1] * (rows - 1), pa.int64()),
                "label": pa.array([1] * rows),
                "stamp": pa.array(["now"] * rows),
            }
        )
    )
    columns = {"word": "string", "x": "float", "id": "string", "month": "int", "label": "int", "stamp": "string"}
    features = {
        "word": Feature(type="string", missing="none"),
        "x": Feature(type="float", missing=0),
        "id": Feature(type="string"),
    }
    expected = """
        feature {
          name: "word" type: BYTES domain: "word" presence { min_fraction: 0.89 min_count: 1 } value_count { min: 1 max: 1 }
          distribution_constraints { min_domain_mass: 0.99 }
        }
        feature {
          name: "x" type: FLOAT presence { min_fraction: 0.9 min_count: 1 } value_count { min: 1 max: 1 }
          float_domain { min: 1 max: 1 } distribution_constraints { min_domain_mass: 0.99 }
        }
        feature { name: "id" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { } }
        feature {
          name: "month" type: INT presence { min_fraction: 0.89 min_count: 1 } value_count { min: 1 max: 1 }
          int_domain { min: 1 max: 1 } distribution_constraints { min_domain_mass: 0.99 }
        }
        feature {
          name: "label" type: INT presence { min_fraction: 1 min_count: 1 } shape { }
          int_domain { min: 1 max: 1 } distribution_constraints { min_domain_mass: 0.99 }
        }
        feature { name: "stamp" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { } }
        string_domain { name: "word" value: "a" value: "b" }
    """
    schema = infer_schema(dataset_statistics({"train": summary}), columns, features, unconstrained={"stamp"})
    assert schema == text_format.Parse(expected, schema_pb2.Schema())


def test_many_words_get_a_limit_of_their_number_unless_they_are_a_key():
    summary = SplitSummary()
    words = [str(i) for i in range(MAX_DOMAIN_VALUES + 1)]
    summary.add(pa.record_batch({"street": pa.array(words * 2), "key": pa.array([str(i) for i in range(202)])}))
    columns = {"street": "string", "key": "string"}
    street, key = infer_schema(dataset_statistics({"train": summary}), columns, {}).feature
    assert (street.unique_constraints.min, street.unique_constraints.max) == (1, 202)
    assert not key.HasField("unique_constraints")


def test_a_column_without_values_is_asked_nothing_of():
    summary = SplitSummary()
    summary.add(pa.record_batch({"x": pa.nulls(3, pa.float64())}))
    (x,) = infer_schema(dataset_statistics({"train": summary}), {"x": "float"}, {}).feature
    assert (
        text_format.MessageToString(x, as_one_line=True)
        == ('name: "x" value_count { min: 1 max: 1 } type: FLOAT presence { min_count: 1 } ').strip()
    )


def test_few_rows_tell_less_of_words_and_ranges():
    """Of 200 rows, 4 had a word that no other had, and each extreme may well be 6 % from the true one."""
    summary = SplitSummary()
    words = ["a"] * 196 + ["b", "c", "d", "e"]
    summary.add(pa.record_batch({"word": words, "x": [float(i) for i in range(200)], "few": [None] * 170 + [1.0] * 30}))
    columns = {"word": "string", "x": "float", "few": "float"}
    word, x, few = infer_schema(dataset_statistics({"train": summary}), columns, {}).feature
    assert word.distribution_constraints.min_domain_mass == 0.88  # (4 + 4 * 2 + 12) / 200 is 12 %
    assert x.distribution_constraints.min_domain_mass == 0.88
    assert not few.HasField("float_domain")


def test_a_domain_that_is_not_known_by_far_is_left_out():
    summary = SplitSummary()
    summary.add(pa.record_batch({"word": ["a"] * 60 + [f"word {i}" for i in range(40)]}))
    (word,) = infer_schema(dataset_statistics({"train": summary}), {"word": "string"}, {}).feature
    assert not word.domain
