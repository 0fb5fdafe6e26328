"""Verification catches whatever is not the whole space with a prediction each, and says which rows."""

import dataclasses
import pathlib

import hypothesis
import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from nights import AXES, BLOCK_ROWS, COLUMNS, make_night, points

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.duckdb.verification import check_shards, verify_table
from configs.errors import JobError, RefusedError
from transforms.scoring.shards import TableColumn

EXCLUDE = "sex = 'True' AND children = 2"


def is_excluded(point):
    return point["sex"] == "True" and point["children"] == 2


def paths(night):
    return [str(pathlib.Path(night.run_dir, "predictions", shard.name)) for shard in night.manifest.shards]


def verify(night, previous=None):
    return verify_table(night, paths(night), previous)


def record_of(night):
    return NightRecord.of(night, published_at=None)


def test_a_whole_space_passes_every_check(tmp_path):
    verification = verify(make_night(tmp_path))
    assert verification.rows == 24
    assert [(check.name, check.finding, check.accepted) for check in verification.checks] == [
        ("shards", "3 files as in the manifest", None),
        ("rows", "24 rows, as planned: 24 points less 0 excluded", None),
        ("keys", "each key of the space exactly once", None),
        ("excluded", "0 points excluded, none of them in the table", None),
        ("predictions", "no NULL, no NaN in weight", None),
        ("schema", "the first night", None),
    ]


def test_a_space_with_excluded_points_passes(tmp_path):
    verification = verify(make_night(tmp_path, exclude=EXCLUDE, is_excluded=is_excluded))
    assert verification.rows == 20
    assert verification.checks[1].finding == "20 rows, as planned: 24 points less 4 excluded"


@pytest.mark.parametrize(
    "exclude", ["weeks > 38 -- late", "(sex = 'True') IS NULL", "CASE WHEN children = 1 THEN 1 ELSE 0 END"]
)
def test_the_condition_may_be_any_sql_expression(tmp_path, exclude):
    excluded = {
        "weeks > 38 -- late": lambda p: (p["weeks"] or 0) > 38,
        "(sex = 'True') IS NULL": lambda p: p["sex"] is None,
        "CASE WHEN children = 1 THEN 1 ELSE 0 END": lambda p: p["children"] == 1,
    }[exclude]
    night = make_night(tmp_path, exclude=exclude, is_excluded=excluded)
    assert verify(night).rows == sum(not excluded(point) for point in points(AXES))


def swap(a, b):
    """Rows a and b change places."""

    def rewrite(rows):
        swapped = list(rows)
        swapped[a], swapped[b] = (rows[a][0], rows[b][1]), (rows[b][0], rows[a][1])
        return swapped

    return rewrite


def replace_value(index, **values):
    return lambda rows: [(p, row | values) if i == index else (p, row) for i, (p, row) in enumerate(rows)]


def drop(index):
    return lambda rows: rows[:index] + rows[index + 1 :]


def twice(index):
    return lambda rows: rows[: index + 1] + rows[index:]


def in_place_of(index, other):
    """Row `other` comes a second time, in the place of row `index`."""
    return lambda rows: [(p, rows[other][1]) if i == index else (p, row) for i, (p, row) in enumerate(rows)]


FAULTS = {
    "swapped rows": (
        swap(3, 9),
        "check 'keys' failed: 2 rows whose key is not the one of their place, first sex='False' weeks=38.0 children=2; "
        "sex='True' weeks=38.25 children=2; run precompute again",
    ),
    "a key twice in place of another": (in_place_of(5, 4), "sex='True' weeks=38.5 children=1; run precompute again"),
    "a value of no axis": (
        replace_value(7, weeks=40.0),
        "check 'keys' failed: 1 rows whose key is not the one of their place, first sex='True' weeks=40.0 children=2",
    ),
    "a missing value where the axis has none": (
        replace_value(2, children=None),
        "first sex='True' weeks=38.25 children=NULL",
    ),
    "NaN": (
        replace_value(11, weight=float("nan")),
        "check 'predictions' failed: weight is NULL, NaN or infinite in 1 rows, first sex='False' weeks=38.25 children=2; ",
    ),
    "NULL": (
        replace_value(0, weight=None),
        "weight is NULL, NaN or infinite in 1 rows, first sex='True' weeks=38.0 children=1",
    ),
    "infinity": (replace_value(0, weight=float("inf")), "weight is NULL, NaN or infinite in 1 rows"),
    "a missing row": (
        drop(6),
        "check 'rows' failed: 23 rows in the shards, 24 in the plan; first keys out of place: "
        "sex='True' weeks=NULL children=2",
    ),
    "a row twice": (twice(6), "check 'rows' failed: 25 rows in the shards, 24 in the plan; first keys out of place: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_with_its_keys(tmp_path, fault):
    rewrite, message = FAULTS[fault]
    with pytest.raises(RefusedError) as refused:
        verify(make_night(tmp_path, rewrite=rewrite))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


EXCLUDE_FAULTS = {
    "swapped rows": (swap(2, 3), "part-00000-of-00003.parquet: 1 rows whose key comes twice or out of order, first "),
    "swapped across shards": (swap(0, 19), "rows whose key comes twice or out of order, first "),
    "a key twice in place of another": (in_place_of(5, 4), "1 rows whose key comes twice or out of order, first sex="),
    "an excluded point in place of another": (
        replace_value(1, weeks=38.0, children=2),
        "check 'excluded' failed: 1 rows of excluded points, first sex='True' weeks=38.0 children=2",
    ),
    "a value of no axis": (replace_value(7, weeks=40.0), "check 'keys' failed: 1 rows whose key is not the one"),
    "a missing row": (drop(6), "check 'rows' failed: 19 rows in the shards, 20 in the plan"),
}


@pytest.mark.parametrize("fault", EXCLUDE_FAULTS)
def test_a_fault_is_caught_where_points_are_excluded(tmp_path, fault):
    rewrite, message = EXCLUDE_FAULTS[fault]
    with pytest.raises(RefusedError) as refused:
        verify(make_night(tmp_path, exclude=EXCLUDE, is_excluded=is_excluded, rewrite=rewrite))
    assert message in str(refused.value)


def test_the_product_of_the_axes_is_what_counts(tmp_path):
    """A manifest and a plan that agree with each other do not make a table complete."""
    night = make_night(tmp_path, rewrite=lambda rows: rows[:-8])
    night = dataclasses.replace(night, planned_rows=16)
    with pytest.raises(
        RefusedError, match="16 rows in the shards, 24 in the product of the axes less the excluded points"
    ):
        verify(night)


def test_an_axis_with_a_row_twice_is_refused(tmp_path):
    night = make_night(tmp_path, axes=AXES | {"children": {"children": [1, 1]}})
    with pytest.raises(RefusedError, match=r"02-children\.parquet: 1 rows of the axis are there twice"):
        verify(night)


def test_a_rows_axis_with_keys_of_its_own(tmp_path):
    axes = {"rows": {"id": ["b", "a", "c"], "sex": ["True", "True", None]}}
    columns = (TableColumn("id", "string", "key"), TableColumn("sex", "string", "feature"), COLUMNS[-1])
    assert verify(make_night(tmp_path / "good", axes=axes, columns=columns)).rows == 3
    with pytest.raises(RefusedError, match="first id='a'"):
        verify(make_night(tmp_path / "wrong", axes=axes, columns=columns, rewrite=replace_value(1, sex="False")))
    twins = {"rows": {"id": ["b", "b", "c"], "sex": ["True", "False", None]}}
    with pytest.raises(RefusedError, match="1 rows of the axis are there twice"):
        verify(make_night(tmp_path / "twins", axes=twins, columns=columns))


def test_string_and_int_predictions(tmp_path):
    columns = (*COLUMNS[:-1], TableColumn("size", "string", "output"), TableColumn("grams", "int", "output"))
    assert verify(make_night(tmp_path / "good", columns=columns)).rows == 24
    with pytest.raises(RefusedError, match="size is NULL"):
        verify(make_night(tmp_path / "bad", columns=columns, rewrite=replace_value(3, size=None)))


def test_a_changed_schema_needs_a_reason(tmp_path):
    before = record_of(make_night(tmp_path / "before"))
    grams = (*COLUMNS[:-1], TableColumn("weight", "int", "output"))
    night = make_night(tmp_path / "after", columns=grams)
    with pytest.raises(RefusedError, match="check 'schema' failed: column 'weight' is int output, was float output"):
        verify(night, before)
    accepted = verify(dataclasses.replace(night, accepted={"schema": "grams from now on"}), before)
    assert accepted.checks[-1].accepted == "grams from now on"
    assert accepted.checks[-1].finding.startswith("column 'weight' is int output, was float output")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((*COLUMNS[:-1], TableColumn("grams", "float", "output")), "column 'weight' is gone"),
        ((*COLUMNS, TableColumn("grams", "float", "output")), r"column 'grams' \(float output\) is new"),
        ((COLUMNS[1], COLUMNS[0], *COLUMNS[2:]), "columns are in the order weeks, sex, children, weight, were sex,"),
    ],
    ids=["gone", "new", "order"],
)
def test_each_kind_of_schema_change_is_named(tmp_path, columns, message):
    before = record_of(make_night(tmp_path / "before"))
    with pytest.raises(RefusedError, match=message):
        verify(make_night(tmp_path / "after", columns=columns), before)


def test_new_descriptions_are_no_schema_change(tmp_path):
    before = record_of(make_night(tmp_path / "before"))
    columns = tuple(dataclasses.replace(column, description="new words") for column in COLUMNS)
    assert verify(make_night(tmp_path / "after", columns=columns), before).checks[-1].finding == "as on 2024-01-01"


def truncate(path):
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[:-20])


def pad(path):
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: pathlib.Path(path).unlink(), "not a readable Parquet file; run precompute again"),
        (truncate, "not a readable Parquet file; run precompute again"),
        (pad, "bytes, the manifest says"),
    ],
    ids=["gone", "truncated", "rewritten"],
)
def test_a_spoilt_shard_is_named(tmp_path, spoil, message):
    night = make_night(tmp_path)
    spoil(paths(night)[1])
    with pytest.raises(RefusedError, match=f"part-00001-of-00003.parquet: .*{message}"):
        check_shards(night, paths(night))


def test_a_shard_of_another_schema_is_named(tmp_path):
    night = make_night(tmp_path)
    pq.write_table(
        pq.read_table(paths(night)[0]).rename_columns(["sex", "weeks", "children", "gewicht"]), paths(night)[0]
    )
    first = dataclasses.replace(night.manifest.shards[0], bytes=pathlib.Path(paths(night)[0]).stat().st_size)
    shards = (first, *night.manifest.shards[1:])
    night = dataclasses.replace(night, manifest=dataclasses.replace(night.manifest, shards=shards))
    with pytest.raises(RefusedError, match=r"part-00000-of-00003\.parquet: column 'weight' is gone \(the manifest\)"):
        check_shards(night, paths(night))


def test_shards_must_follow_the_block_grid(tmp_path):
    night = make_night(tmp_path)
    shards = tuple(dataclasses.replace(shard, first_block=0) for shard in night.manifest.shards)
    night = dataclasses.replace(night, manifest=dataclasses.replace(night.manifest, shards=shards))
    with pytest.raises(RefusedError, match="starts at block 0, expected 2"):
        check_shards(night, paths(night))


def test_the_columns_of_the_history_view_are_taken(tmp_path):
    columns = (TableColumn("run_date", "string", "key"), COLUMNS[-1])
    night = make_night(tmp_path, axes={"run_date": {"run_date": ["a"]}}, columns=columns)
    with pytest.raises(JobError, match="'run_date': the name is taken by natality_history"):
        check_shards(night, paths(night))


@hypothesis.given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    excluded=st.sets(st.integers(0, 124)),
    fault=st.sampled_from([None, "swap", "repeat", "drop", "exclude"]),
    data=st.data(),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_exactly_the_whole_space_passes(tmp_path_factory, sizes, excluded, fault, data):
    """Whatever the space: the right table passes, and any single change of its keys is refused."""
    axes = {f"axis_{i}": {f"axis_{i}": list(range(size))} for i, size in enumerate(sizes)}
    every = points(axes)
    excluded = {index for index in excluded if index < len(every)}
    columns = (*(TableColumn(name, "int", "key") for name in axes), COLUMNS[-1])
    strides = "0"
    for i, size in enumerate(sizes):
        strides = f"({strides}) * {size} + axis_{i}"
    exclude = f"{strides} IN ({', '.join(map(str, sorted(excluded)))})" if excluded else None
    kept = [index for index in range(len(every)) if index not in excluded]
    a, b = (data.draw(st.integers(0, max(len(kept) - 1, 0))) for _ in range(2))
    hypothesis.assume(fault in (None, "exclude") or (kept and a != b) or (fault == "drop" and kept))
    hypothesis.assume(fault != "exclude" or (excluded and kept))
    if fault == "exclude":
        wrong = every[data.draw(st.sampled_from(sorted(excluded)))]
    rewrite = {
        None: lambda rows: rows,
        "swap": swap(a, b),
        "repeat": in_place_of(a, b),
        "drop": drop(a),
        "exclude": lambda rows: [(p, row | wrong) if i == a else (p, row) for i, (p, row) in enumerate(rows)],
    }[fault]
    night = make_night(
        tmp_path_factory.mktemp("space"),
        axes=axes,
        columns=columns,
        exclude=exclude,
        is_excluded=lambda point: every.index(point) in excluded,
        rewrite=rewrite,
    )
    assert night.manifest.block_rows == BLOCK_ROWS
    if fault is None:
        assert verify(night).rows == len(kept)
    else:
        with pytest.raises(RefusedError):
            verify(night)


@pytest.mark.parametrize(
    ("place", "is_right"),
    [([0.5, 1.5], True), ([], True), ([0.5, float("nan")], False), ([None, 1.5], False), (None, False)],
    ids=str,
)
def test_an_array_of_predictions_has_numbers_inside(tmp_path, place, is_right):
    def with_places(rows):
        return [(p, row | {"place": place if p == 11 else [0.0, 1.0]}) for p, row in rows]

    night = make_night(tmp_path, columns=(*COLUMNS, TableColumn("place", "float[]", "output")), rewrite=with_places)
    if is_right:
        assert verify(night).checks[4].finding == "no NULL, no NaN in weight, place"
        return
    expected = "place is NULL, NaN or infinite in 1 rows, first sex='False' weeks=38.25 children=2"
    with pytest.raises(RefusedError, match=expected):
        verify(night)
