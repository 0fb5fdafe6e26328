"""A SavedModel that somebody else made, from the job file to the published table.

The job file of the night here is what a team writes that has nothing but a model: its inputs, the values to expect of
them, and, where the model's own names will not do, its outputs.
"""

import dataclasses
import datetime
import json
import pathlib
import re
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from beam_jobs.commands.nights import check_skew, run_night, run_one_stage
from beam_jobs.commands.reading import job_status
from beam_jobs.commands.tables import value_text
from beam_jobs.console import Console
from beam_jobs.foreign_models import check_unchanged, given_model
from beam_jobs.night import Night
from beam_jobs.stages.plan import build_space
from beam_jobs.warehouses import open_warehouse
from configs.errors import ForetableError, JobError, RefusedError
from configs.features import Feature
from configs.loading import load_job, parse_job
from configs.modeling import ForeignOutput
from configs.outputs import Output
from transforms.scoring.foreign_models import ForeignCall, ForeignScorer, find_outputs
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace
from transforms.space.planning import make_plan

ROOT = pathlib.Path(__file__).parent.parent
DATE = "2026-03-01"
JOB = """
name: flats
description: Rent of a flat.
model:
  saved_model: {model}
  outputs:
    rent: rent_chf
    shares: {{column: share, classes: [Low rent, high-rent], description: Share of the class}}
    grade:
    rooms_seen:
    embedding: {{description: Where the flat lies}}
features:
  city: {{type: string, missing: Bern}}
  area: {{type: float, missing: 80, description: Square metres}}
  rooms: {{type: int, missing: 3}}
  is_new: {{type: int}}
input_space:
  axes:
    city: {{values: [Basel, Bern, Zürich, null]}}
    area: {{range: [10, 200], step: 0.1, missing: true}}
    rooms: {{range: [1, 8], missing: true}}
    is_new: {{values: [0, 1]}}
  exclude: city = 'Basel' AND rooms > 6
"""
POINTS = 4 * 1902 * 9 * 2
EXCLUDED = 1902 * 2 * 2


class FlatModel(tf.Module):
    """Takes a string, a float64 column, an int32 and a bool, and gives each shape and type that a table can hold."""

    def __init__(self, nan_area=-1.0, seed=0):
        super().__init__()
        random = np.random.default_rng(seed)
        self.weights = tf.Variable(random.normal(size=[4, 16]), dtype=tf.float32)
        self.last = tf.Variable(random.normal(size=[16, 3]), dtype=tf.float32)
        self.nan_area = nan_area

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 1], tf.string, "city"),
            tf.TensorSpec([None], tf.float64, "area"),
            tf.TensorSpec([None, 1], tf.int32, "rooms"),
            tf.TensorSpec([None], tf.bool, "is_new"),
        ]
    )
    def serve(self, city, area, rooms, is_new):
        length = tf.cast(tf.strings.length(city), tf.float32)
        numbers = tf.stack([tf.cast(area, tf.float32) / 100, tf.cast(rooms[:, 0], tf.float32)], axis=1)
        inputs = tf.concat([length, numbers, tf.cast(is_new, tf.float32)[:, None]], axis=1)
        hidden = tf.nn.relu(inputs @ self.weights) @ self.last
        rent = tf.where(area == self.nan_area, float("nan"), hidden[:, 0])
        return {
            "rent": rent[:, None],
            "shares": tf.nn.softmax(hidden[:, :2]),
            "grade": tf.where(hidden[:, 0] < 0.0, "tief", "höher"),
            "rooms_seen": rooms[:, 0],
            "embedding": hidden,
            "not_asked_for": hidden,
        }


def save(model, directory, name="serving_default"):
    tf.saved_model.save(model, str(directory), signatures={name: model.serve.get_concrete_function()})
    return str(directory)


def save_function(directory, function, **inputs):
    """A SavedModel of one function, whose inputs have these specs."""
    module = tf.Module()
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    module.serve = tf.function(function, input_signature=specs)
    return save(module, directory)


class Workspace:
    """A job over a foreign model, used through the command line."""

    def __init__(self, folder, **model):
        self.folder = folder
        self.model = save(FlatModel(**model), folder / "model")
        self.job_file = folder / "flats.yaml"
        self.job_file.write_text(JOB.format(model=self.model), encoding="utf-8")

    def run(self, name, *arguments, code=0):
        command = [sys.executable, "-m", "beam_jobs", name, str(self.job_file), *arguments]
        command += ["--set", f"workspace={self.folder / 'workspace'}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, name, *arguments):
        return json.loads(self.run(name, *arguments, "--json").stdout)

    @property
    def job(self):
        return load_job(self.job_file, [f"workspace={self.folder / 'workspace'}"])

    def night_in_process(self):
        return Night.of(self.job, str(self.job_file), datetime.date.fromisoformat(DATE), Console())

    @property
    def run_path(self):
        (marker,) = self.folder.glob(f"workspace/flats/{DATE}/*/manifest.json")
        return marker.parent


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A planned and published night, from the command line."""
    workspace = Workspace(tmp_path_factory.mktemp("foreign"))
    workspace.planned = workspace.run("plan", "--date", DATE)
    workspace.night = workspace.run("run", "--date", DATE)
    return workspace


def test_plan_works_before_anything_ran(published):
    assert re.search(rf"^points +{POINTS:,} ", published.planned.stdout, re.MULTILINE)
    assert "the model brings no transform graph: axis factoring and classes are off" in published.planned.stderr


def test_the_night_says_once_what_it_leaves_out(published):
    assert published.night.stderr.count("prepare, train, evaluate are no stages of this night") == 1
    assert "transform graph" not in published.night.stderr  # the plan, which said so, is done
    stages = [line.split()[0] for line in published.night.stderr.splitlines()[2:]]
    assert stages == ["plan", "precompute", "publish", "monitor"]


def test_the_table_equals_the_models_own_signature_bit_for_bit(published):
    """The same rows, in the model's own types, asked of it directly, a block at a time."""
    signature = tf.saved_model.load(published.model).signatures["serving_default"]
    rows = 0
    for shard in sorted((published.run_path / "predictions").glob("part-*.parquet")):
        parquet = pq.ParquetFile(shard)
        for group in range(parquet.num_row_groups):
            block = parquet.read_row_group(group)
            given = signature(
                city=tf.constant([[city or "Bern"] for city in block["city"].to_pylist()]),
                area=tf.constant(block["area"].fill_null(80.0).to_numpy()),
                rooms=tf.constant(block["rooms"].fill_null(3).to_numpy().astype(np.int32)[:, None]),
                is_new=tf.constant(block["is_new"].to_numpy() == 1),
            )
            given = {name: tensor.numpy() for name, tensor in given.items()}
            np.testing.assert_array_equal(block["rent_chf"].to_numpy(), given["rent"][:, 0])
            np.testing.assert_array_equal(block["share_low_rent"].to_numpy(), given["shares"][:, 0])
            np.testing.assert_array_equal(block["share_high_rent"].to_numpy(), given["shares"][:, 1])
            np.testing.assert_array_equal(block["rooms_seen"].to_numpy(), given["rooms_seen"])
            assert block["grade"].to_pylist() == [word.decode() for word in given["grade"]]
            found = block["embedding"].combine_chunks()
            np.testing.assert_array_equal(found.values.to_numpy().reshape(-1, 3), given["embedding"])
            rows += block.num_rows
    assert rows == POINTS - EXCLUDED


def test_the_table_has_the_declared_columns(published):
    catalog = str(published.folder / "workspace" / "flats" / "flats.duckdb")
    with duckdb.connect(catalog, read_only=True) as connection:
        described = connection.sql("DESCRIBE flats_predictions").fetchall()
        comments = connection.sql(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'flats_predictions' AND comment IS NOT NULL"
        ).fetchall()
        (run,) = connection.sql("SELECT status, rows, model_version, transform_hash FROM flats_runs").fetchall()
    assert [row[:2] for row in described] == [
        ("city", "VARCHAR"),
        ("area", "DOUBLE"),
        ("rooms", "BIGINT"),
        ("is_new", "BIGINT"),
        ("rent_chf", "FLOAT"),
        ("share_low_rent", "FLOAT"),
        ("share_high_rent", "FLOAT"),
        ("grade", "VARCHAR"),
        ("rooms_seen", "BIGINT"),
        ("embedding", "FLOAT[]"),
    ]
    assert dict(comments) == {
        "area": "Square metres",
        "share_low_rent": "Share of the class",
        "share_high_rent": "Share of the class",
        "embedding": "Where the flat lies",
    }
    assert run == (
        "current",
        POINTS - EXCLUDED,
        json.loads((published.run_path / "manifest.json").read_text())["manifest"]["model_version"],
        "",
    )


def test_lookup_and_export_give_arrays(published, tmp_path):
    row = published.json("lookup", "city=Zürich", "area=29.3", "rooms=", "is_new=1")["row"]
    assert len(row["embedding"]) == 3
    assert row["rooms"] is None
    assert row["rooms_seen"] == 3
    assert value_text(row["embedding"]) == f"[{', '.join(f'{value:.7g}' for value in row['embedding'])}]"
    open_warehouse(published.job).export("flats", str(tmp_path / "flats.duckdb"))
    with duckdb.connect(str(tmp_path / "flats.duckdb"), read_only=True) as connection:
        where = "city = 'Zürich' AND area = 29.3 AND rooms IS NULL AND is_new = 1"
        ((embedding,),) = connection.sql(f"SELECT embedding FROM flats_predictions WHERE {where}").fetchall()
    assert embedding == row["embedding"]


def test_status_knows_that_the_night_is_done(published):
    status = job_status(published.job, open_warehouse(published.job))
    (night,) = [night for night in status["nights"] if night["run_id"] == published.run_path.name]
    assert night["finished"] == ["plan", "precompute", "publish", "monitor"]
    assert night["next"] is None


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate"])
def test_a_stage_that_makes_a_model_refuses_in_one_line(published, stage):
    with pytest.raises(
        RefusedError, match=rf"^{stage}: no stage of flats, whose model is given \(model.saved_model\); run "
    ):
        run_one_stage(dataclasses.replace(published.night_in_process(), train_now=True), stage)


def test_skew_has_nothing_to_compare(published):
    with pytest.raises(RefusedError, match=r"^skew: model.saved_model brings no transform graph"):
        check_skew(published.night_in_process(), None)


def test_a_nan_publishes_nothing(tmp_path):
    night = Workspace(tmp_path, nan_area=100.0).night_in_process()
    with pytest.raises(RefusedError) as caught, night.working():
        run_night(night)
    assert str(caught.value).startswith(
        "the model's output 'rent' is nan for city='Basel', area=100.0, rooms=1, is_new=0 ("
    )
    assert night.run.read_marker("plan.json") is None


def test_a_model_is_known_by_its_files(tmp_path):
    workspace = Workspace(tmp_path)
    night, model = workspace.night_in_process(), given_model(workspace.job)
    (tmp_path / "model" / "fingerprint.pb").write_bytes(b"another export of the same")
    check_unchanged(model)
    assert workspace.night_in_process().run.run_id == night.run.run_id
    (tmp_path / "model" / "assets" / "words.txt").write_text("another")
    assert workspace.night_in_process().run.run_id != night.run.run_id
    with pytest.raises(RefusedError, match=r"changed while it was scored; run again$"):
        check_unchanged(model)


def test_combinations_may_come_from_a_source_of_the_jobs_own(tmp_path):
    workspace = Workspace(tmp_path)
    (tmp_path / "flats.csv").write_text("rooms,city,is_new,area\n3,Bern,0,70\n2,Basel,1,55.5\n3,Bern,1,71\n")
    tree = yaml.safe_load(workspace.job_file.read_text(encoding="utf-8"))
    tree["source"] = {"kind": "csv", "files": str(tmp_path / "flats.csv")}
    axes = tree["input_space"]["axes"]
    tree["input_space"]["axes"] = {
        "both": {"distinct": "examples", "columns": ["city", "rooms"]},
        "area": axes["area"],
        "is_new": axes["is_new"],
    }
    workspace.job_file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    night = workspace.night_in_process()
    space = build_space(night, given_model(workspace.job))
    assert space.axes[0].table.to_pylist() == [{"city": "Basel", "rooms": 2}, {"city": "Bern", "rooms": 3}]


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    workspace = Workspace(tmp_path)
    (tmp_path / "model" / "saved_model.pb").unlink()
    with pytest.raises(RefusedError, match=r"^model.saved_model: '.*model': no saved_model.pb there"):
        workspace.night_in_process()


def problems(text, **changes):
    tree = yaml.safe_load(text.format(model="somewhere"))
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    with pytest.raises(JobError) as caught:
        parse_job(tree)
    return [line.removeprefix("job: ") for line in caught.value.problems]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": {"name": "rent"}}, "label: expected none beside model.saved_model, which is not trained here"),
        ({"model__training": {}}, "model.training: unknown setting (value {}); expected one of saved_model, signature, outputs"),
        ({"model__outputs__rent": "1 rent"}, "model.outputs.rent: '1 rent': string should match pattern"),
        ({"features__area__transforms": ["z_score"]}, "features.area.transforms: 1: expected none beside model.saved_model, which has its own"),
        ({"input_space__axes__city": {"vocabulary": True}}, "input_space.axes.city: 'vocabulary': model.saved_model brings no transform graph to read a vocabulary from; list values instead"),
        ({"input_space__axes__area": {"buckets": True}}, "input_space.axes.area: 'buckets': model.saved_model brings no transform graph to find edges in; give a range or list values"),
        ({"input_space__axes__city": {"distinct": "examples", "columns": "city"}}, "input_space.axes.city.distinct: 'examples': expected a source: the job has none of its own"),
        ({"model": {"network": {}}}, "source: required and not there"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_mistake_in_the_job_file_is_one_line(changes, expected):
    assert [line for line in problems(JOB, **changes) if line.startswith(expected)]


def test_outputs_are_found_on_the_signature(tmp_path):
    outputs = find_outputs(save(FlatModel(), tmp_path), "serving_default", {})
    assert [(output.name, output.type, output.columns) for output in outputs] == [
        ("embedding", "float[]", ("embedding",)),
        ("grade", "string", ("grade",)),
        ("not_asked_for", "float[]", ("not_asked_for",)),
        ("rent", "float", ("rent",)),
        ("rooms_seen", "int", ("rooms_seen",)),
        ("shares", "float[]", ("shares",)),
    ]


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory):
    """A SavedModel whose outputs are of every kind that no column can hold."""

    def serve(x):
        ones = tf.ones([tf.size(x), tf.size(x)])
        return {
            "fine": x,
            "cube": ones[:, :, None],
            "wide": ones,
            "total": tf.reduce_sum(x),
            "fixed": tf.ones([3]),
            "double": tf.cast(x, tf.float64),
            "wave": tf.complex(x, x),
            "a/b": x,
            "few": tf.ones([tf.size(x), 2]),
        }

    return save_function(tmp_path_factory.mktemp("odd"), serve, x=([None], tf.float32))


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("cube", {}, "model.outputs.cube: has shape [?, ?, 1]; expected [N], [N, 1] or [N, k], a row for each row"),
        ("wide", {}, "model.outputs.wide: has shape [?, ?], of unknown length; name its classes in model.outputs.wide.classes"),
        ("total", {}, "model.outputs.total: has shape []; expected"),
        ("fixed", {}, "model.outputs.fixed: has shape [3]; expected"),
        ("double", {}, "model.outputs.double: is float64 in the model; set model.outputs.double.type: float to round it"),
        ("wave", {}, "model.outputs.wave: is complex64 in the model; expected a number"),
        ("a/b", {}, "model.outputs.a/b: 'a/b' is no name for a column; set model.outputs.a/b.column"),
        ("few", {"classes": ("a", "b", "c")}, "model.outputs.few.classes: 3 classes for an output of shape [?, 2]"),
        ("few", {"classes": ("a b", "a-b")}, "model.outputs.few.classes: ['a b', 'a-b']: two would have one column's name"),
        ("fine", {"type": "int"}, "model.outputs.fine.type: 'int': the output is float32 in the model, expected float"),
        ("fin", {}, "model.outputs.fin: signature 'serving_default' has no such output, only a/b, cube"),
    ],
)  # fmt: skip
def test_an_output_that_no_column_holds_is_refused(odd_model, name, declared, expected):
    with pytest.raises((JobError, RefusedError)) as caught:
        find_outputs(odd_model, "serving_default", {name: ForeignOutput(**declared)})
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_an_unknown_length_and_a_double_can_be_declared(odd_model):
    declared = {"wide": ForeignOutput(classes=("a", "b")), "double": ForeignOutput(type="float")}
    assert [(output.type, output.columns) for output in find_outputs(odd_model, "serving_default", declared)] == [
        ("float", ("wide_a", "wide_b")),
        ("float", ("double",)),
    ]


def test_an_unknown_signature_is_named(odd_model):
    with pytest.raises(JobError, match=r"^model.signature: 'predict': .* has only serving_default$"):
        find_outputs(odd_model, "predict", {})


def scorer(model_dir, column_type, values, missing=None):
    arrow_type = {"string": pa.string(), "float": pa.float64(), "int": pa.int64()}[column_type]
    space = InputSpace((Axis("x", "values", pa.table({"x": pa.array(values, arrow_type)})),))
    call = ForeignCall.of("serving_default", {"x": Feature(type=column_type, missing=missing)})
    output = Output(name="y", type="string" if column_type == "string" else "float", columns=("y",))
    return ForeignScorer(model_dir, call, {"x": column_type}, [output], space), space.points(np.arange(len(values)))


@pytest.mark.parametrize(
    ("dtype", "column_type", "values", "refused"),
    [
        (tf.int8, "int", [-128, 127], None),
        (tf.int8, "int", [0, 128], "128"),
        (tf.int32, "int", [2**31 - 1], None),
        (tf.int32, "int", [2**31], "2147483648"),
        (tf.uint32, "int", [-1], "-1"),
        (tf.uint64, "int", [2**63 - 1], None),
        (tf.int32, "float", [1.0, 2.5], "2.5"),
        (tf.int64, "float", [2.0**63], "9.223372036854775808e+18"),
        (tf.float32, "int", [2**24], None),
        (tf.float32, "int", [2**24 + 1], "16777217"),
        (tf.float64, "int", [2**63 - 1], "9223372036854775807"),
        (tf.float32, "float", [0.1, 1e-50], None),
        (tf.float64, "float", [0.1, 1e-50], None),
        (tf.float16, "float", [0.5], None),
        (tf.float16, "float", [0.1], "0.1"),
        (tf.bool, "int", [0, 1], None),
        (tf.bool, "int", [2], "2"),
        (tf.bool, "float", [1.0], None),
        (tf.string, "int", [1], "string, the feature a number"),
        (tf.int32, "string", ["1"], "int32, the feature string"),
        (tf.complex64, "float", [1.0], "complex64; expected a number or string"),
    ],
    ids=str,
)  # fmt: skip
def test_an_input_is_adapted_where_that_loses_nothing(tmp_path, dtype, column_type, values, refused):
    model_dir = save_function(
        tmp_path, lambda x: {"y": x if dtype == tf.string else tf.cast(x, tf.float32)}, x=([None], dtype)
    )
    if refused is not None:
        with pytest.raises(RefusedError, match=r"input 'x' is ") as caught:
            scorer(model_dir, column_type, values)
        assert f"{float(refused)!r}" in str(caught.value) if "e+" in refused else refused in str(caught.value)
        return
    engine, points = scorer(model_dir, column_type, values)
    expected = tf.cast(
        tf.constant(values, dtype=tf.float64 if column_type == "float" else tf.int64), tf.float32
    ).numpy()
    np.testing.assert_array_equal(engine.score(points)["y"], expected)


@pytest.mark.parametrize(
    ("shape", "expected"), [([None, 2], "[?, 2]"), ([], "[]"), ([4], "[4]"), (None, "unknown"), ([None, 1, 1], "[?, 1, 1]")]
)  # fmt: skip
def test_an_input_of_another_shape_is_refused(tmp_path, shape, expected):
    model_dir = save_function(tmp_path, lambda x: {"y": x}, x=(shape, tf.float32))
    with pytest.raises(RefusedError, match=r"input 'x' has shape ") as caught:
        scorer(model_dir, "float", [1.0])
    assert f"shape {expected}; expected [N] or [N, 1]" in str(caught.value)


def test_inputs_and_features_have_the_same_names(tmp_path):
    model_dir = save_function(tmp_path, lambda z: {"y": z}, z=([None], tf.float32))
    with pytest.raises(RefusedError, match=r"takes 'z', which is no feature of the job \(x\)$"):
        scorer(model_dir, "float", [1.0])


def test_a_missing_value_is_replaced_before_the_model_sees_it(tmp_path):
    model_dir = save_function(tmp_path, lambda x: {"y": x}, x=([None], tf.string))
    engine, points = scorer(model_dir, "string", ["a", None], missing="b")
    assert engine.score(points)["y"].tolist() == [b"a", b"b"]


def test_a_model_that_gives_other_rows_than_it_got_is_refused(tmp_path):
    model_dir = save_function(tmp_path, lambda x: {"y": tf.unique(x).y}, x=([None], tf.float32))
    engine, points = scorer(model_dir, "float", [1.0, 1.0 + 1e-12])
    with pytest.raises(ForetableError, match=r"output 'y' has shape \[1\] for 2 rows"):
        engine.score(points)


def test_a_nan_inside_an_array_is_refused(tmp_path):
    function = lambda x: {"y": tf.stack([x, tf.math.log(x)], axis=1)}  # noqa: E731
    model_dir = save_function(tmp_path, function, x=([None], tf.float32))
    features = {"x": Feature(type="float")}
    space = InputSpace((Axis("x", "values", pa.table({"x": [1.0, -1.0]})),))
    outputs, call = find_outputs(model_dir, "serving_default", {}), ForeignCall.of("serving_default", features)
    with pytest.raises(RefusedError, match=r"^the model's output 'y' is nan for x=-1.0 \(1 such rows in this block\)"):
        make_plan(space, model_dir, features, outputs, shard_blocks=1, max_points=10, foreign=call)
