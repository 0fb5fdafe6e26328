"""A buckets axis in the job file, in the space, in the table's columns, and under the engine."""

import numpy as np
import pyarrow as pa
import pytest
from house_model import FEATURES, OUTPUTS, TYPES, save_house_model
from run_directories import NATALITY

from configs.errors import JobError
from configs.loading import parse_job
from configs.space import BucketsAxis, Space
from transforms.scoring.engine import make_engine
from transforms.scoring.serving import ServingScorer
from transforms.space.axes import Axis
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace, load_axes, save_axes
from transforms.space.planning import table_columns

AREA = Axis(
    "area",
    "buckets",
    pa.table({"area_from": [None, 50.0, None], "area_to": [50.0, None, None], "area_is_missing": [False, False, True]}),
    representatives=pa.table({"area": [49.0, 50.0, None]}),
)
CITY = Axis("city", "values", pa.table({"city": ["Bern", "Chur"]}))
ROOMS = Axis("rooms", "values", pa.table({"rooms": pa.array([2, None], pa.int64())}))
NAMES = ("city", "area_from", "area_to", "area_is_missing", "rooms")
SPACE = InputSpace((CITY, AREA, ROOMS), NAMES)


def job_with(axis, **feature):
    axes = NATALITY["input_space"]["axes"] | {"mother_age": axis}
    features = NATALITY["features"] | {"mother_age": {"type": "float", "missing": 27, **feature}}
    return parse_job({**NATALITY, "features": features, "input_space": {"axes": axes}})


def test_the_job_file_has_buckets_with_or_without_a_range():
    axes = Space.model_validate({"axes": {"a": {"buckets": True}, "b": {"buckets": True, "range": [12, 55]}}}).axes
    assert axes == {"a": BucketsAxis(buckets=True), "b": BucketsAxis(buckets=True, range=(12, 55))}
    job = job_with({"buckets": True}, transforms=[{"kind": "quantile_buckets", "count": 4}])
    assert job.input_space.axes["mother_age"] == BucketsAxis(buckets=True)


@pytest.mark.parametrize(
    ("axis", "feature", "message"),
    [
        ({"buckets": False}, {}, "input_space.axes.mother_age"),
        ({"buckets": True, "step": 1}, {}, "input_space.axes.mother_age"),
        ({"buckets": True}, {}, "expected buckets alone: mother_age_z_score differs between any two numbers"),
        ({"buckets": True}, {"transforms": ["log1p"]}, "mother_age_log1p"),
        ({"buckets": True}, {"type": "string", "missing": "x"}, "expected a feature of numbers, not of text"),
    ],
    ids=["false", "step", "default z-score", "log", "text"],
)
def test_a_wrong_buckets_axis_is_refused_where_the_job_is_read(axis, feature, message):
    with pytest.raises(JobError, match=message):
        job_with(axis, **feature)


def test_points_have_bounds_and_the_model_gets_values():
    positions = np.array([0, 3, 5, 10])
    assert SPACE.columns(positions).to_pydict() == {
        "city": ["Bern", "Bern", "Bern", "Chur"],
        "area_from": [None, 50.0, None, None],
        "area_to": [50.0, None, None, None],
        "area_is_missing": [False, False, True, True],
        "rooms": [2, None, None, 2],
    }
    assert SPACE.inputs(positions).to_pydict() == {
        "city": ["Bern", "Bern", "Bern", "Chur"],
        "area": [49.0, 50.0, None, None],
        "rooms": [2, None, None, 2],
    }
    keys = SPACE.columns(np.arange(SPACE.cardinality)).to_pylist()
    assert [SPACE.position(key) for key in keys] == list(range(SPACE.cardinality))


def test_the_axis_survives_the_disk_and_its_values_are_in_the_digest(tmp_path):
    save_axes(SPACE, str(tmp_path))
    loaded = load_axes(str(tmp_path))
    assert loaded == SPACE.axes
    assert InputSpace(loaded, NAMES).digest() == SPACE.digest()
    other = Axis(AREA.name, AREA.kind, AREA.table, representatives=pa.table({"area": [48.0, 50.0, None]}))
    assert InputSpace((CITY, other, ROOMS), NAMES).digest() != SPACE.digest()


def test_bounds_may_be_excluded():
    excluded = InputSpace(SPACE.axes, NAMES, "area_to <= 50 OR area_is_missing AND city = 'Chur'")
    assert Exclusion(excluded).mask(np.arange(12)).nonzero()[0].tolist() == [0, 1, 6, 7, 10, 11]


def test_columns_of_the_table_are_described():
    columns = {column.name: column for column in table_columns(SPACE, FEATURES, OUTPUTS)}
    assert list(columns)[:5] == list(NAMES)
    assert (columns["area_from"].type, columns["area_is_missing"].type) == ("float", "bool")
    assert columns["area_to"].description == "area: below this value; NULL: up to any"
    with pytest.raises(ValueError, match="each of the axes' columns"):
        InputSpace((AREA, Axis("area_from", "values", pa.table({"area_from": [1.0]}))))


def test_the_engine_scores_the_values(tmp_path):
    model_dir = save_house_model(str(tmp_path / "house"))
    plain = InputSpace((CITY, Axis("area", "values", AREA.representatives), ROOMS))
    positions = np.arange(SPACE.cardinality)
    expected = ServingScorer(model_dir, TYPES, OUTPUTS, plain).score(plain.points(positions))
    batch = make_engine(SPACE, model_dir, TYPES, OUTPUTS).score_range(0, SPACE.cardinality)
    assert batch.schema.names[:5] == list(NAMES)
    assert batch["price"].to_pylist() == expected["price"].tolist()
