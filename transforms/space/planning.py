"""The plan: how large the input space is, how long scoring it takes and how many bytes it fills, known beforehand."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from configs.errors import ForetableError, JobError, RefusedError
from configs.features import ColumnType, Feature
from configs.outputs import Output
from transforms.scoring.classes import ClassScorer
from transforms.scoring.engine import Engine, make_engine
from transforms.scoring.foreign_models import ForeignCall
from transforms.scoring.scorer_choice import TransformedFeature
from transforms.scoring.serving import check_features, load_model
from transforms.scoring.shards import Fingerprint, TableColumn, write_shard
from transforms.space.blocks import BLOCK_ROWS, ShardRange, block_count
from transforms.space.input_space import InputSpace
from transforms.space.intervals import describe_columns

FORMAT = 1
TRIAL_BLOCKS = 16


@dataclasses.dataclass(frozen=True)
class PlannedAxis:
    """An axis and its size.

    Attributes:
        classes: of its rows, if the model shows how it transforms: those of a class have the same predictions.
        factor: rows for each that is scored in a full block without excluded points, 1 where every one is.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    rows: int
    classes: int | None = None
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `precompute` is going to do.

    Attributes:
        cardinality: points of the space, the excluded ones included.
        excluded: points that `exclude` takes away.
        rows: of the prediction table.
        shard_blocks: blocks in a shard.
        bytes: of all shards, estimated from a trial.
        seconds: of scoring and writing on this machine, estimated from a trial.
        exclude: the SQL condition.
        space_hash: digest of the space.
        columns: of the prediction table, in order.
        transformed: what the network takes and what that depends on; empty if the model does not show it.
        factor: rows of the table for each that is scored, at least; 1 where every one is.
    """

    cardinality: int
    excluded: int
    rows: int
    blocks: int
    shards: int
    shard_blocks: int
    bytes: int
    seconds: float
    axes: tuple[PlannedAxis, ...]
    exclude: str | None
    space_hash: str
    columns: tuple[TableColumn, ...]
    transformed: tuple[TransformedFeature, ...] = ()
    factor: float = 1.0
    block_rows: int = BLOCK_ROWS
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` gave.

        Raises:
            ForetableError: it is of another format.
        """
        if values.get("format") != FORMAT or values.get("block_rows") != BLOCK_ROWS:
            raise ForetableError("plan.json: another version of foretable wrote it; run foretable plan again")
        axes = tuple(PlannedAxis(**{**axis, "columns": tuple(axis["columns"])}) for axis in values["axes"])
        columns = tuple(TableColumn(**column) for column in values["columns"])
        transformed = tuple(
            TransformedFeature(**{**feature, "features": tuple(feature["features"]), "axes": tuple(feature["axes"])})
            for feature in values.get("transformed", ())
        )
        return cls(**{**values, "axes": axes, "columns": columns, "transformed": transformed})


def make_plan(
    space: InputSpace,
    model_dir: str,
    features: Mapping[str, Feature],
    outputs: Sequence[Output],
    shard_blocks: int,
    max_points: int,
    foreign: ForeignCall | None = None,
) -> Plan:
    """Plans scoring a space with an exported model, after a short trial of the engine on this machine.

    Args:
        model_dir: a local folder.
        max_points: a larger space is refused.
        foreign: how to call the model, if somebody else made it.

    Raises:
        RefusedError: the space has too many points, or values that the transform graph makes no number of.
        JobError: `exclude` is not valid, or the table would have two columns of one name.
        ForetableError: the model is not one for these features and outputs.
    """
    check_points(space, max_points)
    columns = table_columns(space, features, outputs)
    types: dict[str, ColumnType] = {name: feature.type for name, feature in features.items()}
    engine = make_engine(space, model_dir, types, outputs, foreign=foreign)
    excluded = engine.exclusion.excluded_count
    if foreign is None:
        check_features(load_model(model_dir), types, space, engine.exclusion.mask)
    rows, blocks = space.cardinality - excluded, block_count(space.cardinality)
    trial = run_trial(engine, columns)
    return Plan(
        cardinality=space.cardinality,
        excluded=excluded,
        rows=rows,
        blocks=blocks,
        shards=-(-blocks // shard_blocks),
        shard_blocks=shard_blocks,
        bytes=round(trial.bytes_per_row * rows),
        seconds=round(trial.seconds_once + trial.seconds_per_block * blocks, 3),
        axes=_planned_axes(engine),
        exclude=space.exclude,
        space_hash=space.digest(),
        columns=columns,
        transformed=engine.transformed,
        factor=engine.factor,
    )


def _planned_axes(engine: Engine) -> tuple[PlannedAxis, ...]:
    axes = engine.space.axes
    classes: list[int | None] = [len(found) for found in engine.classes] or [None] * len(axes)
    factors = engine.scorer.factors if isinstance(engine.scorer, ClassScorer) else [1.0] * len(axes)
    return tuple(
        PlannedAxis(axis.name, axis.kind, tuple(axis.table.column_names), axis.table.num_rows, count, factor)
        for axis, count, factor in zip(axes, classes, factors, strict=True)
    )


def check_points(space: InputSpace, max_points: int) -> None:
    """Compares the space's size with what the job allows.

    Raises:
        RefusedError: it is larger; names the largest axes.
    """
    if space.cardinality <= max_points:
        return
    largest = sorted(space.axes, key=lambda axis: -axis.table.num_rows)[:2]
    sizes = ", ".join(f"{axis.name} ({axis.table.num_rows:,} rows)" for axis in largest)
    raise RefusedError(
        f"input_space: {space.cardinality:,} points, more than input_space.max_points ({max_points:,});"
        f" take rows from its largest axes, {sizes}, by larger steps or fewer values, or raise max_points"
    )


def table_columns(
    space: InputSpace, features: Mapping[str, Feature], outputs: Sequence[Output]
) -> tuple[TableColumn, ...]:
    """Columns of the prediction table: the space's, then the model's outputs.

    Raises:
        JobError: two would have one name, as databases compare names.
    """
    columns = []
    bounds = {
        column.name: column
        for axis in space.axes
        if axis.kind == "buckets"
        for column in describe_columns(axis.name, features[axis.name])
    }
    for name in space.column_names:
        if name in bounds:
            columns.append(bounds[name])
            continue
        feature = features.get(name)
        role: Literal["key", "feature"] = "key" if name in space.key_names else "feature"
        columns.append(
            TableColumn(name, feature.type, role, feature.description) if feature else TableColumn(name, "string", role)
        )
    for output in outputs:
        columns += [TableColumn(name, output.type, "output", output.description) for name in output.columns]
    seen: set[str] = set()
    for column in columns:
        if column.name.casefold() in seen:
            raise JobError(f"input_space.axes: {column.name!r}: expected a name that no other column of the table has")
        seen.add(column.name.casefold())
    return tuple(columns)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a few blocks took, scored and written by the engine.

    Attributes:
        seconds_once: of what a process does once: TensorFlow's first block, the combinations of classes.
        seconds_per_block: of a block, in a row of them, writing included.
    """

    seconds_once: float
    seconds_per_block: float
    bytes_per_row: float


def run_trial(engine: Engine, columns: Sequence[TableColumn]) -> Trial:
    """Scores and writes up to `TRIAL_BLOCKS` blocks, spread evenly over the space, into a temporary file."""
    cardinality = engine.space.cardinality
    blocks = block_count(cardinality)
    starts = np.unique(np.linspace(0, blocks - 1, min(TRIAL_BLOCKS, blocks)).astype(np.int64)) * BLOCK_ROWS
    ranges = [(int(start), min(int(start) + BLOCK_ROWS, cardinality)) for start in starts]
    once = _seconds(lambda: engine.score_range(*ranges[0]))
    if isinstance(engine.scorer, ClassScorer):
        batch, scorer = engine.space.points_between(0, BLOCK_ROWS), engine.scorer.scorer
        once += engine.scorer.batches * _seconds(lambda: scorer.score(batch))
    for _ in engine.score_ranges(ranges):
        pass  # what is done once is not to count for each block
    with tempfile.TemporaryDirectory(prefix="foretable-trial-") as directory:
        shard = ShardRange(0, 1, 0, len(ranges), 0, cardinality)
        begin = time.perf_counter()
        record = write_shard(
            directory, shard, columns, engine.score_ranges(ranges), Fingerprint("trial", "trial", "trial")
        )
        seconds = time.perf_counter() - begin
    return Trial(once, seconds / len(ranges), record.bytes / max(record.rows, 1))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
