"""Classes: rows are one class where every table holds the same bytes, and to expand what was scored loses nothing."""

import concurrent.futures
import threading
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from transforms.scoring.axis_tables import AxisTable
from transforms.scoring.classes import AxisClasses, ClassScorer, collapsed_axes, find_classes
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace

BATCH_ROWS = 16


def space_of(shape):
    return InputSpace(tuple(Axis(f"a{i}", "values", pa.table({f"a{i}": range(rows)})) for i, rows in enumerate(shape)))


def numbers(classes):
    return [(found.of_rows.tolist(), found.first_rows.tolist()) for found in classes]


def test_rows_are_one_class_where_all_tables_hold_the_same_bytes():
    tables = [
        AxisTable((0,), (4,), np.array([7, 5, 7, 5])),
        AxisTable((0, 1), (4, 2), np.array([1, 2, 3, 4, 1, 2, 3, 9])),
        AxisTable((1,), (2,), np.array([b"x", b"x"], object)),
        AxisTable((2,), (3,), np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0]], np.float32)),
        AxisTable((), (), np.array([3])),
    ]
    assert numbers(find_classes((4, 2, 3, 5, 2), tables, told_apart=[4])) == [
        ([0, 1, 0, 2], [0, 1, 3]),
        ([0, 1], [0, 1]),
        ([0, 1, 0], [0, 1]),  # zero and its negative are not the same to a division
        ([0, 0, 0, 0, 0], [0]),  # nothing depends on it
        ([0, 1], [0, 1]),
    ]


def test_strings_and_missing_numbers_are_told_apart_by_their_bytes():
    words = AxisTable((0,), (4,), np.array([b"a", b"a\0", b"", b"a"], object))
    assert numbers(find_classes((4,), [words]))[0][0] == [0, 1, 2, 0]
    gaps = AxisTable((0,), (3,), np.array([np.nan, 1, np.nan], np.float32))
    assert numbers(find_classes((3,), [gaps]))[0][0] == [0, 1, 0]


@pytest.mark.parametrize(("kept_rows", "first"), [(24, 0), (23, 1), (11, 2), (3, 3)])
def test_collapses_the_innermost_axes_that_can_be_kept(kept_rows, first):
    classes = [AxisClasses(np.zeros(9, np.int32), np.zeros(count, np.int32)) for count in (2, 3, 4)]
    assert collapsed_axes(classes, kept_rows) == first


class Recorder:
    """A scorer whose predictions are those of the points' classes, and which remembers its batches."""

    def __init__(self, space, classes):
        self.space, self.classes, self.asked = space, classes, []

    def score(self, points):
        assert points.positions.tolist() == np.ravel_multi_index(points.indices, self.space.shape).tolist()
        self.asked.append(len(points))
        kinds = [found.of_rows[index] for found, index in zip(self.classes, points.indices, strict=True)]
        number = np.ravel_multi_index(kinds, [len(found) for found in self.classes])
        words = np.array([str(value).encode() for value in number], object)
        return {"number": number, "word": words, "pair": np.stack([number, -number], 1).astype(np.float32)}


@st.composite
def classified_spaces(draw):
    labels = [draw(st.lists(st.integers(0, 3), min_size=1, max_size=9)) for _ in range(draw(st.integers(1, 3)))]
    tables = [AxisTable((axis,), (len(row),), np.array(row)) for axis, row in enumerate(labels)]
    shape = tuple(len(row) for row in labels)
    return space_of(shape), find_classes(shape, tables)


@hypothesis.given(classified_spaces(), st.integers(1, 70), st.data())
def test_expanding_what_was_scored_gives_every_point_its_own_prediction(classified, kept_rows, data):
    space, classes = classified
    behind = Recorder(space, classes)
    scorer = ClassScorer(behind, space, classes, BATCH_ROWS, kept_rows)
    starts = data.draw(st.lists(st.integers(0, space.cardinality - 1), min_size=1, max_size=6))
    for start in starts:
        points = space.points_between(start, min(start + BATCH_ROWS, space.cardinality))
        expected, found = Recorder(space, classes).score(points), scorer.score(points)
        assert {name: values.tolist() for name, values in found.items()} == {
            name: values.tolist() for name, values in expected.items()
        }
    assert set(behind.asked) <= {BATCH_ROWS, space.cardinality - max(starts)} | set(range(1, BATCH_ROWS))


def test_each_combination_is_scored_once_in_full_batches():
    labels = np.arange(64) // 8
    tables = [AxisTable((axis,), (64,), labels) for axis in (0, 1)]
    space, classes = space_of((64, 64)), find_classes((64, 64), tables)
    behind = Recorder(space, classes)
    scorer = ClassScorer(behind, space, classes, BATCH_ROWS)
    for start in range(0, space.cardinality, BATCH_ROWS):
        scorer.score(space.points_between(start, start + BATCH_ROWS))
    assert behind.asked == [BATCH_ROWS] * 4
    assert (scorer.batches, scorer.factors) == (4, (8.0, 8.0))


def test_threads_that_ask_for_the_same_batch_wait_for_one():
    space = space_of((BATCH_ROWS, BATCH_ROWS))
    tables = [AxisTable((axis,), (BATCH_ROWS,), np.arange(BATCH_ROWS) // 4) for axis in (0, 1)]
    classes = find_classes(space.shape, tables)
    behind = Recorder(space, classes)
    scorer = ClassScorer(behind, space, classes, BATCH_ROWS)
    threads = [threading.Thread(target=scorer.score, args=[space.points_between(0, BATCH_ROWS)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert behind.asked == [BATCH_ROWS]


def test_a_failure_behind_is_that_of_all_who_wait_and_of_nobody_after():
    space = space_of((BATCH_ROWS, 2))
    classes = find_classes(space.shape, [AxisTable((0,), (BATCH_ROWS,), np.zeros(BATCH_ROWS))])
    waiting = threading.Barrier(3)

    class FailsOnce(Recorder):
        def score(self, points):
            result = super().score(points)
            if len(self.asked) == 1:
                waiting.wait()
                time.sleep(0.1)  # until the others wait for this batch
                raise RuntimeError("no memory")
            return result

    behind = FailsOnce(space, classes)
    scorer = ClassScorer(behind, space, classes, BATCH_ROWS)
    points = space.points_between(0, BATCH_ROWS)

    def ask(is_first):
        if not is_first:
            waiting.wait()
        with pytest.raises(RuntimeError, match="no memory"):
            scorer.score(points)

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        first = threads.submit(ask, True)
        while not behind.asked:
            time.sleep(0.001)
        for asked in (first, *[threads.submit(ask, False) for _ in range(2)]):
            asked.result()
    assert behind.asked == [BATCH_ROWS]
    assert scorer.score(points)["number"].tolist() == Recorder(space, classes).score(points)["number"].tolist()
    assert behind.asked == [BATCH_ROWS] * 2
