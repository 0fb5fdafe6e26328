"""A SavedModel that somebody else made, as a night sees it: a folder that is only read, known by its files' digest."""

import dataclasses
import hashlib
import pathlib

from beam_jobs.workspace import storage
from configs.errors import RefusedError
from configs.job import ForeignJob

# TensorFlow writes another one for each export, of the same model too.
_NOT_THE_MODEL = "fingerprint.pb"


@dataclasses.dataclass(frozen=True)
class GivenModel:
    """The model of a `ForeignJob`; beside `lineage.TrainedModel`.

    Attributes:
        model_version: digest of its files.
        transform_hash: empty: it brings no transform graph.
    """

    model_path: str
    model_version: str
    transform_hash: str = ""


def given_model(job: ForeignJob) -> GivenModel:
    """The model as it lies there now.

    Raises:
        RefusedError: there is none.
    """
    return GivenModel(job.model.saved_model, _version(job.model.saved_model))


def check_unchanged(model: GivenModel) -> None:
    """Proves that what was scored is the model that the table is going to name.

    Raises:
        RefusedError: somebody replaced its files meanwhile.
    """
    if _version(model.model_path) != model.model_version:
        raise RefusedError(f"model.saved_model: {model.model_path!r}: changed while it was scored; run again")


def _version(folder: str) -> str:
    """What tells one model from another: 16 hex digits of the SHA-256 over names and contents of its files."""
    if not storage.exists(storage.join(folder, "saved_model.pb")):
        raise RefusedError(f"model.saved_model: {folder!r}: no saved_model.pb there; expected a SavedModel's folder")
    digest = hashlib.sha256()
    with storage.local_copy(folder) as local:
        for path in sorted(path for path in pathlib.Path(local).rglob("*") if path.is_file()):
            name = path.relative_to(local).as_posix()
            if name != _NOT_THE_MODEL:
                with path.open("rb") as file:
                    digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()[:16]
