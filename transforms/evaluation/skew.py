"""Training-serving skew, measured: the features that training read against those that the exported model makes.

Both come from one graph and the same rows, so nothing may differ, not in one bit. This is the check that it is so.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from configs.errors import RefusedError
from configs.features import ColumnType
from transforms.evaluation.models import BATCH_ROWS, read_shard
from transforms.examples.readers.tfrecord_file import read_records
from transforms.files import refusing_unreadable
from transforms.scoring.serving import TRANSFORM, load_model, predict

SINGLE_ROWS = 64

# TensorFlow's kernels add in another order at batch 1, which moves the last bits. A model that looks at its neighbours
# in the batch is off by far more.
MAX_RELATIVE_DIFFERENCE = 1e-5


@dataclasses.dataclass(frozen=True)
class ShardPair:
    """The same rows in the same order, before and after the transform.

    Attributes:
        raw: Parquet file of raw examples.
        transformed: TFRecord file of the transformed ones.
    """

    raw: str
    transformed: str


@dataclasses.dataclass(frozen=True)
class SkewReport:
    """What differed.

    Attributes:
        rows: compared.
        mismatches: rows that differ, for each transformed feature; all rows where only one side has the feature.
        single_rows: rows that were also predicted one by one.
        max_relative_difference: between their predictions one by one and in a batch; a NaN against a number counts 2,
            which is as far as two numbers can be apart.
    """

    rows: int
    mismatches: dict[str, int]
    single_rows: int
    max_relative_difference: float

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "SkewReport":
        """Reads back what `dataclasses.asdict` gave."""
        return cls(**{field.name: tree[field.name] for field in dataclasses.fields(cls)})

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each thing that differs more than it may."""
        problems = [
            f"{name} differs between training and serving in {rows:,} of {self.rows:,} rows"
            for name, rows in self.mismatches.items()
            if rows
        ]
        if self.max_relative_difference > MAX_RELATIVE_DIFFERENCE:
            problems.append(
                f"predictions one by one differ from those in a batch by {self.max_relative_difference:.2g} of their "
                f"value, expected at most {MAX_RELATIVE_DIFFERENCE:g}: the answer depends on the rest of the batch"
            )
        return tuple(problems)


def measure_skew(
    model_dir: str, shards: Sequence[ShardPair], features: Mapping[str, ColumnType], label: str, rows: int = 10_000
) -> SkewReport:
    """Compares features on the first rows of every shard, so many of each that they are `rows` together.

    Args:
        model_dir: local folder of the exported SavedModel.
        features: types of the raw features.
        label: the one column of the transformed examples that serving does not have.

    Raises:
        RefusedError: a shard is damaged, or the rows of a pair do not correspond.
    """
    model = load_model(model_dir)
    mismatches: dict[str, int] = {}
    compared = 0
    samples: list[pa.RecordBatch] = []
    for place, shard in enumerate(shards):
        share = -(-(rows - compared) // (len(shards) - place))
        for raw, records in read_pair(shard, list(features), share):
            served = predict(model, raw, features, TRANSFORM)
            for name, count in differing_rows(records, served, label).items():
                mismatches[name] = mismatches.get(name, 0) + count
            compared += raw.num_rows
            samples.append(raw.slice(0, SINGLE_ROWS))
    if not compared:
        raise RefusedError("no examples to compare; run foretable prepare again")
    sample = pa.Table.from_batches(samples)
    spread = np.unique(np.linspace(0, sample.num_rows - 1, SINGLE_ROWS).astype(np.int64))
    difference = compare_batch_sizes(model, sample.take(spread), features)
    return SkewReport(compared, dict(sorted(mismatches.items())), len(spread), difference)


def differing_rows(records: pa.RecordBatch, served: Mapping[str, np.ndarray], label: str) -> dict[str, int]:
    """Rows in which a feature's bytes differ, by feature.

    Args:
        records: transformed examples as lists of values, null where an example lacks the feature.
        served: the transform signature's outputs for the same rows, `[num_rows]` or `[num_rows, length]`.
    """
    names = sorted({*served, *records.schema.names} - {label})
    return {
        name: _differing(records.column(name), served[name])
        if name in served and name in records.schema.names
        else records.num_rows
        for name in names
    }


def compare_batch_sizes(model: Any, rows: pa.Table, features: Mapping[str, ColumnType]) -> float:
    """The largest relative difference between the rows' predictions one by one and as one batch.

    Relative to the value, or to the output's mean size where the value is smaller. Only outputs of floats are compared:
    answered classes follow from them.
    """
    batch = predict(model, rows, features)
    singles = [predict(model, rows.slice(row, 1), features) for row in range(rows.num_rows)]
    return max(
        (
            relative_difference(values, np.concatenate([single[name] for single in singles]))
            for name, values in batch.items()
            if values.dtype.kind == "f"
        ),
        default=0.0,
    )


def relative_difference(left: np.ndarray, right: np.ndarray) -> float:
    """The largest `|left - right|` relative to the larger of the two and the mean of `|left|`: from 0 to 2."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    finite = np.isfinite(left) & np.isfinite(right)
    if not (same | finite).all():
        return 2.0
    size = np.abs(left[finite]).mean() if finite.any() else 0.0
    apart = finite & ~same
    scale = np.maximum(np.maximum(np.abs(left), np.abs(right)), size)
    return float((np.abs(left[apart] - right[apart]) / scale[apart]).max(initial=0.0))


def read_pair(
    shard: ShardPair, columns: Sequence[str], limit: int, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Reads the first `limit` rows of both files in batches: raw columns, and transformed examples as lists of values.

    Raises:
        RefusedError: a file is damaged, or one ends before the other.
    """
    records = read_records(shard.transformed)
    left = limit
    for raw in read_shard(shard.raw, columns, min(batch_rows, limit)):
        rows = raw.slice(0, left)
        with refusing_unreadable(shard.transformed):
            examples = list(itertools.islice(records, rows.num_rows))
        if len(examples) < rows.num_rows:
            raise _unequal(shard, "fewer")
        yield rows, _decode(shard.transformed, examples)
        left -= rows.num_rows
        if left <= 0:
            return
    with refusing_unreadable(shard.transformed):
        if next(records, None) is not None:
            raise _unequal(shard, "more")


def _unequal(shard: ShardPair, word: str) -> RefusedError:
    return RefusedError(f"{shard.transformed}: {word} records than {shard.raw} has rows; run foretable prepare again")


def _decode(path: str, examples: list[bytes]) -> pa.RecordBatch:
    # Without a schema, types come from the examples, so that a feature of another type than serving's is seen.
    try:
        return ExamplesToRecordBatchDecoder().DecodeBatch(examples)
    except RuntimeError as error:
        raise RefusedError(f"{path}: cannot be read: {error}; run foretable prepare again") from error


def _differing(column: pa.Array, served: np.ndarray) -> int:
    values = served.reshape(len(served), -1)
    width = values.shape[1]
    if pa.types.is_null(column.type) or column.type.value_type not in _stored_types(served.dtype):
        return 0 if width == 0 and column.null_count == len(column) else len(column)
    fits = pc.equal(pc.fill_null(pc.list_value_length(column), 0), width).to_numpy(zero_copy_only=False)
    stored = column.filter(pa.array(fits)).flatten()
    expected = values[fits].ravel()
    if served.dtype.kind == "O":
        same = pc.equal(stored.cast(pa.large_binary()), pa.array(expected, pa.large_binary()))
        equal = same.to_numpy(zero_copy_only=False)
    else:
        # As bits: NaN is then equal to itself, and -0.0 is not 0.0.
        bits = np.dtype(f"i{served.dtype.itemsize}")
        equal = stored.to_numpy().view(bits) == expected.view(bits)
    return len(column) - int(equal.reshape(-1, width).all(axis=1).sum()) if width else int((~fits).sum())


def _stored_types(dtype: np.dtype) -> tuple[pa.DataType, ...]:
    kinds = {"f": (pa.float32(),), "i": (pa.int64(),), "O": (pa.large_binary(), pa.binary())}
    return kinds.get(dtype.kind, ())
