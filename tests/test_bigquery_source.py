"""Reading a BigQuery source, against the twin: exact rows, whatever brings them, and one clear line if it cannot be."""

import concurrent.futures
import datetime
import hashlib
import math
import pickle
import random
import types

import apache_beam as beam
import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bigquery_tables import BigQuery, tapped
from conftest import FIRST_DATE, Workspace

from beam_jobs.sources import axis_source, open_source
from beam_jobs.warehouses.bigquery.pins import pin_bigquery
from beam_jobs.warehouses.bigquery.source import distinct_source, open_bigquery
from beam_jobs.workspace.run_directory import RunDirectory
from configs.errors import ForetableError, RefusedError
from configs.features import Feature, Label
from configs.sources import BigQuerySource, HashSplit
from configs.space import DistinctAxis, RowsAxis
from transforms.examples.ingestion import IngestExamples
from transforms.examples.readers.natality_sample import generate_natality
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected
from transforms.examples.reading import read_table
from transforms.space.axes import build_axis

MANY = 150_000
"""Rows of which the twin makes two streams."""
EVERY_TYPE = """
    SELECT 1 AS row, 'Zürich 😀' AS text, 42 AS whole, 1.5 AS fare, TRUE AS flag, b'abc' AS bytes,
        DATE '2024-01-31' AS day, DATETIME '2024-01-31 12:00:00.5' AS local, TIME '01:02:03' AS clock,
        TIMESTAMP '2024-01-31 14:00:00.25+02' AS moment, NUMERIC '12.50' AS price, BIGNUMERIC '-0.000000001' AS tiny,
        JSON '{"a": 1}' AS json
    UNION ALL SELECT 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    UNION ALL SELECT 3, '', -1, CAST('nan' AS FLOAT64), FALSE, b'', DATE '0001-01-01', DATETIME '1999-12-31 23:59:59',
        TIME '00:00:00', TIMESTAMP '1970-01-01 00:00:00+00', NUMERIC '100', BIGNUMERIC '7', JSON 'null'
"""


@pytest.fixture(scope="module")
def warehouse(bigquery_twin):
    return BigQuery(bigquery_twin)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Rows of which some are the same, and some columns are hardly ever."""
    rows = range(MANY)
    return pa.table(
        {
            "number": pa.array(rows, pa.int64()),
            "word": [f"w{i % 97}" if i % 13 else None for i in rows],
            "fare": [i / 7 if i % 11 else None for i in rows],
        }
    )


@pytest.fixture(scope="module")
def many_rows(warehouse, many, tmp_path_factory):
    return warehouse.load("many", many, tmp_path_factory.mktemp("many"))


MANY_COLUMNS = {"number": "int", "word": "string", "fare": "float"}


@pytest.mark.parametrize(
    ("column", "column_type", "values"),
    [
        ("text", "string", ["Zürich 😀", None, None]),
        ("whole", "int", [42, None, -1]),
        ("whole", "float", [42.0, None, -1.0]),
        ("whole", "string", ["42", None, "-1"]),
        ("fare", "float", [1.5, None, None]),
        ("fare", "string", ["1.5", None, None]),
        ("flag", "string", ["true", None, "false"]),
        ("flag", "int", [1, None, 0]),
        ("bytes", "string", ["abc", None, None]),
        ("day", "string", ["2024-01-31", None, "0001-01-01"]),
        ("local", "string", ["2024-01-31 12:00:00.500000", None, "1999-12-31 23:59:59.000000"]),
        ("clock", "string", ["01:02:03.000000", None, "00:00:00.000000"]),
        ("moment", "string", ["2024-01-31 12:00:00.250000Z", None, "1970-01-01 00:00:00.000000Z"]),
        ("price", "string", ["12.5", None, "100"]),
        ("price", "float", [12.5, None, 100.0]),
        ("tiny", "string", ["-0.000000001", None, "7"]),
        ("tiny", "float", [-1e-9, None, 7.0]),
        ("json", "string", ['{"a":1}', None, "null"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_type(warehouse, column, column_type, values):
    source = warehouse.table("every_type", EVERY_TYPE)
    columns = {"row": "int", column: column_type}
    assert warehouse.read(source, columns) == {"row": [1, 2, 3], column: values}


def test_names_are_found_in_any_case_and_given_as_the_job_has_them(warehouse):
    source = warehouse.table("cases", "SELECT 1 AS Mother_Age, 'x' AS MALE")
    assert warehouse.read(source, {"male": "string", "mother_age": "int"}) == {"male": ["x"], "mother_age": [1]}
    assert warehouse.open(source, {}).column_names() == ("Mother_Age", "MALE")


def test_an_empty_table_has_no_parts(warehouse):
    source = warehouse.table("empty", "SELECT 1 AS x LIMIT 0")
    reader = warehouse.open(source, {"x": "int"})
    assert reader.parts() == ()
    assert read_table(reader, {"x": "int"}).schema == pa.schema([("x", pa.int64())])


def test_only_what_is_asked_for_is_sent(warehouse, many_rows):
    with tapped(warehouse) as tap:
        source = many_rows.model_copy(update={"row_restriction": "number < 3 AND word IS NOT NULL"})
        reader = warehouse.open(source, {"fare": "float", "number": "int"}, endpoints=tap.endpoints)
        assert read_table(reader, {"fare": "float", "number": "int"}).to_pydict() == {
            "fare": [1 / 7, 2 / 7],
            "number": [1, 2],
        }
    session = tap.sessions[0].read_session
    assert list(session.read_options.selected_fields) == ["fare", "number"]
    assert session.read_options.row_restriction == "number < 3 AND word IS NOT NULL"
    assert pa.ipc.read_schema(pa.py_buffer(reader.schema)).names == ["number", "fare"]


def test_a_fast_clock_here_puts_no_pin_into_the_future(warehouse, many_rows, monkeypatch):
    class FastClock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(hours=1)

    clock = types.SimpleNamespace(datetime=FastClock, timedelta=datetime.timedelta, UTC=datetime.UTC)
    monkeypatch.setattr("beam_jobs.warehouses.bigquery.pins.datetime", clock)
    pin = pin_bigquery(many_rows, warehouse.endpoints, "r1")
    assert datetime.datetime.fromisoformat(pin.snapshot_time) <= datetime.datetime.now(datetime.UTC)
    assert datetime.datetime.fromisoformat(pin.pinned_at) <= datetime.datetime.now(datetime.UTC)


def test_the_session_reads_the_table_as_of_the_pin(warehouse, many_rows):
    with tapped(warehouse) as tap:
        before = datetime.datetime.now(datetime.UTC)
        pin = pin_bigquery(many_rows, warehouse.endpoints, "r1")
        after = datetime.datetime.now(datetime.UTC)
        open_bigquery(many_rows, pin, {"number": "int"}, tap.endpoints)
    snapshot_time = tap.sessions[0].read_session.table_modifiers.snapshot_time
    assert snapshot_time.isoformat() == pin.snapshot_time
    assert before <= datetime.datetime.fromisoformat(pin.snapshot_time) <= after


def test_streams_are_read_apart_and_have_each_row_once(warehouse, many, many_rows):
    reader = pickle.loads(pickle.dumps(warehouse.open(many_rows, MANY_COLUMNS)))
    parts = reader.parts()
    assert [part.index for part in parts] == [0, 1]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda part: list(reader.read(part, Expected(MANY_COLUMNS))), parts))
    assert [[batch.num_rows for batch in batches] for batches in read] == [[BATCH_ROWS, MANY // 2 - BATCH_ROWS]] * 2
    table = pa.Table.from_batches([batch for batches in read for batch in batches])
    assert table.sort_by("number").equals(many)


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.UNAVAILABLE, "Connection reset by peer"),
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
    ],
    ids=lambda fault: fault[0].name,
)
def test_a_lost_connection_is_taken_up_where_it_broke_off(warehouse, many, many_rows, fault):
    with tapped(warehouse, message_rows=10_000, fault_every=3, fault=fault) as tap:
        reader = warehouse.open(many_rows, MANY_COLUMNS, endpoints=tap.endpoints)
        assert read_table(reader, MANY_COLUMNS).equals(many)
    offsets = [request.offset for request in tap.reads]
    assert offsets == [0, 30_000, 60_000] * 2


def test_another_error_is_one_line(warehouse, many_rows):
    fault = (grpc.StatusCode.PERMISSION_DENIED, "the user does not have 'bigquery.readsessions.getData' permission")
    with tapped(warehouse, message_rows=10_000, fault_every=1, fault=fault) as tap:
        reader = warehouse.open(many_rows, MANY_COLUMNS, endpoints=tap.endpoints)
        with pytest.raises(ForetableError, match=r"many: permission denied: bigquery.readsessions.getData .*\n?$"):
            read_table(reader, MANY_COLUMNS)


def test_infinity_and_bytes_that_are_no_text_are_set_aside(warehouse, tmp_path):
    odd = pa.table({"x": [1.5, math.inf, 2.5, None], "word": [b"a", b"b", b"\xff", b"c"]})
    source = warehouse.load("odd", odd, tmp_path)
    reader = warehouse.open(source, {"x": "float", "word": "string"})
    expected = Expected({"x": "float", "word": "string"}, {"x": "missing, and the feature declares no missing: value"})
    (part,) = reader.parts()
    read = list(reader.read(part, expected))
    assert read[-1].to_pydict() == {"x": [1.5], "word": ["a"]}
    name = source.table
    assert sorted(read[:-1]) == [
        BadRow(name, 0, "word", "\\xff", "expected UTF-8 text, got binary"),
        BadRow(name, 0, "x", "", "missing, and the feature declares no missing: value"),
        BadRow(name, 0, "x", "inf", "expected a finite number"),
    ]
    with pytest.raises(RefusedError) as error:
        read_table(reader, {"x": "float"})
    assert str(error.value) == f"{name}: x='inf': expected a finite number"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"nope": "int"}, "no column 'nope'; its columns are word, numbers, pair, day"),
        ({"word": "float"}, "column 'word' is STRING; expected a column of numbers for type float"),
        ({"day": "int"}, "column 'day' is DATE; expected a column of numbers for type int"),
        ({"numbers": "int"}, "column 'numbers' is ARRAY<INTEGER>; expected a column of numbers for type int"),
        ({"pair": "string"}, "column 'pair' is RECORD; expected a column of plain values for type string"),
    ],
    ids=["unknown", "text", "date", "repeated", "nested"],
)
def test_a_column_that_cannot_be_read_is_refused(warehouse, columns, problem):
    source = warehouse.table(
        "plain", "SELECT 'a' AS word, [1, 2] AS numbers, STRUCT(1 AS a) AS pair, CURRENT_DATE() AS day"
    )
    with pytest.raises(RefusedError) as error:
        warehouse.open(source, {"word": "string"} | columns)
    assert str(error.value) == f"{source.table}: {problem}"


def test_what_is_wrong_is_one_line(warehouse):
    name = warehouse.dataset
    warehouse.query(f"CREATE OR REPLACE VIEW `{name}.a_view` AS SELECT 1 AS x")
    warehouse.table("one", "SELECT 1 AS x")
    wrong = {
        "Not found: Table .*nope; check its name in the job file": warehouse.source("nope"),
        "a_view: cannot be read as of a moment: it is a view, not a table; use query: SELECT": warehouse.source(
            "a_view"
        ),
        "Unrecognized name: oops": warehouse.asking(f"SELECT oops FROM `{name}.one`"),
        r"query 'SELECT 1 AS x FROM .*one` LIMIT 0': gives no rows; expected at least one": warehouse.asking(
            f"SELECT 1 AS x FROM `{name}.one` LIMIT 0"
        ),
        "Unrecognized name: y": warehouse.source("one", row_restriction="y > 1"),
    }
    for message, source in wrong.items():
        with pytest.raises(ForetableError, match=message) as error:
            warehouse.open(source, {"x": "int"})
        assert "\n" not in str(error.value)


def ingest(reader, folder):
    folder.mkdir()
    features = {"word": Feature(type="string", missing="none"), "fare": Feature(type="float", missing=0)}
    label = Label(name="number", type="int")
    transform = IngestExamples(reader, HashSplit(by="word"), MANY_COLUMNS, features, label, str(folder))
    with beam.Pipeline() as pipeline:
        _ = pipeline | transform
    files = sorted(folder.rglob("*.*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_rows_give_the_same_bytes_however_they_lie(warehouse, many, many_rows, tmp_path):
    shuffled = many.take(random.Random(0).sample(range(MANY), MANY))
    other = warehouse.load("shuffled", shuffled, tmp_path)
    once = ingest(warehouse.open(many_rows, MANY_COLUMNS), tmp_path / "once")
    assert ingest(warehouse.open(other, MANY_COLUMNS), tmp_path / "other") == once
    assert {"train-00000-00000.parquet", "eval-00000-00002.parquet", "statistics.pbtxt"} <= set(once)
    shards = (tmp_path / "once").glob("examples/*.parquet")
    assert pa.concat_tables(map(pq.read_table, shards)).sort_by("number").equals(many)


@pytest.mark.slow
def test_a_night_has_the_examples_of_one_from_parquet(warehouse, tmp_path):
    table = warehouse.load("natality", pa.table(generate_natality(seed=3, block=0)).slice(0, 4000), tmp_path).table
    addresses = ", ".join(f"{name}: '{url}'" for name, url in warehouse.endpoints.model_dump(exclude_none=True).items())
    sources = {"bigquery": f"table: {table}", "parquet": f"files: {tmp_path}/natality.parquet"}
    examples = {}
    for kind, where in sources.items():
        settings = [f"source={{kind: {kind}, {where}}}", f"endpoints={{{addresses}}}"]
        workspace = Workspace(tmp_path / kind, *settings)
        workspace.run("prepare", "--date", str(FIRST_DATE))
        for split in ("train", "eval"):
            shards = (workspace.run_path() / "examples").glob(f"{split}-*.parquet")
            rows = pa.concat_tables(map(pq.read_table, shards))
            examples[kind, split] = rows.sort_by([(name, "ascending") for name in rows.column_names])
    for split in ("train", "eval"):
        assert examples["bigquery", split].equals(examples["parquet", split])
    assert sum(rows.num_rows for rows in examples.values()) == 2 * 4000


def test_axes(warehouse, tmp_path):
    rows = "SELECT 'a' AS word, 1.5 AS fare UNION ALL SELECT 'b', NULL UNION ALL SELECT 'a', 1.5"
    source = warehouse.table("axes", rows)
    features = {"word": Feature(type="string"), "fare": Feature(type="float", missing=0)}
    run = RunDirectory(str(tmp_path), datetime.date(2026, 1, 5), "r1")

    def build(axis):
        def read(node, columns):
            return read_table(open_source(axis_source(node), columns, run, warehouse.endpoints), columns)

        return build_axis("routes", axis, features, read, None, None).table.to_pydict()

    expected = {"word": ["a", "b"], "fare": [1.5, None]}
    assert build(DistinctAxis(distinct=source, columns=("word", "fare"))) == expected
    restricted = source.model_copy(update={"row_restriction": "fare > 1"})
    assert build(DistinctAxis(distinct=restricted, columns=("word",))) == {"word": ["a"]}
    asked = warehouse.asking(f"SELECT * FROM `{source.table}` -- all\n;\n")
    assert build(DistinctAxis(distinct=asked, columns=("word", "fare"))) == expected
    keyed = warehouse.table("keyed", "SELECT 'k2' AS id, 'b' AS word, 1 AS fare UNION ALL SELECT 'k1', 'a', NULL")
    assert build(RowsAxis(rows=keyed, keys="id")) == {"id": ["k1", "k2"], "word": ["a", "b"], "fare": [None, 1.0]}


def test_distinct_is_asked_of_bigquery():
    table = BigQuerySource(kind="bigquery", table="p.d.t", row_restriction="x > 1", location="EU")
    asked = distinct_source(table, ("a", "b"))
    assert asked == BigQuerySource(
        kind="bigquery", query="SELECT DISTINCT `a`, `b` FROM `p.d.t` WHERE (x > 1)", project="p", location="EU"
    )
