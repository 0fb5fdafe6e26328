"""The Vertex twin's endpoints: deployed models, how traffic is split between them, and predictions."""

import base64
import json
import random
import re
from collections.abc import Mapping
from typing import Any

from google.api import httpbody_pb2
from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2, json_format

from twins.vertex_filters import page_of
from twins.vertex_instances import as_doubles
from twins.vertex_models import find_version, split_name
from twins.vertex_state import VertexTwin
from twins.vertex_wire import (
    Call,
    RawReply,
    RefusalError,
    Route,
    as_json,
    check_labels,
    check_text,
    invalid,
    missing,
    now,
)

ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
FILTERED = ("endpoint", "display_name", "labels")
SELF = "0"  # in a traffic split, the model that is being deployed


def _endpoint(twin: VertexTwin, call: Call) -> v1.Endpoint:
    name = twin.name(call, "endpoints", call.names["id"])
    if name not in twin.endpoints:
        raise missing("Endpoint", name)
    return twin.endpoints[name]


def check_split(split: Mapping[str, int], deployed: set[str]) -> None:
    """Refuses a traffic split that names other models or does not add up to 100."""
    if split and sum(split.values()) != 100:
        raise invalid("traffic_split", f"Traffic split percentages must add up to 100, found {sum(split.values())}.")
    if any(not 0 <= share <= 100 for share in split.values()):
        raise invalid("traffic_split", "Traffic split percentages must be between 0 and 100.")
    if unknown := set(split) - deployed:
        raise invalid("traffic_split", f"DeployedModel {min(unknown)} is not deployed to the Endpoint.")


def create(twin: VertexTwin, call: Call) -> Any:
    """Starts to make an endpoint."""
    endpoint = call.message(v1.Endpoint, "endpoint")
    check_text("endpoint.display_name", endpoint.display_name)
    check_labels("endpoint.labels", endpoint.labels)
    wanted = call.parameter("endpointId")
    if wanted and not ENDPOINT_ID.fullmatch(wanted):
        raise invalid("endpoint_id", f"{wanted!r} should match {ENDPOINT_ID.pattern}.")
    if endpoint.traffic_split or endpoint.deployed_models:
        raise invalid("endpoint.traffic_split", "It cannot be set before a model is deployed.")
    name = twin.name(call, "endpoints", wanted or twin.new_id())
    if name in twin.endpoints:
        raise RefusalError("ALREADY_EXISTS", f"Endpoint with ID {wanted} already exists.")

    def work() -> v1.Endpoint:
        endpoint.name, endpoint.create_time, endpoint.update_time = name, now(), now()
        return twin.endpoints.setdefault(name, endpoint)

    return twin.operate(name, v1.CreateEndpointOperationMetadata(), work)


def get(twin: VertexTwin, call: Call) -> Any:
    """Gives an endpoint."""
    return _endpoint(twin, call)


def list_endpoints(twin: VertexTwin, call: Call) -> Any:
    """Lists endpoints, newest first."""
    twin.check_location(call)
    found, token = page_of(call, list(reversed(list(twin.endpoints.values()))), FILTERED, twin.longest_page)
    return {"endpoints": [as_json(endpoint) for endpoint in found], "nextPageToken": token}


def update(twin: VertexTwin, call: Call) -> Any:
    """Updates an endpoint."""
    endpoint, wanted = _endpoint(twin, call), call.message(v1.Endpoint, "endpoint")
    for path in call.mask():
        if path not in ("display_name", "description", "labels", "traffic_split"):
            raise invalid("update_mask", f"Field {path} cannot be updated.")
        if path == "traffic_split":
            check_split(wanted.traffic_split, {deployed.id for deployed in endpoint.deployed_models})
        if path == "labels":
            check_labels("endpoint.labels", wanted.labels)
        value = getattr(wanted, path)
        setattr(endpoint, path, dict(value) if path in ("labels", "traffic_split") else value)
    endpoint.update_time = now()
    return endpoint


def delete(twin: VertexTwin, call: Call) -> Any:
    """Starts to delete an endpoint, which has to be empty."""
    endpoint = _endpoint(twin, call)
    if endpoint.deployed_models:
        text = f'Endpoint "{endpoint.name}" has deployed or being-deployed DeployedModel(s): '
        raise RefusalError("FAILED_PRECONDITION", text + ", ".join(each.id for each in endpoint.deployed_models))

    def work() -> Any:
        twin.endpoints.pop(endpoint.name, None)
        return empty_pb2.Empty()

    return twin.operate(endpoint.name, v1.DeleteOperationMetadata(), work)


def deploy(twin: VertexTwin, call: Call) -> Any:
    """Starts to deploy a version of a model, which is loaded before it is deployed."""
    endpoint, request = _endpoint(twin, call), call.message(v1.DeployModelRequest)
    deployed, resources = request.deployed_model, request.deployed_model.dedicated_resources
    version = find_version(twin, deployed.model)
    if not resources.machine_spec.machine_type:
        raise invalid("deployed_model.dedicated_resources.machine_spec.machine_type", "Required field is not set.")
    if resources.min_replica_count < 1:
        raise invalid("deployed_model.dedicated_resources.min_replica_count", "It must be at least 1.")
    if resources.max_replica_count and resources.max_replica_count < resources.min_replica_count:
        raise invalid("deployed_model.dedicated_resources.max_replica_count", "It must be at least the minimum.")
    present = {each.id for each in endpoint.deployed_models}
    if deployed.id and not re.fullmatch("[0-9]{1,10}", deployed.id):
        raise invalid("deployed_model.id", f"{deployed.id!r} should be 1 to 10 digits.")
    if deployed.id in present:
        raise RefusalError("ALREADY_EXISTS", f"DeployedModel with ID {deployed.id} already exists.")
    check_split(request.traffic_split, present | {SELF})
    identity = deployed.id or twin.new_id()

    def work() -> v1.DeployModelResponse:
        twin.serving.load(version)
        with twin.lock:
            deployed.id, deployed.create_time = identity, now()
            deployed.model = f"{endpoint.name.partition('/endpoints/')[0]}/models/{split_name(deployed.model)[0]}"
            deployed.model_version_id = version.version_id
            deployed.display_name = deployed.display_name or version.display_name
            endpoint.deployed_models.append(deployed)
            if request.traffic_split:
                split = {identity if key == SELF else key: share for key, share in request.traffic_split.items()}
                endpoint.traffic_split = split
            endpoint.update_time = now()
            return v1.DeployModelResponse(deployed_model=deployed)

    return twin.operate(endpoint.name, v1.DeployModelOperationMetadata(), work)


def undeploy(twin: VertexTwin, call: Call) -> Any:
    """Starts to undeploy a model, which may not have traffic by then, unless it is the last one."""
    endpoint, request = _endpoint(twin, call), call.message(v1.UndeployModelRequest)
    left = [each for each in endpoint.deployed_models if each.id != request.deployed_model_id]
    if len(left) == len(endpoint.deployed_models):
        raise missing("DeployedModel", request.deployed_model_id)
    split = dict(request.traffic_split or endpoint.traffic_split) if left else {}
    if split.get(request.deployed_model_id):
        text = f"DeployedModel {request.deployed_model_id} still has traffic; unassign it before it is undeployed."
        raise RefusalError("FAILED_PRECONDITION", text)
    split.pop(request.deployed_model_id, None)
    check_split(split, {each.id for each in left})

    def work() -> v1.UndeployModelResponse:
        with twin.lock:
            endpoint.deployed_models, endpoint.traffic_split, endpoint.update_time = left, split, now()
        return v1.UndeployModelResponse()

    return twin.operate(endpoint.name, v1.UndeployModelOperationMetadata(), work)


def _chosen(twin: VertexTwin, call: Call) -> v1.DeployedModel:
    endpoint = _endpoint(twin, call)
    split = {key: share for key, share in endpoint.traffic_split.items() if share}
    if not split:
        raise RefusalError("FAILED_PRECONDITION", f"Endpoint {endpoint.name} doesn't have traffic_split.")
    identity = random.choices(list(split), list(split.values()))[0]
    return next(each for each in endpoint.deployed_models if each.id == identity)


def _served(twin: VertexTwin, deployed: v1.DeployedModel, body: bytes) -> bytes:
    version = find_version(twin, f"{deployed.model}@{deployed.model_version_id}")
    status, answer = twin.serving.predict(version, body)
    if status != 200:
        raise RefusalError("INVALID_ARGUMENT" if status == 400 else "INTERNAL", answer.decode())
    return answer


def predict(twin: VertexTwin, call: Call) -> Any:
    """Answers instances, which travel as protobuf values: every number is a double on its way in and out."""
    request = call.message(v1.PredictRequest)
    if not request.instances:
        raise invalid("instances", "Required field is not set.")
    deployed = _chosen(twin, call)
    values = v1.PredictRequest.pb(request).instances
    instances = as_doubles([json_format.MessageToDict(value) for value in values])
    answer = json.loads(_served(twin, deployed, json.dumps({"instances": instances}).encode()))
    response = v1.PredictResponse.pb(v1.PredictResponse())
    for prediction in answer["predictions"]:
        json_format.ParseDict(prediction, response.predictions.add())
    response.deployed_model_id, response.model = deployed.id, deployed.model
    response.model_version_id, response.model_display_name = deployed.model_version_id, deployed.display_name
    return response


def raw_predict(twin: VertexTwin, call: Call) -> Any:
    """Hands a body to the container as it is.

    The clients' REST transport wraps body and answer as a `google.api.HttpBody`, and others send them bare.
    """
    deployed = _chosen(twin, call)
    if b'"httpBody"' not in call.body:
        return RawReply(_served(twin, deployed, call.body), "application/json")
    wrapped = json.loads(call.body)["httpBody"]
    answer = _served(twin, deployed, base64.b64decode(wrapped["data"]))
    return httpbody_pb2.HttpBody(content_type="application/json", data=answer)


ENDPOINT = "endpoints/(?P<id>[^/:]+)"
ROUTES: list[Route] = [
    ("POST", "endpoints", create),
    ("GET", "endpoints", list_endpoints),
    ("GET", ENDPOINT, get),
    ("PATCH", ENDPOINT, update),
    ("DELETE", ENDPOINT, delete),
    ("POST", f"{ENDPOINT}:deployModel", deploy),
    ("POST", f"{ENDPOINT}:undeployModel", undeploy),
    ("POST", f"{ENDPOINT}:predict", predict),
    ("POST", f"{ENDPOINT}:rawPredict", raw_predict),
]
