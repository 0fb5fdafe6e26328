"""What is wrong with examples as a whole."""

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from configs.features import Feature, Label
from configs.modeling import Binary, Multiclass, Regression
from configs.sources import CsvSource, HashSplit, SourceSplit
from transforms.examples.anomalies import find_anomalies
from transforms.examples.anomaly import Anomaly, to_proto
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.ingestion import IngestionSummary, ShardSummary
from transforms.examples.readers.rows import BadRow
from transforms.examples.statistics import dataset_statistics

FEATURES = {"x": Feature(type="float", missing=0), "word": Feature(type="string", missing="none")}
HASH = HashSplit(by="word", eval=0.2)
BAD_ROWS = tuple(BadRow("a.csv", line, "x", "?", "expected a number") for line in range(2, 7))


def shards(train=(1.0, 2.0), evaluation=(1.0,)):
    values = {"train": train, "eval": evaluation}
    return tuple(
        ShardSummary(f"{split}.parquet", split, 10, labels) for split, labels in values.items() if labels != ()
    )


def find(summary, task="regression", split=HASH, max_bad_rows=0, train=None):
    statistics = SplitSummary()
    statistics.add(train or pa.record_batch({"x": [1.0, 2.0], "word": ["a", "b"]}))
    tasks = {"regression": Regression(kind="regression"), "binary": Binary(kind="binary")}
    return find_anomalies(
        summary,
        dataset_statistics({"train": statistics}),
        FEATURES,
        Label(name="y"),
        tasks.get(task, task) if isinstance(task, str) else task,
        split,
        max_bad_rows,
    )


def test_nothing_is_wrong():
    assert find(IngestionSummary(shards(), 0, ())) == ()
    assert find(IngestionSummary(shards(None, None), 0, ())) == ()


def test_too_many_bad_rows_show_the_first_three():
    (anomaly,) = find(IngestionSummary(shards(), 5, BAD_ROWS), max_bad_rows=4)
    first = "; ".join(f"a.csv:{line}: x='?': expected a number" for line in (2, 3, 4))
    long = f"5 bad rows, more than max_bad_rows=4: {first}; … (all in bad_rows.jsonl)"
    assert anomaly == Anomaly("max_bad_rows", "ERROR", "too many bad rows", long)
    (anomaly,) = find(IngestionSummary(shards(), 1, BAD_ROWS[:1]), max_bad_rows=1)
    assert anomaly.severity == "WARNING"
    assert anomaly.long == "1 bad row set aside: a.csv:2: x='?': expected a number"


def test_an_empty_split_names_its_setting():
    (anomaly,) = find(IngestionSummary(shards(evaluation=()), 0, ()))
    assert anomaly.long == "the eval split is empty: split.by=[word], split.eval=0.2 over 10 rows"
    given = SourceSplit(eval=CsvSource(kind="csv", files="e.csv"))
    (anomaly,) = find(IngestionSummary(shards(evaluation=()), 0, ()), split=given)
    assert (anomaly.path, anomaly.long) == ("split.eval", "the eval split is empty: split.eval has no good rows")
    assert [found.short for found in find(IngestionSummary((), 0, ()))] == ["empty train split", "empty eval split"]


@pytest.mark.parametrize(
    ("task", "train", "evaluation", "long"),
    [
        ("regression", (3.5,), (1.0,), "the label is 3.5 in every row of the train split"),
        ("binary", (0, 1, 2), (0, 1), "expected 0 or 1 for a binary task, got 2 in train"),
        ("binary", (0.0, 1.0), None, "expected 0 or 1 for a binary task, got more than 1000 different values in eval"),
        (Multiclass(kind="multiclass"), ("a", "b"), ("c",), "no row of the train split has the class 'c' of eval"),
        (Multiclass(kind="multiclass"), None, ("c",), "the label has more than 1000 different values"),
        (
            Multiclass(kind="multiclass", classes=("a", "b")),
            ("a", *"cdef"),
            ("a",),
            "expected one of task.classes, got 'c', 'd', 'e', … in train",
        ),
    ],
)
def test_a_label_that_does_not_suit_the_task(task, train, evaluation, long):
    (anomaly,) = find(IngestionSummary(shards(train, evaluation), 0, ()), task)
    assert (anomaly.path, anomaly.severity) == ("label.y", "ERROR")
    assert anomaly.long.startswith(long)


def test_binary_and_int_classes_that_suit():
    assert find(IngestionSummary(shards((0, 1), (1,)), 0, ()), "binary") == ()
    assert find(IngestionSummary(shards((0.0, 1.0), (1.0,)), 0, ()), "binary") == ()
    classes = Multiclass(kind="multiclass", classes=("1", "2"))
    assert find(IngestionSummary(shards((1, 2), (1,)), 0, ()), classes) == ()


def test_features_without_values_or_with_one():
    missing, constant = ("x", "FEATURE_TYPE_NOT_PRESENT"), ("word", "FEATURE_TYPE_LOW_UNIQUE")
    rows = pa.record_batch({"x": pa.nulls(2, pa.float64()), "word": ["a", "a"]})
    assert find(IngestionSummary(shards(), 0, ()), train=rows) == (
        Anomaly(
            "features.x", "ERROR", "feature wholly missing", "x is missing in all 2 rows of the train split", *missing
        ),
        Anomaly(
            "features.word",
            "WARNING",
            "constant feature",
            "word has one value in all 2 rows of the train split",
            *constant,
        ),
    )


def test_the_proto_has_an_entry_for_each_column_and_one_for_the_examples():
    anomalies = [
        Anomaly("drift", "WARNING", "far", "x is far", "x", "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH"),
        Anomaly("schema.x", "ERROR", "out of range", "x is 9", "x", "FLOAT_TYPE_BIG_FLOAT"),
        Anomaly("max_bad_rows", "WARNING", "bad rows set aside", "1 bad row"),
    ]
    expected = """
        baseline { feature { name: "x" } }
        anomaly_name_format: SERIALIZED_PATH
        anomaly_info {
          key: "x"
          value {
            path { step: "x" }
            severity: ERROR
            short_description: "Multiple errors"
            description: "drift: x is far; schema.x: x is 9"
            reason {
              type: COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH short_description: "far" description: "drift: x is far"
            }
            reason {
              type: FLOAT_TYPE_BIG_FLOAT short_description: "out of range" description: "schema.x: x is 9"
            }
          }
        }
        dataset_anomaly_info {
          severity: WARNING
          short_description: "bad rows set aside"
          description: "max_bad_rows: 1 bad row"
          reason { short_description: "bad rows set aside" description: "max_bad_rows: 1 bad row" type: UNKNOWN_TYPE }
        }
    """
    schema = schema_pb2.Schema()
    schema.feature.add(name="x")
    assert to_proto(anomalies, schema) == text_format.Parse(expected, anomalies_pb2.Anomalies())
