"""Models to score with, made by the project's own path: tf.Transform's analysis, the declared network, the exporter.

Their weights are those that the network starts with: how fast a model answers does not depend on what it has learned.
`python -m benchmarks.models NAME DIRECTORY` builds one, in a process of its own because it needs all of TensorFlow.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.features import Cross, Feature, HashedCross, Label, QuantileBuckets, Vocabulary, ZScore, declared_encodings
from configs.modeling import Model, Network, Regression
from configs.outputs import Output, model_outputs

LABEL = Label(name="weight_pounds", description="Weight at birth in pounds")
TASK = Regression(kind="regression")
SEED = 20261120
WORDS = 10_000
WORD_FEATURES = 20
_EXAMPLE_ROWS = 20_000
_MODEL_FILE = "benchmark.json"

_SEX = Feature(type="string", transforms=(Vocabulary.model_validate({"kind": "vocabulary", "encoding": "one_hot"}),))
_PLURALITY_TRANSFORM = {"kind": "vocabulary", "encoding": {"kind": "embedding", "dimensions": 4}}
_PLURALITY = Feature(type="string", transforms=(Vocabulary.model_validate(_PLURALITY_TRANSFORM),))
_AGE_BUCKETS = QuantileBuckets(kind="quantile_buckets", count=10)


@dataclasses.dataclass(frozen=True)
class BenchmarkModel:
    """A model, before it is built.

    Attributes:
        about: one line for the report.
        features: raw features, in the order of the prediction table.
        hidden: units of the network's layers.
    """

    name: str
    about: str
    features: Mapping[str, Feature]
    crosses: tuple[Cross, ...]
    hidden: tuple[int, ...]


def _natality(age: tuple[object, ...], weeks: tuple[object, ...]) -> dict[str, Feature]:
    return {
        "is_male": _SEX,
        "mother_age": Feature.model_validate({"type": "float", "missing": 27, "transforms": age}),
        "plurality": _PLURALITY,
        "gestation_weeks": Feature.model_validate({"type": "float", "missing": 39, "transforms": weeks}),
    }


_SCORES = _natality((ZScore(kind="z_score"), _AGE_BUCKETS), (ZScore(kind="z_score"),))
_BUCKETS = _natality((_AGE_BUCKETS,), (QuantileBuckets(kind="quantile_buckets", count=20),))
_CROSS = HashedCross(kind="hashed", features=("plurality", "mother_age_quantile_buckets"), buckets=100)
_WORD_FEATURE = Feature.model_validate(
    {"type": "string", "transforms": [{"kind": "vocabulary", "encoding": "embedding"}]}
)

MODELS = {
    model.name: model
    for model in (
        BenchmarkModel("small", "the demo's features and cross, 64/32 units", _SCORES, (_CROSS,), (64, 32)),
        BenchmarkModel(
            "medium", "the demo's features and cross, 512/256/128 units", _SCORES, (_CROSS,), (512, 256, 128)
        ),
        BenchmarkModel(
            "wide",
            f"{WORD_FEATURES} string features of {WORDS:,} words each, embedded; 64/32 units",
            {f"word_{index:02d}": _WORD_FEATURE for index in range(WORD_FEATURES)},
            (),
            (64, 32),
        ),
        BenchmarkModel(
            "buckets", "as small, with its two numbers in buckets only (10 and 20)", _BUCKETS, (_CROSS,), (64, 32)
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A model on disk.

    Attributes:
        directory: local; has the SavedModel as `model/`.
        outputs: of its serving signature.
    """

    directory: str
    features: Mapping[str, Feature]
    outputs: tuple[Output, ...]
    model_version: str
    transform_hash: str
    parameters: int

    @property
    def model_dir(self) -> str:
        """The SavedModel."""
        return str(pathlib.Path(self.directory, "model"))


def word(index: int) -> str:
    """One of the words of the wide model's vocabularies."""
    return f"word {index:05d}"


def load_built_model(name: str, directory: str) -> BuiltModel:
    """The model that `build` wrote."""
    described = json.loads(pathlib.Path(directory, _MODEL_FILE).read_text(encoding="utf-8"))
    return BuiltModel(directory, MODELS[name].features, model_outputs(LABEL, TASK), **described)


def load_serving(directory: str) -> Callable[..., dict[str, Any]]:
    """The serving signature of a model that is loaded as anybody would: with TensorFlow's threads as it sets them.

    The engine's own `load_model` gives an operation one thread, since it scores several blocks at once.
    """
    import tensorflow as tf

    model = tf.saved_model.load(directory)

    def serve(**inputs: Any) -> dict[str, Any]:
        return dict(model.signatures["serving_default"](**inputs))  # a signature does not keep its model alive

    return serve


def build(model: BenchmarkModel, directory: str) -> None:
    """Builds the model in `directory`; the file that describes it comes last, and says that it is whole."""
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    from beam_jobs.pipelines import run_pipeline
    from models.exporting import export_model
    from models.network import build_network
    from models.trainer import model_version
    from transforms.preprocessing.analysis import AnalyzeExamples, transform_hash
    from transforms.preprocessing.functions import make_preprocessing_fn

    root = pathlib.Path(directory)
    (root / "examples").mkdir(parents=True, exist_ok=True)
    examples = make_examples(model)
    pq.write_table(examples, root / "examples" / "train-00000-00000.parquet")
    with tempfile.TemporaryDirectory() as temp_dir:
        analyze = AnalyzeExamples(
            features=model.features,
            preprocessing_fn=make_preprocessing_fn(model.features, model.crosses),
            label_name=LABEL.name,
            examples_dir=str(root / "examples"),
            transform_output_dir=str(root / "transform_output"),
            temp_dir=temp_dir,
        )
        run_pipeline(lambda pipeline: pipeline | analyze)
    keras.utils.set_random_seed(SEED)
    transform_output = tft.TFTransformOutput(str(root / "transform_output"))
    labels = tf.data.Dataset.from_tensors(examples[LABEL.name].to_numpy().astype(np.float32)[:, None])
    settings = Model(network=Network(hidden=model.hidden))
    encodings = declared_encodings(dict(model.features), model.crosses)
    network = build_network(transform_output, TASK, settings.network, encodings, labels)
    export_model(network, transform_output, model.features, LABEL, TASK, str(root / "model"))
    graph = transform_hash(str(root / "transform_output"))
    described = {
        "model_version": model_version(network, graph, [LABEL.name]),
        "transform_hash": graph,
        "parameters": int(network.count_params()),
    }
    (root / _MODEL_FILE).write_text(json.dumps(described), encoding="utf-8")


def make_examples(model: BenchmarkModel) -> pa.Table:
    """Rows to analyze: the natality sample, or every word of every vocabulary."""
    if set(model.features) >= {"mother_age"}:
        from transforms.examples.readers.natality_sample import generate_natality

        columns = generate_natality(SEED, 0)
        return pa.table({name: columns[name] for name in (*model.features, LABEL.name)}).slice(0, _EXAMPLE_ROWS)
    random = np.random.default_rng(SEED)
    words = np.array([word(index) for index in range(WORDS)])
    columns = {
        name: pa.array(np.concatenate([random.permutation(words) for _ in range(_EXAMPLE_ROWS // WORDS)]))
        for name in model.features
    }
    return pa.table({**columns, LABEL.name: pa.array(random.normal(7.5, 1.3, _EXAMPLE_ROWS))})


if __name__ == "__main__":
    build(MODELS[sys.argv[1]], sys.argv[2])
