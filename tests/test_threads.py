"""Threads: results in order, a few ahead and no more, and no work left behind a failure."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest
from conftest import ROOT

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
        assert len(taken) <= expected + cores() + 2
    assert list(results) == []


def test_several_run_at_once():
    at_once = cores() + 1
    barrier = threading.Barrier(at_once, timeout=20)
    assert len(list(map_ahead(lambda item: barrier.wait(), range(at_once)))) == at_once


def test_calls_of_tensorflow_do_not_wait_for_each_other():
    program = """
        import concurrent.futures, threading
        from transforms.scoring import threads
        threads.cores = lambda: 2
        threads.settle_tensorflow_threads()
        import tensorflow as tf
        barrier = threading.Barrier(2, timeout=20)
        meet = tf.function(lambda: tf.numpy_function(barrier.wait, [], tf.int64))
        meet.get_concrete_function()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(meet) for _ in range(2)]
        assert sorted(call.result().numpy() for call in calls) == [0, 1]
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_NUM_")}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0


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
    assert max(ran) <= 3 + cores() + 2


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    settle_tensorflow_threads()
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    settle_tensorflow_threads()
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "7"
