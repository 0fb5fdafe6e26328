"""Parquet files, typed and not quite as declared."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import RefusedError
from configs.sources import ParquetSource
from transforms.examples.readers import parquet_file
from transforms.examples.readers.rows import BadRow, Expected

EXPECTED = Expected({"word": "string", "x": "float", "n": "int"})


def read(path, batch_rows=65_536):
    return list(parquet_file.read(str(path), EXPECTED, ParquetSource(kind="parquet", files=str(path)), batch_rows))


def test_reads_needed_columns_over_row_groups(tmp_path):
    table = pa.table(
        {
            "n": pa.array([float(i) for i in range(10)]),
            "unused": [[1]] * 10,
            "x": pa.array(range(10), pa.float32()),
            "word": pa.array(["a", None] * 5).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    batches = read(tmp_path / "a.parquet", batch_rows=4)
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    assert all(batch.schema == EXPECTED.schema for batch in batches)
    rows = pa.Table.from_batches(batches).to_pylist()
    assert rows == [{"word": None if i % 2 else "a", "x": float(i), "n": i} for i in range(10)]


def test_sets_rows_of_another_type_aside_by_their_number(tmp_path):
    table = pa.table({"n": [1.0, 2.5, 3.0, None], "x": ["1", None, None, None], "word": ["a", "b", "c", "d"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    *pieces, batch = read(tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    assert pieces == [
        BadRow(path, 1, "x", "1", "expected a number, got string"),
        BadRow(path, 2, "n", "2.5", "expected a whole number, got double"),
    ]
    assert batch.to_pylist() == [{"word": "c", "x": None, "n": 3}, {"word": "d", "x": None, "n": None}]


def test_refuses_a_missing_column(tmp_path):
    pq.write_table(pa.table({"x": [1.0], "word": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(RefusedError, match=r"a.parquet: no column 'n'; its columns are x, word$"):
        read(tmp_path / "a.parquet")


def test_refuses_truncated_corrupt_and_empty_files(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"n": range(50_000), "x": [float(i) for i in range(50_000)], "word": ["a"] * 50_000})
    pq.write_table(table, path)
    content = path.read_bytes()
    middle = len(content) // 2
    for broken in (
        content[:-5],
        content[:100],
        b"",
        b"not parquet",
        content[:500] + b"\x00" * middle + content[500 + middle :],
    ):
        path.write_bytes(broken)
        with pytest.raises(RefusedError, match=r"a.parquet: cannot be read; truncated or corrupt\?") as caught:
            read(path)
        assert "\n" not in str(caught.value)
