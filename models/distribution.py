"""Training on several replicas: which `tf.distribute` strategy, who is the chief, and the loop that runs under it.

The loop is our own. Keras 3's `fit` cannot run under a MultiWorkerMirroredStrategy: it reduces the first batch across
workers on the host to build the model, and fails. What it calls at each epoch are Keras's callbacks.
"""

import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.errors import ForetableError
from configs.training import Strategy


def open_strategy(kind: Strategy) -> tf.distribute.Strategy:
    """The strategy of a job's `model.training.strategy`; has to be the first thing that TensorFlow is asked for.

    Raises:
        ForetableError: what it needs is not there: `TF_CONFIG` for several workers, or a TPU.
    """
    if kind == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if kind == "multi_worker":
        if "cluster" not in _cluster():
            raise ForetableError(
                "model.training.strategy: multi_worker, and TF_CONFIG names no cluster;"
                " a Vertex custom job of several replicas sets it"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu="local")
        except (ValueError, tf.errors.OpError) as error:
            raise ForetableError(
                f"model.training.strategy: tpu, and no TPU is found: {str(error).splitlines()[0]}"
            ) from error
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this process reports, and writes the model: alone it does, and of several workers the first.

    Vertex names the first replica `chief` where the pools say so, and `workerpool0` otherwise.
    https://cloud.google.com/vertex-ai/docs/training/distributed-training
    """
    task = _cluster().get("task", {})
    return task.get("type", "chief") in ("chief", "workerpool0") or (
        task["type"] == "worker" and task["index"] == 0 and "chief" not in _cluster().get("cluster", {})
    )


def _cluster() -> dict[str, Any]:
    return dict(json.loads(os.environ.get("TF_CONFIG") or "{}"))


def fit_distributed(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    batches: tf.data.Dataset,
    steps: int,
    eval_batches: tf.data.Dataset,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    initial_epoch: int = 0,
) -> None:
    """Trains as `keras.Model.fit` does, each batch shared out among the replicas.

    Args:
        model: compiled, made in the strategy's scope.
        batches: features and labels, `[batch_size, …]`: the batch of all replicas together, and each of this size.
        steps: batches of an epoch.
        eval_batches: of any size; every worker evaluates all of them, which takes no talk between them.
        callbacks: are called at the train's begin and end, and at each epoch's, with the logs `loss` and `val_loss`.
    """
    calls = keras.callbacks.CallbackList(list(callbacks), model=model)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)  # a step may make no variables of several replicas
    train, evaluate = _train_step(model, strategy), _evaluate_step(model)
    # Endless, because TensorFlow asks all workers before each batch of a finite dataset whether there is one left.
    shared = strategy.experimental_distribute_dataset(_by_rows(batches.repeat()))
    model.stop_training = False
    calls.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        calls.on_epoch_begin(epoch)
        losses = [train(*pair) for pair in itertools.islice(shared, steps)]
        calls.on_epoch_end(epoch, {"loss": float(np.mean(losses)), "val_loss": _mean_loss(evaluate, eval_batches)})
        if model.stop_training:
            break
    calls.on_train_end()


def _by_rows(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Every worker reads all files and takes its share of each batch: there may be fewer files than workers."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def _train_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Any:
    def replica_step(features: Any, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # The mean over this replica's rows, divided by the number of replicas: their sum is the batch's mean.
            loss = model.compute_loss(features, labels, model(features, training=True))
        variables = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    @tf.function(reduce_retracing=True)
    def step(features: Any, labels: Any) -> tf.Tensor:
        losses = strategy.run(replica_step, args=(features, labels))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    return step


def _evaluate_step(model: keras.Model) -> Any:
    @tf.function(reduce_retracing=True)
    def step(features: Any, labels: tf.Tensor) -> tf.Tensor:
        return model.compute_loss(features, labels, model(features, training=False))

    return step


def _mean_loss(step: Any, batches: tf.data.Dataset) -> float:
    """Over all rows."""
    losses = [(float(step(features, labels)), len(labels)) for features, labels in batches]
    return sum(loss * rows for loss, rows in losses) / sum(rows for _, rows in losses)
