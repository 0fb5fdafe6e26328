"""The versions of a job's model: where each came from, how good it was, and which one readers see.

A registry has aliases: `challenger` is the last blessed model that readers have not seen yet, `champion` the one whose
predictions they see. Without Vertex AI the registry is the workspace itself: what nights left there is the listing.
"""

import dataclasses
import datetime
import difflib
from collections.abc import Sequence
from typing import Any, Protocol

from beam_jobs import lineage
from beam_jobs.foreign_models import GivenModel, given_model
from beam_jobs.warehouses import open_warehouse
from beam_jobs.warehouses.base import NightRecord
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import MARKERS, job_folder, read_marker
from configs.errors import JobError
from configs.job import ForeignJob, Job

CHAMPION, CHALLENGER = "champion", "challenger"
_NEAREST = 3


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """A model of a job.

    Attributes:
        model_version: digest that tells it from every other model.
        run_id: of the night that trained it, or that first scored with a model which was given; as is `run_date`.
        run_path: that night's run directory.
        model_path: the SavedModel's folder.
        version: its number in the registry; empty where it is not registered.
        aliases: sorted.
        metrics: on the whole eval split of its own night; none of a model that was given.
        blessed: by its own night; None where nobody judged it.
        resource: its name on Vertex AI, `projects/…/models/ID@VERSION`.
    """

    model_version: str
    run_id: str
    run_date: datetime.date
    run_path: str
    model_path: str
    version: str = ""
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    blessed: bool | None = None
    transform_hash: str = ""
    data_fingerprint: str = ""
    resource: str | None = None

    def __str__(self) -> str:
        number = f"version {self.version}, " if self.version else ""
        return f"{number}model {self.model_version} of {self.run_date}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"run_date": self.run_date.isoformat(), "aliases": list(self.aliases)}


class ModelRegistry(Protocol):
    """Where the versions of a job's model are kept."""

    def register(self, model: ModelVersion) -> ModelVersion:
        """Adds a model as `challenger`, unless it is there; returns it as the registry has it."""

    def promote(self, model_version: str) -> ModelVersion | None:
        """Moves the alias `champion` to a model, which is no challenger any more; None where it is not registered."""

    def versions(self) -> list[ModelVersion]:
        """Every version, newest first."""


class WorkspaceRegistry:
    """A `ModelRegistry` that is read from run directories; its numbers are in the order of training."""

    def __init__(self, job: Job):
        self._job = job

    def register(self, model: ModelVersion) -> ModelVersion:
        """Nothing to do: the run directory is the entry."""
        return next((each for each in self.versions() if each.model_version == model.model_version), model)

    def promote(self, model_version: str) -> ModelVersion | None:
        """Nothing to do: what the warehouse shows is the champion."""
        return next((each for each in self.versions() if each.model_version == model_version), None)

    def versions(self) -> list[ModelVersion]:
        """Every model that a night trained, or of which a night made predictions, newest first."""
        found = workspace_models(self._job)
        records = open_warehouse(self._job).runs(self._job.name)
        champion = next((record.model_version for record in records if record.is_current), None)
        seen = {record.model_version for record in records}
        newest = next((model.model_version for model in reversed(found) if model.blessed), None)
        aliases = {CHALLENGER: newest if newest not in seen else None, CHAMPION: champion}
        return [
            dataclasses.replace(
                model,
                version=str(number),
                aliases=tuple(sorted(alias for alias, at in aliases.items() if at == model.model_version)),
            )
            for number, model in enumerate(found, 1)
        ][::-1]


def open_registry(job: Job) -> ModelRegistry:
    """The registry that the job file asks for."""
    if job.vertex is None:
        return WorkspaceRegistry(job)
    from beam_jobs.vertex.registry import VertexRegistry

    return VertexRegistry(job)


def find_version(versions: Sequence[ModelVersion], name: str, job_file: str) -> ModelVersion:
    """The version by its number, one of its aliases, or its model's digest.

    Raises:
        JobError: there is none; names the nearest.
    """
    named: dict[str, ModelVersion] = {}
    for version in versions:
        named |= dict.fromkeys((version.version, *version.aliases, version.model_version), version)
    named.pop("", None)  # of what is not registered
    if name in named:
        return named[name]
    known = list(named)
    if not known:
        raise JobError(f"--model {name}: there is no model yet; run `foretable run {job_file}`")
    near = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.4) or known[:_NEAREST]
    raise JobError(f"--model {name}: no such version; nearest: {', '.join(near)}; see `foretable models {job_file}`")


def workspace_models(job: Job) -> list[ModelVersion]:
    """The models of a job's nights in the order in which they were made, each once; of none is told its number."""
    folder = job_folder(job)
    if isinstance(job, ForeignJob):
        markers = storage.list_files(folder, f"*/*/{MARKERS['precompute']}")
        made = storage.for_each(lambda path: _of_marker(job, path, read_marker(path)), markers)
    else:
        trained = {model.run_path: model for model in lineage.trained_models(folder)}
        versions = storage.for_each(lambda run_path: trained_version(trained[run_path]), list(trained))
        made = [(trained[version.run_path].finished_at, version) for version in versions]
    first: dict[str, ModelVersion] = {}
    for _, model in sorted(made, key=lambda entry: entry[0]):
        known = first.get(model.model_version)
        if known is None or (
            model.blessed and not known.blessed
        ):  # another night may make the same model, and bless it
            first[model.model_version] = model
    return list(first.values())


def trained_version(model: lineage.TrainedModel, metrics: dict[str, Any] | None = None) -> ModelVersion:
    """A model that a night trained, with what that night found of it.

    Args:
        metrics: of a night that has just blessed it, and has not committed that yet.
    """
    path = storage.join(model.run_path, MARKERS["evaluate"])
    blessed: bool | None = True if metrics is not None else None
    if metrics is None and storage.exists(path):
        blessing = read_marker(path)
        if blessing.get("model_version", model.model_version) == model.model_version:
            blessed, metrics = blessing["blessed"], blessing.get("metrics")
    return ModelVersion(
        model_version=model.model_version,
        run_id=model.run_id,
        run_date=model.run_date,
        run_path=model.run_path,
        model_path=model.model_path,
        metrics={name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)},
        blessed=blessed,
        transform_hash=model.transform_hash,
        data_fingerprint=model.data_fingerprint,
    )


def given_version(model: GivenModel, run_path: str) -> ModelVersion:
    """The model that a job is given, as the run at `run_path` scores with it."""
    return _of_run(model.model_version, run_path, model.model_path)


def follow_readers(job: Job, record: NightRecord) -> ModelVersion | None:
    """Makes the model of the night that readers see the champion on Vertex AI; registers it first if need be.

    None without Vertex AI, where the listing follows by itself, and where the night's model is gone from the workspace.
    """
    if job.vertex is None:
        return None
    registry = open_registry(job)
    promoted = registry.promote(record.model_version)
    if promoted is None and (model := _published_version(job, record)) is not None:
        registry.register(model)
        promoted = registry.promote(record.model_version)
    return promoted


def _published_version(job: Job, record: NightRecord) -> ModelVersion | None:
    if isinstance(job, ForeignJob):
        given = given_version(given_model(job), record.run_dir)
        return given if given.model_version == record.model_version else None
    model = lineage.published_model(record.run_dir, record.model_version)
    return trained_version(model) if model is not None else None


def _of_marker(job: ForeignJob, path: str, marker: dict[str, Any]) -> tuple[str, ModelVersion]:
    """When precompute had ended, and the model that it scored with."""
    model_version = str(marker["manifest"]["model_version"])
    return str(marker["finished_at"]), _of_run(model_version, path.rpartition("/")[0], job.model.saved_model)


def _of_run(model_version: str, run_path: str, model_path: str) -> ModelVersion:
    run_date, run_id = run_path.split("/")[-2:]
    return ModelVersion(model_version, run_id, datetime.date.fromisoformat(run_date), run_path, model_path)
