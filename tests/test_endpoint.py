"""The endpoint on the Vertex twin: versions beside each other, traffic between them, a row for any key, and nothing left."""

import dataclasses
import datetime
import itertools
import json
import threading

import numpy as np
import pytest
from conftest import NATALITY
from echo_model import save_echo_model
from hypothesis import given
from hypothesis import strategies as st
from twins import vertex_faults
from typer.testing import CliRunner

from beam_jobs.cli import app
from beam_jobs.model_registry import ModelVersion
from beam_jobs.vertex import operations, service
from beam_jobs.vertex.online import Deployed, OnlineEndpoint, Prediction, traffic_split
from beam_jobs.vertex.online_rows import encode_instance
from beam_jobs.vertex.registry import VertexRegistry
from beam_jobs.workspace import storage
from configs.errors import ForetableError, RefusedError
from configs.loading import load_job, parse_job

FEATURES = {
    "word": {"type": "string", "missing": "none"},
    "size": {"type": "float", "missing": 0.0},
    "count": {"type": "int"},
}
AXES = {"word": {"values": ["a"]}, "size": {"values": [1.5]}, "count": {"values": [1]}}
WEIGHTS = {1: 2.0, 2: 3.0}
_names = (f"endpoint_{number}" for number in itertools.count())


@pytest.fixture
def twin(clean_vertex_twin, monkeypatch):
    monkeypatch.setattr(operations, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service, "_FIRST_PAUSE_SECONDS", 0.01)
    return clean_vertex_twin


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("echo")
    outputs = ("word_out", "scaled")
    return {day: save_echo_model(folder / f"model{day}", weight, outputs) for day, weight in WEIGHTS.items()}


@pytest.fixture(scope="module")
def workspace(cloud):
    """One for all jobs here, whose nights made the same models: each is copied once."""
    return cloud.storage.url()


def tree_of(twin, cloud, workspace):
    """A job with a name of its own, and so an endpoint of its own, whose model doubles or trebles the size."""
    return {
        "name": next(_names),
        "workspace": workspace,
        "vertex": {"project": twin.project, "region": twin.region, "labels": {"team": "births"}},
        "endpoints": {"storage": cloud.storage.endpoint, "vertex": twin.endpoint},
        "warehouse": {"kind": "bigquery", "project": twin.project, "dataset": "births"},
        "features": FEATURES,
        "input_space": {"axes": AXES},
    }


@pytest.fixture
def tree(twin, cloud, workspace):
    trained = {"source": {"kind": "sample"}, "split": {"by": "hashmonth"}, "label": {"name": "scaled"}}
    return tree_of(twin, cloud, workspace) | trained


@pytest.fixture
def job(tree):
    return parse_job(tree)


@pytest.fixture
def job_file(tree, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(tree))
    return str(path)


@pytest.fixture
def versions(job, sources):
    """Two registered versions, of the first and the second of January; the first is the champion."""
    registry, registered = VertexRegistry(job), {}
    for day, source in sources.items():
        path = f"{job.workspace}/natality/2026-01-{day:02d}/{day:012x}"
        body = {"run_id": f"{day:012x}", "run_date": f"2026-01-{day:02d}", "trained_in": path, "classes": None}
        body |= {"model_version": f"{day:016x}", "transform_hash": "t", "definition": "d"}
        storage.write_json(f"{path}/training.json", {"format": 1, "finished_at": "", **body})
        model = ModelVersion(f"{day:016x}", f"{day:012x}", datetime.date(2026, 1, day), path, source, blessed=True)
        registered[day] = registry.register(model)
    registered[1] = registry.promote(registered[1].model_version)
    return registered


def split_of(endpoint):
    """Percentages by version, of all that is deployed."""
    return {each.version: each.traffic for each in endpoint.deployed()}


def count(twin, verb):
    return len([call for call in twin.faults.calls if call.endswith(f":{verb}")])


def invoke(*arguments, code=0):
    """Runs a command in this process."""
    result = CliRunner().invoke(app, ["endpoint", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_the_first_deployment_makes_the_endpoint(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    assert endpoint.deployed() is None
    (deployed,) = endpoint.deploy(versions[1], 100)
    assert dataclasses.replace(deployed, id="") == Deployed("", "1", 100, "n1-standard-2", 1)
    (made,) = (each for name, each in twin.endpoints.items() if name.endswith(endpoint.name.rpartition("/")[2]))
    assert made.display_name == f"foretable-{job.name.replace('_', '-')}"
    assert dict(made.labels) == {"team": "births", "foretable_job": job.name}
    (model,) = made.deployed_models
    assert model.display_name == f"model {versions[1].model_version}"


def test_what_is_deployed_already_is_not_deployed_again(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    first = endpoint.deploy(versions[1], 100)
    assert endpoint.deploy(versions[1], 100) == first
    assert count(twin, "deployModel") == 1
    assert not [call for call in twin.faults.calls if call.startswith("PATCH")]


def test_traffic_between_two_versions(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 20)
    assert split_of(endpoint) == {"1": 80, "2": 20}
    endpoint.deploy(versions[2], 60)
    assert split_of(endpoint) == {"2": 60, "1": 40}
    endpoint.deploy(versions[2], 100)
    assert split_of(endpoint) == {"2": 100, "1": 0}  # still there, until it is asked off
    endpoint.deploy(versions[1], 10)
    assert split_of(endpoint) == {"2": 90, "1": 10}
    assert (count(twin, "deployModel"), count(twin, "undeployModel")) == (2, 0)


def test_replacing_takes_off_what_gets_no_traffic(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 50, replace=True)
    assert split_of(endpoint) == {"1": 50, "2": 50}
    assert [each.version for each in endpoint.deploy(versions[2], 100, replace=True)] == ["2"]
    assert split_of(endpoint) == {"2": 100}


def test_a_part_of_the_traffic_needs_somebody_for_the_rest(twin, job, versions):
    with pytest.raises(RefusedError, match="--traffic 20: nothing else is deployed to answer the other 80 %"):
        OnlineEndpoint(job).deploy(versions[1], 20)
    assert count(twin, "deployModel") == 0


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(0, 100))
def test_a_split_adds_up_and_keeps_the_others_in_proportion(weights, traffic):
    others = [Deployed(str(number), "", weight, "", 1) for number, weight in enumerate(weights, 1)]
    split = traffic_split([*others, Deployed("7", "", 5, "", 1)], "7", traffic)
    assert sum(split.values()) == 100
    assert split.get("7", 0) == traffic
    assert all(share > 0 for share in split.values())
    total = sum(weights) or len(weights)
    for other in others:
        weight = other.traffic if sum(weights) else 1
        assert abs(split.get(other.id, 0) - (100 - traffic) * weight / total) < 1


def test_undeploying_leaves_nothing(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 30)
    assert [(each.version, each.traffic) for each in endpoint.undeploy()] == [("1", 70), ("2", 30)]
    assert endpoint.deployed() is None
    assert not [name for name in twin.endpoints if name.endswith(endpoint.name.rpartition("/")[2])]
    assert endpoint.undeploy() == []


FAULTS = {
    "the reply is lost": vertex_faults.lost_reply,
    "an error after it acted": vertex_faults.refusal_after_acting("UNAVAILABLE"),
    "the connection breaks": vertex_faults.connection_reset,
    "it is unavailable": vertex_faults.refusal("UNAVAILABLE"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(
    ("method", "call"),
    [("POST", "endpoints$"), ("POST", ":deployModel$"), ("PATCH", "endpoints/"), ("GET", r"endpoints/[^/]+$")],
    ids=["create", "deploy", "split", "see"],
)
def test_a_passing_fault_deploys_nothing_twice(twin, job, versions, method, call, fault):
    endpoint = OnlineEndpoint(job)
    twin.faults.on_call(method, call, fault)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 20)
    endpoint.deploy(versions[2], 30)
    assert twin.faults.happened == 1
    assert split_of(endpoint) == {"1": 70, "2": 30}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(("method", "call"), [("POST", ":undeployModel$"), ("DELETE", "endpoints/")])
def test_a_passing_fault_leaves_nothing_deployed(twin, job, versions, method, call, fault):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 30)
    twin.faults.on_call(method, call, fault)
    endpoint.undeploy()
    assert twin.faults.happened == 1
    assert endpoint.deployed() is None


def test_a_deployment_that_was_interrupted_is_waited_for(twin, job, versions, monkeypatch):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    load, may_load = twin.serving.load, threading.Event()

    def load_late(artifact_uri):
        may_load.wait(30)
        return load(artifact_uri)

    monkeypatch.setattr(twin.serving, "load", load_late)
    # What another process began before it was killed: nobody waits for the operation.
    monkeypatch.setattr("beam_jobs.vertex.online.result_of", lambda *_: None)
    endpoint.deploy(versions[2], 20)
    monkeypatch.undo()
    assert split_of(endpoint) == {"1": 100}
    threading.Timer(0.5, may_load.set).start()
    endpoint.deploy(versions[2], 20)
    assert split_of(endpoint) == {"1": 80, "2": 20}
    assert count(twin, "deployModel") == 2


def test_a_refusal_is_one_line(twin, job, versions):
    twin.faults.on_call("POST", ":deployModel$", vertex_faults.permission_denied("aiplatform.endpoints.deploy"))
    with pytest.raises(ForetableError) as caught:
        OnlineEndpoint(job).deploy(versions[1], 100)
    assert str(caught.value).startswith(
        f"vertex in proj, us-central1: cannot deploy to projects/proj/locations/us-central1/endpoints/"
        f"foretable-{job.name.replace('_', '-')}: permission aiplatform.endpoints.deploy is missing on"
    )
    assert "\n" not in str(caught.value)


def test_the_commands_from_nothing_to_nothing(twin, job_file, versions):
    deployed = json.loads(invoke("deploy", job_file, "--json").stdout)["deployed"]
    assert [(each["version"], each["model_version"], each["traffic"]) for each in deployed] == [("1", f"{1:016x}", 100)]
    table = invoke("deploy", job_file, "--model", "challenger")
    assert [line.split() for line in table.stdout.splitlines()[1:3]] == [
        ["2", f"{2:016x}", "100", "%", "1", "x", "n1-standard-2"],
        ["1", f"{1:016x}", "0", "%", "1", "x", "n1-standard-2"],
    ]
    assert json.loads(invoke("undeploy", job_file, "--json").stdout)["undeployed"][0]["version"] == "2"
    assert json.loads(invoke("undeploy", job_file, "--json").stdout)["undeployed"] == []


@pytest.mark.parametrize(
    ("key", "row"),
    [
        (["word=Zürich", "size=1e-30", f"count={2**53 - 1}"], {"word": "Zürich", "size": 1e-30, "count": 2**53 - 1}),
        (["word=", "size=", "count=-3"], {"word": None, "size": None, "count": -3}),
        (["count=7", "size=0.1", "word=no axis has it"], {"word": "no axis has it", "size": 0.1, "count": 7}),
    ],
    ids=["extremes", "missing", "outside the axes"],
)
def test_a_row_for_any_key(twin, job_file, versions, key, row):
    invoke("deploy", job_file)
    answer = json.loads(invoke("predict", job_file, *key, "--json").stdout)
    assert (answer["version"], answer["model_version"], answer["run_date"]) == ("1", f"{1:016x}", "2026-01-01")
    scaled = -1.0 if row["size"] is None else float(np.float32(row["size"]) * np.float32(2))
    assert list(answer["row"].items()) == [*row.items(), ("scaled", scaled)]


@pytest.mark.parametrize("scaled", [float("nan"), float("-inf")])
def test_an_answer_that_is_not_finite_is_one_line(twin, job_file, versions, capfd, scaled):
    """JSON has no word for it: a server writes one of Python's, or by gRPC the number itself."""
    invoke("deploy", job_file)
    answer = {"predictions": [{"word_out": "a", "scaled": scaled}], "modelVersionId": "1"}
    twin.faults.on_call("POST", ":predict$", lambda call, serve: answer)
    invoke("predict", job_file, "word=a", "size=1", "count=1", code=5)
    error = capfd.readouterr().err
    assert ", version 1: a number of its answer is not finite; ask for other" in error.replace("\n", " ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_of_a_prediction_is_waited_out(twin, job, versions, fault):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    twin.faults.on_call("POST", ":predict$", fault)
    instance = encode_instance(job, {"word": "a", "size": 10.0, "count": 1})
    assert endpoint.predict(instance) == Prediction({"word_out": "a", "scaled": 20}, "1")
    assert (twin.faults.happened, count(twin, "predict")) == (1, 2)


def test_a_prediction_that_is_refused_is_asked_once(twin, job, versions):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    twin.faults.on_call("POST", ":predict$", vertex_faults.permission_denied("aiplatform.endpoints.predict"))
    expected = r"^vertex in proj, us-central1: cannot ask .*: permission aiplatform\.endpoints\.predict is missing on"
    with pytest.raises(ForetableError, match=expected):
        endpoint.predict({"b64": ""})
    assert count(twin, "predict") == 1


def test_both_versions_answer_as_their_share_says(twin, job, job_file, versions):
    endpoint = OnlineEndpoint(job)
    endpoint.deploy(versions[1], 100)
    endpoint.deploy(versions[2], 50)
    answers = set()
    for _ in range(40):
        answer = json.loads(invoke("predict", job_file, "word=a", "size=10", "count=1", "--json").stdout)
        answers.add((answer["version"], answer["row"]["scaled"]))
    assert answers == {("1", 20.0), ("2", 30.0)}


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["word=a", "size=1", "count="], 2, "count='': expected a value: the feature may not be missing"),
        (
            ["word=a", "size=1", "count=1.5"],
            2,
            "count='1.5': expected a whole number, or nothing for the missing value",
        ),
        (["word=a", "size=1", f"count={2**63}"], 2, f"count='{2**63}': expected a whole number of 64 bits"),
        (["word=a", "size=1"], 2, "no value of count: expected word=… size=… count=…"),
        (["word=a", "sise=1", "count=1"], 2, "unknown column 'sise': did you mean 'size'?"),
        (["word=a", "size=1", "count=1"], 3, "nothing is deployed; run `foretable endpoint deploy` first"),
    ],
    ids=["missing", "no int", "too large", "too few", "typing", "nothing deployed"],
)
def test_what_cannot_be_asked(twin, job_file, capfd, arguments, code, line):
    invoke("predict", job_file, *arguments, code=code)
    error = capfd.readouterr().err
    assert line in error.replace("\n", " ")
    assert len(error.splitlines()) == 1


def test_an_unknown_version_names_the_nearest(twin, job_file, versions, capfd):
    invoke("deploy", job_file, "--model", "chalenger", code=2)
    assert "--model chalenger: no such version; nearest: challenger" in capfd.readouterr().err


def test_a_job_without_vertex_has_no_endpoint(capfd):
    invoke("undeploy", NATALITY, code=2)
    assert "vertex: natality has no endpoint; expected vertex: {project: …, region: …}" in capfd.readouterr().err
    assert load_job(NATALITY, []).vertex is None


def test_a_model_that_the_job_is_given_is_asked_by_its_own_inputs(twin, cloud, workspace, sources, tmp_path):
    tree = tree_of(twin, cloud, workspace) | {
        "model": {"saved_model": sources[2], "outputs": {"scaled": {}, "word_out": "word_again"}}
    }
    (job_file := tmp_path / "job.yaml").write_text(json.dumps(tree))
    job = parse_job(tree)
    path = f"{job.workspace}/{job.name}/2026-01-05/abc"
    model = ModelVersion("feed", "abc", datetime.date(2026, 1, 5), path, sources[2])
    OnlineEndpoint(job).deploy(VertexRegistry(job).register(model), 100)
    key = ["word=", "size=1.5", "count=1"]
    answer = json.loads(invoke("predict", str(job_file), *key, "--json").stdout)
    assert answer["row"] == {"word": None, "size": 1.5, "count": 1, "scaled": 4.5, "word_again": "none"}
    assert (answer["version"], answer["model_version"]) == ("1", "feed")
