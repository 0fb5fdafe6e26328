"""Evaluation of real SavedModels over real Parquet shards, in a pipeline and directly."""

import json
import pathlib

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from configs.errors import RefusedError
from configs.features import Label
from configs.modeling import Multiclass, Regression
from configs.outputs import model_outputs
from transforms.evaluation.metrics import MulticlassMetrics, RegressionMetrics
from transforms.evaluation.models import (
    EvaluatedModel,
    EvaluateModel,
    Evaluation,
    evaluate_batch,
    evaluation_of,
    read_shard,
    why_not_comparable,
)
from transforms.json_files import WriteJson

FEATURES = {"age": "float", "sex": "string"}
SLICES = ((), ("sex",), ("sex", "month"))


class Linear(tf.Module):
    """Answers `slope * age`, with 10 for a missing age, and 1 more for boys."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = tf.Variable(slope)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="age"), tf.TensorSpec([None], tf.string, name="sex")]
    )
    def serve(self, age, sex):
        age = tf.where(tf.math.is_nan(age), 10.0, age)
        return {"weight": self.slope * age + tf.cast(sex == "boy", tf.float32)}


class Classes(tf.Module):
    """Answers the class whose place is the age."""

    def __init__(self, classes: list[str]):
        super().__init__()
        self.classes = tf.constant(classes)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="age"), tf.TensorSpec([None], tf.string, name="sex")]
    )
    def serve(self, age, sex):
        ids = tf.cast(age, tf.int32) % len(self.classes)
        return {"kind": tf.gather(self.classes, ids), "kind_probabilities": tf.one_hot(ids, len(self.classes))}


def save(module: tf.Module, path: pathlib.Path) -> str:
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    built = {"candidate": Linear(0.5), "baseline": Linear(1.0), "ab": Classes(["a", "b"]), "ba": Classes(["b", "a"])}
    return {name: save(module, folder / name) for name, module in built.items()}


def examples(rows: int = 500, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 40, rows) / 2
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(rows) < 0.1),
            "sex": pa.array(rng.choice(["boy", "girl", None], rows).tolist(), pa.string()),
            "month": pa.array(rng.integers(1, 4, rows), pa.int64()),
            "weight": pa.array(0.5 * age + rng.normal(size=rows)),
        }
    )


def write_shards(table: pa.Table, folder: pathlib.Path, rows: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = []
    for start in range(0, table.num_rows, rows):
        paths.append(str(folder / f"eval-00000-{start // rows:05d}.parquet"))
        pq.write_table(table.slice(start, rows), paths[-1], row_group_size=max(rows // 2, 1))
    return paths


def run(transform: EvaluateModel, path: pathlib.Path) -> Evaluation:
    """The pipeline's one element, through the file in which a stage gets it."""
    with beam.Pipeline() as pipeline:
        pipeline | transform | WriteJson(str(path))
    (tree,) = json.loads(path.read_text())
    return Evaluation.from_json(tree | {"format": 1})


def expected_slice(table: pa.Table, slope: float, sex: str, month: int) -> tuple[int, float]:
    """Rows and mae of one slice, in plain Python."""
    errors = [
        abs(slope * (10.0 if row["age"] is None else row["age"]) + (sex == "boy") - row["weight"])
        for row in table.to_pylist()
        if row["sex"] == sex and row["month"] == month
    ]
    return len(errors), sum(errors) / len(errors)


def test_pipeline_over_shards_equals_direct_computation_over_the_whole_table(models, tmp_path):
    table = examples()
    metrics = RegressionMetrics("weight", train_mean=5.0)
    evaluated = {name: EvaluatedModel(models[name], metrics, f"the {name}") for name in ("candidate", "baseline")}
    found = run(
        EvaluateModel(
            write_shards(table, tmp_path, 90), **evaluated, features=FEATURES, label_name="weight", slices=SLICES
        ),
        tmp_path / "metrics.json",
    )

    age, sex = table["age"].to_numpy(), table["sex"].to_pylist()
    boys = np.array([value == "boy" for value in sex])
    states = {
        name: evaluate_batch(
            table, {"weight": slope * np.where(np.isnan(age), 10.0, age) + boys}, metrics, "weight", SLICES
        )
        for name, slope in (("candidate", 0.5), ("baseline", 1.0))
    }
    direct = evaluation_of(states, evaluated, SLICES)
    assert found.versions == direct.versions == {"candidate": "the candidate", "baseline": "the baseline"}
    for model in ("candidate", "baseline"):
        ours, theirs = getattr(found, model).slices, getattr(direct, model).slices
        assert [entry.slice for entry in ours] == [entry.slice for entry in theirs]
        assert len(ours) == 1 + 3 + 9
        for one, other in zip(ours, theirs, strict=True):
            assert one.metrics == pytest.approx(other.metrics, rel=1e-6, abs=1e-6)
    for model, slope in (("candidate", 0.5), ("baseline", 1.0)):
        entry = getattr(found, model).of_slice("sex=boy,month=2")
        assert (entry.metrics["example_count"], entry.metrics["mae"]) == pytest.approx(
            expected_slice(table, slope, "boy", 2)
        )
    overall = found.candidate.of_slice("overall").metrics
    assert overall["example_count"] == 500
    assert overall["mae"] < found.baseline.of_slice("overall").metrics["mae"]


def test_the_same_shards_give_the_same_bytes(models, tmp_path):
    shards = write_shards(examples(200), tmp_path, 64)
    candidate = EvaluatedModel(models["candidate"], RegressionMetrics("weight"))
    for name, order in (("one", shards), ("two", shards[::-1])):
        evaluation = run(EvaluateModel(order, candidate, FEATURES, "weight", SLICES), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert evaluation.baseline is None
    assert evaluation.candidate.of_slice("overall").metrics["example_count"] == 200


def test_a_baseline_with_its_classes_in_another_order_is_judged_by_its_own(models, tmp_path):
    table = pa.table(
        {
            "age": pa.array([0.0, 1.0, 1.0]),
            "sex": pa.array(["boy"] * 3),
            "kind": pa.array(["a", "b", "a"]),
        }
    )
    evaluated = {
        role: EvaluatedModel(models[name], MulticlassMetrics("kind", "kind_probabilities", tuple(name)))
        for role, name in (("candidate", "ab"), ("baseline", "ba"))
    }
    found = run(
        EvaluateModel(write_shards(table, tmp_path, 2), **evaluated, features=FEATURES, label_name="kind"),
        tmp_path / "metrics.json",
    )
    assert found.candidate.of_slice("overall").metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.baseline.of_slice("overall").metrics["accuracy"] == pytest.approx(1 / 3)
    assert found.baseline.of_slice("overall").metrics["precision/a"] == pytest.approx(1 / 2)


def test_nothing_to_evaluate_on_is_refused(models, tmp_path):
    candidate = EvaluatedModel(models["candidate"], RegressionMetrics("weight"))
    with pytest.raises(RefusedError, match="no eval examples"):
        EvaluateModel([], candidate, FEATURES, "weight")
    pq.write_table(examples(3).slice(0, 0), tmp_path / "eval-00000-00000.parquet")
    with pytest.raises(Exception, match="the eval shards hold no rows"):
        run(EvaluateModel([str(tmp_path / "eval-00000-00000.parquet")], candidate, FEATURES, "weight"), tmp_path / "m")


def test_a_missing_label_is_refused(models, tmp_path):
    table = examples(10).set_column(3, "weight", pa.array([None, *[1.0] * 9]))
    candidate = EvaluatedModel(models["candidate"], RegressionMetrics("weight"))
    with pytest.raises(Exception, match="the label 'weight' is missing in 1 rows"):
        run(EvaluateModel(write_shards(table, tmp_path, 10), candidate, FEATURES, "weight"), tmp_path / "metrics.json")


def test_damaged_or_outdated_shards_are_refused_by_name(tmp_path):
    (path,) = write_shards(examples(10), tmp_path, 10)
    with pytest.raises(
        RefusedError, match=r"eval-00000-00000.parquet: no column 'height'; run foretable prepare again"
    ):
        list(read_shard(path, ["age", "height"]))
    pathlib.Path(path).write_bytes(pathlib.Path(path).read_bytes()[:-10])
    with pytest.raises(RefusedError, match=r"eval-00000-00000.parquet: cannot be read"):
        list(read_shard(path, ["age"]))


def test_a_model_of_other_features_or_another_task_is_not_comparable(models):
    regression = model_outputs(Label(name="weight"), Regression(kind="regression"))
    assert why_not_comparable(models["baseline"], FEATURES, regression) is None
    assert "height" in str(why_not_comparable(models["baseline"], {**FEATURES, "height": "float"}, regression))
    classes = model_outputs(Label(name="weight", type="string"), Multiclass(kind="multiclass"), ("a", "b"))
    assert "weight" in str(why_not_comparable(models["baseline"], FEATURES, classes))
    assert why_not_comparable(models["baseline"] + "-gone", FEATURES, regression) is not None
