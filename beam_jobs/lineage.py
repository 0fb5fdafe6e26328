"""Which models earlier nights of a job left behind, and whether a new one is due."""

import dataclasses
import datetime

from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, read_marker
from configs.errors import RefusedError
from configs.job import TrainedJob

CHOSEN_FILE = "chosen_model.json"
"""In a run directory: the model that a person chose for the night, in place of the one that it trained or took over."""


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model that a night trained.

    Attributes:
        run_path: that night's run directory, which has `model/` and `transform_output/`.
        transform_hash: of the transform graph that it goes with.
        data_fingerprint: of the sources that it was trained on; empty where the night that trained it kept none.
        finished_at: when its training had ended, ISO 8601.
    """

    run_id: str
    run_date: datetime.date
    run_path: str
    model_version: str
    transform_hash: str
    definition: str
    classes: tuple[str, ...] | None
    data_fingerprint: str = ""
    finished_at: str = ""

    @property
    def model_path(self) -> str:
        """The SavedModel's folder."""
        return storage.join(self.run_path, "model")

    @property
    def transform_path(self) -> str:
        """The transform graph's folder."""
        return storage.join(self.run_path, "transform_output")


def model_definition(job: TrainedJob) -> str:
    """Digest of what makes another model: features, label, task, preprocessing, network, training."""
    fields = {"features", "columns", "crosses", "preprocessing_fn", "label", "task", "model"}
    tree = job.model_dump(mode="json", include=fields)
    for name in ("every", *job.model.training.ELSEWHERE):
        tree["model"]["training"].pop(name, None)
    return storage.digest_of(tree)


def model_of(run_path: str) -> TrainedModel | None:
    """The model that the run at `run_path` trained or took over; None before its train stage."""
    path = storage.join(run_path, "training.json")
    if not storage.exists(path):
        return None
    training = read_marker(path)
    if training["trained_in"] != run_path:
        return model_of(training["trained_in"])
    return TrainedModel(
        run_id=training["run_id"],
        run_date=datetime.date.fromisoformat(training["run_date"]),
        run_path=run_path,
        model_version=training["model_version"],
        transform_hash=training["transform_hash"],
        definition=training["definition"],
        classes=tuple(training["classes"]) if training["classes"] else None,
        data_fingerprint=training.get("data_fingerprint", ""),
        finished_at=training["finished_at"],
    )


def chosen_model(run_path: str) -> TrainedModel | None:
    """The model that a person chose for the run; None where it scores with its own.

    Raises:
        RefusedError: it is not there any more.
    """
    path = storage.join(run_path, CHOSEN_FILE)
    chosen = storage.read_json(path) if storage.exists(path) else {}
    if not chosen:
        return None
    model = model_of(chosen["run_path"])
    if model is None or model.model_version != chosen["model_version"]:
        raise RefusedError(
            f"{path}: model {chosen['model_version']} is not in {chosen['run_path']} any more; "
            "run `foretable precompute` with or without --model to choose again"
        )
    return model


def trained_models(job_folder: str) -> list[TrainedModel]:
    """Every model that a night of the job trained, by the night's date; the same one twice where two nights made it."""
    runs = [path.rpartition("/")[0] for path in storage.list_files(job_folder, "*/*/training.json")]
    found = storage.for_each(model_of, runs)
    return list({model.run_path: model for model in found if model is not None}.values())


def published_model(run_path: str, model_version: str) -> TrainedModel | None:
    """The model of this version that the run's table comes from: its own, or an earlier one; None if it is gone."""
    own = model_of(run_path)
    if own is not None and own.model_version == model_version:
        return own
    job_folder = run_path.rsplit("/", 2)[0]
    return next((model for model in trained_models(job_folder) if model.model_version == model_version), None)


def last_blessed_model(job_folder: str, before: RunDirectory | None = None) -> TrainedModel | None:
    """The newest blessed model of the job, not counting the run `before` itself and later dates."""
    for path in sorted(storage.list_files(job_folder, "*/*/blessing.json"), reverse=True):
        run_path = path.rpartition("/")[0]
        run_date = datetime.date.fromisoformat(run_path.split("/")[-2])
        if before is not None and (run_path == before.path or run_date > before.run_date):
            continue
        if read_marker(path)["blessed"]:
            return model_of(run_path)
    return None


def trained_tonight(run: RunDirectory) -> bool:
    """Whether the run has trained a model of its own."""
    model = model_of(run.path)
    return model is not None and model.run_path == run.path


def published_nights(run: RunDirectory, count: int) -> list[RunDirectory]:
    """The last nights before the run's date that were published, newest first; of a date, the last one published."""
    by_date: dict[datetime.date, list[str]] = {}
    for path in storage.list_files(run.job_folder, "*/*/published.json"):
        run_date = datetime.date.fromisoformat(path.split("/")[-3])
        if run_date < run.run_date:
            by_date.setdefault(run_date, []).append(path)
    nights = []
    for run_date in sorted(by_date, reverse=True)[:count]:
        last = max(by_date[run_date], key=lambda path: str(read_marker(path)["finished_at"]))
        nights.append(RunDirectory(run.job_folder, run_date, last.split("/")[-2]))
    return nights


def model_to_reuse(job: TrainedJob, run: RunDirectory, train_now: bool = False) -> TrainedModel | None:
    """The earlier model that tonight scores with, or None where training is due.

    Where training is due on drift, it is the model that drift is measured from, and `prepare` has the last word.

    Raises:
        RefusedError: training is manual and there is no blessed model that fits the job.
    """
    every, every_days = job.model.training.every, job.model.training.every_days
    if train_now or every_days == 0 or trained_tonight(run):
        return None
    last = last_blessed_model(run.job_folder, before=run)
    fits = last is not None and last.definition == model_definition(job)
    if every == "manual":
        if not fits:
            what = (
                "no blessed model" if last is None else "the last blessed model was made by other features or settings"
            )
            raise RefusedError(
                f"model.training.every is manual and there is {what}; run `foretable train` for this job"
            )
        return last
    if last is None or not fits:
        return None
    return last if every_days is None or (run.run_date - last.run_date).days < every_days else None
