"""What one night changes against another, in both warehouses, held against the same told row by row."""

import dataclasses
import math

import hypothesis
import hypothesis.strategies as st
import pytest
from nights import AXES, COLUMNS, DAY, make_night, points, publish
from tables import WAREHOUSES, open_tables

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.changes import ComparedOutput, Comparison, common_outputs, why_incomparable
from beam_jobs.warehouses.dialects import PERCENTS
from beam_jobs.warehouses.duckdb import checks as duckdb_checks
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from transforms.scoring.shards import TableColumn

ONE_OUTPUT = Comparison((ComparedOutput("weight", ("weight",), 0.5),), (("sex",), ("sex", "children")))
KEYS = ("sex", "weeks", "children")


@pytest.fixture(params=WAREHOUSES)
def warehouse(request, tmp_path):
    return open_tables(request, tmp_path)


def with_values(values):
    """Rewrites the rows of a night: outputs by position."""
    return lambda rows: [(position, row | values(position)) for position, row in rows]


def load_both(warehouse, first, second):
    """The record of the first night, with the second one loaded; BigQuery's switch takes long and adds nothing here."""
    if isinstance(warehouse, DuckDBWarehouse):
        before = publish(warehouse, first)
    else:
        before = dataclasses.replace(NightRecord.of(first, published_at=None), table=warehouse.load(first))
    warehouse.load(second)
    return before


def compare(warehouse, first, second, comparison=ONE_OUTPUT):
    """What the second night changes against the first."""
    return warehouse.compare(second, load_both(warehouse, first, second), comparison)


def nights(tmp_path, now, before=lambda position: {"weight": float(position)}, **settings):
    """Two nights with these outputs."""
    first = make_night(tmp_path / "1", run_id="r1", rewrite=with_values(before), **settings)
    second = make_night(tmp_path / "2", run_date=DAY.replace(day=2), run_id="r2", rewrite=with_values(now), **settings)
    return first, second


def quantile(values, percent):
    """The smallest value that at least so many of the hundred do not exceed."""
    return sorted(values)[max(math.ceil(percent / 100 * len(values)), 1) - 1]


def moved(position):
    """Exact in float32: most stay, some move a little, some far, both ways."""
    step = {0: 0.0, 1: 0.25, 2: -0.25, 3: 0.5, 4: 2.0, 5: -8.0}[position % 6]
    return {"weight": position + step}


def test_every_number_is_that_of_the_rows(tmp_path, warehouse):
    changes = compare(warehouse, *nights(tmp_path, moved))
    every = list(enumerate(points(AXES)))
    steps = {position: moved(position)["weight"] - position for position, _ in every}

    def told(keep):
        kept = [steps[position] for position, point in every if keep(point)]
        far = [step for step in kept if abs(step) > 0.5]
        return len(kept), len(far), sum(kept) / len(kept), sum(map(abs, kept)) / len(kept), kept

    def shown(change):
        output = change.outputs["weight"]
        return change.common, output.changed, output.mean, output.mean_absolute

    assert (changes.overall.slice, changes.overall.new, changes.overall.gone) == ({}, 0, 0)
    assert shown(changes.overall) == told(lambda point: True)[:4] == (24, 8, -0.9166666666666666, 1.8333333333333333)
    assert len(changes.slices) == 3 + 6
    for change in changes.slices:
        expected = told(lambda point, of=change.slice: all(point[name] == value for name, value in of.items()))
        assert shown(change) == expected[:4], change.slice
    assert {tuple(change.slice.values()) for change in changes.slices} == {
        *((sex,) for sex in AXES["sex"]["sex"]),
        *((sex, children) for sex in AXES["sex"]["sex"] for children in (1, 2)),
    }
    found = changes.overall.outputs["weight"].quantiles
    assert list(found) == list(PERCENTS)
    if isinstance(warehouse, DuckDBWarehouse):
        assert changes.joined_by == "place"
        assert found == {percent: quantile(steps.values(), percent) for percent in PERCENTS}
    else:
        assert (found[0], found[100]) == (-8.0, 2.0)


def test_the_farthest_movers_come_first_with_both_values(tmp_path, warehouse):
    changes = compare(warehouse, *nights(tmp_path, moved))
    every = points(AXES)

    def order(position):
        missing_last = [(value is None, value if value is not None else 0) for value in every[position].values()]
        return -abs(moved(position)["weight"] - position), missing_last

    expected = sorted((p for p in range(24) if moved(p)["weight"] != p), key=order)
    assert len(expected) == 20
    found = changes.movers["weight"]
    assert [(mover.key, mover.before["weight"], mover.now["weight"], mover.change) for mover in found] == [
        (every[p], float(p), moved(p)["weight"], moved(p)["weight"] - p) for p in expected
    ]


def test_nothing_changes_against_the_same_answers(tmp_path, warehouse):
    changes = compare(warehouse, *nights(tmp_path, lambda position: {"weight": float(position)}))
    output = changes.overall.outputs["weight"]
    assert (output.changed, output.mean, output.mean_absolute, set(output.quantiles.values())) == (0, 0, 0, {0.0})
    assert changes.movers == {"weight": ()}


def test_changed_is_more_than_the_threshold(tmp_path, warehouse):
    first, second = nights(tmp_path, moved)
    before = load_both(warehouse, first, second)
    for threshold, changed in {0.0: 20, 0.25: 12, 0.5: 8, 2.0: 4, 8.0: 0}.items():
        comparison = Comparison((ComparedOutput("weight", ("weight",), threshold),))
        changes = warehouse.compare(second, before, comparison)
        assert changes.overall.outputs["weight"].changed == changed
        assert changes.slices == ()


def test_what_float32_rounds_is_not_over_the_threshold(tmp_path, warehouse):
    """1.1 less 1.0 is 0.10000002 in float32; 1.101 less 1.0 is over 0.1 all the same."""
    columns = (*COLUMNS, TableColumn("place", "float[]", "output"), TableColumn("count", "int", "output"))
    far = {7: 1.101, 8: 0.899}

    def row(weight, count):
        return {"weight": weight, "place": [0.0, weight], "count": count}

    first, second = nights(
        tmp_path,
        lambda p: row(far.get(p, 1.1 if p % 2 else 0.9), 10**9 + (2 if p == 3 else 1)),
        lambda p: row(1.0, 10**9),
        columns=columns,
    )
    before = load_both(warehouse, first, second)
    for threshold, changed in {0.1: 2, 0.0: 24}.items():
        outputs = (
            ComparedOutput("weight", ("weight",), threshold),
            ComparedOutput("place", ("place",), threshold),
            ComparedOutput("both", ("weight", "place"), threshold),
            ComparedOutput("count", ("count",), 1.0),
        )
        found = warehouse.compare(second, before, Comparison(outputs)).overall.outputs
        assert [found[output.name].changed for output in outputs] == [changed, changed, changed, 1]


def test_the_lowest_and_the_highest_change_are_of_every_row(tmp_path, monkeypatch):
    """However small the part of the rows that the quantiles between are of."""
    monkeypatch.setattr(duckdb_checks, "MOST_QUANTILE_VALUES", 12)
    warehouse = DuckDBWarehouse(str(tmp_path / "natality.duckdb"))
    first, second = nights(tmp_path, moved)
    before = load_both(warehouse, first, second)
    for outlier in range(24):
        comparison = Comparison((ComparedOutput("weight", ("weight",)),))
        rewritten = make_night(
            tmp_path / f"at {outlier}",
            run_date=DAY.replace(day=2),
            run_id="r2",
            rewrite=with_values(
                lambda p, outlier=outlier: {"weight": p + (99.0 if p == outlier else -(p == 23 - outlier))}
            ),
        )
        changes = warehouse.compare(rewritten, before, comparison)
        quantiles = changes.overall.outputs["weight"].quantiles
        assert (changes.quantile_rows, list(quantiles)) == (2, list(PERCENTS))
        assert (quantiles[0], quantiles[100]) == (-1.0, 99.0)


def test_a_missing_value_is_the_same_key_as_a_missing_one(tmp_path, warehouse):
    def of_missing(position):
        far = any(value is None for value in points(AXES)[position].values())
        return {"weight": position + 100.0 * far}

    changes = compare(warehouse, *nights(tmp_path, of_missing))
    assert (changes.overall.common, changes.overall.outputs["weight"].changed) == (24, 12)
    by_sex = {change.slice["sex"]: change for change in changes.slices if set(change.slice) == {"sex"}}
    assert {sex: change.outputs["weight"].changed for sex, change in by_sex.items()} == {"True": 2, "False": 2, None: 8}


def test_rows_that_only_one_night_has(tmp_path, warehouse):
    """Another space: one value less, two more, and another order of the axes' values."""
    first = make_night(tmp_path / "1", run_id="r1")
    axes = AXES | {"weeks": {"weeks": [None, 40.0, 39.0, 38.5, 38.0]}}
    second = make_night(tmp_path / "2", run_date=DAY.replace(day=2), run_id="r2", axes=axes)
    changes = compare(warehouse, first, second)
    assert changes.joined_by == "key"
    overall = changes.overall
    assert (overall.common, overall.new, overall.gone) == (18, 12, 6)
    assert {tuple(c.slice.values()): (c.common, c.new, c.gone) for c in changes.slices if len(c.slice) == 1} == {
        (sex,): (6, 4, 2) for sex in AXES["sex"]["sex"]
    }
    assert [tuple(key.values()) for key in changes.new_keys] == [
        ("False", 39.0, 1),
        ("False", 39.0, 2),
        ("False", 40.0, 1),
    ]
    assert [tuple(key.values()) for key in changes.gone_keys] == [
        ("False", 38.25, 1),
        ("False", 38.25, 2),
        ("True", 38.25, 1),
    ]


def test_places_are_not_trusted_blindly(tmp_path):
    """Two tables that claim one space and have their rows in different places are compared by key after all."""
    warehouse = DuckDBWarehouse(str(tmp_path / "natality.duckdb"))
    first, second = nights(tmp_path, moved)
    axes = AXES | {"children": {"children": [2, 1]}}
    other = make_night(tmp_path / "3", run_date=DAY.replace(day=2), run_id="r3", axes=axes)
    claimed = dataclasses.replace(other.manifest, space_hash=first.manifest.space_hash)
    before = publish(warehouse, first)
    assert warehouse.compare(second, before, ONE_OUTPUT).joined_by == "place"
    changes = warehouse.compare(dataclasses.replace(other, manifest=claimed), before, ONE_OUTPUT)
    assert (changes.joined_by, changes.overall.common) == ("key", 24)


def test_intervals_are_the_same_key_where_both_bounds_are(tmp_path, warehouse):
    columns = (
        TableColumn("age_from", "float", "key"),
        TableColumn("age_to", "float", "key"),
        TableColumn("age_is_missing", "bool", "key"),
        COLUMNS[-1],
    )

    def axes(*edges):
        lows, highs = [None, *edges, None], [*edges, None, None]
        return {"age": {"age_from": lows, "age_to": highs, "age_is_missing": [False] * (len(edges) + 1) + [True]}}

    settings = {"columns": columns, "intervals_of": ("age",)}
    first = make_night(tmp_path / "1", run_id="r1", axes=axes(20.0, 30.0), **settings)
    second = make_night(tmp_path / "2", run_date=DAY.replace(day=2), run_id="r2", axes=axes(20.0, 31.0), **settings)
    changes = compare(warehouse, first, second, Comparison(ONE_OUTPUT.outputs))
    assert (changes.overall.common, changes.overall.new, changes.overall.gone) == (2, 2, 2)
    assert [tuple(key.values()) for key in changes.new_keys] == [(20.0, 31.0, False), (31.0, None, False)]


CLASSES = (
    *COLUMNS[:-1],
    TableColumn("size", "string", "output"),
    TableColumn("size_probability_small", "float", "output"),
    TableColumn("size_probability_large", "float", "output"),
    TableColumn("tip", "int", "output"),
    TableColumn("place", "float[]", "output"),
)
CLASS_OUTPUTS = (
    ComparedOutput("size", ("size",), is_class=True),
    ComparedOutput("size_probabilities", ("size_probability_small", "size_probability_large"), 0.25),
    ComparedOutput("tip", ("tip",), 0.5, is_class=True),
    ComparedOutput("place", ("place",), 1.0),
)


def class_values(small, tip=0, place=(0.0, 0.0)):
    word = "small" if small >= 0.5 else "large"
    probabilities = {"size_probability_small": small, "size_probability_large": 1 - small}
    return {"size": word, "tip": tip, "place": list(place), **probabilities}


def test_classes_flip_and_several_columns_move_together(tmp_path, warehouse):
    def now(position):
        if position == 3:
            return class_values(0.25, tip=1)  # both classes flip, the probabilities move by half
        if position == 5:
            return class_values(0.5, place=(0.0, -2.0))  # by a quarter, which is not more than a quarter
        return class_values(0.75, place=(1.0, 0.0))

    first, second = nights(tmp_path, now, lambda position: class_values(0.75), columns=CLASSES)
    changes = compare(warehouse, first, second, Comparison(CLASS_OUTPUTS))
    outputs = changes.overall.outputs
    assert {name: output.changed for name, output in outputs.items()} == {
        "size": 1,
        "size_probabilities": 1,
        "tip": 1,
        "place": 1,
    }
    assert (outputs["size"].mean, outputs["size"].quantiles, outputs["tip"].mean) == (None, {}, None)
    assert outputs["size_probabilities"].mean == (0.5 + 0.25) / 24
    assert outputs["place"].mean == (22 * 1.0 + 0.0 + 2.0) / 24
    assert outputs["place"].quantiles[100] == 2.0
    key = points(AXES)[3]
    for name in ("size", "tip"):
        (flip,) = changes.movers[name]
        assert (flip.key, flip.change, flip.before[name], flip.now[name]) == (
            key,
            None,
            class_values(0.75)[name],
            now(3)[name],
        )
    assert [mover.change for mover in changes.movers["size_probabilities"]] == [0.5, 0.25]
    assert changes.movers["place"][0].now["place"] == [0.0, -2.0]


def test_outputs_and_keys_that_two_tables_share():
    grams = (*COLUMNS, TableColumn("grams", "float", "output"))
    assert common_outputs(grams, COLUMNS) == COLUMNS[-1:]
    assert common_outputs((TableColumn("weight", "int", "output"),), COLUMNS) == ()
    assert why_incomparable(grams, COLUMNS) is None
    assert why_incomparable(COLUMNS, tuple(reversed(COLUMNS))) is None
    assert why_incomparable(COLUMNS, COLUMNS[1:]) == (
        "the key is children int, sex string, weeks float, it was children int, weeks float"
    )


VALUES = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=5, unique=True)
NUMBERS = st.lists(st.sampled_from([None, 1, 2, 3, 4]), min_size=1, max_size=5, unique=True)


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=40, deadline=None)
def test_every_key_is_changed_unchanged_new_or_gone(tmp_path_factory, data):
    """Whatever the two spaces and answers: the four parts are those of the rows, overall and in each slice."""
    folder = tmp_path_factory.mktemp("law")
    columns = (TableColumn("word", "string", "key"), TableColumn("number", "int", "key"), COLUMNS[-1])
    tables, made = [], []
    for index in (1, 2):
        axes = {"word": {"word": data.draw(VALUES)}, "number": {"number": data.draw(NUMBERS)}}
        every = points(axes)
        weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=len(every), max_size=len(every)))
        tables.append({tuple(point.values()): weight for point, weight in zip(every, weights, strict=True)})
        values = with_values(lambda position, weights=weights: {"weight": weights[position]})
        settings = {"axes": axes, "columns": columns, "rewrite": values}
        made.append(make_night(folder, run_date=DAY.replace(day=index), run_id=f"r{index}", **settings))
    comparison = Comparison(ONE_OUTPUT.outputs, (("word",), ("word", "number")))
    shards = [[f"{night.run_dir}/predictions/{shard.name}" for shard in night.manifest.shards] for night in made]
    record = NightRecord.of(made[0], published_at=None)
    changes = duckdb_checks.compare(made[1], shards[1], record, shards[0], comparison)
    before, now = tables
    for change in (changes.overall, *changes.slices):

        def within(key, change=change):
            names = dict(zip(("word", "number"), key, strict=True))
            return all(names[name] == value for name, value in change.slice.items())

        old, new = (set(filter(within, table)) for table in (before, now))
        changed = {key for key in old & new if abs(now[key] - before[key]) > 0.5}
        assert (change.common, change.new, change.gone) == (len(old & new), len(new - old), len(old - new))
        assert change.outputs["weight"].changed == len(changed)
        assert change.common + change.new + change.gone == len(old | new)
    assert len(changes.slices) == len({key[0] for key in before | now}) + len(before | now)
