"""Trains and exports the job's model: `python -m models.trainer --job job.json --run-dir DIR --model-dir DIR`.

One entry for a local process and a Vertex custom job. It meets the rest in files: it reads the run directory's
`transform_output/`, `transformed_examples/` and `examples.json`, and writes a SavedModel. Progress goes to stdout, one
JSON object a line: a `resumed` event where it goes on from a checkpoint, an `epoch` event after each epoch and a `done`
event at the end, whose body can go to a file, too. The same job gives equal weights, killed and resumed or not.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import pathlib
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.framework import summary_pb2

from configs.errors import ForetableError
from configs.job import TrainedJob
from configs.modeling import Multiclass
from configs.outputs import model_outputs
from models.checkpoints import Checkpoints
from models.dataset import TransformedSplit, open_split
from models.distribution import fit_distributed, is_chief, open_strategy
from models.exporting import export_model
from models.mount import local_path, write_whole, written_folder
from models.network import build_model, model_inputs

EVAL_BATCH_ROWS = 8_192
# What `tf.summary.scalar` writes; that one needs the TensorBoard package, which only who looks at the logs needs.
_SCALAR = summary_pb2.SummaryMetadata(
    plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars"),
    data_class=summary_pb2.DATA_CLASS_SCALAR,
)


class EpochEvents(keras.callbacks.Callback):
    """Prints each epoch's losses, keeps them, logs them for TensorBoard, and stops a training that diverged.

    Attributes:
        history: the epochs so far.
    """

    def __init__(self, epochs: int, log_dir: str | None = None):
        super().__init__()
        self.history: list[dict[str, Any]] = []
        self._epochs = epochs
        self._log = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the epoch's clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Prints the event.

        Raises:
            ForetableError: a loss is not a finite number.
        """
        losses = {"loss": float(logs["loss"]), "eval_loss": float(logs["val_loss"])}
        if not all(map(math.isfinite, losses.values())):
            raise ForetableError(
                f"train: epoch {epoch + 1}: the losses are {losses}; lower model.training.learning_rate"
            )
        with self._log.as_default(epoch + 1):
            for name, value in losses.items():
                tf.summary.write(name, tf.constant(value), metadata=_SCALAR)
        self._log.flush()
        self.history.append({"epoch": epoch + 1, **losses, "seconds": round(time.monotonic() - self._started, 3)})
        if is_chief():
            print_event("epoch", epochs=self._epochs, **self.history[-1])


class EpochOrder(keras.callbacks.Callback):
    """Sets the seed of each epoch's order of rows.

    Attributes:
        seed: of the epoch that runs, a scalar.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._first = np.int64(seed) * 1_000_003  # so that two jobs' seeds do not share their epochs' orders
        with tf.device("CPU:0"):
            self.seed = tf.Variable(self._first, trainable=False, dtype=tf.int64)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets it."""
        self.seed.assign(self._first + epoch)


def train(
    job: TrainedJob, run_dir: str, model_dir: str, log_dir: str | None = None, checkpoint_dir: str | None = None
) -> dict[str, Any]:
    """Trains on the run directory's transformed examples and exports the model to `model_dir`.

    Args:
        checkpoint_dir: keeps a checkpoint of each epoch, and is where the training goes on from one that is there.

    Returns:
        Body of the `done` event.

    Raises:
        ForetableError: the run directory is not prepared, the job's model cannot be built, or the training diverged.
    """
    examples = read_examples(run_dir)
    training, task = job.model.training, job.task
    if isinstance(task, Multiclass):
        task = task.model_copy(update={"classes": tuple(examples["classes"])})
    strategy = open_strategy(training.strategy)
    keras.utils.set_random_seed(training.seed)
    transform_output = tft.TFTransformOutput(os.path.join(run_dir, "transform_output"))
    splits = {split: _open_split(split, run_dir, transform_output, job) for split in ("train", "eval")}
    build = functools.partial(build_model, transform_output, task, job.model, job.encodings, splits["train"].labels())
    with strategy.scope():
        model = build()
    events = EpochEvents(training.epochs, log_dir)
    early_stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=training.early_stopping_patience, restore_best_weights=True
    )
    checkpoints = None
    if checkpoint_dir is not None:
        definition = hashlib.sha256(f"{job.model_dump_json()}\n{examples['digest']}".encode()).hexdigest()
        checkpoints = Checkpoints(checkpoint_dir, definition, events.history, early_stopping, saves=is_chief())
    _fit(model, strategy, job, splits, events, early_stopping, checkpoints)
    if training.strategy != "none":
        weights, model = model.get_weights(), build()  # a model of replicas cannot be exported
        model.set_weights(weights)
    if is_chief():
        with written_folder(model_dir, last="saved_model.pb") as folder:
            export_model(model, transform_output, job.features, job.label, task, folder)
    classes = task.classes if isinstance(task, Multiclass) else None
    output_names = [output.name for output in model_outputs(job.label, task, classes)]
    return {
        "model_version": model_version(model, examples["transform_hash"], [*output_names, *(classes or ())]),
        "transform_hash": examples["transform_hash"],
        "parameters": int(model.count_params()),
        "epochs": len(events.history),
        "best_epoch": min(events.history, key=lambda epoch: epoch["eval_loss"])["epoch"],
        "history": events.history,
    }


def _fit(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    job: TrainedJob,
    splits: Mapping[str, TransformedSplit],
    events: EpochEvents,
    early_stopping: keras.callbacks.EarlyStopping,
    checkpoints: Checkpoints | None,
) -> None:
    """Trains the model, from the last checkpoint on if there is one; leaves it with the best epoch's weights."""
    training, callbacks, epochs_done = job.model.training, [events, early_stopping], 0
    epochs = training.epochs
    order = EpochOrder(training.seed)
    callbacks.insert(0, order)
    if checkpoints is not None:
        epochs_done = checkpoints.restore(model)
        callbacks.append(checkpoints)
        if epochs_done and is_chief():
            print_event("resumed", epoch=epochs_done, epochs=epochs)
        if checkpoints.is_stopped:
            epochs = epochs_done  # the best epoch's weights are all that is left to do
    pairs, eval_pairs = (
        each.map(lambda features, label: (model_inputs(model, features), label))
        for each in (
            splits["train"].batches(training.batch_size, order.seed, drop_remainder=training.strategy != "none"),
            splits["eval"].batches(EVAL_BATCH_ROWS),
        )
    )
    if training.strategy != "none":
        steps = splits["train"].rows() // training.batch_size
        if steps == 0:
            raise ForetableError(
                f"model.training.batch_size: {training.batch_size}, and there are {splits['train'].rows()} train rows;"
                " with a strategy, expected a whole batch"
            )
        fit_distributed(model, strategy, pairs, steps, eval_pairs, epochs, callbacks, epochs_done)
        return
    model.fit(
        pairs,
        validation_data=eval_pairs,
        initial_epoch=epochs_done,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,  # the dataset has its own
        verbose=0,
    )


def model_version(model: keras.Model, transform_hash: str, output_words: Sequence[str]) -> str:
    """What tells one model from another: 16 hex digits of the SHA-256 over weights, transform graph and outputs."""
    digest = hashlib.sha256(json.dumps([transform_hash, *output_words]).encode())
    for weights in model.get_weights():
        digest.update(f"{weights.dtype}{weights.shape}".encode())
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()[:16]


def print_event(event: str, **body: Any) -> None:
    """Prints one line of progress."""
    print(json.dumps({"event": event, **body}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the trainer and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.trainer", description=__doc__.splitlines()[0])
    parser.add_argument("--job", required=True, help="the resolved job, as JSON")
    parser.add_argument("--run-dir", required=True, help="run directory with transformed examples")
    model_dir, log_dir = os.environ.get("AIP_MODEL_DIR"), os.environ.get("AIP_TENSORBOARD_LOG_DIR")
    parser.add_argument("--model-dir", default=model_dir, required=model_dir is None, help="default: $AIP_MODEL_DIR")
    parser.add_argument("--log-dir", default=log_dir, help="TensorBoard logs; default: $AIP_TENSORBOARD_LOG_DIR")
    parser.add_argument(
        "--checkpoint-dir",
        default=os.environ.get("AIP_CHECKPOINT_DIR"),
        help="keeps a checkpoint of each epoch and goes on from one; default: $AIP_CHECKPOINT_DIR",
    )
    parser.add_argument("--result", help="file of the `done` event's body, written after everything else")
    options = parser.parse_args(arguments)
    if os.getppid() > 1:  # a container's first process has none, and its children may be given to another
        threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    tf.config.experimental.enable_op_determinism()
    try:
        done = _run(options)
    except ForetableError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if is_chief():
        print_event("done", **done)
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    job = TrainedJob.model_validate_json(pathlib.Path(local_path(options.job)).read_bytes())
    run_dir, result = local_path(options.run_dir), local_path(options.result) if options.result else None
    if result is not None and is_chief():
        pathlib.Path(result).unlink(missing_ok=True)  # what it tells of is about to be replaced
    done = train(
        job,
        run_dir,
        local_path(options.model_dir),
        local_path(options.log_dir) if options.log_dir and is_chief() else None,
        local_path(options.checkpoint_dir) if options.checkpoint_dir else None,
    )
    if result is not None and is_chief():
        write_whole(result, json.dumps({"examples": read_examples(run_dir)["digest"], **done}))
    return done


def _open_split(split: str, run_dir: str, transform_output: tft.TFTransformOutput, job: TrainedJob) -> TransformedSplit:
    return open_split(
        os.path.join(run_dir, "transformed_examples"),
        split,
        transform_output.transformed_feature_spec(),
        job.label.name,
        tf.int64 if isinstance(job.task, Multiclass) else tf.float32,
    )


def read_examples(run_dir: str) -> dict[str, Any]:
    """The marker of the run directory's `prepare` stage.

    Raises:
        ForetableError: it is not there.
    """
    path = os.path.join(run_dir, "examples.json")
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError as error:
        raise ForetableError(f"{path}: not there; run foretable prepare") from error


def _die_with_parent(parent: int) -> None:
    """Ends this process when the one that started it is gone: a rerun may be under way already."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
