"""From a source to frozen examples: exact rows, exact files, the same again."""

import dataclasses
import json
import pathlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2

from configs.features import Feature, Label
from configs.sources import CsvSource, HashSplit, SampleSource, SourceSplit
from transforms.examples.ingestion import IngestExamples, IngestionSummary, ShardSummary
from transforms.examples.readers.rows import BadRow
from transforms.examples.reading import reader_of
from transforms.examples.splitting import eval_mask

FEATURES = {"word": Feature(type="string"), "fare": Feature(type="float", missing=0)}
COLUMNS = {"word": "string", "fare": "float", "tips": "float", "key": "string"}
LABEL = Label(name="generous", type="int", expression="tips > 0.2 * coalesce(fare, 10)")
SPLIT = HashSplit(by="key", eval=0.3)
DATA = pathlib.Path(__file__).parent.parent.parent / "shared/data"


def readable(split):
    return reader_of(split.eval) if isinstance(split, SourceSplit) else split


def ingest(output_dir, source, split=SPLIT, columns=COLUMNS, features=FEATURES, label=LABEL, max_bad_rows=0):
    result = output_dir / "result.json"
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | IngestExamples(
                reader_of(source), readable(split), columns, features, label, str(output_dir), max_bad_rows
            )
            | beam.Map(lambda summary: result.write_text(json.dumps(dataclasses.asdict(summary))))
        )
    summary = IngestionSummary.from_json(json.loads(result.read_text()))
    result.unlink()
    return summary


def write_csv(path, rows, first=0):
    lines = [f"w{i % 5},{'' if i % 4 == 0 else i},{i % 7},{i}" for i in range(first, first + rows)]
    path.write_text("\n".join(["word,fare,tips,key", *lines]) + "\n")
    return [
        {"word": f"w{i % 5}", "fare": None if i % 4 == 0 else float(i), "tips": float(i % 7), "key": str(i)}
        | {"generous": int(i % 7 > 0.2 * (10 if i % 4 == 0 else i))}
        for i in range(first, first + rows)
    ]


def source_of(*paths):
    return CsvSource(kind="csv", files=[str(path) for path in paths])


def read_split(output_dir, split):
    return [row for path in sorted(output_dir.glob(f"examples/{split}-*")) for row in pq.read_table(path).to_pylist()]


def test_rows_are_labelled_split_and_frozen_in_order(tmp_path):
    rows = write_csv(tmp_path / "a.csv", 40) + write_csv(tmp_path / "b.csv", 30, first=40)
    summary = ingest(tmp_path, source_of(tmp_path / "*.csv"))
    is_eval = eval_mask(pa.RecordBatch.from_pylist(rows), ("key",), 0.3).to_pylist()
    expected = {
        "train": [row for row, held_out in zip(rows, is_eval, strict=True) if not held_out],
        "eval": [row for row, held_out in zip(rows, is_eval, strict=True) if held_out],
    }
    for split, split_rows in expected.items():
        assert read_split(tmp_path, split) == split_rows
        assert summary.rows(split) == len(split_rows)
        assert summary.label_values(split) == (0, 1)
    assert [shard.name for shard in summary.shards] == sorted(path.name for path in tmp_path.glob("examples/*"))
    assert [shard.name for shard in summary.shards] == [
        f"{split}-{part}-00000.parquet" for split in ("eval", "train") for part in ("00000", "00001")
    ]
    assert (summary.bad_rows_count, summary.bad_rows) == (0, ())
    assert (tmp_path / "bad_rows.jsonl").read_bytes() == b""


def test_bad_rows_are_set_aside_with_their_line_and_reason(tmp_path):
    good = "w1,1,1,1\nw2,2,2,2\nw3,,0,3\n"
    (tmp_path / "b.csv").write_text(f"word,fare,tips,key\n{good},4,4,4\nw5,x,5,5\n")
    (tmp_path / "a.csv").write_text("word,fare,tips,key\nw6,6,,6\n" + good)
    summary = ingest(tmp_path, source_of(tmp_path / "*.csv"), max_bad_rows=3)
    a, b = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    expected = (
        BadRow(a, 2, "generous", "", f"the label is missing: {LABEL.expression} is null"),
        BadRow(b, 5, "word", "", "missing, and the feature declares no missing: value"),
        BadRow(b, 6, "fare", "x", "expected a number"),
    )
    assert (summary.bad_rows_count, summary.bad_rows) == (3, expected)
    written = [BadRow(**json.loads(line)) for line in (tmp_path / "bad_rows.jsonl").read_text().splitlines()]
    assert tuple(written) == expected
    assert summary.rows("train") + summary.rows("eval") == 6


def test_bad_rows_are_all_counted_but_not_all_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.examples.ingestion.MIN_KEPT_BAD_ROWS", 2)
    (tmp_path / "a.csv").write_text("word,fare,tips,key\n" + "w,x,1,1\n" * 7)
    summary = ingest(tmp_path, source_of(tmp_path / "a.csv"))
    assert summary.shards == ()
    assert (summary.bad_rows_count, [row.line for row in summary.bad_rows]) == (7, [2, 3])
    assert (summary.rows("train"), summary.label_values("train")) == (0, ())


def test_the_same_source_gives_the_same_bytes(tmp_path):
    write_csv(tmp_path / "a.csv", 1000)
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ingest(tmp_path / name, source_of(tmp_path / "a.csv"))
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == [
        "bad_rows.jsonl",
        "examples/eval-00000-00000.parquet",
        "examples/train-00000-00000.parquet",
        "statistics.pbtxt",
    ]


def test_given_files_are_the_splits_with_a_label_column(tmp_path):
    write_csv(tmp_path / "train.csv", 20)
    write_csv(tmp_path / "eval.csv", 5, first=100)
    columns = {"word": "string", "fare": "float", "tips": "int"}
    split = SourceSplit(eval=source_of(tmp_path / "eval.csv"))
    label = Label(name="tips", type="int")
    summary = ingest(tmp_path, source_of(tmp_path / "train.csv"), split, columns, FEATURES, label)
    assert summary.shards == (
        ShardSummary("eval-00000-00000.parquet", "eval", 5, (2, 3, 4, 5, 6)),
        ShardSummary("train-00000-00000.parquet", "train", 20, (0, 1, 2, 3, 4, 5, 6)),
    )
    table = pq.read_table(tmp_path / "examples/eval-00000-00000.parquet")
    assert table.schema.equals(pa.schema([("word", pa.string()), ("fare", pa.float64()), ("tips", pa.int64())]))
    statistics = text_format.Parse(
        (tmp_path / "statistics.pbtxt").read_text(), statistics_pb2.DatasetFeatureStatisticsList()
    )
    assert [(dataset.name, dataset.num_examples) for dataset in statistics.datasets] == [("train", 20), ("eval", 5)]
    assert [feature.path.step[0] for feature in statistics.datasets[0].features] == ["word", "fare", "tips"]
    assert statistics.datasets[0].features[1].num_stats.common_stats.num_missing == 5


def test_too_many_label_values_are_not_listed(tmp_path):
    columns = {"weight_pounds": "float", "plurality": "string", "hashmonth": "int"}
    source = SampleSource(kind="sample", rows=5000)
    label = Label(name="weight_pounds")
    summary = ingest(tmp_path, source, HashSplit(by="hashmonth"), columns, {}, label)
    assert summary.label_values("train") is None
    assert summary.rows("train") + summary.rows("eval") == 5000


@pytest.mark.skipif(not DATA.exists(), reason="needs the real data in ../shared/data")
def test_real_natality_rows(tmp_path):
    columns = {"is_male": "string", "mother_age": "float", "gestation_weeks": "float", "weight_pounds": "float"}
    features = {name: Feature(type=column_type) for name, column_type in columns.items() if name != "weight_pounds"}
    split = SourceSplit(eval=source_of(DATA / "natality_eval.csv"))
    train = source_of(DATA / "natality_train.csv")
    summary = ingest(tmp_path, train, split, columns, features, Label(name="weight_pounds"))
    assert (summary.rows("train"), summary.rows("eval"), summary.bad_rows_count) == (26_518, 6_508, 0)
