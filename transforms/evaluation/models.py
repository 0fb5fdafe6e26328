"""Judges exported models on the raw eval examples: a shard is read and scored once; what leaves it is summable state.

A candidate and its baseline are evaluated in one pass, so that both see exactly the same examples.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import ForetableError, RefusedError
from configs.features import ColumnType
from configs.outputs import Output
from transforms.evaluation.metric_states import State, add_states, sum_by_slice
from transforms.evaluation.metrics import TaskMetrics
from transforms.evaluation.slicing import ModelMetrics, SliceKey, assign_slices
from transforms.files import open_raw, refusing_unreadable
from transforms.scoring.serving import SERVING, check_signature, load_model, predict

BATCH_ROWS = 65_536

SliceStates = dict[SliceKey, State]


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate.

    Attributes:
        path: folder of its SavedModel, which every worker can read.
        metrics: of its outputs; a baseline may know other classes than the candidate does.
        version: of the model, to tell one evaluation from another by.
    """

    path: str
    metrics: TaskMetrics
    version: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        candidate: metrics of the model that may be published.
        baseline: metrics of the last published model on the same examples, if there is one.
        versions: of the two models, by what they are here.
    """

    candidate: ModelMetrics
    baseline: ModelMetrics | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Evaluation":
        """Reads back what `dataclasses.asdict` gave; further keys, such as a commit marker's, are left aside."""
        baseline = tree.get("baseline")
        return cls(
            ModelMetrics.from_json(tree["candidate"]),
            ModelMetrics.from_json(baseline) if baseline else None,
            tree.get("versions", {}),
        )


@dataclasses.dataclass
class EvaluateModel(beam.PTransform):
    """Evaluates a candidate, and a baseline if there is one, on shards of raw eval examples.

    Goes from the pipeline's root to one element, an `Evaluation`. Every row of every shard counts once in each
    specification of `slices`. Counts are exact; sums are float64, added in the order in which the runner merges shards.

    Attributes:
        shards: Parquet files with the features, the label and the columns of the slices.
        features: types of the raw features that the models take.
        label_name: the label's column; a PTransform has a `label` of its own.
        slices: specifications; `()` is the whole split.
    """

    shards: Sequence[str]
    candidate: EvaluatedModel
    features: Mapping[str, ColumnType]
    label_name: str
    slices: Sequence[tuple[str, ...]] = ((),)
    baseline: EvaluatedModel | None = None

    def __post_init__(self) -> None:
        """Checks that there is something to evaluate on.

        Raises:
            RefusedError: there is not.
        """
        if not self.shards:
            raise RefusedError("no eval examples to evaluate on; run foretable prepare, or change split")

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Evaluation]:
        """Wires the steps."""
        models = {"candidate": self.candidate} | ({"baseline": self.baseline} if self.baseline else {})
        return (
            root
            | "ListShards" >> beam.Create([(shard, None) for shard in sorted(self.shards)], reshuffle=False)
            # Breaks fusion, so that workers share the shards; Reshuffle would do so in a random order.
            | "SpreadShards" >> beam.GroupByKey()
            | "TakeShard" >> beam.Keys()
            | "EvaluateShard"
            >> beam.ParDo(_EvaluateShard(models, dict(self.features), self.label_name, tuple(self.slices)))
            | "AddStates" >> beam.CombineGlobally(_AddStates())
            | "ComputeMetrics" >> beam.Map(evaluation_of, models, tuple(self.slices))
        )


def evaluate_batch(
    batch: pa.RecordBatch | pa.Table,
    predictions: Mapping[str, np.ndarray],
    metrics: TaskMetrics,
    label: str,
    slices: Sequence[tuple[str, ...]],
) -> SliceStates:
    """The state of every slice that has rows in the batch.

    Args:
        predictions: a model's outputs for the batch's rows.
    """
    contributions = metrics.contributions(_whole(batch.column(label)), predictions)
    states: SliceStates = {}
    for columns in slices:
        keys, slice_ids = assign_slices(batch, columns)
        states.update(zip(keys, sum_by_slice(contributions, slice_ids, len(keys)), strict=True))
    return states


def merge_slice_states(left: SliceStates, right: SliceStates) -> SliceStates:
    """The states of both lots of rows."""
    merged = dict(left)
    for key, state in right.items():
        merged[key] = add_states(merged[key], state) if key in merged else state
    return merged


def evaluation_of(
    states: Mapping[str, SliceStates], models: Mapping[str, EvaluatedModel], slices: Sequence[tuple[str, ...]]
) -> Evaluation:
    """The metrics of each model, from the states of all rows."""
    if not states:
        raise RefusedError("the eval shards hold no rows; run foretable prepare again")
    by_model = {
        name: ModelMetrics.from_slices(
            {key: model.metrics.metrics(state) for key, state in states[name].items()}, slices
        )
        for name, model in models.items()
    }
    return Evaluation(**by_model, versions={name: model.version for name, model in models.items()})


def read_shard(path: str, columns: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Reads some columns of a shard of raw examples.

    Raises:
        RefusedError: the shard cannot be read or has no such column.
    """
    with refusing_unreadable(path), open_raw(path) as file:
        shard = pq.ParquetFile(file)
        missing = [column for column in columns if column not in shard.schema_arrow.names]
        if missing:
            raise RefusedError(f"{path}: no column {missing[0]!r}; run foretable prepare again")
        yield from shard.iter_batches(batch_rows, columns=list(columns))


def why_not_comparable(model_dir: str, features: Mapping[str, ColumnType], outputs: Sequence[Output]) -> str | None:
    """Why an earlier model cannot be judged on this job's examples: other features or another task. None if it can."""
    try:
        check_signature(model_dir, load_model(model_dir).signatures[SERVING], features, outputs)
    except ForetableError as error:
        return str(error)
    return None


class _EvaluateShard(beam.DoFn):
    """Loads the models once per process and evaluates them on whole shards."""

    def __init__(
        self,
        models: Mapping[str, EvaluatedModel],
        features: Mapping[str, ColumnType],
        label: str,
        slices: tuple[tuple[str, ...], ...],
    ):
        self._models, self._features, self._label, self._slices = models, features, label, slices
        self._loaded: dict[str, Any] = {}

    def setup(self) -> None:
        self._loaded = {name: load_model(model.path) for name, model in self._models.items()}

    def process(self, path: str) -> Iterator[dict[str, SliceStates]]:
        columns = dict.fromkeys([*self._features, self._label, *(name for names in self._slices for name in names)])
        for batch in read_shard(path, list(columns)):
            missing = batch.column(self._label).null_count
            if missing:
                raise RefusedError(f"{path}: the label {self._label!r} is missing in {missing} rows; run prepare again")
            yield {
                name: evaluate_batch(
                    batch, predict(self._loaded[name], batch, self._features), model.metrics, self._label, self._slices
                )
                for name, model in self._models.items()
            }


class _AddStates(beam.CombineFn):
    def create_accumulator(self) -> dict[str, SliceStates]:
        return {}

    def add_input(self, total: dict[str, SliceStates], states: dict[str, SliceStates]) -> dict[str, SliceStates]:
        return {name: merge_slice_states(total.get(name, {}), of_model) for name, of_model in states.items()}

    def merge_accumulators(self, totals: Sequence[dict[str, SliceStates]]) -> dict[str, SliceStates]:
        merged = self.create_accumulator()
        for total in totals:
            merged = self.add_input(merged, total) if total else merged
        return merged

    def extract_output(self, total: dict[str, SliceStates]) -> dict[str, SliceStates]:
        return total


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
