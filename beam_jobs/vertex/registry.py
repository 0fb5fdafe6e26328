"""The job's model in Vertex AI's Model Registry: one parent model, a version for each model that was blessed.

A version is found again by its label, so registering twice makes one. Labels hold no decimal numbers: metrics are in
the version's description, for people and for `foretable models`, and in an imported evaluation, for Vertex's console.
"""

import datetime
import json
import math
import re

from google.api_core.exceptions import Conflict, NotFound
from google.cloud.aiplatform_v1 import types

from beam_jobs.foreign_models import GivenModel
from beam_jobs.lineage import TrainedModel
from beam_jobs.model_registry import CHALLENGER, CHAMPION, ModelVersion, given_version, trained_version
from beam_jobs.night import Night
from beam_jobs.vertex.artifact import FOLDER, TEXT, place_artifact
from beam_jobs.vertex.evaluations import model_evaluation
from beam_jobs.vertex.names import job_label, resource_id
from beam_jobs.vertex.operations import make_once, result_of, wait_for_pending
from beam_jobs.vertex.service import VertexService, idempotent, once
from beam_jobs.vertex.serving_container import artifact_uri, container_spec
from beam_jobs.workspace import storage
from configs.errors import RefusedError
from configs.job import ForeignJob, Job

UPLOAD_SECONDS = 1800.0
"""Vertex copies the container's image when a version is uploaded."""
_DEFAULT = "default"
_LABEL_DIGITS = 32  # of a digest; a label holds 63 characters
METRIC = re.compile(r"\b(\w+)=(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?=[.,;)]?(?:\s|$))")
"""A metric in a version's description, which people may edit: only what is a JSON number to its end."""


class VertexRegistry:
    """A `ModelRegistry` on Vertex AI."""

    def __init__(self, job: Job, service: VertexService | None = None):
        """Calls nothing yet."""
        assert job.vertex is not None, job.name
        self._job, self._vertex = job, job.vertex
        self._service = service or VertexService.of(job)
        self.name = f"{self._service.parent}/models/{resource_id(job)}"

    def register(self, model: ModelVersion) -> ModelVersion:
        """Uploads the model as a version, unless one has its label; imports its metrics.

        Raises:
            ForetableError: Vertex refused, or did not answer.
        """
        found = self._find(model.model_version) or self._upload(model)
        self._import_evaluation(found, model)
        return found

    def promote(self, model_version: str) -> ModelVersion | None:
        """Moves `champion` and `default` to the version of this model: what has no version in its name means it too."""
        found = self._find(model_version)
        if found is None or ({CHAMPION, _DEFAULT} <= set(found.aliases) and CHALLENGER not in found.aliases):
            return found
        changes = [CHAMPION, _DEFAULT, *([f"-{CHALLENGER}"] if CHALLENGER in found.aliases else [])]
        with self._service.explained(f"move the alias {CHAMPION} to {found.resource}", "aiplatform.models.update"):
            moved = self._service.models.merge_version_aliases(
                name=found.resource, version_aliases=changes, **idempotent()
            )
        return self._version(moved)

    def versions(self) -> list[ModelVersion]:
        """Every version, newest first."""
        return self._list()

    def _find(self, model_version: str) -> ModelVersion | None:
        """The version of this model; the first, should two processes have uploaded it at once."""
        found = self._list(f'labels.foretable_model_version="{model_version}"')
        return next((version for version in reversed(found) if version.model_version == model_version), None)

    def _list(self, filter_text: str = "") -> list[ModelVersion]:
        request = types.ListModelVersionsRequest(name=self.name, filter=filter_text)
        with self._service.explained(f"list the versions of {self.name}", "aiplatform.models.list"):
            try:
                found = list(self._service.models.list_model_versions(request=request, **idempotent()))
            except NotFound:  # no model was registered yet
                return []
        ours = [model for model in found if "foretable_model_version" in model.labels]
        return [self._version(model) for model in sorted(ours, key=lambda model: -int(model.version_id))]

    def _upload(self, model: ModelVersion) -> ModelVersion:
        message, doing = self._message(model), f"register {model} in {self.name}"

        def upload() -> ModelVersion:
            operation = self._service.models.upload_model(request=self._request(message), **once())
            made = result_of(operation, doing, UPLOAD_SECONDS)
            name = f"{made.model.partition('@')[0]}@{made.model_version_id}"
            return self._version(self._service.models.get_model(name=name, **idempotent()))

        def look() -> ModelVersion | None:
            wait_for_pending(self._service.models, self.name, doing, UPLOAD_SECONDS)
            return self._find(model.model_version)

        with self._service.explained(doing, "aiplatform.models.upload"):
            # A killed process may have begun it, and the parent model may be made after it was looked for.
            return look() or make_once(upload, look, (Conflict,))

    def _message(self, model: ModelVersion) -> types.Model:
        signature = self._job.model.signature if isinstance(self._job, ForeignJob) else TEXT
        folder = place_artifact(model.model_path, model.run_path, model.model_version, signature)
        return types.Model(
            display_name=resource_id(self._job),
            description=self._job.description,
            version_description=describe(model),
            version_aliases=[CHALLENGER],
            artifact_uri=artifact_uri(self._vertex.serving, folder),
            container_spec=container_spec(self._vertex.serving),
            labels=self._vertex.labels | version_labels(self._job, model),
        )

    def _request(self, message: types.Model) -> types.UploadModelRequest:
        """Of a first version, which makes the parent model, or of a further one."""
        request = types.UploadModelRequest(
            parent=self._service.parent, model=message, service_account=self._vertex.service_account or ""
        )
        try:
            self._service.models.get_model(name=self.name, **idempotent())
        except NotFound:
            request.model_id = resource_id(self._job)
        else:
            request.parent_model = self.name
        return request

    def _import_evaluation(self, version: ModelVersion, model: ModelVersion) -> None:
        """The metrics as an evaluation, of which a version has one."""
        if not model.metrics:
            return
        client, name, evaluation = self._service.models, version.resource, model_evaluation(self._job, model)

        def look() -> types.ModelEvaluation | None:
            return next(iter(client.list_model_evaluations(parent=name, **idempotent())), None)

        with self._service.explained(f"import the metrics of {name}", "aiplatform.modelEvaluations.import"):
            if look() is None:
                make_once(
                    lambda: client.import_model_evaluation(parent=name, model_evaluation=evaluation, **once()), look
                )

    def _version(self, model: types.Model) -> ModelVersion:
        job, labels = self._job, model.labels
        run_path = model.artifact_uri.partition(f"/{FOLDER}/")[0]
        return ModelVersion(
            model_version=labels["foretable_model_version"],
            run_id=labels["foretable_run_id"],
            run_date=datetime.date.fromisoformat(labels["foretable_run_date"]),
            run_path=run_path,
            model_path=job.model.saved_model if isinstance(job, ForeignJob) else storage.join(run_path, "model"),
            version=model.version_id,
            aliases=tuple(sorted(model.version_aliases)),
            metrics={name: json.loads(number) for name, number in METRIC.findall(model.version_description)},
            blessed=None if isinstance(job, ForeignJob) else True,
            transform_hash=labels.get("foretable_transform_hash", ""),
            data_fingerprint=labels.get("foretable_data_fingerprint", ""),
            resource=f"{self.name}@{model.version_id}",
        )


def describe(model: ModelVersion) -> str:
    """A version in a line: which night made it, and its metrics, which are read back from here."""
    metrics = " ".join(f"{name}={value!r}" for name, value in model.metrics.items() if math.isfinite(value))
    return f"Night of {model.run_date}, run {model.run_id}, model {model.model_version}. {metrics}".rstrip()


def version_labels(job: Job, model: ModelVersion) -> dict[str, str]:
    """Labels of a version: where it came from; a digest longer than a label by its first digits."""
    labels = {
        "foretable_job": job_label(job.name),
        "foretable_step": "evaluate",
        "foretable_run_id": model.run_id,
        "foretable_run_date": model.run_date.isoformat(),
        "foretable_model_version": model.model_version,
        "foretable_transform_hash": model.transform_hash[:_LABEL_DIGITS],
        "foretable_data_fingerprint": model.data_fingerprint[:_LABEL_DIGITS],
    }
    return {name: value for name, value in labels.items() if value}


def registered_version(night: Night, model: TrainedModel | GivenModel) -> str:
    """Name of the model that the night scores with in the registry of its job, `projects/…/models/ID@VERSION`.

    It is registered if need be: a model that the job is given, when something first needs it there.

    Raises:
        RefusedError: it is not blessed, or was not judged yet.
        ForetableError: Vertex refused, or did not answer.
    """
    version = given_version(model, night.run.path) if isinstance(model, GivenModel) else _blessed_version(night, model)
    resource = VertexRegistry(night.job).register(version).resource
    assert resource is not None, version
    return resource


def _blessed_version(night: Night, model: TrainedModel) -> ModelVersion:
    version = trained_version(model)
    if version.blessed is None:  # registered now, it would be a challenger whatever becomes of it
        raise RefusedError(
            f"{version} was not judged yet, and only blessed models are registered;"
            f" run `foretable evaluate {night.job_file} --date {version.run_date}` first"
        )
    if not version.blessed:
        raise RefusedError(f"{version} is not blessed, and no other models are registered")
    return version
