"""The analysis of the train split: what it computes, and that it gives the same bytes every time."""

import filecmp

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from run_directories import analyze, feature_types, natality_job, natality_rows, write_shards
from tensorflow.core.protobuf import saved_model_pb2

from configs.errors import RefusedError
from transforms.columns import adapter_schema, graph_inputs
from transforms.preprocessing.analysis import find_shards, read_adapter_batches, read_batches, transform_hash
from transforms.preprocessing.canonical_graph import canonical_saved_model

JOB = natality_job()
ROWS = natality_rows(300)


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    """Two analyses of the same rows, in one process and with other temporary folders."""
    folders = []
    for name in ("first", "second"):
        run_dir = tmp_path_factory.mktemp(name)
        write_shards(run_dir, "train", ROWS.slice(0, 200), ROWS.slice(200))
        write_shards(run_dir, "eval", natality_rows(10).slice(0, 1))
        analyze(run_dir, JOB, tmp_path_factory.mktemp(f"{name}-temp"))
        folders.append(run_dir)
    return folders


def test_the_same_examples_give_the_same_bytes(run_dirs):
    first, second = (run_dir / "transform_output" for run_dir in run_dirs)
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(second)) for path in second.rglob("*") if path.is_file())
    same, different, errors = filecmp.cmpfiles(first, second, names, shallow=False)
    assert (different, errors) == (["transform_fn/fingerprint.pb"], [])
    assert "transform_fn/saved_model.pb" in same
    assert transform_hash(str(first)) == transform_hash(str(second))


def test_no_path_of_this_machine_is_in_the_graph(run_dirs):
    content = (run_dirs[0] / "transform_output/transform_fn/saved_model.pb").read_bytes()
    assert b"first-temp" not in content
    assert b"tftransform_tmp/is_male_vocabulary" in content  # the table's name, without the folder above it


def test_nothing_is_left_beside_the_result(run_dirs):
    assert sorted(path.name for path in run_dirs[0].iterdir()) == ["examples", "transform_output"]


def test_the_graph_computes_from_the_train_split_alone(run_dirs):
    layer = tft.TFTransformOutput(str(run_dirs[0] / "transform_output")).transform_features_layer()
    raw = {name: tf.constant(values) for name, values in graph_inputs(ROWS, feature_types(JOB)).items()}
    ages = ROWS["mother_age"].fill_null(27).to_numpy()
    np.testing.assert_allclose(
        layer(raw)["mother_age_z_score"], (ages - ages.mean()) / ages.std(), rtol=1e-4, atol=1e-5
    )


def test_another_row_changes_the_graph_and_its_hash(run_dirs, tmp_path):
    before = transform_hash(str(run_dirs[1] / "transform_output"))
    write_shards(run_dirs[1], "train", ROWS.slice(0, 200), ROWS.slice(201))
    assert transform_hash(analyze(run_dirs[1], JOB, tmp_path)) != before


def test_canonical_form_is_a_fixed_point(run_dirs):
    content = (run_dirs[0] / "transform_output/transform_fn/saved_model.pb").read_bytes()
    assert canonical_saved_model(content, "/nowhere") == content


def test_canonical_form_renames_counters_consistently():
    def graph(first, second, captured):
        model = saved_model_pb2.SavedModel()
        meta_graph = model.meta_graphs.add()
        for name, called in ((f"__inference_f_{first}", f"__inference_g_{second}"), (f"__inference_g_{second}", None)):
            function = meta_graph.graph_def.library.function.add()
            function.signature.name = name
            function.signature.input_arg.add().name = "inputs_0"
            function.signature.input_arg.add().name = f"mean_{captured}"
            node = function.node_def.add(name="call", op="PartitionedCall", input=["inputs_0", f"mean_{captured}"])
            if called:
                node.attr["f"].func.name = called
            function.ret["out"] = f"mean_{captured}"
            meta_graph.object_graph_def.concrete_functions[name].canonicalized_input_signature.SetInParent()
        return model.SerializeToString()

    # Renumbered, 7 and 9 are 0 and 1; 1 and 2 are too, and there a new name is another function's old one.
    canonical = canonical_saved_model(graph(7, 9, 88), "/t")
    assert canonical == canonical_saved_model(graph(1, 2, 30), "/t")
    meta_graph = saved_model_pb2.SavedModel.FromString(canonical).meta_graphs[0]
    f, g = meta_graph.graph_def.library.function
    assert (f.signature.name, g.signature.name) == ("__inference_f_0", "__inference_g_1")
    assert f.node_def[0].attr["f"].func.name == "__inference_g_1"
    assert f.node_def[0].input == ["inputs_0", "mean_captured_1"]
    assert dict(f.ret) == {"out": "mean_captured_1"}
    assert set(meta_graph.object_graph_def.concrete_functions) == {"__inference_f_0", "__inference_g_1"}


def test_shards_are_read_in_order_and_in_the_adapters_schema(tmp_path):
    write_shards(tmp_path, "train", ROWS.slice(0, 70), ROWS.slice(70))
    shards = find_shards(str(tmp_path / "examples"), "train")
    assert [path.rpartition("/")[2] for path in shards] == ["train-00000-00000.parquet", "train-00000-00001.parquet"]
    batches = [batch for path in shards for batch in read_batches(path, ["siblings"], batch_rows=64)]
    assert [batch.num_rows for batch in batches] == [64, 6, 64, 64, 64, 38]
    assert pa.Table.from_batches(batches)["siblings"].to_pylist() == ROWS["siblings"].to_pylist()
    types = feature_types(JOB)
    assert all(batch.schema == adapter_schema(types) for path in shards for batch in read_adapter_batches(path, types))


def test_no_shards(tmp_path):
    with pytest.raises(RefusedError, match=r"examples/train-\*\.parquet: no examples here; run foretable prepare"):
        find_shards(str(tmp_path / "examples"), "train")
