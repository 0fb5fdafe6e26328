"""A night whose space has no steps: every number is in the table, and its row is the model's own answer."""

import numpy as np
import pytest
from conftest import FIRST_DATE, SMALL, Workspace

pytestmark = pytest.mark.slow  # a whole night; `test_intervals.py` and `test_buckets_axis.py` are the quick ones

BUCKETS = (
    *(override for override in SMALL if not override.startswith("input_space")),
    "features.mother_age.transforms=[{kind: quantile_buckets, count: 7}]",
    "features.gestation_weeks.transforms=[{kind: buckets, edges: [28, 32.5, 37, 39, 41.1]}]",
    "crosses=[{kind: hashed, features: [plurality, mother_age_quantile_buckets, gestation_weeks_buckets], buckets: 11}]",
    "input_space.axes.mother_age={buckets: true, range: [12, 55]}",
    "input_space.axes.gestation_weeks={buckets: true}",
    "input_space.exclude=is_male = 'Unknown' AND mother_age_from >= 30",
)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("buckets"), *BUCKETS)
    workspace.run("run", "--date", str(FIRST_DATE))
    return workspace


@pytest.fixture(scope="module")
def rows(published):
    return published.json("query", "SELECT * FROM natality_predictions")["rows"]


@pytest.fixture(scope="module")
def serving(published):
    import tensorflow as tf

    signature = tf.saved_model.load(str(published.run_path() / "model")).signatures["serving_default"]

    def predict(keys):
        text, number = ("is_male", "plurality"), ("mother_age", "gestation_weeks")
        inputs = {name: tf.constant([key[name] or "" for key in keys]) for name in text}
        for name in number:
            inputs[name] = tf.constant(
                np.array([np.nan if key[name] is None else key[name] for key in keys], np.float32)
            )
        return signature(**inputs)["weight_pounds"].numpy()

    return predict


def edges(rows, feature):
    return sorted({row[f"{feature}_from"] for row in rows} - {None})


def test_the_edges_are_the_declared_ones_as_float32(rows):
    declared = np.float32([28, 32.5, 37, 39, 41.1])
    assert edges(rows, "gestation_weeks") == declared.astype(float).tolist()
    assert edges(rows, "mother_age")[0] == 12
    assert len(edges(rows, "mother_age")) == 7


def test_below_at_and_above_every_edge_the_table_says_what_the_model_says(rows, serving):
    keys, expected = [], []
    for feature in ("mother_age", "gestation_weeks"):
        for edge in np.float32(edges(rows, feature)):
            for value in (np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(99))):
                if feature == "mother_age" and value < 12:
                    continue
                other = {"mother_age": 29.37, "gestation_weeks": 38.25} | {feature: float(value)}
                for is_male, plurality in (("True", "Single(1)"), ("Unknown", "(other)"), ("False", "Twins(2)")):
                    key = {"is_male": is_male, "plurality": plurality, **other}
                    if found := [row for row in rows if is_row_of(row, key)]:
                        (row,) = found
                        keys.append(key)
                        expected.append(row["weight_pounds"])
                    else:
                        assert is_male == "Unknown"
                        assert row_start(rows, key["mother_age"]) >= 30
    assert len(keys) > 80
    np.testing.assert_allclose(serving(keys), np.float32(expected), rtol=1e-6)


def is_row_of(row, key):
    """Whether a row of the table is the one of this key."""
    if any(row[name] != key[name] for name in ("is_male", "plurality")):
        return False
    for name in ("mother_age", "gestation_weeks"):
        low, high = row[f"{name}_from"], row[f"{name}_to"]
        if (
            row[f"{name}_is_missing"]
            or (low is not None and key[name] < low)
            or (high is not None and key[name] >= high)
        ):
            return False
    return True


def row_start(rows, age):
    return max(edge for edge in edges(rows, "mother_age") if edge <= age)


def test_missing_values_have_rows_of_their_own(rows, serving):
    missing = [row for row in rows if row["mother_age_is_missing"] and row["gestation_weeks_is_missing"]]
    assert len({(row["is_male"], row["plurality"]) for row in missing}) == len(missing)
    keys = [row | {"mother_age": None, "gestation_weeks": None} for row in missing]
    np.testing.assert_allclose(serving(keys), np.float32([row["weight_pounds"] for row in missing]), rtol=1e-6)


def test_lookup_and_sql_find_the_interval(published, rows):
    key = {"is_male": "True", "plurality": "Single(1)", "mother_age": 29.37, "gestation_weeks": 1e9}
    answer = published.json("lookup", *(f"{name}={value}" for name, value in key.items()))
    assert [answer["row"]] == [row for row in rows if is_row_of(row, key)]
    miss = published.run("lookup", *(f"{name}={value}" for name, value in (key | {"mother_age": 56}).items()), code=4)
    assert "mother_age=56 is not in the table; nearest: [" in miss.err
    sql = published.run("sql").out
    assert len(published.json("query", sql)["rows"]) == 1


def test_plan_shows_the_intervals(published, rows):
    plan = published.json("plan", "--date", str(FIRST_DATE))
    axis = next(axis for axis in plan["axes"] if axis["name"] == "mother_age")
    assert (axis["kind"], axis["rows"]) == ("buckets", 8)
    assert axis["columns"] == ["mother_age_from", "mother_age_to", "mother_age_is_missing"]
    assert plan["excluded"] > 0
    assert plan["rows"] == len(rows)


def test_a_z_score_beside_a_bucket_is_refused_by_its_name(published):
    both = "features.mother_age.transforms=[z_score, {kind: quantile_buckets, count: 7}]"
    refused = Workspace(published.folder, *BUCKETS, both).run("plan", code=2)
    assert "mother_age_z_score" in refused.err
    assert len(refused.err.splitlines()) == 1
