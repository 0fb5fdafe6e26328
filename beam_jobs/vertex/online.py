"""A job's endpoint on Vertex AI: versions of the model that answer at once, also for keys outside the table.

Traffic may be split between versions. What gets none is still billed; it is taken off only when that is asked for,
because Vertex's routing lags some minutes behind a new split, and requests under way would be lost
(https://cloud.google.com/vertex-ai/docs/predictions/undeploy-model).
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.api_core.exceptions import Conflict, NotFound
from google.cloud.aiplatform_v1 import types
from google.protobuf import field_mask_pb2, json_format, struct_pb2

from beam_jobs.model_registry import ModelVersion
from beam_jobs.vertex.machines import machine_spec
from beam_jobs.vertex.names import job_label, resource_id
from beam_jobs.vertex.operations import make_once, result_of, wait_for_pending
from beam_jobs.vertex.service import VertexService, idempotent, once
from configs.errors import ForetableError, RefusedError
from configs.job import Job

DEPLOY_SECONDS = 7200.0
"""The longest that Vertex itself gives a deployment."""
PREDICT_SECONDS = 30.0
"""Somebody waits for the answer."""
_OTHER_SECONDS = 1800.0
_NEW = "0"
"""In a split of traffic, the model that is being deployed."""


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A version on the endpoint.

    Attributes:
        id: of the deployment.
        version: of the model.
        traffic: percentage of the requests that it answers.
    """

    id: str
    version: str
    traffic: int
    machine_type: str
    min_replica_count: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the endpoint answered.

    Attributes:
        value: as TensorFlow Serving puts it: the output's own, or an object by output.
        version: of the model that answered.
    """

    value: Any
    version: str


class OnlineEndpoint:
    """The one endpoint of a job."""

    def __init__(self, job: Job, service: VertexService | None = None):
        """Calls nothing yet."""
        assert job.vertex is not None, job.name
        self._job, self._vertex = job, job.vertex
        self._service = service or VertexService.of(job)
        self.name = f"{self._service.parent}/endpoints/{resource_id(job)}"

    def deployed(self) -> list[Deployed] | None:
        """What is on the endpoint, the most used first; None where there is no endpoint."""
        endpoint = self._get()
        return None if endpoint is None else _deployed(endpoint)

    def deploy(self, version: ModelVersion, traffic: int, replace: bool = False) -> list[Deployed]:
        """Gives a version this percentage of the traffic, and the others the rest, in proportion to what they had.

        A version that is there already only gets its traffic; a deployment that another process began is waited for.

        Args:
            replace: takes off what then gets no traffic.

        Raises:
            RefusedError: nothing else is there to get the rest.
            ForetableError: Vertex refused, or did not answer.
        """
        endpoint = self._get() or self._create()
        with self._service.explained(f"deploy to {self.name}", "aiplatform.endpoints.deploy"):
            wait_for_pending(self._service.endpoints, self.name, f"deploy {version}", DEPLOY_SECONDS)
            endpoint = self._get() or endpoint
            present = next((each for each in _deployed(endpoint) if each.version == version.version), None)
            split = traffic_split(_deployed(endpoint), present.id if present is not None else _NEW, traffic)
            if present is None:
                self._deploy(version, split)
            elif split != dict(endpoint.traffic_split):
                self._redirect(split)
            if replace:
                for idle in self.deployed() or ():
                    if not idle.traffic:
                        self._take_off(idle, ())
        return self.deployed() or []

    def predict(self, instance: Mapping[str, Any]) -> Prediction:
        """The answer to one instance.

        Raises:
            RefusedError: nothing is deployed.
            ForetableError: the model could not answer.
        """
        request = types.PredictRequest(endpoint=self.name)
        types.PredictRequest.pb(request).instances.append(json_format.ParseDict(dict(instance), struct_pb2.Value()))
        with self._service.explained(f"ask {self.name}", "aiplatform.endpoints.predict"):
            if not self.deployed():
                raise RefusedError(f"{self.name}: nothing is deployed; run `foretable endpoint deploy` first")
            again = idempotent()["retry"].with_timeout(PREDICT_SECONDS)
            answer = self._service.predictions.predict(request=request, retry=again, timeout=PREDICT_SECONDS)
        (value,) = types.PredictResponse.pb(answer).predictions
        try:
            return Prediction(json_format.MessageToDict(value), answer.model_version_id)
        except ValueError as error:  # JSON has no word for NaN and infinity
            raise ForetableError(
                f"{self.name}, version {answer.model_version_id}: a number of its answer is not finite;"
                " ask for other values, or deploy another version"
            ) from error

    def undeploy(self) -> list[Deployed]:
        """Takes all models off and deletes the endpoint, so that nothing is billed; returns what was there."""
        if self._get() is None:
            return []
        doing = f"undeploy {self.name}"
        with self._service.explained(doing, "aiplatform.endpoints.undeploy"):
            wait_for_pending(self._service.endpoints, self.name, doing, DEPLOY_SECONDS)
            there = self.deployed() or []
            for index, each in reversed(list(enumerate(there))):  # the least used first
                self._take_off(each, there[:index])
            again = once() | {"retry": idempotent()["retry"]}
            with contextlib.suppress(NotFound):  # the answer to a first call was lost
                result_of(self._service.endpoints.delete_endpoint(name=self.name, **again), doing, _OTHER_SECONDS)
        return there

    def _get(self) -> types.Endpoint | None:
        with self._service.explained(f"see {self.name}", "aiplatform.endpoints.get"):
            try:
                return self._service.endpoints.get_endpoint(name=self.name, **idempotent())
            except NotFound:
                return None

    def _create(self) -> types.Endpoint:
        labels = self._vertex.labels | {"foretable_job": job_label(self._job.name)}
        endpoint = types.Endpoint(
            display_name=resource_id(self._job),
            description=self._job.description,
            labels=labels,
        )
        doing = f"create {self.name}"
        with self._service.explained(doing, "aiplatform.endpoints.create"):
            try:
                operation = self._service.endpoints.create_endpoint(
                    parent=self._service.parent, endpoint=endpoint, endpoint_id=resource_id(self._job), **idempotent()
                )
                result_of(operation, doing, _OTHER_SECONDS)
            except Conflict:  # made by another process, or by a call of ours whose answer was lost
                wait_for_pending(self._service.endpoints, self.name, doing, _OTHER_SECONDS)
            return self._service.endpoints.get_endpoint(name=self.name, **idempotent())

    def _deploy(self, version: ModelVersion, split: Mapping[str, int]) -> None:
        machines = self._vertex.endpoint
        deployed = types.DeployedModel(
            model=version.resource,
            display_name=f"model {version.model_version}",
            service_account=self._vertex.service_account or "",
            dedicated_resources=types.DedicatedResources(
                machine_spec=machine_spec(machines.machine_type, machines.accelerator),
                min_replica_count=machines.min_replica_count,
                max_replica_count=machines.max_replica_count,
            ),
        )
        request = types.DeployModelRequest(endpoint=self.name, deployed_model=deployed, traffic_split=split)
        self._surely(
            lambda: self._service.endpoints.deploy_model(request=request, **once()),
            lambda: any(each.version == version.version for each in self.deployed() or ()),
            f"deploy {version}",
        )

    def _take_off(self, idle: Deployed, others: Sequence[Deployed]) -> None:
        """Undeploys a version; what traffic it had goes to the first of the others."""
        split = {others[0].id: 100} if others and idle.traffic else {}
        request = types.UndeployModelRequest(endpoint=self.name, deployed_model_id=idle.id, traffic_split=split)
        self._surely(
            lambda: self._service.endpoints.undeploy_model(request=request, **once()),
            lambda: all(each.id != idle.id for each in self.deployed() or ()),
            f"undeploy version {idle.version}",
        )

    def _redirect(self, split: Mapping[str, int]) -> None:
        self._service.endpoints.update_endpoint(
            endpoint=types.Endpoint(name=self.name, traffic_split=split),
            update_mask=field_mask_pb2.FieldMask(paths=["traffic_split"]),
            **idempotent(),
        )

    def _surely(self, call: Callable[[], Any], is_done: Callable[[], bool], doing: str) -> None:
        """Makes a change to what is deployed once, and waits for it."""

        def look() -> bool | None:
            wait_for_pending(self._service.endpoints, self.name, doing, DEPLOY_SECONDS)
            return is_done() or None

        def change() -> bool:
            result_of(call(), doing, DEPLOY_SECONDS)
            return True

        make_once(change, look)


def traffic_split(deployed: Sequence[Deployed], deployed_id: str, traffic: int) -> dict[str, int]:
    """Percentages by deployment, which add up to 100: one's own, and the rest for the others as they had it.

    Raises:
        RefusedError: there is a rest, and nothing else to get it.
    """
    others, rest = [each for each in deployed if each.id != deployed_id], 100 - traffic
    if rest and not others:
        raise RefusedError(f"--traffic {traffic}: nothing else is deployed to answer the other {rest} %")
    weights = [each.traffic for each in others]
    if not sum(weights):
        weights = [1] * len(others)
    exact = [rest * weight / sum(weights) for weight in weights]
    shares = [math.floor(share) for share in exact]
    largest = sorted(range(len(exact)), key=lambda index: shares[index] - exact[index])
    for index in largest[: rest - sum(shares)]:
        shares[index] += 1
    split = {deployed_id: traffic} | {each.id: share for each, share in zip(others, shares, strict=True)}
    return {each: share for each, share in split.items() if share}


def _deployed(endpoint: types.Endpoint) -> list[Deployed]:
    found = [
        Deployed(
            id=model.id,
            version=model.model_version_id,
            traffic=endpoint.traffic_split.get(model.id, 0),
            machine_type=model.dedicated_resources.machine_spec.machine_type,
            min_replica_count=model.dedicated_resources.min_replica_count,
        )
        for model in endpoint.deployed_models
    ]
    return sorted(found, key=lambda each: -each.traffic)
