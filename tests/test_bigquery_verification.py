"""One query over a loaded table catches whatever is not the whole space with a prediction each, and says which rows."""

import dataclasses

import pytest
from bigquery_reader import Reader
from nights import AXES, COLUMNS, make_night, points
from test_verification import drop, in_place_of, is_excluded, replace_value, twice

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.bigquery.verification import verify_loaded
from configs.errors import RefusedError
from transforms.scoring.shards import TableColumn

pytestmark = pytest.mark.slow  # the twin takes seconds for a night; `test_bigquery.py` has the quick ones

EXCLUDE = "sex = 'True' AND children = 2"
WHOLE = 8  # blocks in a shard: all of them


@pytest.fixture(scope="module")
def reader(cloud):
    return Reader(cloud)


@pytest.fixture
def verify(reader, request):
    """Loads a night under a name of its own, and verifies it."""

    def load_and_verify(night, previous=None):
        night = dataclasses.replace(night, run_id=f"v{abs(hash(request.node.name)) % 10**9}")
        name = reader.warehouse.load(night)
        return verify_loaded(reader.warehouse._dataset, night, name, previous)

    return load_and_verify


def test_a_whole_space_passes_every_check(tmp_path, verify):
    verification = verify(make_night(tmp_path))
    assert verification.rows == 24
    assert [(check.name, check.finding, check.accepted) for check in verification.checks] == [
        ("rows", "24 rows, as planned: 24 points less 0 excluded", None),
        ("keys", "each key of the space exactly once", None),
        ("excluded", "no points excluded", None),
        ("predictions", "no NULL, no NaN in weight", None),
        ("schema", "the first night", None),
    ]


FAULTS = {
    "a key twice in place of another": (
        in_place_of(5, 4),
        "check 'keys' failed: 1 rows whose key is there already, first sex='True' weeks=38.5 children=1; publish again",
    ),
    "a value of no axis": (
        replace_value(7, weeks=40.0),
        r"01-weeks.parquet: weeks=40.0; run precompute again",
    ),
    "a missing value where the axis has none": (replace_value(2, children=None), "02-children.parquet: children=NULL"),
    "NaN": (
        replace_value(11, weight=float("nan")),
        "check 'predictions' failed: weight is NULL, NaN or infinite in 1 rows, "
        "first sex='False' weeks=38.25 children=2; train again",
    ),
    "NULL": (replace_value(0, weight=None), "in 1 rows, first sex='True' weeks=38.0 children=1"),
    "infinity": (replace_value(0, weight=float("-inf")), "weight is NULL, NaN or infinite in 1 rows"),
    "a missing row": (drop(6), "check 'rows' failed: 23 rows in the table, 24 in the plan"),
    "a row twice": (
        twice(6),
        "check 'rows' failed: 25 rows in the table, 24 in the plan, first sex='True' weeks=NULL children=1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_with_its_keys(tmp_path, verify, fault):
    rewrite, message = FAULTS[fault]
    with pytest.raises(RefusedError) as refused:
        verify(make_night(tmp_path, rewrite=rewrite, shard_blocks=WHOLE))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_space_with_excluded_points(tmp_path, verify):
    settings = {"exclude": EXCLUDE, "is_excluded": is_excluded, "shard_blocks": WHOLE}
    verification = verify(make_night(tmp_path / "good", **settings))
    assert verification.checks[0].finding == "20 rows, as planned: 24 points less 4 excluded"
    assert verification.checks[2].finding == "4 points absent, as many as planned"
    with pytest.raises(RefusedError, match="19 rows in the table, 20 in the plan"):
        verify(make_night(tmp_path / "bad", rewrite=drop(6), **settings))


def test_the_product_of_the_axes_is_what_counts(tmp_path, verify):
    night = make_night(tmp_path, rewrite=lambda rows: rows[:-8], shard_blocks=WHOLE)
    with pytest.raises(RefusedError, match="16 rows in the table, 24 in the product of the axes less the excluded"):
        verify(dataclasses.replace(night, planned_rows=16))


def test_an_axis_with_a_row_twice_is_refused(tmp_path, verify):
    night = make_night(tmp_path, axes=AXES | {"children": {"children": [1, 1]}}, shard_blocks=WHOLE)
    with pytest.raises(RefusedError, match=r"02-children\.parquet: 1 rows of the axis are there twice"):
        verify(night)


def test_a_rows_axis_with_keys_of_its_own(tmp_path, verify):
    axes = {"rows": {"id": ["b", "a", "c"], "sex": ["True", "True", None]}}
    columns = (TableColumn("id", "string", "key"), TableColumn("sex", "string", "feature"), COLUMNS[-1])
    assert verify(make_night(tmp_path / "good", axes=axes, columns=columns)).rows == 3
    with pytest.raises(RefusedError, match=r"00-rows.parquet: id='a' sex='False'"):
        verify(make_night(tmp_path / "wrong", axes=axes, columns=columns, rewrite=replace_value(1, sex="False")))


def test_an_axis_too_long_to_compare_is_said_so(tmp_path, verify, monkeypatch):
    monkeypatch.setattr("beam_jobs.warehouses.bigquery.verification._MOST_AXIS_ROWS", 2)
    (keys,) = [check for check in verify(make_night(tmp_path)).checks if check.name == "keys"]
    assert "the 4 rows of " in keys.finding
    assert keys.finding.endswith("01-weeks.parquet are not compared one by one")
    axes = {"rows": {"sex": ["True", "False", None]}}
    columns = (COLUMNS[0], COLUMNS[-1])
    (keys,) = [c for c in verify(make_night(tmp_path / "r", axes=axes, columns=columns)).checks if c.name == "keys"]
    assert "the 3 rows of " in keys.finding


def test_string_int_and_array_predictions(tmp_path, verify):
    kinds = {"size": "string", "grams": "int", "parts": "float[]", "words": "string[]"}
    columns = (*COLUMNS[:-1], *(TableColumn(name, kind, "output") for name, kind in kinds.items()))
    good = {"size": "S", "grams": 1, "parts": [1.0, 2.0], "words": ["a", "b"]}

    def rewrite(**bad):
        return lambda rows: [(p, row | good | (bad if p == 3 else {})) for p, row in rows]

    settings = {"columns": columns, "shard_blocks": WHOLE}
    assert verify(make_night(tmp_path / "good", rewrite=rewrite(), **settings)).rows == len(points(AXES))
    for name, value in {"size": None, "grams": None, "parts": [1.0, float("nan")], "words": None}.items():
        with pytest.raises(
            RefusedError, match=f"{name} is NULL, NaN or infinite in 1 rows, first sex='True' weeks=38.25"
        ):
            verify(make_night(tmp_path / name, rewrite=rewrite(**{name: value}), **settings))


def test_a_changed_schema_needs_a_reason(tmp_path, verify):
    before = NightRecord.of(make_night(tmp_path / "before"), published_at=None)
    whole = (*COLUMNS[:-1], TableColumn("weight", "int", "output"))
    rewrite = lambda rows: [(p, row | {"weight": 7}) for p, row in rows]  # noqa: E731
    night = make_night(tmp_path / "after", columns=whole, rewrite=rewrite)
    with pytest.raises(RefusedError, match="check 'schema' failed: column 'weight' is int output, was float output"):
        verify(night, before)
    assert verify(dataclasses.replace(night, accepted={"schema": "grams"}), before).checks[-1].accepted == "grams"


def test_a_table_of_other_types_is_refused(tmp_path, reader):
    night = make_night(tmp_path, run_id="other")
    name = reader.warehouse.load(night)
    reader.read(
        f"CREATE OR REPLACE TABLE {name} AS SELECT * REPLACE (CAST(children AS STRING) AS children) FROM {name}"
    )
    with pytest.raises(RefusedError, match="check 'schema' failed: column 'children' is STRING, was INT64"):
        verify_loaded(reader.warehouse._dataset, night, name, None)
    reader.read(f"DROP TABLE {name}")
    with pytest.raises(RefusedError, match=f"{name} is not there; publish the night again"):
        verify_loaded(reader.warehouse._dataset, night, name, None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "part-00001-of-00003.parquet: not a readable file; run precompute again"),
        (lambda path: path.write_bytes(b"PAR1"), "part-00001-of-00003.parquet: 4 bytes, the manifest says"),
    ],
    ids=["gone", "truncated"],
)
def test_a_spoilt_local_shard_is_named(tmp_path, reader, spoil, message):
    night = make_night(tmp_path, run_id="spoilt")
    spoil(tmp_path / "natality" / str(night.run_date) / "spoilt" / "predictions" / "part-00001-of-00003.parquet")
    with pytest.raises(RefusedError, match=message):
        reader.warehouse.load(night)
