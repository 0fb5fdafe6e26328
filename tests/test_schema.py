"""The schema: types, presence and domains, from statistics and the job."""

import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.features import Feature
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.schema import MAX_DOMAIN_VALUES, infer_schema
from transforms.examples.statistics import dataset_statistics


def test_infer_schema():
    rows = MAX_DOMAIN_VALUES + 1
    summary = SplitSummary()
    summary.add(
        pa.record_batch(
            {
                "word": pa.array(["b", "a", None] + ["a"] * (rows - 3)),
                "x": pa.array([1.0] * rows),
                "id": pa.array([str(i) for i in range(rows)]),
                "month": pa.array([None] + [1] * (rows - 1), pa.int64()),
                "label": pa.array([1] * rows),
            }
        )
    )
    columns = {"word": "string", "x": "float", "id": "string", "month": "int", "label": "int"}
    features = {
        "word": Feature(type="string", missing="none"),
        "x": Feature(type="float", missing=0),
        "id": Feature(type="string"),
    }
    expected = """
        feature { name: "word" type: BYTES domain: "word" presence { min_count: 1 } value_count { min: 1 max: 1 } }
        feature { name: "x" type: FLOAT presence { min_count: 1 } value_count { min: 1 max: 1 } }
        feature { name: "id" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { } }
        feature { name: "month" type: INT presence { min_count: 1 } value_count { min: 1 max: 1 } }
        feature { name: "label" type: INT presence { min_fraction: 1 min_count: 1 } shape { } }
        string_domain { name: "word" value: "a" value: "b" }
    """
    schema = infer_schema(dataset_statistics({"train": summary}), columns, features)
    assert schema == text_format.Parse(expected, schema_pb2.Schema())
