"""The Model Registry on the Vertex twin: versions found again by label, aliases that follow readers, faults on the way."""

import dataclasses
import datetime
import itertools
import json
import threading

import pytest
from conftest import NATALITY
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from nights import make_night
from twins import vertex_faults

from beam_jobs.foreign_models import GivenModel
from beam_jobs.lineage import TrainedModel
from beam_jobs.model_registry import ModelVersion, follow_readers
from beam_jobs.vertex import operations, service
from beam_jobs.vertex.registry import METRIC, VertexRegistry, describe, registered_version, version_labels
from beam_jobs.warehouses.base import NightRecord
from beam_jobs.workspace import storage
from configs.errors import ForetableError, RefusedError
from configs.loading import load_job

LOCATION = "projects/704500000001/locations/us-central1"
_names = (f"registry_{number}" for number in itertools.count())


@pytest.fixture
def twin(clean_vertex_twin, monkeypatch):
    monkeypatch.setattr(operations, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service, "_FIRST_PAUSE_SECONDS", 0.01)
    return clean_vertex_twin


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from echo_model import save_echo_model

    return save_echo_model(tmp_path_factory.mktemp("echo") / "model")


@pytest.fixture(scope="module")
def workspace(cloud):
    """One for all jobs here, so that a model of the same night and digest is copied once."""
    return cloud.storage.url()


@pytest.fixture
def job(twin, cloud, workspace):
    return job_of(twin, cloud, f"workspace={workspace}")


def job_of(twin, cloud, *overrides):
    """A job with a name of its own, and so a model of its own in the registry."""
    sets = (
        f"name={next(_names)}",
        f"workspace={cloud.storage.url()}",
        f"endpoints={{storage: '{cloud.storage.endpoint}', vertex: '{twin.endpoint}'}}",
        f"vertex={{project: {twin.project}, region: {twin.region}, labels: {{team: births}}}}",
        "warehouse={kind: bigquery, project: proj, dataset: births}",
    )
    return load_job(NATALITY, [*sets, *overrides])


@pytest.fixture
def model(job, source):
    """Makes a model of the n-th of January."""

    def make(day, **changes):
        run_path = f"{job.workspace}/natality/2026-01-{day:02d}/{day:012x}"
        made = ModelVersion(
            model_version=f"{day:016x}",
            run_id=f"{day:012x}",
            run_date=datetime.date(2026, 1, day),
            run_path=run_path,
            model_path=source,
            metrics={"mae": 0.8033812, "rmse": 1e-07, "r2": -0.25, "example_count": 19118},
            blessed=True,
            transform_hash="ab" * 32,
            data_fingerprint="cd" * 32,
        )
        return dataclasses.replace(made, **changes)

    return make


def uploads(twin):
    return [call for call in twin.faults.calls if call.endswith("models:upload")]


def resource(job):
    return f"foretable-{job.name.replace('_', '-')}"


def aliases(registry):
    return {version.version: version.aliases for version in registry.versions()}


def test_the_first_version_makes_the_model(twin, job, model):
    registered = VertexRegistry(job).register(model(5))
    name = f"projects/{twin.project}/locations/{twin.region}/models/{resource(job)}"
    assert registered == dataclasses.replace(
        model(5),
        version="1",
        aliases=("challenger", "default"),
        resource=f"{name}@1",
        model_path=f"{model(5).run_path}/model",
        transform_hash="ab" * 16,
        data_fingerprint="cd" * 16,
    )
    version = twin.models[resource(job)].version("1")
    assert dict(version.labels) == {
        "team": "births",
        "foretable_job": job.name,
        "foretable_step": "evaluate",
        "foretable_run_id": f"{5:012x}",
        "foretable_run_date": "2026-01-05",
        "foretable_model_version": f"{5:016x}",
        "foretable_transform_hash": "ab" * 16,
        "foretable_data_fingerprint": "cd" * 16,
    }
    assert version.artifact_uri == f"{model(5).run_path}/vertex_model/{5:016x}/1"
    assert version.container_spec.image_uri == "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    assert (version.display_name, version.description) == (resource(job), job.description)
    assert version.version_description == (
        f"Night of 2026-01-05, run {5:012x}, model {5:016x}. mae=0.8033812 rmse=1e-07 r2=-0.25 example_count=19118"
    )
    copied = {path.removeprefix(version.artifact_uri + "/") for path in storage.list_files(version.artifact_uri, "**")}
    assert copied == {"saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}


def test_metrics_are_an_evaluation_in_googles_words(twin, job, model):
    registered = VertexRegistry(job).register(model(5))
    (evaluation,) = (each for name, each in twin.evaluations.items() if f"/{resource(job)}@1/" in name)
    tree = json_format.MessageToDict(type(evaluation).pb(evaluation))
    assert (
        tree["metricsSchemaUri"] == "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml"
    )
    assert tree["metrics"] == {"meanAbsoluteError": 0.8033812, "rootMeanSquaredError": 1e-07, "rSquared": -0.25}
    assert tree["metadata"] == {
        "run_id": f"{5:012x}",
        "run_date": "2026-01-05",
        "model_version": f"{5:016x}",
        "transform_hash": "ab" * 32,
        "data_fingerprint": "cd" * 32,
        "metrics": dict(registered.metrics),
    }


def test_registering_again_changes_nothing(twin, job, model):
    first = VertexRegistry(job).register(model(5))
    assert VertexRegistry(job).register(model(5)) == first
    assert len(uploads(twin)) == 1
    assert len([name for name in twin.evaluations if f"/{resource(job)}@" in name]) == 1


def test_what_a_killed_night_left_out_is_made_up_for(twin, job, model):
    twin.faults.on_call("POST", "evaluations:import$", vertex_faults.permission_denied("aiplatform.evaluations.import"))
    with pytest.raises(ForetableError, match=r"^vertex in proj, us-central1: cannot import the metrics of .*@1: perm"):
        VertexRegistry(job).register(model(5))
    VertexRegistry(job).register(model(5))
    assert len(uploads(twin)) == 1
    assert len([name for name in twin.evaluations if f"/{resource(job)}@1/" in name]) == 1


def test_a_second_model_is_the_second_version_and_the_challenger(twin, job, model):
    registry = VertexRegistry(job)
    registry.register(model(5))
    second = registry.register(model(6))
    assert (second.version, second.resource.rpartition("/")[2]) == ("2", f"{resource(job)}@2")
    assert aliases(registry) == {"2": ("challenger",), "1": ("default",)}
    assert [version.model_version for version in registry.versions()] == [f"{6:016x}", f"{5:016x}"]


def test_champion_and_default_follow_readers_and_go_back(twin, job, model):
    registry = VertexRegistry(job)
    first, second = registry.register(model(5)), registry.register(model(6))
    assert registry.promote(first.model_version).aliases == ("champion", "default")
    assert aliases(registry) == {"2": ("challenger",), "1": ("champion", "default")}
    assert registry.promote(second.model_version).aliases == ("champion", "default")
    assert aliases(registry) == {"2": ("champion", "default"), "1": ()}
    registry.register(model(6))  # a later night that goes on with the model
    assert aliases(registry) == {"2": ("champion", "default"), "1": ()}
    twin.faults.clear()
    registry.promote(second.model_version)
    assert not [call for call in twin.faults.calls if "mergeVersionAliases" in call]
    registry.promote(first.model_version)
    assert aliases(registry) == {"2": (), "1": ("champion", "default")}
    assert registry.promote("nobody's") is None


def test_the_registry_of_a_job_that_never_registered(job):
    assert VertexRegistry(job).versions() == []
    assert VertexRegistry(job).promote("0a1b") is None


def test_more_versions_than_a_page_holds_in_the_order_of_their_numbers(twin, job, model, monkeypatch):
    monkeypatch.setattr(twin, "longest_page", 3)
    registry = VertexRegistry(job)
    for day in range(1, 13):
        registry.register(model(day))
    assert [version.version for version in registry.versions()] == [str(number) for number in range(12, 0, -1)]
    assert registry.register(model(2)).version == "2"


def test_versions_that_are_not_ours_are_left_alone(twin, job, model):
    from google.cloud.aiplatform_v1 import types

    registry = VertexRegistry(job)
    registry.register(model(5))
    spec = types.ModelContainerSpec(image_uri="somebody/else")
    theirs = types.Model(display_name="theirs", container_spec=spec, artifact_uri="gs://bucket/theirs")
    registry._service.models.upload_model(
        request=types.UploadModelRequest(
            parent=f"projects/{twin.project}/locations/{twin.region}", parent_model=registry.name, model=theirs
        )
    ).result()
    assert [version.version for version in registry.versions()] == ["1"]
    assert registry.register(model(6)).version == "3"


FAULTS = {
    "the reply is lost": vertex_faults.lost_reply,
    "an error after it acted": vertex_faults.refusal_after_acting("UNAVAILABLE"),
    "the connection breaks": vertex_faults.connection_reset,
    "it is unavailable": vertex_faults.refusal("UNAVAILABLE"),
    "too many calls a minute": vertex_faults.rate_limited(),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", ["models:upload$", "evaluations:import$", "listVersions$", r"models/[^/]+$"])
def test_a_passing_fault_makes_no_second_version(twin, job, model, call, fault):
    registry = VertexRegistry(job)
    registry.register(model(4))
    twin.faults.on_call("POST" if call[-2] in "dt" else "GET", call, fault)
    registered = registry.register(model(5))
    assert twin.faults.happened == 1
    assert (registered.version, registered.aliases) == ("2", ("challenger",))
    assert aliases(registry) == {"2": ("challenger",), "1": ("default",)}
    assert len([name for name in twin.evaluations if f"/{resource(job)}@2/" in name]) == 1


def test_a_first_version_whose_reply_is_lost_makes_one_model(twin, job, model):
    twin.faults.on_call("POST", "models:upload$", vertex_faults.lost_reply)
    assert VertexRegistry(job).register(model(5)).version == "1"
    assert aliases(VertexRegistry(job)) == {"1": ("challenger", "default")}


def test_an_upload_that_was_interrupted_is_waited_for(twin, job, model, monkeypatch):
    registry, operate, may_end = VertexRegistry(job), twin.operate, threading.Event()

    def operate_late(resource, metadata, work):
        return operate(resource, metadata, lambda: [may_end.wait(30), work()][1])

    with monkeypatch.context() as patched:
        patched.setattr(twin, "operate", operate_late)
        patched.setattr("beam_jobs.vertex.registry.result_of", lambda *_: 1 / 0)  # killed while it waits
        with pytest.raises(ZeroDivisionError):
            registry.register(model(5))
    assert registry.versions() == []
    threading.Timer(0.5, may_end.set).start()
    assert registry.register(model(5)).version == "1"
    assert len(uploads(twin)) == 1


def test_two_nights_that_register_the_first_version_at_once(twin, job, model, monkeypatch):
    """The other one's upload comes between the look for a parent model and ours."""
    registry, other = VertexRegistry(job), VertexRegistry(job)
    ask, asked = registry._request, iter([lambda: other.register(model(6))])

    def ask_late(message):
        request = ask(message)
        next(asked, lambda: None)()
        return request

    monkeypatch.setattr(registry, "_request", ask_late)
    assert registry.register(model(5)).version == "2"
    assert aliases(registry) == {"2": ("challenger",), "1": ("default",)}


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            vertex_faults.permission_denied("aiplatform.models.upload"),
            "vertex in proj, us-central1: cannot register model 0000000000000005 of 2026-01-05 in"
            " projects/proj/locations/us-central1/models/{id}: permission aiplatform.models.upload is missing on"
            " projects/proj/locations/us-central1; ask for roles/aiplatform.user",
        ),
        (
            vertex_faults.quota_exceeded("aiplatform.googleapis.com/models"),
            "out of quota: aiplatform.googleapis.com/models in us-central1; request more on https://console.cloud.google",
        ),
    ],
    ids=["permission", "quota"],
)
def test_what_does_not_pass_is_one_line_with_its_mend(twin, job, model, fault, line):
    twin.faults.on_call("POST", "models:upload$", fault, count=9)
    with pytest.raises(ForetableError) as caught:
        VertexRegistry(job).register(model(5))
    assert line.format(id=resource(job)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(uploads(twin)) == 1


def test_the_container_of_the_job_file(twin, cloud, source, model):
    serving = "vertex.serving={image: eu.gcr.io/p/tensorflow-serving, port: 8501}"
    job = job_of(twin, cloud, serving)
    made = dataclasses.replace(model(5), run_path=f"{job.workspace}/run")
    VertexRegistry(job).register(made)
    version = twin.models[resource(job)].version("1")
    assert version.artifact_uri == f"{job.workspace}/run/vertex_model/{5:016x}"
    assert version.container_spec.predict_route == "/v1/models/model:predict"
    assert storage.exists(f"{version.artifact_uri}/1/saved_model.pb")


@dataclasses.dataclass
class Night:
    """What the registry needs of a night."""

    job: object
    run: object
    job_file: str = "job.yaml"


@dataclasses.dataclass
class Run:
    path: str


FOREIGN = {
    "model": {"saved_model": "", "outputs": {"scaled": {}}},
    "features": {"word": {"type": "string"}, "size": {"type": "float", "missing": 0.0}, "count": {"type": "int"}},
    "warehouse": {"kind": "bigquery", "project": "proj", "dataset": "births"},
    "input_space": {"axes": {"word": {"values": ["a"]}, "size": {"values": [1.5]}, "count": {"values": [1]}}},
}


@pytest.fixture
def foreign_job(twin, cloud, source):
    from configs.loading import parse_job

    tree = json.loads(json.dumps(FOREIGN))
    tree["model"]["saved_model"] = source
    tree |= {
        "name": next(_names),
        "workspace": cloud.storage.url(),
        "vertex": {"project": "proj", "region": "us-central1"},
    }
    return parse_job(tree | {"endpoints": {"storage": cloud.storage.endpoint, "vertex": twin.endpoint}})


def test_a_model_that_the_job_is_given_is_registered_when_it_is_first_needed(twin, foreign_job, source):
    run = Run(f"{foreign_job.workspace}/{foreign_job.name}/2026-01-05/abc")
    given_model = GivenModel(source, "feed" * 4)
    name = f"projects/proj/locations/us-central1/models/{resource(foreign_job)}@1"
    assert registered_version(Night(foreign_job, run), given_model) == name
    assert registered_version(Night(foreign_job, run), given_model) == name
    assert len(uploads(twin)) == 1
    (version,) = VertexRegistry(foreign_job).versions()
    assert (version.model_version, version.run_id, version.run_date.day) == ("feed" * 4, "abc", 5)
    assert (version.blessed, version.metrics) == (None, {})
    assert not [each for each in twin.evaluations if resource(foreign_job) in each]


def test_a_trained_model_is_registered_with_what_its_own_night_found(twin, job, source):
    path = f"{job.workspace}/{job.name}/2026-01-05/{5:012x}"
    for name, body in {
        "training.json": {"trained_in": path},
        "blessing.json": {"blessed": True, "model_version": "0a1b", "metrics": {"mae": 0.25}},
    }.items():
        storage.write_json(f"{path}/{name}", {"format": 1, "finished_at": "", **body})
    from transforms.files import upload_folder

    upload_folder(source, f"{path}/model", last="saved_model.pb")
    trained = TrainedModel(f"{5:012x}", datetime.date(2026, 1, 5), path, "0a1b", "hash", "d", None, "data")
    assert registered_version(Night(job, Run("gs://elsewhere/tonight")), trained).endswith(f"/{resource(job)}@1")
    (version,) = VertexRegistry(job).versions()
    assert (version.metrics, version.transform_hash, version.data_fingerprint) == ({"mae": 0.25}, "hash", "data")

    refused = {"format": 1, "finished_at": "", "blessed": False, "model_version": "0a1b"}
    storage.write_json(f"{path}/blessing.json", refused)
    with pytest.raises(RefusedError, match=r"^model 0a1b of 2026-01-05 is not blessed"):
        registered_version(Night(job, Run("gs://elsewhere/tonight")), trained)


def test_a_trained_model_is_not_registered_before_it_is_judged(twin, job):
    """It would be a challenger that counts as blessed, whatever is found of it later."""
    path = f"{job.workspace}/{job.name}/2026-01-05/{5:012x}"
    trained = TrainedModel(f"{5:012x}", datetime.date(2026, 1, 5), path, "0a1b", "hash", "d", None, "data")
    with pytest.raises(RefusedError) as error:
        registered_version(Night(job, Run("gs://elsewhere/tonight")), trained)
    assert str(error.value) == (
        "model 0a1b of 2026-01-05 was not judged yet, and only blessed models are registered;"
        " run `foretable evaluate job.yaml --date 2026-01-05` first"
    )
    assert VertexRegistry(job).versions() == []


def record_of(tmp_path, model):
    night = make_night(tmp_path, run_date=model.run_date, run_id=model.run_id)
    night = dataclasses.replace(night, run_dir=model.run_path)
    manifest = dataclasses.replace(night.manifest, model_version=model.model_version)
    return NightRecord.of(dataclasses.replace(night, manifest=manifest), datetime.datetime.now(datetime.UTC))


def test_readers_lead_the_champion(twin, job, model, tmp_path):
    registry = VertexRegistry(job)
    registry.register(model(5))
    registry.register(model(6))
    promoted = follow_readers(job, record_of(tmp_path / "a", model(6)))
    assert (promoted.version, promoted.aliases) == ("2", ("champion", "default"))
    promoted = follow_readers(job, record_of(tmp_path / "b", model(5)))  # rolled back
    assert aliases(registry) == {"2": (), "1": ("champion", "default")}


def test_a_night_published_before_the_job_had_a_registry_is_registered_when_readers_go_back_to_it(
    twin, job, model, source, tmp_path
):
    from transforms.files import upload_folder

    night = model(5)
    body = {"run_id": night.run_id, "run_date": "2026-01-05", "trained_in": night.run_path, "classes": None}
    body |= {"model_version": night.model_version, "transform_hash": "t", "definition": "d"}
    storage.write_json(f"{night.run_path}/training.json", {"format": 1, "finished_at": "", **body})
    upload_folder(source, f"{night.run_path}/model", last="saved_model.pb")
    promoted = follow_readers(job, record_of(tmp_path, night))
    assert (promoted.version, promoted.aliases) == ("1", ("champion", "default"))


def test_a_night_whose_model_is_gone_leaves_the_champion_alone(twin, job, model, tmp_path):
    registry = VertexRegistry(job)
    registry.promote(registry.register(model(5)).model_version)
    assert follow_readers(job, record_of(tmp_path, model(7))) is None
    assert aliases(registry) == {"1": ("champion", "default")}


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.floats() | st.integers(-(2**63), 2**63))
)
def test_metrics_are_read_back_from_a_description_as_they_were(metrics):
    made = ModelVersion("0a1b", "r1", datetime.date(2026, 1, 5), "", "", metrics=metrics)
    finite = {name: value for name, value in metrics.items() if abs(value) < float("inf")}
    read = {name: json.loads(number) for name, number in METRIC.findall(describe(made))}
    assert {name: repr(value) for name, value in read.items()} == {name: repr(value) for name, value in finite.items()}


@pytest.mark.parametrize(
    ("description", "metrics"),
    [
        ("Night of 2026-01-05. mae=0.80. fine", {"mae": 0.8}),
        ("for ages range=1-2, mae=0.5, rmse=1e-07", {"mae": 0.5, "rmse": 1e-07}),
        ("mae=0.80.1 r2=-007 b=1e c=.5 d=-0.25", {"d": -0.25}),
        ("mae=٣ (was mae=4)", {"mae": 4}),
    ],
)
def test_a_description_that_somebody_edited_is_read_for_what_it_has(twin, job, model, description, metrics):
    registry = VertexRegistry(job)
    registry.register(model(5))
    twin.models[resource(job)].version("1").version_description = description
    assert [version.metrics for version in registry.versions()] == [metrics]


def test_an_operation_of_a_later_page_is_waited_for(twin, job, model, monkeypatch):
    from google.cloud.aiplatform_v1 import types

    monkeypatch.setattr(twin, "longest_page", 2)
    registry, may_end, ended = VertexRegistry(job), threading.Event(), []
    for day in (1, 2, 3):  # an operation each
        registry.register(model(day))
    name = twin.models[resource(job)].name
    late = lambda: [may_end.wait(30), ended.append(True), types.UploadModelResponse()][-1]  # noqa: E731
    twin.operate(name, types.UploadModelOperationMetadata(), late)
    threading.Timer(0.5, may_end.set).start()
    operations.wait_for_pending(registry._service.models, registry.name, "register", 30)
    assert ended == [True]


def test_labels_are_no_longer_than_labels_may_be(job):
    made = ModelVersion("f" * 16, "r" * 12, datetime.date(2026, 1, 5), "", "", transform_hash="e" * 64)
    labels = version_labels(job, made)
    assert max(map(len, labels.values())) <= 63
    assert "foretable_data_fingerprint" not in labels
