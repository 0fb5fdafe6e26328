"""What a training leaves behind after each epoch, so that one that is killed goes on from there to the same weights.

A checkpoint is a folder, `epoch-00003/`: the model's and its optimizer's weights, the best epoch's weights, and
`state.json`, written last, without which the folder counts for nothing. Local, or on a custom job's mount of Cloud
Storage; see `models.mount`.
"""

import json
import pathlib
import shutil
from typing import Any

import keras
import numpy as np

from models.mount import read_folder, write_whole, written_folder

_STATE, _WEIGHTS, _BEST = "state.json", "model.weights.h5", "best.npz"


class Checkpoints(keras.callbacks.Callback):
    """Saves after each epoch, and takes up the last epoch that was saved.

    Attributes:
        history: the epochs that are done; of the callback that appends to it before this one is called.
    """

    def __init__(
        self,
        folder: str,
        definition: str,
        history: list[dict[str, Any]],
        early_stopping: keras.callbacks.EarlyStopping,
        saves: bool = True,
    ):
        """Saves nothing yet, and reads nothing.

        Args:
            folder: of the checkpoints.
            definition: of what is trained, on what: another one's checkpoints are of no use.
            early_stopping: is called before this one.
            saves: whether it is this process that saves; every one restores.
        """
        super().__init__()
        self.history = history
        self._folder = pathlib.Path(folder)
        self._definition = definition
        self._early_stopping = early_stopping
        self._saves = saves
        self._restored: dict[str, Any] | None = None

    def restore(self, model: keras.Model) -> int:
        """Puts the last checkpoint into the compiled model; returns how many epochs are done."""
        last = self._last()
        if last is None:
            return 0
        state = json.loads((last / _STATE).read_text())
        model.optimizer.build(model.trainable_variables)  # or its state would have nowhere to go
        with read_folder(last) as folder:
            model.load_weights(pathlib.Path(folder, _WEIGHTS))
            with np.load(pathlib.Path(folder, _BEST)) as best:
                state["best_weights"] = [best[name] for name in best.files]
        self.history.extend(state["history"])
        self._restored = state
        return len(self.history)

    @property
    def is_stopped(self) -> bool:
        """Whether the training that was taken up had ended early."""
        return self._restored is not None and self._restored["wait"] >= self._early_stopping.patience

    def on_train_begin(self, logs: Any = None) -> None:
        """Gives early stopping back what it knew: it begins anew with each training."""
        if self._restored is not None:
            for name in ("wait", "best", "best_epoch", "best_weights"):
                setattr(self._early_stopping, name, self._restored[name])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the epoch, and lets the one before go."""
        if not self._saves:
            return
        folder = self._folder / f"epoch-{epoch + 1:05d}"
        shutil.rmtree(folder, ignore_errors=True)
        stopping = self._early_stopping
        state = {
            "definition": self._definition,
            "history": self.history,
            "wait": stopping.wait,
            "best": float(stopping.best),
            "best_epoch": stopping.best_epoch,
        }
        with written_folder(folder, last=_STATE) as written:
            files = pathlib.Path(written)
            files.mkdir(parents=True)
            self.model.save_weights(files / _WEIGHTS)
            np.savez(files / _BEST, *stopping.best_weights)
            write_whole(files / _STATE, json.dumps(state))
        for other in self._folder.glob("epoch-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def _last(self) -> pathlib.Path | None:
        for folder in sorted(self._folder.glob("epoch-*"), reverse=True):
            state = folder / _STATE
            if state.exists() and json.loads(state.read_text())["definition"] == self._definition:
                return folder
        return None
