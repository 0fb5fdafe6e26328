"""The Vertex twin's Model Registry: models, their versions and aliases, and evaluations.

https://cloud.google.com/vertex-ai/docs/model-registry/versioning and the comments of the protos say the rules.
"""

import dataclasses
import re
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from twins.vertex_filters import page_of
from twins.vertex_state import VertexTwin
from twins.vertex_wire import (
    Call,
    RefusalError,
    Route,
    as_json,
    check_folder,
    check_labels,
    check_text,
    invalid,
    missing,
    now,
)

MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
DEFAULT = "default"
FILTERED = ("model", "display_name", "labels")
INPUT_FORMATS = ["jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list"]


@dataclasses.dataclass
class Registered:
    """A model.

    Attributes:
        name: full, without a version.
        labels: the model's own, beside those of its versions.
        versions: by their ids; ids are never used again.
        count: of versions that ever were.
    """

    name: str
    display_name: str
    description: str = ""
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, v1.Model] = dataclasses.field(default_factory=dict)
    count: int = 0

    def version(self, version: str) -> v1.Model:
        """The version of an id or an alias; of an empty one, the default version."""
        for found in self.versions.values():
            if (version or DEFAULT) in (found.version_id, *found.version_aliases):
                return found
        raise missing("Model version", f"{self.name}@{version}")

    def give(self, alias: str, version: v1.Model) -> None:
        """Moves an alias to a version: each is that of one version at most."""
        for other in self.versions.values():
            other.version_aliases = [each for each in other.version_aliases if each != alias]
        version.version_aliases = [*version.version_aliases, alias]


def split_name(name: str) -> tuple[str, str]:
    """Id of the model and version or alias in a name or the last part of one; without a version, empty."""
    identity, _, version = name.rpartition("/")[2].partition("@")
    return identity, version


def find_version(twin: VertexTwin, name: str) -> v1.Model:
    """The version that a model's name means, by its id, an alias or the default."""
    identity, version = split_name(name)
    if identity not in twin.models:
        raise missing("Model", name)
    return twin.models[identity].version(version)


def _registered(twin: VertexTwin, call: Call) -> Registered:
    identity, _ = split_name(call.names["id"])
    name = twin.name(call, "models", identity)
    if identity not in twin.models:
        raise missing("Model", name)
    return twin.models[identity]


def _shown(twin: VertexTwin, registered: Registered, version: v1.Model, with_version: bool) -> v1.Model:
    shown = v1.Model(version)
    shown.name = f"{registered.name}@{version.version_id}" if with_version else registered.name
    shown.display_name, shown.description = registered.display_name, registered.description
    shown.labels = {**registered.labels, **version.labels}
    shown.deployed_models = [
        v1.DeployedModelRef(endpoint=endpoint.name, deployed_model_id=deployed.id)
        for endpoint in twin.endpoints.values()
        for deployed in endpoint.deployed_models
        if split_name(deployed.model)[0] == split_name(registered.name)[0]
        and deployed.model_version_id == version.version_id
    ]
    return shown


def upload(twin: VertexTwin, call: Call) -> Any:
    """Starts to upload a model, or a new version of one."""
    request = call.message(v1.UploadModelRequest)
    model = request.model
    check_text("model.display_name", model.display_name)
    check_labels("model.labels", model.labels)
    if not model.container_spec.image_uri:
        raise invalid("model.container_spec.image_uri", "Required field is not set.")
    for field in ("predict_route", "health_route"):
        route = getattr(model.container_spec, field)
        if route and not route.startswith("/"):
            raise invalid(f"model.container_spec.{field}", "It must start with /.")
    if model.artifact_uri:
        check_folder("model.artifact_uri", model.artifact_uri)
    for alias in model.version_aliases:
        _check_alias(alias)
    if request.parent_model:
        identity, version = split_name(request.parent_model)
        if version or identity not in twin.models:
            raise missing("Model", request.parent_model)
    else:
        identity = request.model_id or twin.new_id()
        if request.model_id and not MODEL_ID.fullmatch(identity):
            raise invalid("model_id", f"{identity!r} should match {MODEL_ID.pattern}.")
        if identity in twin.models:
            raise RefusalError("ALREADY_EXISTS", f"Model with ID {identity} already exists.")
    name = twin.name(call, "models", identity)

    def work() -> v1.UploadModelResponse:
        with twin.lock:
            registered = twin.models.setdefault(identity, Registered(name, model.display_name, model.description))
            registered.count += 1
            wanted = list(model.version_aliases)
            version = v1.Model(model)
            version.version_id, version.version_aliases = str(registered.count), []
            version.create_time = version.update_time = now()
            version.version_create_time = version.version_update_time = version.create_time
            version.supported_deployment_resources_types = ["DEDICATED_RESOURCES"]
            version.supported_input_storage_formats = INPUT_FORMATS
            version.supported_output_storage_formats = ["jsonl", "bigquery", "csv"]
            registered.versions[version.version_id] = version
            for alias in wanted if len(registered.versions) > 1 or DEFAULT in wanted else [DEFAULT, *wanted]:
                registered.give(alias, version)
            return v1.UploadModelResponse(model=name, model_version_id=version.version_id)

    return twin.operate(name, v1.UploadModelOperationMetadata(), work)


def _check_alias(alias: str) -> None:
    if not ALIAS.fullmatch(alias):
        raise invalid("version_aliases", f"Version alias {alias!r} should match {ALIAS.pattern}.")


def get(twin: VertexTwin, call: Call) -> Any:
    """Gives a version of a model, by its id, an alias or none."""
    registered, (_, version) = _registered(twin, call), split_name(call.names["id"])
    return _shown(twin, registered, registered.version(version), with_version=bool(version))


def list_models(twin: VertexTwin, call: Call) -> Any:
    """Lists models by their default versions, newest first."""
    twin.check_location(call)
    models = [_shown(twin, each, each.version(""), False) for each in reversed(list(twin.models.values()))]
    found, token = page_of(call, models, FILTERED, twin.longest_page)
    return {"models": [as_json(model) for model in found], "nextPageToken": token}


def list_versions(twin: VertexTwin, call: Call) -> Any:
    """Lists versions of a model, newest first."""
    registered = _registered(twin, call)
    versions = [_shown(twin, registered, each, True) for each in reversed(list(registered.versions.values()))]
    found, token = page_of(call, versions, ("labels",), twin.longest_page)
    return {"models": [as_json(model) for model in found], "nextPageToken": token}


def merge_aliases(twin: VertexTwin, call: Call) -> Any:
    """Gives aliases to a version, and takes those with a leading `-` from it."""
    registered, (_, wanted) = _registered(twin, call), split_name(call.names["id"])
    if not wanted:
        raise invalid("name", "The version of the model is not set.")
    version = registered.version(wanted)
    aliases = call.message(v1.MergeVersionAliasesRequest).version_aliases
    if not aliases:
        raise invalid("version_aliases", "Required field is not set.")
    for alias in aliases:
        _check_alias(alias.removeprefix("-"))
    if f"-{DEFAULT}" in aliases:
        raise invalid("version_aliases", "The default alias cannot be removed; assign it to another version.")
    with twin.lock:
        for alias in aliases:
            if not alias.startswith("-"):
                registered.give(alias, version)
        version.version_aliases = [alias for alias in version.version_aliases if f"-{alias}" not in aliases]
        version.version_update_time = version.update_time = now()
        return _shown(twin, registered, version, True)


def update(twin: VertexTwin, call: Call) -> Any:
    """Updates a model, or by a name with a version, that version; the proto's comment says which fields are whose."""
    registered, (_, wanted) = _registered(twin, call), split_name(call.names["id"])
    model, is_version = call.message(v1.Model, "model"), wanted not in ("", "-")
    version = registered.version(wanted if is_version else "")
    target = version if is_version else registered
    allowed = {"version_description", "labels"} if is_version else {"display_name", "description", "labels"}
    for path in call.mask():
        field, _, key = path.partition(".")
        if field not in allowed:
            raise RefusalError("FAILED_PRECONDITION", f"Field {path} cannot be updated on {call.names['id']}.")
        check_labels("model.labels", model.labels)
        if key:
            target.labels = {**target.labels, key: model.labels[key]}
        else:
            setattr(target, field, dict(model.labels) if field == "labels" else getattr(model, field))
    version.update_time = version.version_update_time = now()
    return _shown(twin, registered, version, is_version)


def delete(twin: VertexTwin, call: Call) -> Any:
    """Starts to delete a model with all its versions."""
    registered = _registered(twin, call)
    for version in registered.versions.values():
        _check_undeployed(twin, registered, version)

    def work() -> Any:
        twin.models.pop(split_name(registered.name)[0], None)
        return empty_pb2.Empty()

    return twin.operate(registered.name, v1.DeleteOperationMetadata(), work)


def delete_version(twin: VertexTwin, call: Call) -> Any:
    """Starts to delete a version."""
    registered, (_, wanted) = _registered(twin, call), split_name(call.names["id"])
    if not wanted.isdigit():
        raise invalid("name", "The version ID of the model is not set.")
    version = registered.version(wanted)
    _check_undeployed(twin, registered, version)
    if len(registered.versions) == 1:
        raise RefusalError("FAILED_PRECONDITION", "Deleting the only version in the Model is not allowed.")
    if DEFAULT in version.version_aliases:
        raise RefusalError("FAILED_PRECONDITION", "The default version of the Model cannot be deleted.")

    def work() -> Any:
        registered.versions.pop(version.version_id, None)
        return empty_pb2.Empty()

    return twin.operate(registered.name, v1.DeleteOperationMetadata(), work)


def _check_undeployed(twin: VertexTwin, registered: Registered, version: v1.Model) -> None:
    for deployed in _shown(twin, registered, version, True).deployed_models:
        text = (
            f'The Model "{registered.name}@{version.version_id}" is deployed or being deployed at: {deployed.endpoint}'
        )
        raise RefusalError("FAILED_PRECONDITION", text)


def import_evaluation(twin: VertexTwin, call: Call) -> Any:
    """Takes an evaluation of a model."""
    registered = _registered(twin, call)
    evaluation = call.message(v1.ImportModelEvaluationRequest).model_evaluation
    if not evaluation.metrics_schema_uri:
        raise invalid("model_evaluation.metrics_schema_uri", "Required field is not set.")
    version = registered.version(split_name(call.names["id"])[1]).version_id
    evaluation.name = f"{registered.name}@{version}/evaluations/{twin.new_id()}"
    evaluation.create_time = now()
    twin.evaluations[evaluation.name] = evaluation
    return evaluation


def list_evaluations(twin: VertexTwin, call: Call) -> Any:
    """Lists the evaluations of a version, newest first."""
    registered = _registered(twin, call)
    version = registered.version(split_name(call.names["id"])[1]).version_id
    prefix = f"{registered.name}@{version}/"
    own = [each for name, each in reversed(list(twin.evaluations.items())) if name.startswith(prefix)]
    found, token = page_of(call, own, (), twin.longest_page)
    return {"modelEvaluations": [as_json(each) for each in found], "nextPageToken": token}


MODEL = "models/(?P<id>[^/:]+)"
ROUTES: list[Route] = [
    ("POST", "models:upload", upload),
    ("GET", "models", list_models),
    ("GET", MODEL, get),
    ("GET", f"{MODEL}:listVersions", list_versions),
    ("POST", f"{MODEL}:mergeVersionAliases", merge_aliases),
    ("PATCH", MODEL, update),
    ("DELETE", MODEL, delete),
    ("DELETE", f"{MODEL}:deleteVersion", delete_version),
    ("POST", f"{MODEL}/evaluations:import", import_evaluation),
    ("GET", f"{MODEL}/evaluations", list_evaluations),
]
