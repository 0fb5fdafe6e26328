"""Delimited text: the fast and the careful reader agree on good files, and bad rows are named by their line."""

import csv
import gzip
import io

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pytest

from configs.errors import RefusedError
from configs.sources import CsvSource
from transforms.examples.readers import csv_file
from transforms.examples.readers.rows import BadRow, Expected

COLUMNS = {"word": "string", "x": "float", "n": "int"}
EXPECTED = Expected(COLUMNS)


def read(path, content, expected=EXPECTED, batch_rows=65_536, **settings):
    """Rows as tuples, and bad rows as (line, column, value, reason)."""
    path.write_bytes(content)
    source = CsvSource(kind="csv", files=str(path), **settings)
    pieces = list(csv_file.read(str(path), expected, source, batch_rows))
    batches = [piece for piece in pieces if not isinstance(piece, BadRow)]
    assert all(batch.schema == expected.schema for batch in batches)
    rows = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    bad_rows = [piece for piece in pieces if isinstance(piece, BadRow)]
    assert all(bad_row.file == str(path) for bad_row in bad_rows)
    return rows, [(row.line, row.column, row.value, row.reason) for row in bad_rows]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.csv"


def test_reads_typed_columns_by_name(path):
    content = b"n,other,x,word\n1,?,1.5,a\n,?,,\n3,?,NaN,\xc3\xa9\n"
    assert read(path, content) == ([("a", 1.5, 1), (None, None, None), ("é", None, 3)], [])


def test_reads_gzip_by_name_bom_other_delimiters_quotes_nulls_and_line_ends(tmp_path):
    content = "\ufeff'word'|x|n\r\n'a|''b\r\nc'|1|NA\r\n\r\n-|2|3".encode()
    rows = read(tmp_path / "rows.csv.gz", gzip.compress(content), delimiter="|", quote="'", null_values=["NA", "-"])
    assert rows == ([("a|'b\r\nc", 1.0, None), (None, 2.0, 3)], [])


def test_reads_several_gzip_members(tmp_path):
    content = gzip.compress(b"word,x,n\na,1,1\n") + gzip.compress(b"b,2,2\n")
    assert read(tmp_path / "rows.csv.gz", content) == ([("a", 1.0, 1), ("b", 2.0, 2)], [])


def test_names_the_physical_line_behind_embedded_newlines_and_empty_lines(path):
    content = b'word,x,n\n"a\nb",1,1\n\nc,x,2\n"d\n\ne",2,y\nf,3,3\n'
    rows, bad_rows = read(path, content)
    assert rows == [("a\nb", 1.0, 1), ("f", 3.0, 3)]
    assert bad_rows == [(5, "x", "x", "expected a number"), (6, "n", "y", "expected a whole number")]


def test_sets_aside_wrong_column_counts_and_bytes_that_are_no_text(path):
    rows, bad_rows = read(path, b"word,x,n\na,1\nb,1,2,3\n\xff,1,1\nc,1,\xfe\nd,1,1\n")
    assert rows == [("d", 1.0, 1)]
    assert bad_rows == [
        (2, "", "", "expected 3 columns, got 2"),
        (3, "", "", "expected 3 columns, got 4"),
        (4, "word", "\\xff", "expected UTF-8 text"),
        (5, "n", "\\xfe", "expected UTF-8 text"),
    ]


def test_bytes_that_are_no_text_do_not_matter_in_other_columns(path):
    assert read(path, b"word,x,n,other\na,1,1,\xff\nb,1,1,\n") == ([("a", 1.0, 1), ("b", 1.0, 1)], [])


def test_a_required_value_is_missing(path):
    expected = Expected(COLUMNS, {"n": "n is missing"})
    assert read(path, b"word,x,n\na,1,\nb,1,1\n", expected) == ([("b", 1.0, 1)], [(2, "n", "", "n is missing")])


def test_text_after_a_closing_quote_does_not_swallow_lines_unnoticed(path):
    # Arrow alone reads one good row here, with two lines inside its first value.
    rows, bad_rows = read(path, b'word,x,n\n"a,1,1\nb,1,1\n"c,1,1\nd,1,1\n')
    assert rows == [("d", 1.0, 1)]
    assert [(line, reason) for line, _, _, reason in bad_rows] == [(2, "malformed quoting: ',' expected after '\"'")]


@pytest.mark.parametrize("rows_before", [0, 3, 100_000])
def test_a_quote_that_is_never_closed_is_refused_by_its_line(path, rows_before):
    with pytest.raises(
        RefusedError, match=rf"rows.csv:{rows_before + 2}: a quote opened in this record is never closed"
    ):
        read(path, b"word,x,n\n" + b"a,1,1\n" * rows_before + b'"b,1,1\nc,1,1\n')


def test_a_lone_quote_inside_a_field_is_part_of_it(path):
    assert read(path, b'word,x,n\n5" pipe,1,1\nb,1,1\n') == ([('5" pipe', 1.0, 1), ("b", 1.0, 1)], [])


def test_goes_on_carefully_behind_the_rows_read_fast(path):
    good = 100_000
    content = b"word,x,n\n" + b"a,1,1\n" * good + b"b,oops,1\n" + b"c,1,1\n" * 5
    rows, bad_rows = read(path, content)
    assert rows == [("a", 1.0, 1)] * good + [("c", 1.0, 1)] * 5
    assert bad_rows == [(good + 2, "x", "oops", "expected a number")]


def test_batches_have_their_exact_size(path):
    path.write_bytes(b"word,x,n\n" + b"a,1,1\n" * 10 + b"a,?,1\n" + b"a,1,1\n" * 10)
    source = CsvSource(kind="csv", files=str(path))
    pieces = csv_file.read(str(path), EXPECTED, source, batch_rows=8)
    assert [piece.num_rows for piece in pieces if isinstance(piece, pa.RecordBatch)] == [8, 8, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header line, got an empty file"),
        (b"\nword,x,n\n", "expected a header line, got an empty line"),
        (b"word,x,m\na,1,1\n", "no column 'n'; its columns are word, x, m"),
        (b"word,x,n,n\na,1,1,1\n", "column 'n' is there 2 times"),
        (b'"word,x,n\n', "malformed header"),
    ],
)
def test_refuses_a_file_without_the_columns(path, content, message):
    with pytest.raises(RefusedError) as caught:
        read(path, content)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [4, 40, 1000], ids=str)
def test_refuses_a_truncated_gzip(tmp_path, cut):
    content = gzip.compress(b"word,x,n\n" + b"".join(b"%d,1,1\n" % i for i in range(100_000)))
    with pytest.raises(RefusedError, match=r"rows.csv.gz: cannot be read; truncated or corrupt\?"):
        read(tmp_path / "rows.csv.gz", content[:-cut])


def test_a_header_alone_is_no_rows(path):
    assert read(path, b"word,x,n\n") == ([], [])


# Python writes a lone \r without quotes, which nobody can read back.
WORDS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6))


@hypothesis.given(
    st.lists(
        st.tuples(WORDS, st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 2**53)),
        max_size=20,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_reads_what_was_written_both_ways(tmp_path, rows, line_end, quoting):
    path = tmp_path / "rows.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerows([COLUMNS, *rows])
    assert read(path, text.getvalue().encode()) == (rows, [])
    carefully = csv_file.read_carefully(str(path), EXPECTED, CsvSource(kind="csv", files=str(path)))
    assert [tuple(row.values()) for batch in carefully for row in batch.to_pylist()] == rows
