"""Scoring a night with another model than its own: a person chooses a version, and the run remembers it.

The choice is a file of the run, as accepted checks are. The night's plan, predictions and table are then made with that
model, whatever became of the one that the night trained; a marker says so among what its stage read.
"""

from beam_jobs import lineage
from beam_jobs.model_registry import find_version, open_registry
from beam_jobs.night import Night, feature_types
from beam_jobs.workspace import artifacts, storage
from configs.errors import RefusedError
from configs.job import ForeignJob
from transforms.evaluation.models import why_not_comparable


def choose_model(night: Night, name: str | None) -> None:
    """Lets the night score with a version by this name, or with its own model.

    Raises:
        JobError: there is no such version.
        RefusedError: the version is not one that the night can score with.
    """
    path = night.run.file(lineage.CHOSEN_FILE)
    model = model_by_name(night, name) if name is not None else None
    own = lineage.model_of(night.run.path)
    if model is None or (own is not None and own.model_version == model.model_version):
        if storage.exists(path) and storage.read_json(path):
            storage.write_json(path, {})
            night.console.line("scoring with the night's own model again")
        return
    night.console.line(f"scoring with model {model.model_version} of {model.run_date}, in place of the night's own")
    storage.write_json(path, {"model_version": model.model_version, "run_path": model.run_path, "name": name})


def model_by_name(night: Night, name: str) -> lineage.TrainedModel:
    """The model of a version, which the night could score with.

    Raises:
        JobError: there is no such version.
        RefusedError: it was not blessed, its files are gone, or it takes or gives something else than the job does.
    """
    if isinstance(night.job, ForeignJob):
        raise RefusedError(f"--model {name}: the job is given its model; set model.saved_model to score with another")
    version = find_version(open_registry(night.job).versions(), name, night.job_file)
    if not version.blessed:
        raise RefusedError(f"--model {name}: {version} was not blessed in its night, {version.run_path}")
    model = lineage.model_of(version.run_path)
    if model is None or model.model_version != version.model_version or not _is_there(model):
        raise RefusedError(f"--model {name}: the files of {version} are not in {version.run_path} any more")
    reason = why_not_comparable(model.model_path, feature_types(night.job), artifacts.outputs_of(night.job, model))
    if reason is not None:
        raise RefusedError(f"--model {name}: {version} does not fit the job: {reason}")
    return model


def _is_there(model: lineage.TrainedModel) -> bool:
    return storage.exists(storage.join(model.model_path, "saved_model.pb"))
