"""Threads: results in order, a few ahead and no more, and no work left behind a failure."""

import os
import threading

import pytest

from transforms.scoring.threads import cores, map_ahead, settle_tensorflow_threads


def test_results_come_in_order_and_items_are_taken_a_few_ahead():
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item * item, items())
    for expected in range(50):
        assert next(results) == expected * expected
        assert len(taken) <= expected + cores() + 1
    assert list(results) == []


def test_several_run_at_once():
    barrier = threading.Barrier(cores(), timeout=20)
    assert len(list(map_ahead(lambda item: barrier.wait(), range(cores())))) == cores()


def test_a_failure_comes_in_its_place_and_stops_the_rest():
    ran = []

    def fail_at_three(item):
        ran.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = map_ahead(fail_at_three, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert max(ran) <= 3 + cores() + 1


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    settle_tensorflow_threads()
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    settle_tensorflow_threads()
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "7"
