"""Whatever a job file declares of features, through tf.Transform and the exporter: the engine says what serving says."""

import dataclasses
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from run_directories import analyze, feature_types, natality_job, write_shards

from configs.features import declared_encodings
from configs.outputs import model_outputs
from models.exporting import export_model
from models.network import build_network
from transforms.columns import graph_inputs
from transforms.scoring.classes import ClassScorer
from transforms.scoring.engine import make_engine
from transforms.scoring.serving import load_model
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace

WORDS = ("a", "b", "c", "d")
NUMBERS = ("z_score", "scale_0_1", "log1p", "identity")
ENCODINGS = st.sampled_from(["one_hot", "embedding"])


@dataclasses.dataclass(frozen=True)
class Declared:
    """What is declared, and the network over it.

    Attributes:
        exclude: of the space.
    """

    features: dict
    crosses: list
    hidden: list
    exclude: str | None
    seed: int


def vocabularies():
    options = {"kind": st.just("vocabulary"), "oov_buckets": st.integers(1, 3), "encoding": ENCODINGS}
    return st.fixed_dictionaries(options, optional={"top_k": st.integers(1, 3), "min_frequency": st.just(2)})


def buckets():
    edges = st.lists(st.integers(0, 800).map(lambda n: n / 8), min_size=1, max_size=5, unique=True).map(sorted)
    given_edges = st.fixed_dictionaries({"kind": st.just("buckets"), "edges": edges, "encoding": ENCODINGS})
    options = {"kind": st.just("quantile_buckets"), "count": st.integers(2, 9), "encoding": ENCODINGS}
    return st.one_of(given_edges, st.fixed_dictionaries(options))


def features(column_type, transforms, missing):
    options = {"type": st.just(column_type), "transforms": transforms}
    return st.fixed_dictionaries(options, optional={"missing": st.just(missing)})


def kind_of(transform):
    return transform if isinstance(transform, str) else transform["kind"]


def several(transforms):
    return st.lists(transforms, min_size=1, max_size=3, unique_by=kind_of)


@st.composite
def declarations(draw):
    declared = {
        "word": draw(features("string", st.lists(vocabularies(), min_size=1, max_size=1), "a")),
        "size": draw(features("float", several(st.one_of(buckets(), st.sampled_from(NUMBERS))), 7.25)),
        "count": draw(features("int", several(st.one_of(vocabularies(), buckets(), st.sampled_from(NUMBERS))), 3)),
    }
    bucketed = [
        f"{name}_{transform['kind']}"
        for name in ("size", "count")
        for transform in declared[name]["transforms"]
        if isinstance(transform, dict) and "buckets" in transform["kind"]
    ]
    crosses = []
    for name in draw(st.lists(st.sampled_from(bucketed), unique=True, max_size=2)) if bucketed else []:
        kind = draw(st.sampled_from([{"kind": "hashed", "buckets": 7}, {"kind": "vocabulary"}]))
        crosses.append({**kind, "features": ["word", name], "encoding": draw(ENCODINGS)})
    hidden = draw(st.lists(st.integers(1, 40), max_size=2))
    exclude = draw(st.sampled_from([None, "count = 3 AND size > 90", "word = 'b'"]))
    return Declared(declared, crosses, hidden, exclude, draw(st.integers(0, 1000)))


def examples(declared):
    random = np.random.default_rng(declared.seed)
    rows = 300
    columns = {
        "word": random.choice([*WORDS, "rare"], rows, p=[0.4, 0.3, 0.2, 0.09, 0.01]),
        "size": random.uniform(0, 100, rows).astype(np.float32).astype(float),
        "count": random.integers(0, 9, rows),
    }
    gaps = {name: random.random(rows) < (0.05 if "missing" in declared.features[name] else 0) for name in columns}
    table = {name: pa.array(values, mask=gaps[name]) for name, values in columns.items()}
    return pa.table(table | {"weight_pounds": random.normal(size=rows)})


def space_of(declared):
    """Words that are known or not, numbers that share buckets or not, missing values: 6 x 2,001 x 12 points and more."""
    values = {
        "word": pa.array([*WORDS, "unseen", "other"]),
        "size": pa.array(np.arange(2001) / 20, pa.float64()),
        "count": pa.array(range(-1, 11), pa.int64()),
    }
    axes = []
    for name, known in values.items():
        rows = pa.concat_arrays([known, pa.nulls(1, known.type)]) if "missing" in declared.features[name] else known
        axes.append(Axis(name, "values", pa.table({name: rows})))
    return InputSpace(tuple(axes), tuple(values), declared.exclude)


def export(folder, job, declared):
    table = examples(declared)
    write_shards(folder, "train", table)
    transform_output = tft.TFTransformOutput(analyze(folder, job))
    keras.utils.set_random_seed(declared.seed)
    labels = tf.data.Dataset.from_tensors(table["weight_pounds"].to_numpy().astype(np.float32)[:, None])
    encodings = declared_encodings(dict(job.features), job.crosses)
    network = build_network(transform_output, job.task, job.model.network, encodings, labels)
    export_model(network, transform_output, job.features, job.label, job.task, str(folder / "model"))
    return str(folder / "model")


def score_all(engine):
    ranges = [
        (start, min(start + BLOCK_ROWS, engine.space.cardinality))
        for start in range(0, engine.space.cardinality, BLOCK_ROWS)
    ]
    return list(engine.score_ranges(ranges))


@pytest.mark.slow
# The first example is the simplest: an embedded word, one edge, a vocabulary of numbers. To shrink takes minutes.
@hypothesis.settings(max_examples=3, deadline=None, phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate])
@hypothesis.given(declarations())
def test_declared_features_and_crosses_are_scored_as_served(declared):
    network = {"network": {"hidden": declared.hidden}}
    axes = {name: {"values": [value]} for name, value in (("word", "a"), ("size", 1.0), ("count", 1))}
    job = natality_job(features=declared.features, crosses=declared.crosses, model=network, input_space={"axes": axes})
    types, space, outputs = feature_types(job), space_of(declared), model_outputs(job.label, job.task)
    with tempfile.TemporaryDirectory() as directory:
        model_dir = export(pathlib.Path(directory), job, declared)
        serving = load_model(model_dir).signatures["serving_default"]
        engines = [
            make_engine(space, model_dir, types, outputs, factoring=factoring, classes=classes)
            for factoring, classes in ((True, True), (True, False), (False, False))
        ]
        is_number = any(isinstance(made, str) for node in declared.features.values() for made in node["transforms"])
        if not is_number and declared.exclude is None:
            assert isinstance(engines[0].scorer, ClassScorer)
        for blocks in zip(*map(score_all, engines), strict=True):
            rows = pa.Table.from_batches([blocks[0]]).select(list(types))
            rows = rows.cast(space.columns(np.arange(1)).schema)
            inputs = {name: tf.constant(values) for name, values in graph_inputs(rows, types).items()}
            expected = serving(**inputs)["weight_pounds"].numpy()
            for block in blocks:
                assert block["weight_pounds"].to_numpy().tobytes() == expected.tobytes()
                assert pa.Table.from_batches([block]).select(list(types)).cast(rows.schema).equals(rows)
