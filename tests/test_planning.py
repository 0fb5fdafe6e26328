"""Planning: sizes are exact, estimates come from the engine itself, and too much is refused beforehand."""

import json

import numpy as np
import pyarrow as pa
import pytest
from house_model import FEATURES, OUTPUTS, PRICE, TYPES, save_house_model

from beam_jobs.commands.tables import print_plan
from configs.errors import ForetableError, JobError, RefusedError
from configs.features import Feature
from configs.outputs import Output
from transforms.scoring.engine import make_engine
from transforms.scoring.shards import Fingerprint, TableColumn, write_shard
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS, ShardRange
from transforms.space.input_space import InputSpace
from transforms.space.planning import Plan, PlannedAxis, check_points, make_plan, run_trial, table_columns

CITY = Axis("city", "values", pa.table({"city": ["Bern", "Chur", None]}))
AREA = Axis("area", "range", pa.table({"area": pa.array(np.arange(50_000) / 8)}))
ROOMS = Axis("rooms", "range", pa.table({"rooms": pa.array([1, 7], pa.int64())}))
SPACE = InputSpace((CITY, AREA, ROOMS), ("city", "area", "rooms"), "rooms = 7 AND city = 'Chur'")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_house_model(str(tmp_path_factory.mktemp("models") / "house"))


def test_plan_counts_exactly_and_estimates_from_the_engine(model_dir, tmp_path):
    plan = make_plan(SPACE, model_dir, FEATURES, OUTPUTS, shard_blocks=2, max_points=300_000)
    assert (plan.cardinality, plan.excluded, plan.rows) == (300_000, 50_000, 250_000)
    assert (plan.blocks, plan.shards, plan.shard_blocks) == (5, 3, 2)
    assert plan.axes == (
        PlannedAxis("city", "values", ("city",), 3, 2),
        PlannedAxis("area", "range", ("area",), 50_000, 50_000),
        PlannedAxis("rooms", "range", ("rooms",), 2, 2),
    )
    assert (plan.exclude, plan.space_hash, plan.factor) == (SPACE.exclude, SPACE.digest(), 1.0)
    assert plan.seconds > 0
    engine = make_engine(SPACE, model_dir, TYPES, OUTPUTS)
    shard = ShardRange(0, 1, 0, 5, 0, 300_000)
    blocks = engine.score_ranges(shard.block_ranges())
    written = write_shard(str(tmp_path), shard, plan.columns, blocks, Fingerprint("", "", "")).bytes
    assert plan.bytes == pytest.approx(written, rel=0.01)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(ForetableError, match=r"plan\.json: another version of foretable wrote it"):
        Plan.from_json(plan.to_json() | {"format": 0})


def test_plan_says_what_classes_save_of_the_whole_table(model_dir, capsys):
    cities = Axis("city", "values", pa.table({"city": [f"c{i}" for i in range(12)]}))
    space = InputSpace((cities, AREA, ROOMS), ("city", "area", "rooms"), "city = 'c11' AND rooms = 7")
    plan = make_plan(space, model_dir, FEATURES, OUTPUTS, shard_blocks=2, max_points=2_000_000)
    assert plan.axes[0] == PlannedAxis("city", "values", ("city",), 12, 1, 12.0)
    whole = 16 * BLOCK_ROWS / 1_150_000
    assert plan.factor == pytest.approx(1 / (1 - whole + 1 / 12))
    print_plan(plan.to_json())
    printed = " ".join(capsys.readouterr().out.split())
    assert f"scored at most 1 in {plan.factor:.3g} rows: classes are for blocks without excluded points" in printed


def test_bytes_of_a_larger_space_are_near_what_it_fills(model_dir, tmp_path):
    axes = (Axis("city", "values", pa.table({"city": [f"c{i}" for i in range(20)]})), AREA, ROOMS)
    engine = make_engine(InputSpace(axes), model_dir, TYPES, [PRICE])
    columns = table_columns(engine.space, FEATURES, [PRICE])
    trial = run_trial(engine, columns)
    shard = ShardRange(0, 1, 0, 31, 0, 31 * BLOCK_ROWS)
    blocks = engine.score_ranges((start, min(stop, 2_000_000)) for start, stop in shard.block_ranges())
    record = write_shard(str(tmp_path), shard, columns, blocks, Fingerprint("", "", ""))
    assert trial.bytes_per_row * record.rows == pytest.approx(record.bytes, rel=0.1)
    assert 0 < trial.seconds_per_block < 5


def test_a_space_of_one_point_is_planned(model_dir):
    axes = [Axis(axis.name, axis.kind, axis.table.slice(0, 1)) for axis in SPACE.axes]
    plan = make_plan(InputSpace(tuple(axes)), model_dir, FEATURES, OUTPUTS, shard_blocks=16, max_points=1)
    assert (plan.cardinality, plan.rows, plan.blocks, plan.shards) == (1, 1, 1, 1)


def test_refuses_more_than_max_points_before_anything_else(model_dir):
    with pytest.raises(RefusedError) as caught:
        make_plan(SPACE, "no model", FEATURES, OUTPUTS, shard_blocks=2, max_points=299_999)
    assert str(caught.value) == (
        "input_space: 300,000 points, more than input_space.max_points (299,999); take rows from its largest axes,"
        " area (50,000 rows), city (3 rows), by larger steps or fewer values, or raise max_points"
    )
    wide = [Axis(f"a{i}", "values", pa.table({f"a{i}": pa.array(range(1000))})) for i in range(10)]
    with pytest.raises(RefusedError, match="1,000,000,000,000,000,000,000,000,000,000 points"):
        check_points(InputSpace(tuple(wide)), 10**9)


def test_refuses_a_space_that_makes_no_number_of_a_feature(tmp_path):
    model_dir = save_house_model(str(tmp_path / "model"), nan_area=20.0)
    with pytest.raises(
        RefusedError, match=r"'area_scaled' is not a finite number for city='Bern', area=20\.0, rooms=1"
    ):
        make_plan(SPACE, model_dir, FEATURES, OUTPUTS, shard_blocks=2, max_points=10**9)


def test_table_columns_are_the_keys_then_features_then_outputs():
    rows = Axis("rows", "rows", pa.table({"id": ["a"], "area": [1.0], "city": ["Bern"]}), ("id", "city"))
    features = {"city": Feature(type="string", description="Where"), "area": Feature(type="float")}
    space = InputSpace((rows,), ("id", "city", "area"))
    assert table_columns(space, features, [OUTPUTS[0], OUTPUTS[3]]) == (
        TableColumn("id", "string", "key"),
        TableColumn("city", "string", "key", "Where"),
        TableColumn("area", "float", "feature"),
        TableColumn("price", "float", "output", "Predicted: price"),
        TableColumn("share_low", "float", "output"),
        TableColumn("share_high", "float", "output"),
    )
    with pytest.raises(JobError, match="'ID': expected a name that no other column of the table has"):
        table_columns(space, features, [Output(name="o", type="float", columns=("ID",))])
