"""The Vertex twin's registry and endpoints."""

import json

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format
from vertex_calls import (
    CONTAINER,
    Clients,
    deployed,
    save_served_model,
    third,
    upload,
    values,
)


@pytest.fixture
def twin(clean_vertex_twin):
    yield clean_vertex_twin
    clean_vertex_twin.longest_page, clean_vertex_twin.predictions_are_doubles = 100, False


@pytest.fixture(scope="module")
def clients(vertex_twin):
    return Clients(vertex_twin.endpoint)


@pytest.fixture(scope="module")
def artifact(vertex_twin, tmp_path_factory):
    return save_served_model(vertex_twin, tmp_path_factory.mktemp("model"))


def test_versions_and_their_aliases(twin, clients):
    first = upload(twin, clients, model_id="of-two", labels={"night": "1"}, version_aliases=["champion"])
    second = upload(twin, clients, parent_model=first.model, labels={"night": "2"}, version_aliases=["challenger"])
    assert (first.model_version_id, second.model_version_id) == ("1", "2")
    assert clients.models.get_model(name=first.model).version_id == "1"
    assert clients.models.get_model(name=f"{first.model}@challenger").labels == {"night": "2"}

    clients.models.merge_version_aliases(
        name=f"{first.model}@2", version_aliases=["champion", "-challenger", "default"]
    )
    versions = list(clients.models.list_model_versions(name=first.model))
    assert [(version.version_id, sorted(version.version_aliases)) for version in versions] == [
        ("2", ["champion", "default"]),
        ("1", []),
    ]
    with pytest.raises(exceptions.NotFound):
        clients.models.get_model(name=f"{first.model}@challenger")
    found = clients.models.list_model_versions({"name": first.model, "filter": 'labels.night="1"'})
    assert [version.version_id for version in found] == ["1"]
    assert [
        model.version_id for model in clients.models.list_models({"parent": twin.parent, "filter": "model=of-two"})
    ] == ["2"]


def test_registry_refuses_what_vertex_refuses(twin, clients):
    model = upload(twin, clients, model_id="refusing").model
    with pytest.raises(exceptions.Conflict):
        upload(twin, clients, model_id="refusing")
    with pytest.raises(exceptions.BadRequest, match="default alias"):
        clients.models.merge_version_aliases(name=f"{model}@1", version_aliases=["-default"])
    with pytest.raises(exceptions.BadRequest, match="should match"):
        clients.models.merge_version_aliases(name=f"{model}@1", version_aliases=["2"])
    with pytest.raises(exceptions.BadRequest, match="only version"):
        clients.models.delete_model_version(name=f"{model}@1")
    upload(twin, clients, parent_model=model)
    with pytest.raises(exceptions.BadRequest, match="default version"):
        clients.models.delete_model_version(name=f"{model}@1")
    clients.models.delete_model_version(name=f"{model}@2").result()
    assert upload(twin, clients, parent_model=model).model_version_id == "3"
    with pytest.raises(exceptions.BadRequest, match="cannot be updated"):
        clients.models.update_model(model={"name": f"{model}@1", "display_name": "x"}, update_mask="displayName")
    clients.models.delete_model(name=model).result()
    with pytest.raises(exceptions.NotFound):
        clients.models.get_model(name=model)


def test_labels_are_the_models_or_the_versions(twin, clients):
    model = upload(twin, clients, model_id="labelled", labels={"of": "version"}).model
    clients.models.update_model(model={"name": model, "labels": {"all": "yes"}}, update_mask="labels")
    clients.models.update_model(model={"name": f"{model}@1", "labels": {"one": "yes"}}, update_mask="labels")
    assert clients.models.get_model(name=model).labels == {"all": "yes", "one": "yes"}


def test_evaluations_belong_to_a_version(twin, clients):
    model = upload(twin, clients, model_id="evaluated").model
    evaluation = {"display_name": "eval", "metrics_schema_uri": "gs://google-cloud-aiplatform/schema/x.yaml"}
    clients.models.import_model_evaluation(parent=f"{model}@1", model_evaluation=evaluation)
    assert [each.display_name for each in clients.models.list_model_evaluations(parent=model)] == ["eval"]


def test_an_endpoint_predicts_with_the_versions_that_have_traffic(twin, clients, artifact):
    model = upload(twin, clients, artifact, model_id="online").model
    upload(twin, clients, artifact, parent_model=model, version_aliases=["champion"])
    endpoint = clients.endpoints.create_endpoint(
        parent=twin.parent, endpoint={"display_name": "online"}, endpoint_id="online"
    ).result()
    with pytest.raises(exceptions.BadRequest, match="traffic_split"):
        clients.predictions.predict(endpoint=endpoint.name, instances=values({}))
    first = clients.endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=deployed(model), traffic_split={"0": 100}
    ).result().deployed_model  # fmt: skip
    with pytest.raises(exceptions.BadRequest, match="must add up to 100, found 110"):
        clients.endpoints.deploy_model(
            endpoint=endpoint.name, deployed_model=deployed(model), traffic_split={"0": 10, first.id: 100}
        )
    second = clients.endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=deployed(f"{model}@champion"), traffic_split={"0": 50, first.id: 50}
    ).result().deployed_model  # fmt: skip
    assert (first.model_version_id, second.model_version_id) == ("1", "2")

    instance = {"x": 1, "n": 2**53 + 1, "s": "é"}
    answers = [clients.predictions.predict(endpoint=endpoint.name, instances=values(instance)) for _ in range(20)]
    assert {answer.model_version_id for answer in answers} == {"1", "2"}
    assert json_format.MessageToDict(v1.PredictResponse.pb(answers[0]).predictions[0]) == {
        "third": third(1),
        "next": 2**53 + 1.0,  # an integer that is sent as a number becomes a double
        "pair": [1, -1],
        "s": "é",
        "s_bytes": {"b64": "w6k="},
    }
    raw = json.dumps({"instances": [instance], "signature_name": "none"}).encode()
    with pytest.raises(exceptions.BadRequest, match="not found in signature def"):
        clients.predictions.raw_predict(endpoint=endpoint.name, http_body={"data": raw})
    raw = json.dumps({"instances": ["four"], "signature_name": "lengths"}).encode()
    answer = clients.predictions.raw_predict(endpoint=endpoint.name, http_body={"data": raw})
    assert json.loads(answer.data) == {"predictions": [4]}

    with pytest.raises(exceptions.BadRequest, match="has deployed"):
        clients.endpoints.delete_endpoint(name=endpoint.name)
    with pytest.raises(exceptions.BadRequest, match="is deployed"):
        clients.models.delete_model(name=model)
    with pytest.raises(exceptions.BadRequest, match="still has traffic"):
        clients.endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=first.id)
    clients.endpoints.update_endpoint(
        endpoint={"name": endpoint.name, "traffic_split": {second.id: 100}}, update_mask="trafficSplit"
    )
    for each in (first, second):
        clients.endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=each.id).result()
    clients.endpoints.delete_endpoint(name=endpoint.name).result()
    assert not list(clients.endpoints.list_endpoints({"parent": twin.parent, "filter": "endpoint=online"}))


def test_a_model_that_its_container_cannot_load_is_not_deployed(twin, clients, artifact):
    endpoint = clients.endpoints.create_endpoint(parent=twin.parent, endpoint={"display_name": "bad"}).result()
    for uri, image, words in (
        ("gs://bkt/nothing-there", CONTAINER, "is expected to contain files"),
        (artifact, "tensorflow/serving:2.15.0", "is expected to contain NUMBER/saved_model.pb"),
    ):
        model = upload(twin, clients, uri, image).model
        with pytest.raises(exceptions.GoogleAPICallError, match=words):
            clients.endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model)).result()
