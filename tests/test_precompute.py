"""Precompute: the table equals the serving signature on the same rows, shard for shard and run for run."""

import dataclasses
import itertools
import json
import os

import apache_beam as beam
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from house_model import FEATURES, OUTPUTS, TYPES, save_house_model

from transforms.columns import ARROW_TYPES, graph_inputs
from transforms.scoring.engine import make_engine
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.serving import load_model
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import make_manifest
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace, save_axes
from transforms.space.planning import make_plan

CITY = Axis("city", "values", pa.table({"city": ["Bern", "Chur", "unseen", None]}))
AREA = Axis("area", "range", pa.table({"area": pa.array([*(np.arange(200, 19_999) / 10), None], pa.float64())}))
ROOMS = Axis("rooms", "range", pa.table({"rooms": pa.array([1, 2, 7, None], pa.int64())}))
SPACE = InputSpace((CITY, AREA, ROOMS))  # 4 * 19,800 * 4 points: 4 blocks and a part
EXCLUDE = "city = 'Chur' OR (area > 1500 AND rooms IS NULL)"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_house_model(str(tmp_path_factory.mktemp("models") / "house"))


def planned(directory, model_dir, space=SPACE, model_version="model"):
    """The transform that precomputes a space into `directory`."""
    plan = make_plan(space, model_dir, FEATURES, OUTPUTS, shard_blocks=2, max_points=10**9)
    axes_dir, predictions_dir = str(directory / "axes"), str(directory / "predictions")
    save_axes(space, axes_dir)
    return PrecomputePredictions(plan, axes_dir, model_dir, TYPES, OUTPUTS, predictions_dir, model_version, "transform")


def precompute(directory, model_dir, space=SPACE, model_version="model", options=()):
    """Plans and precomputes into `directory`; returns the manifest and how many shards were kept."""
    transform = planned(directory, model_dir, space, model_version)
    records_path = str(directory / "records.jsonl")
    pipeline = beam.Pipeline(argv=list(options))
    (
        pipeline
        | "Precompute" >> transform
        | "ToJson" >> beam.Map(lambda record: json.dumps(dataclasses.asdict(record)))
        | "Write" >> beam.io.WriteToText(records_path, shard_name_template="")
    )
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(beam.metrics.MetricsFilter().with_name("shards_kept"))["counters"]
    with open(records_path) as file:
        records = [ShardRecord(**json.loads(line)) for line in file]
    return make_manifest(records, transform.plan.columns, transform.fingerprint), sum(c.committed for c in counters)


def serve(model_dir, rows):
    """The serving signature, called directly on these rows."""
    signature = load_model(model_dir).signatures["serving_default"]
    inputs = {
        name: values.tolist() if values.dtype == object else values
        for name, values in graph_inputs(rows, TYPES).items()
    }
    return {name: values.numpy() for name, values in signature(**inputs).items()}


def brute_force(space, model_dir):
    """For each block: its rows by the product of the axes, then the serving signature called directly on them."""
    for start in range(0, space.cardinality, BLOCK_ROWS):
        points = np.unravel_index(np.arange(start, min(start + BLOCK_ROWS, space.cardinality)), space.shape)
        keys = pa.table(
            {
                axis.name: axis.table[axis.name].take(pa.array(index))
                for axis, index in zip(space.axes, points, strict=True)
            }
        )
        if space.exclude is not None:
            assert space.exclude == EXCLUDE
            keep = [
                not (row["city"] == "Chur" or ((row["area"] or 0) > 1500 and row["rooms"] is None))
                for row in keys.to_pylist()
            ]
            keys = keys.filter(pa.array(keep))
        yield keys, serve(model_dir, keys)


@pytest.mark.parametrize("exclude", [None, EXCLUDE], ids=["whole", "with exclude"])
def test_table_equals_the_serving_signature_bit_for_bit(tmp_path, model_dir, exclude):
    space = dataclasses.replace(SPACE, exclude=exclude)
    manifest, _ = precompute(tmp_path, model_dir, space)
    files = [pq.ParquetFile(tmp_path / "predictions" / shard.name) for shard in manifest.shards]
    groups = [file.read_row_group(index) for file in files for index in range(file.num_row_groups)]
    expected = [(keys, outputs) for keys, outputs in brute_force(space, model_dir) if keys.num_rows]
    assert [group.num_rows for group in groups] == [keys.num_rows for keys, _ in expected]
    for group, (keys, outputs) in zip(groups, expected, strict=True):
        assert group.select(["city", "area", "rooms"]).equals(keys)
        assert group["price"].to_numpy().tobytes() == outputs["price"].tobytes()
        assert group["share_low"].to_numpy().tobytes() == np.ascontiguousarray(outputs["shares"][:, 0]).tobytes()
        assert group["share_high"].to_numpy().tobytes() == np.ascontiguousarray(outputs["shares"][:, 1]).tobytes()
        assert group["flat"].to_pylist() == outputs["flat"].tolist()
        assert group["grade"].to_pylist() == [grade.decode() for grade in outputs["grade"]]
    assert manifest.rows == sum(keys.num_rows for keys, _ in expected)
    assert [column.name for column in manifest.columns] == groups[0].column_names
    assert [shard.name for shard in manifest.shards] == [f"part-0000{index}-of-00003.parquet" for index in range(3)]


def test_a_rerun_keeps_what_is_whole_and_redoes_the_rest(tmp_path, model_dir):
    first, kept = precompute(tmp_path, model_dir)
    assert kept == 0
    paths = [tmp_path / "predictions" / shard.name for shard in first.shards]
    paths[0].write_bytes(paths[0].read_bytes()[:-100])
    os.remove(paths[1])
    (tmp_path / "predictions" / f"{paths[1].name}.tmp").write_bytes(b"what a killed run leaves")
    before = paths[2].stat().st_mtime_ns
    second, kept = precompute(tmp_path, model_dir)
    assert (second, kept) == (first, 1)
    assert paths[2].stat().st_mtime_ns == before
    assert sorted(os.listdir(tmp_path / "predictions")) == [path.name for path in paths]
    third, kept = precompute(tmp_path, model_dir, model_version="another")
    assert kept == 0
    assert third.model_version == "another"


def test_records_hold_for_shards_of_this_model_that_are_all_there(tmp_path, model_dir):
    records = precompute(tmp_path, model_dir)[0].shards
    ours, another = (planned(tmp_path, model_dir, model_version=version) for version in ("model", "another"))
    assert ours.holds(records[::-1])
    assert not another.holds(records)
    assert not ours.holds(records[1:])
    assert not ours.holds([*records, records[0]])
    assert not ours.holds([*records[1:], dataclasses.replace(records[0], sha256="0" * 64)])
    os.remove(tmp_path / "predictions" / records[1].name)
    assert not ours.holds(records)


def test_another_run_has_the_same_bytes_with_more_workers(tmp_path, model_dir):
    one, _ = precompute(tmp_path / "one", model_dir)
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    two, _ = precompute(tmp_path / "two", model_dir, options=options)
    assert one == two


def test_other_processes_with_other_threads_write_the_same_bytes(tmp_path, model_dir, monkeypatch):
    one, _ = precompute(tmp_path / "one", model_dir)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    two, _ = precompute(tmp_path / "two", model_dir, options=options)
    assert one == two


def test_a_failure_names_itself_in_what_beam_raises(tmp_path):
    model_dir = save_house_model(str(tmp_path / "model"), nan_rooms=7)
    two_rooms = Axis("rooms", "range", ROOMS.table.slice(0, 2))
    plan = make_plan(InputSpace((CITY, AREA, two_rooms)), model_dir, FEATURES, OUTPUTS, 2, 10**9)
    save_axes(SPACE, str(tmp_path / "axes"))

    def run(plan):
        arguments = (str(tmp_path / "axes"), model_dir, TYPES, OUTPUTS, str(tmp_path / "predictions"), "m", "t")
        with beam.Pipeline() as pipeline:
            _ = pipeline | PrecomputePredictions(plan, *arguments)

    with pytest.raises(Exception, match=r"not the axes that plan\.json names; run foretable plan again"):
        run(plan)
    planned = dataclasses.replace(plan, space_hash=SPACE.digest(), cardinality=SPACE.cardinality)
    with pytest.raises(Exception, match=r"the model's output 'price' is nan for city='Bern', area=20\.0, rooms=7 "):
        run(planned)
    assert os.listdir(tmp_path / "predictions") == []


def test_refuses_a_plan_for_other_outputs(model_dir):
    plan = make_plan(SPACE, model_dir, FEATURES, OUTPUTS[:2], 2, 10**9)
    with pytest.raises(
        ValueError, match=r"the plan's outputs are \['price', 'flat'\], the model's \['price', 'flat', 'grade'"
    ):
        PrecomputePredictions(plan, "axes", model_dir, TYPES, OUTPUTS, "predictions", "m", "t")


def unique(values):
    return st.lists(st.one_of(st.none(), values), min_size=1, max_size=8, unique=True)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    unique(st.sampled_from(["Basel", "Bern", "Chur", "Genf", "ü"])),
    unique(st.floats(-1e6, 1e6, width=32)),
    unique(st.integers(-(2**40), 2**40)),
    st.permutations(["city", "area", "rooms"]),
    st.data(),
)
def test_any_range_of_any_space_equals_the_serving_signature(model_dir, cities, areas, rooms, order, data):
    tables = {
        "city": pa.table({"city": pa.array(cities, pa.string())}),
        "area": pa.table({"area": pa.array(areas, pa.float64())}),
        "rooms": pa.table({"rooms": pa.array(rooms, pa.int64())}),
    }
    space = InputSpace(tuple(Axis(name, "values", tables[name]) for name in order), ("city", "area", "rooms"))
    start = data.draw(st.integers(0, space.cardinality - 1))
    stop = data.draw(st.integers(start + 1, space.cardinality))
    points = list(itertools.product(*(tables[name][name].to_pylist() for name in order)))[start:stop]
    keys = pa.table(
        {name: pa.array([p[order.index(name)] for p in points], ARROW_TYPES[TYPES[name]]) for name in TYPES}
    )
    expected = serve(model_dir, keys)
    found = pa.Table.from_batches([make_engine(space, model_dir, TYPES, OUTPUTS).score_range(start, stop)])
    assert found.select(list(TYPES)).to_pydict() == keys.to_pydict()
    assert found["price"].to_numpy().tobytes() == expected["price"].tobytes()
    assert found["grade"].to_pylist() == [grade.decode() for grade in expected["grade"]]
