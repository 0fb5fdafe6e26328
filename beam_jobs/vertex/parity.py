"""The same points scored twice: by the pipeline's engine, and by a batch prediction job on Vertex AI.

The engine tabulates, collapses and gathers as it does for the table; to Vertex each point goes as it is, an instance of
its own. So what is compared is all that lies between a point and its prediction, on either way.
"""

import dataclasses
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.night import Night, feature_types
from beam_jobs.vertex.batch_prediction import predict_cells
from beam_jobs.workspace import artifacts
from configs.outputs import Output
from configs.precomputing import VertexBatchPrecompute
from transforms.scoring.cells import CellPredictions, NeededCells
from transforms.scoring.classes import ClassSpace
from transforms.scoring.differences import ColumnDifference, column_differences
from transforms.scoring.engine import Engine, make_engine
from transforms.scoring.precompute import PrecomputePredictions
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace
from transforms.space.planning import Plan

STEP = "parity"
TOLERANCE = 1e-6
_ENUMERATED = 1 << 22
_MOST_DRAWS = 64


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far the two are apart.

    Attributes:
        points: that were compared.
        tolerance: largest relative difference that is one of rounding.
        columns: of the model's outputs in the prediction table.
        where: for each column, the key of the point where the difference is largest; None where there is none.
        repeated: predictions that came twice from Vertex.
    """

    model_version: str
    points: int
    seed: int
    tolerance: float
    columns: tuple[ColumnDifference, ...]
    where: tuple[dict[str, Any] | None, ...]
    repeated: int

    @property
    def holds(self) -> bool:
        """Whether all differences are of rounding."""
        return all(column.is_within(self.tolerance) for column in self.columns)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        columns = [
            dataclasses.asdict(column) | {"point": point}
            for column, point in zip(self.columns, self.where, strict=True)
        ]
        for column in columns:
            del column["row"]  # among the compared points, which nobody sees
        tree = dataclasses.asdict(self) | {"columns": columns, "holds": self.holds}
        del tree["where"]
        return tree


def check_parity(
    night: Night,
    model: artifacts.ScoringModel,
    space: InputSpace,
    planned: Plan,
    points: int,
    seed: int,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Scores some points of the space both ways and compares.

    Args:
        points: how many; all of a space that has fewer.
        seed: of which ones; the same points are asked of Vertex once a run and model.

    Raises:
        ForetableError: the job on Vertex failed, or instances came back without a prediction.
    """
    outputs = artifacts.outputs_of(night.job, model)
    with artifacts.local_model(model) as model_dir:
        foreign = artifacts.foreign_call_of(night.job)
        engine = make_engine(space, model_dir, feature_types(night.job), outputs, foreign=foreign)
        positions = random_positions(space, engine.exclusion, points, seed)
        ours = engine_predictions(engine, positions)
    theirs, repeated = vertex_predictions(night, model, outputs, chosen_space(space, positions), planned)
    columns = column_differences(ours, theirs, outputs)
    where = [None if column.row is None else _point(space, int(positions[column.row])) for column in columns]
    return Parity(model.model_version, len(positions), seed, tolerance, tuple(columns), tuple(where), repeated)


def random_positions(space: InputSpace, exclusion: Exclusion, count: int, seed: int) -> np.ndarray:
    """Positions of different points that are not excluded, in order: int64 `[count]`, or all if there are fewer."""
    random = np.random.default_rng(seed)
    if space.cardinality <= max(_ENUMERATED, 4 * count):
        included = np.concatenate(
            [
                exclusion.included(start, min(start + BLOCK_ROWS, space.cardinality)).positions
                for start in range(0, space.cardinality, BLOCK_ROWS)
            ]
        )
        return np.sort(random.choice(included, min(count, len(included)), replace=False))
    found = np.empty(0, np.int64)
    for _ in range(_MOST_DRAWS):
        drawn = random.integers(0, space.cardinality, 2 * count)
        found = np.unique(np.concatenate([found, drawn[~exclusion.mask(drawn)]]))
        if len(found) >= count:
            break
    return np.sort(random.choice(found, min(count, len(found)), replace=False))


def engine_predictions(engine: Engine, positions: np.ndarray) -> dict[str, np.ndarray]:
    """What the table has for these points: by output, `[num_points]` or `[num_points, width]`.

    They are scored in batches of a block's size, filled up with the same points again, as a block of the table is.
    """
    blocks = -(-len(positions) // BLOCK_ROWS)
    filled = np.resize(positions, min(blocks * BLOCK_ROWS, max(engine.space.cardinality, len(positions))))
    batches = [
        engine.scorer.score(engine.space.points(filled[start : start + BLOCK_ROWS]))
        for start in range(0, len(filled), BLOCK_ROWS)
    ]
    return {
        output.name: np.concatenate([batch[output.name] for batch in batches])[: len(positions)]
        for output in engine.outputs
    }


def chosen_space(space: InputSpace, positions: np.ndarray) -> InputSpace:
    """A space of exactly these points: one axis over all columns, whose rows are the points in their order."""
    table, inputs = (pa.Table.from_batches([rows(positions)]) for rows in (space.columns, space.inputs))
    return InputSpace((Axis("points", "rows", table, space.key_names, representatives=inputs),), space.column_names)


def vertex_predictions(
    night: Night, model: artifacts.ScoringModel, outputs: tuple[Output, ...], chosen: InputSpace, planned: Plan
) -> tuple[dict[str, np.ndarray], int]:
    """What a batch prediction job says of all points of a space, as `engine_predictions`; and how many came twice."""
    settings = night.job.precompute
    if not isinstance(settings, VertexBatchPrecompute):
        settings = VertexBatchPrecompute(on="vertex_batch")
    # A few points need no more than one machine, which takes minutes to start.
    settings = settings.model_copy(update={"jobs": 1, "starting_replica_count": 1})
    asking = dataclasses.replace(night, job=night.job.model_copy(update={"precompute": settings}))
    transform = PrecomputePredictions(
        plan=dataclasses.replace(planned, space_hash=chosen.digest()),
        axes_dir="",
        model_dir=model.model_path,
        features=feature_types(night.job),
        outputs=outputs,
        predictions_dir="",
        model_version=model.model_version,
        transform_hash=model.transform_hash,
        foreign=artifacts.foreign_call_of(night.job),
    )
    cells = ClassSpace.of(chosen, ())
    with tempfile.TemporaryDirectory(prefix="foretable-parity-") as folder:
        needed = NeededCells(cells, Exclusion(chosen), folder)
        predictions = CellPredictions(needed, cells, outputs, folder)
        predict_cells(asking, transform, model, cells, predictions, step=STEP)
        found = predictions.of(np.arange(chosen.cardinality))
        return {name: np.array(values) for name, values in found.items()}, predictions.repeated


def _point(space: InputSpace, position: int) -> dict[str, Any]:
    (row,) = space.columns(np.array([position])).to_pylist()
    return {name: row[name] for name in space.key_names}
