"""Cells: each point falls into one that is sent, that cell's first point is its like, and looking up loses nothing."""

import dataclasses
import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from configs.errors import ForetableError, RefusedError
from configs.outputs import Output
from transforms.scoring.axis_tables import AxisTable
from transforms.scoring.cells import CellPredictions, CellScorer, NeededCells
from transforms.scoring.classes import ClassSpace, find_classes
from transforms.scoring.engine import Engine
from transforms.scoring.factoring import gather
from transforms.scoring.shards import Fingerprint, TableColumn, write_shard
from transforms.space.axes import Axis
from transforms.space.blocks import ShardRange
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace

OUTPUTS = (
    Output(name="number", type="int", columns=("number",)),
    Output(name="word", type="string", columns=("word",)),
    Output(name="pair", type="float", columns=("low", "high")),
    Output(name="list", type="float[]", columns=("list",)),
)
TYPES = {"number": "int", "word": "string", "low": "float", "high": "float", "list": "float[]"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A space with its tables of transformed features and their classes."""

    space: InputSpace
    tables: tuple[AxisTable, ...]
    cells: ClassSpace


class Recorder:
    """A scorer whose predictions are those of the points' cells."""

    def __init__(self, cells):
        self.cells = cells

    def score(self, points):
        return predictions_of(self.cells.cells_of(points))


def predictions_of(cells):
    """Different predictions for each cell."""
    words = np.empty(len(cells), object)
    words[:] = [f"ü{cell % 3}".encode() for cell in cells.tolist()]
    pairs = np.stack([cells / 3, -cells / 7], axis=1).astype(np.float32)
    return {"number": cells + 2**60, "word": words, "pair": pairs, "list": np.tile(pairs, 2)}


@st.composite
def cases(draw):
    labels = [draw(st.lists(st.integers(0, 3), min_size=1, max_size=7)) for _ in range(draw(st.integers(1, 3)))]
    shape = tuple(map(len, labels))
    tables = [AxisTable((axis,), (len(row),), np.array(row)) for axis, row in enumerate(labels)]
    if len(shape) > 1 and draw(st.booleans()):
        crossed = draw(st.lists(st.integers(0, 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
        tables.append(AxisTable((0, 1), shape[:2], np.array(crossed)))
    axes = tuple(Axis(f"a{axis}", "values", pa.table({f"a{axis}": range(rows)})) for axis, rows in enumerate(shape))
    conditions = [f"(a0 = {row} AND a{len(shape) - 1} >= {draw(st.integers(0, 6))})" for row in draw(excluded_rows)]
    space = InputSpace(axes, exclude=" OR ".join(conditions) or None)
    apart = draw(st.sets(st.integers(0, len(shape) - 1), max_size=1))
    classes = find_classes(shape, tables, apart) if draw(st.integers(0, 4)) else ()
    return Case(space, tuple(tables), ClassSpace.of(space, classes))


excluded_rows = st.lists(st.integers(0, 6), max_size=4, unique=True)


def exclusion_of(space):
    exclusion = Exclusion(space)
    try:
        assert exclusion.excluded_count >= 0
    except RefusedError:
        hypothesis.reject()  # nothing is left
    return exclusion


@hypothesis.given(cases())
def test_the_needed_cells_are_those_of_the_included_points(case):
    exclusion = exclusion_of(case.space)
    included = exclusion.included(0, case.space.cardinality)
    with tempfile.TemporaryDirectory() as folder:
        needed = NeededCells(case.cells, exclusion, folder)
        found = np.concatenate(list(needed.chunks()))
        assert found.tolist() == sorted(set(case.cells.cells_of(included).tolist()))
        assert needed.count == len(found)
        every = np.arange(-2, case.cells.cardinality + 2)
        assert needed.are(every).tolist() == np.isin(every, found).tolist()


@hypothesis.given(cases())
def test_a_cells_first_point_transforms_to_the_same_bytes_as_each_of_its_points(case):
    points = case.space.points_between(0, case.space.cardinality)
    cells = case.cells.cells_of(points)
    first = case.cells.first_points(cells)
    assert first.positions.tolist() == np.ravel_multi_index(first.indices, case.space.shape).tolist()
    assert case.cells.cells_of(first).tolist() == cells.tolist()
    for table in case.tables:
        assert gather(table, first).tobytes() == gather(table, points).tobytes()


@hypothesis.given(cases(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_shards_of_looked_up_predictions_are_the_engines_byte_for_byte(case, random, parts):
    engine = Engine(case.space, exclusion_of(case.space), Recorder(case.cells), OUTPUTS)
    with tempfile.TemporaryDirectory() as folder:
        needed = NeededCells(case.cells, engine.exclusion, folder)
        predictions = CellPredictions(needed, case.cells, OUTPUTS, folder)
        answered = np.concatenate(list(needed.chunks()))
        repeated = random.choices(answered.tolist(), k=random.randint(0, 3))
        answers = [*answered.tolist(), *repeated]
        random.shuffle(answers)
        for part in np.array_split(np.array(answers), parts):
            assert predictions.missing_count > 0 or len(repeated) > 0 or len(part) == 0
            predictions.fill(part, predictions_of(part))
        assert predictions.missing_count == 0
        assert list(predictions.missing()) == []
        assert predictions.repeated == len(repeated)
        looked_up = dataclasses.replace(engine, scorer=CellScorer(case.cells, predictions))
        written = [write(folder, case.space, each, name) for each, name in ((engine, "one"), (looked_up, "other"))]
        assert written[0] == written[1]


def write(folder, space, engine, name):
    """The bytes of a shard with the whole space in blocks of 16 points."""
    columns = [TableColumn(name, "int", "key") for name in space.column_names]
    columns += [TableColumn(name, kind, "output") for name, kind in TYPES.items()]
    ranges = [(start, min(start + 16, space.cardinality)) for start in range(0, space.cardinality, 16)]
    shard = ShardRange(0, 1, 0, len(ranges), 0, space.cardinality)
    record = write_shard(f"{folder}/{name}", shard, columns, engine.score_ranges(ranges), Fingerprint("m", "t", "s"))
    with open(f"{folder}/{name}/{shard.name}", "rb") as file:
        return record, file.read()


def small_case(tmp_path, outputs=OUTPUTS):
    """Ten points, each a cell of its own, of which the last three are excluded."""
    space = InputSpace((Axis("a0", "values", pa.table({"a0": range(10)})),), exclude="a0 > 6")
    cells = ClassSpace.of(space, ())
    needed = NeededCells(cells, Exclusion(space), str(tmp_path))
    return needed, CellPredictions(needed, cells, outputs, str(tmp_path))


def test_the_first_prediction_of_a_cell_counts(tmp_path):
    needed, predictions = small_case(tmp_path, OUTPUTS[:1])
    assert needed.count == 7
    predictions.fill(np.array([5, 0, 5]), {"number": np.array([50, 1, 51])})
    predictions.fill(np.array([0, 2]), {"number": np.array([2, 20])})
    assert predictions.of(np.array([5, 0, 2]))["number"].tolist() == [50, 1, 20]
    assert (predictions.repeated, predictions.missing_count) == (2, 4)
    assert np.concatenate(list(predictions.missing())).tolist() == [1, 3, 4, 6]


def test_rows_of_an_output_have_one_width(tmp_path):
    _, predictions = small_case(tmp_path, OUTPUTS[3:])
    predictions.fill(np.array([1]), {"list": np.zeros((1, 3), np.float32)})
    with pytest.raises(ForetableError, match=r"output 'list' has rows of different shapes: \[3\] and \[2\]"):
        predictions.fill(np.array([2]), {"list": np.zeros((1, 2), np.float32)})
