"""Sources on `gs://`: the same rows, batches and errors as from a disk."""

import gzip

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.workspace import storage
from configs.errors import RefusedError
from configs.sources import CsvSource, ParquetSource, TFRecordSource
from transforms.examples.readers.rows import BadRow, Expected
from transforms.examples.reading import BAD_ROWS, EXAMPLES, ReadExamples, read_table, reader_of

COLUMNS = {"word": "string", "x": "float", "n": "int"}
ROWS = [{"word": word, "x": n / 4, "n": n} for n, word in enumerate(["a", "Zoë", None, 'quo"ted, and\nlong'] * 250)]


def write_csv(path, rows):
    lines = ["word,x,n"] + [
        ",".join(
            ["" if row["word"] is None else '"' + row["word"].replace('"', '""') + '"', str(row["x"]), str(row["n"])]
        )
        for row in rows
    ]
    content = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)


def write_records(path, rows):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in rows:
            features = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=[row["x"]])),
                "n": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["n"]])),
            }
            if row["word"] is not None:
                features["word"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["word"].encode()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


KINDS = {
    "csv": (CsvSource, ("a.csv", "b.csv"), write_csv),
    "csv.gz": (CsvSource, ("a.csv.gz", "b.csv.gz"), write_csv),
    "parquet": (ParquetSource, ("a.parquet", "b.parquet"), write_parquet),
    "tfrecord": (TFRecordSource, ("a.tfrecord", "b.tfrecord"), write_records),
    "tfrecord.gz": (TFRecordSource, ("a.tfrecord.gz", "b.tfrecord.gz"), write_records),
}


@pytest.fixture(params=list(KINDS))
def sources(request, cloud, tmp_path):
    """A source on a disk, and the same files on `gs://`."""
    model, names, write = KINDS[request.param]
    folder = cloud.storage.url()
    for name, rows in zip(names, (ROWS[:700], ROWS[700:]), strict=True):
        write(tmp_path / name, rows)
        storage.write_bytes(f"{folder}/{name}", (tmp_path / name).read_bytes())
    storage.write_bytes(f"{folder}/sub/c{names[0][1:]}", b"not part of the glob")
    pattern = f"*{names[0][1:]}"
    kind = request.param.partition(".")[0]
    return tuple(model(kind=kind, files=f"{place}/{pattern}") for place in (tmp_path, folder))


def test_the_rows_are_those_of_the_same_files_on_a_disk(sources):
    tables = [read_table(reader_of(source), COLUMNS) for source in sources]
    assert tables[1].to_pylist() == tables[0].to_pylist() == ROWS


def test_beam_reads_the_same_batches(sources):
    reader = reader_of(sources[1])
    with beam.Pipeline() as pipeline:
        read = pipeline | ReadExamples(reader, Expected(COLUMNS))
        summaries = read[EXAMPLES] | beam.Map(lambda part: (part.stem, part.batch.num_rows, part.batch["n"][0].as_py()))
        assert_that(summaries, equal_to([("00000-00000", 700, 0), ("00001-00000", 300, 700)]))
        assert_that(read[BAD_ROWS], equal_to([]), label="no bad rows")


def test_a_bad_row_is_named_by_its_url(cloud):
    path = f"{cloud.storage.url()}/a.csv"
    storage.write_bytes(path, b"n\n1\nx\n2\n")
    reader = reader_of(CsvSource(kind="csv", files=path))
    (part,) = reader.parts()
    pieces = list(reader.read(part, Expected({"n": "int"})))
    assert [piece for piece in pieces if isinstance(piece, BadRow)] == [
        BadRow(path, 3, "n", "x", "expected a whole number")
    ]
    assert [batch.to_pydict() for batch in pieces if not isinstance(batch, BadRow)] == [{"n": [1, 2]}]


def test_another_file_under_the_same_name_is_another_source(cloud):
    path = f"{cloud.storage.url()}/a.csv"
    source = CsvSource(kind="csv", files=path)
    storage.write_bytes(path, b"n\n1\n")
    first = reader_of(source).fingerprint()
    assert reader_of(source).fingerprint() == first
    storage.write_bytes(path, b"n\n2\n")
    assert reader_of(source).fingerprint() != first


def test_a_truncated_file_is_refused_by_its_url(cloud):
    folder = cloud.storage.url()
    storage.write_bytes(f"{folder}/a.csv.gz", gzip.compress(b"n\n" + b"1\n" * 1000)[:-20])
    with pytest.raises(RefusedError, match=rf"^{folder}/a\.csv\.gz: cannot be read; truncated or corrupt\?"):
        read_table(reader_of(CsvSource(kind="csv", files=f"{folder}/a.csv.gz")), {"n": "int"})


def test_no_match_and_no_bucket_are_one_line_each(cloud):
    folder = cloud.storage.url()
    with pytest.raises(RefusedError, match=r"^source\.files: no file matches 'gs://.*/nowhere-\*\.csv'$"):
        reader_of(CsvSource(kind="csv", files=f"{folder}/nowhere-*.csv")).parts()
    with pytest.raises(RefusedError) as caught:
        reader_of(CsvSource(kind="csv", files="gs://no-such-bucket/*.csv")).parts()
    assert str(caught.value).startswith("source.files: cannot look for 'gs://no-such-bucket/*.csv': 404 GET ")
    assert "\n" not in str(caught.value)
