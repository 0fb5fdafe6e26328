"""Strategies: two devices of one machine, and two workers in processes of their own, learn what one alone learns."""

import json
import os
import socket
import subprocess
import sys

import pytest
from run_directories import natality_job, natality_rows, prepare

from configs.errors import ForetableError
from models.distribution import is_chief, open_strategy

ROWS = 600  # whole batches: all strategies take the same steps, and differ by how sums are rounded
MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from models.trainer import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("run"), job("none"), natality_rows(ROWS), natality_rows(101, seed=1))


def job(strategy):
    training = {"epochs": 4, "batch_size": 100, "learning_rate": 0.02, "strategy": strategy}
    return natality_job(model={"network": {"hidden": [8]}, "training": training})


def trainer(run_dir, folder, strategy, program=("-m", "models.trainer"), **environment):
    """Starts a trainer; its job says the strategy."""
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(job(strategy).model_dump_json())
    arguments = ["--job", folder / "job.json", "--run-dir", run_dir, "--model-dir", folder / "model"]
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def events(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return [json.loads(line) for line in output.splitlines()]


def eval_losses(found):
    return [event["eval_loss"] for event in found if event["event"] == "epoch"]


@pytest.fixture(scope="module")
def single(run_dir, tmp_path_factory):
    return eval_losses(events(trainer(run_dir, tmp_path_factory.mktemp("single"), "none")))


@pytest.mark.slow
def test_two_devices(run_dir, single, tmp_path):
    found = events(trainer(run_dir, tmp_path, "mirrored", ("-c", MIRRORED)))
    assert eval_losses(found) == pytest.approx(single, rel=1e-3)
    assert found[-1]["event"] == "done"
    assert (tmp_path / "model" / "saved_model.pb").exists()


@pytest.mark.slow
def test_two_workers(run_dir, single, tmp_path):
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]}
    processes = []
    for index in (0, 1):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        processes.append(trainer(run_dir, tmp_path / str(index), "multi_worker", TF_CONFIG=config))
    chief, other = map(events, processes)
    assert eval_losses(chief) == pytest.approx(single, rel=1e-3)
    assert other == []  # reports nothing, and writes nothing
    assert (tmp_path / "0" / "model" / "saved_model.pb").exists()
    assert not (tmp_path / "1" / "model").exists()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("multi_worker", "multi_worker, and TF_CONFIG names no cluster"), ("tpu", "tpu, and no TPU is found")],
)
def test_what_a_strategy_needs(kind, expected, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ForetableError, match=rf"^model\.training\.strategy: {expected}"):
        open_strategy(kind)


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ((), None, True),
        (("worker",), ("worker", 0), True),
        (("worker",), ("worker", 1), False),
        (("chief", "worker"), ("worker", 0), False),
        (("chief", "worker"), ("chief", 0), True),
        (("workerpool0", "workerpool1"), ("workerpool0", 0), True),
        (("workerpool0", "workerpool1"), ("workerpool1", 0), False),
    ],
)
def test_the_chief(cluster, task, expected, monkeypatch):
    config = {"cluster": {name: ["host:1"] for name in cluster}}
    if task is not None:
        config["task"] = dict(zip(("type", "index"), task, strict=True))
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert is_chief() is expected
