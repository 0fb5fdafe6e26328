"""The engine: rows of the table for any range of points, and columns for any shape of output."""

import numpy as np
import pyarrow as pa
import pytest

from configs.errors import ForetableError
from configs.outputs import Output
from transforms.scoring.engine import Engine, prediction_arrays
from transforms.space.axes import Axis
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace

SPACE = InputSpace(
    (
        Axis("a", "values", pa.table({"a": pa.array([10, None, 30], pa.int64())})),
        Axis("b", "values", pa.table({"b": ["x", "y"]})),
    ),
    exclude="a = 10",
)
OUTPUTS = (Output(name="twice", type="float", columns=("twice",)),)


class Twice:
    """A scorer that says twice the position, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def score(self, points):
        self.asked.append(points.positions.tolist())
        return {"twice": (2 * points.positions).astype(np.float32)}


def test_scores_what_is_not_excluded_and_nothing_else():
    scorer = Twice()
    engine = Engine(SPACE, Exclusion(SPACE), scorer, OUTPUTS)
    batches = list(engine.score_ranges([(0, 2), (1, 4), (5, 6)]))
    assert [batch.to_pydict() for batch in batches] == [
        {"a": [], "b": [], "twice": []},
        {"a": [None, None], "b": ["x", "y"], "twice": [4.0, 6.0]},
        {"a": [30], "b": ["y"], "twice": [10.0]},
    ]
    assert sorted(scorer.asked) == [[2, 3], [5]]  # blocks are scored at the same time
    assert len({batch.schema for batch in batches}) == 1


@pytest.mark.parametrize(
    ("output", "values", "expected"),
    [
        (Output(name="o", type="float", columns=("o",)), np.float32([1, 2]), [pa.array([1, 2], pa.float32())]),
        (Output(name="o", type="float", columns=("o",)), np.float32([[1], [2]]), [pa.array([1, 2], pa.float32())]),
        (
            Output(name="o", type="float", columns=("p", "q")),
            np.float32([[1, 2], [3, 4]]),
            [pa.array([1, 3], pa.float32()), pa.array([2, 4], pa.float32())],
        ),
        (Output(name="o", type="int", columns=("o",)), np.int32([1, 2]), [pa.array([1, 2], pa.int64())]),
        (
            Output(name="o", type="string", columns=("o",)),
            np.array(["ü".encode(), b""], object),
            [pa.array(["ü", ""], pa.string())],
        ),
    ],
    ids=["scalar", "one column", "vector", "int", "string"],
)
def test_prediction_arrays(output, values, expected):
    assert prediction_arrays({"o": values}, [output]) == expected


def test_refuses_outputs_that_do_not_fit_their_columns():
    output = Output(name="o", type="float", columns=("p", "q"))
    with pytest.raises(ForetableError, match=r"'o' has shape \[2, 3\]; expected 2 value\(s\) a row, for p, q"):
        prediction_arrays({"o": np.zeros((2, 3), np.float32)}, [output])
    text = Output(name="o", type="string", columns=("o",))
    with pytest.raises(ForetableError, match="'o' is not UTF-8 text"):
        prediction_arrays({"o": np.array([b"\xff"], object)}, [text])
