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
from transforms.examples.reading import BAD_ROWS, EXAMPLES, Part, ReadExamples, read_table, reader_of

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
    reader = reader_of(source_of(files / "*.csv", files / "c.txt", files / "a.*"))
    parts = reader.parts()
    assert [(part.index, os.path.basename(part.name)) for part in parts] == [(0, "a.csv"), (1, "b.csv"), (2, "c.txt")]
    (batch,) = reader.read(parts[2], Expected(COLUMNS))
    assert batch.to_pydict() == {"x": [5]}


def test_a_sample_is_read_in_blocks():
    reader = reader_of(SampleSource(kind="sample", rows=2 * BATCH_ROWS + 1))
    assert reader.parts() == (Part(0), Part(1), Part(2))


def test_no_file_is_refused_with_the_pattern(files):
    with pytest.raises(RefusedError, match=r"source.files: no file matches '.*nowhere-\*\.csv'"):
        reader_of(source_of(files / "a.csv", files / "nowhere-*.csv")).parts()


def test_read_table(files):
    reader = reader_of(source_of(files / "*.csv"))
    assert read_table(reader, COLUMNS).to_pydict() == {"x": [1, 2, 3, 4]}
    (files / "b.csv").write_text("x\n")
    (files / "a.csv").write_text("x\n")
    assert read_table(reader, COLUMNS).schema == pa.schema([("x", pa.int64())])


def test_read_table_refuses_a_bad_row(files):
    (files / "b.csv").write_text("x\n3\noops\n")
    with pytest.raises(RefusedError, match=r"b.csv:3: x='oops': expected a whole number$"):
        read_table(reader_of(source_of(files / "*.csv")), COLUMNS)


def test_fingerprint_changes_with_the_files_and_nothing_else(files):
    reader = reader_of(source_of(files / "*.csv"))
    before = reader.fingerprint()
    assert reader.fingerprint() == before
    (files / "c.txt").write_text("x\n6\n")
    assert reader.fingerprint() == before
    os.utime(files / "a.csv", (1, 1))
    touched = reader.fingerprint()
    (files / "d.csv").write_text("x\n6\n")
    assert len({before, touched, reader.fingerprint()}) == 3


def test_fingerprint_of_a_sample_is_its_parameters():
    def fingerprint(**settings):
        return reader_of(SampleSource(kind="sample", **settings)).fingerprint()

    assert fingerprint(rows=10) == fingerprint(rows=10)
    assert fingerprint(rows=10) != fingerprint(rows=11)
    assert fingerprint(rows=10) != fingerprint(rows=10, seed=1)


def test_read_examples_gives_what_the_readers_give(tmp_path):
    pq.write_table(pa.table({"x": [float(i) for i in range(BATCH_ROWS + 2)]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0, 0.5]}), tmp_path / "b.parquet")
    source = ParquetSource(kind="parquet", files=str(tmp_path / "*.parquet"))
    with beam.Pipeline() as pipeline:
        read = pipeline | "Read" >> ReadExamples(reader_of(source), Expected(COLUMNS))
        described = read[EXAMPLES] | "Describe" >> beam.Map(
            lambda examples: (examples.stem, examples.batch.num_rows, examples.batch["x"][0].as_py())
        )
        expected = [("00000-00000", BATCH_ROWS, 0), ("00000-00001", 2, BATCH_ROWS), ("00001-00000", 1, 1)]
        assert_that(described, equal_to(expected), label="CheckExamples")
        reason = "expected a whole number, got double"
        bad_row = BadRow(str(tmp_path / "b.parquet"), 2, "x", "0.5", reason)
        assert_that(read[BAD_ROWS], equal_to([bad_row]), label="CheckBadRows")
