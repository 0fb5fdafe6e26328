"""Sources as a whole: which files, which batches, which fingerprint."""

import os

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from configs.errors import RefusedError
from configs.sources import CsvSource, ParquetSource, SampleSource
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected
from transforms.examples.reading import (
    BAD_ROWS,
    EXAMPLES,
    ReadExamples,
    expand_source,
    read_element,
    read_table,
    source_fingerprint,
)

COLUMNS = {"x": "int"}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "b.csv").write_text("x\n3\n4\n")
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "c.txt").write_text("x\n5\n")
    return tmp_path


def source_of(*patterns):
    return CsvSource(kind="csv", files=[str(pattern) for pattern in patterns])


def test_files_are_sorted_and_each_read_once(files):
    elements = expand_source(source_of(files / "*.csv", files / "c.txt", files / "a.*"))
    assert [(element.index, os.path.basename(element.path)) for element in elements] == [
        (0, "a.csv"),
        (1, "b.csv"),
        (2, "c.txt"),
    ]
    (batch,) = read_element(elements[2], Expected(COLUMNS))
    assert batch.to_pydict() == {"x": [5]}


def test_a_sample_is_read_in_blocks():
    elements = expand_source(SampleSource(kind="sample", rows=2 * BATCH_ROWS + 1))
    assert [(element.index, element.block) for element in elements] == [(0, 0), (1, 1), (2, 2)]


def test_no_file_is_refused_with_the_pattern(files):
    with pytest.raises(RefusedError, match=r"source.files: no file matches '.*nowhere-\*\.csv'"):
        expand_source(source_of(files / "a.csv", files / "nowhere-*.csv"))


def test_read_table(files):
    source = source_of(files / "*.csv")
    assert read_table(source, COLUMNS).to_pydict() == {"x": [1, 2, 3, 4]}
    assert read_table(source, COLUMNS, limit=3).to_pydict() == {"x": [1, 2, 3]}
    (files / "b.csv").write_text("x\n")
    (files / "a.csv").write_text("x\n")
    assert read_table(source, COLUMNS).schema == pa.schema([("x", pa.int64())])


def test_read_table_refuses_a_bad_row(files):
    (files / "b.csv").write_text("x\n3\noops\n")
    with pytest.raises(RefusedError, match=r"b.csv:3: x='oops': expected a whole number$"):
        read_table(source_of(files / "*.csv"), COLUMNS)


def test_fingerprint_changes_with_the_files_and_nothing_else(files):
    source = source_of(files / "*.csv")
    before = source_fingerprint(source)
    assert source_fingerprint(source) == before
    (files / "c.txt").write_text("x\n6\n")
    assert source_fingerprint(source) == before
    os.utime(files / "a.csv", (1, 1))
    touched = source_fingerprint(source)
    (files / "d.csv").write_text("x\n6\n")
    assert len({before, touched, source_fingerprint(source)}) == 3


def test_fingerprint_of_a_sample_is_its_parameters():
    sample = SampleSource(kind="sample", rows=10)
    assert source_fingerprint(sample) == source_fingerprint(SampleSource(kind="sample", rows=10))
    assert source_fingerprint(sample) != source_fingerprint(SampleSource(kind="sample", rows=11))
    assert source_fingerprint(sample) != source_fingerprint(SampleSource(kind="sample", rows=10, seed=1))


def test_read_examples_gives_what_the_readers_give(tmp_path):
    pq.write_table(pa.table({"x": [float(i) for i in range(BATCH_ROWS + 2)]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0, 0.5]}), tmp_path / "b.parquet")
    source = ParquetSource(kind="parquet", files=str(tmp_path / "*.parquet"))
    with beam.Pipeline() as pipeline:
        read = pipeline | "Read" >> ReadExamples(source, Expected(COLUMNS))
        described = read[EXAMPLES] | "Describe" >> beam.Map(
            lambda examples: (examples.stem, examples.batch.num_rows, examples.batch["x"][0].as_py())
        )
        expected = [("00000-00000", BATCH_ROWS, 0), ("00000-00001", 2, BATCH_ROWS), ("00001-00000", 1, 1)]
        assert_that(described, equal_to(expected), label="CheckExamples")
        reason = "expected a whole number, got double"
        bad_row = BadRow(str(tmp_path / "b.parquet"), 2, "x", "0.5", reason)
        assert_that(read[BAD_ROWS], equal_to([bad_row]), label="CheckBadRows")
