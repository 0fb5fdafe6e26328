"""The versions of a job's model, as the workspace tells of them, and the one that a name means."""

import datetime

import pytest
from conftest import NATALITY
from nights import make_night, publish

from beam_jobs.commands.reading import list_models
from beam_jobs.lineage import chosen_model, model_definition, published_model
from beam_jobs.model_registry import ModelVersion, WorkspaceRegistry, find_version, open_registry
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.errors import JobError, RefusedError
from configs.loading import load_job


@pytest.fixture
def job(tmp_path):
    return load_job(NATALITY, [f"workspace={tmp_path}"])


@pytest.fixture
def trained(job, tmp_path):
    """Leaves the markers of a night that trained a model, in the order of the calls."""
    clock = iter(range(60))

    def leave(day, model, blessed=True, mae=0.5, trained_in=None):
        run = RunDirectory(job_folder(job), datetime.date(2026, 1, day), f"{day:012d}")
        body = {"trained_in": run.path, "run_id": run.run_id, "run_date": run.run_date.isoformat(), "classes": None}
        body |= {"model_version": model, "transform_hash": "t", "definition": model_definition(job)}
        if trained_in is not None:
            body = {"trained_in": trained_in.path, "model_version": model}
        run.write_marker("training.json", body | {"data_fingerprint": f"of {day}"}, {}, 0)
        path = run.file("training.json")
        storage.write_json(path, storage.read_json(path) | {"finished_at": f"2026-02-01T00:{next(clock):02d}:00"})
        if blessed is not None:
            metrics = {"mae": mae, "r2": None, "example_count": 9}
            run.write_marker("blessing.json", {"blessed": blessed, "model_version": model, "metrics": metrics}, {}, 0)
        return run

    return leave


def published(job, tmp_path, day, model):
    """A published night whose predictions are those of the model."""
    night = make_night(tmp_path / "shards", run_date=datetime.date(2026, 1, day), run_id=f"{day:012d}")
    manifest = type(night.manifest)(**{**vars(night.manifest), "model_version": model})
    return publish(open_warehouse(job), type(night)(**{**vars(night), "manifest": manifest}))


def shown(versions):
    return [(each.version, each.model_version, each.blessed, each.aliases) for each in versions]


def test_an_empty_workspace(job):
    assert open_registry(job).versions() == []
    assert list_models(job, open_warehouse(job)) == []


def test_versions_are_numbered_as_they_were_trained_and_listed_newest_first(job, trained, tmp_path):
    trained(5, "aaa")
    trained(3, "bbb", blessed=False)  # an earlier date, run later
    trained(6, "ccc", blessed=None)
    registry = WorkspaceRegistry(job)
    assert shown(registry.versions()) == [
        ("3", "ccc", None, ()),
        ("2", "bbb", False, ()),
        ("1", "aaa", True, ("challenger",)),
    ]
    assert registry.versions()[-1] == ModelVersion(
        model_version="aaa",
        run_id="000000000005",
        run_date=datetime.date(2026, 1, 5),
        run_path=f"{job_folder(job)}/2026-01-05/000000000005",
        model_path=f"{job_folder(job)}/2026-01-05/000000000005/model",
        version="1",
        aliases=("challenger",),
        metrics={"mae": 0.5, "example_count": 9},
        blessed=True,
        transform_hash="t",
        data_fingerprint="of 5",
    )


def test_the_champion_is_the_model_that_readers_see_and_a_challenger_is_newer(job, trained, tmp_path):
    trained(1, "aaa")
    trained(2, "bbb")
    published(job, tmp_path, 1, "aaa")
    assert shown(WorkspaceRegistry(job).versions()) == [
        ("2", "bbb", True, ("challenger",)),
        ("1", "aaa", True, ("champion",)),
    ]
    published(job, tmp_path, 2, "bbb")
    assert shown(WorkspaceRegistry(job).versions()) == [("2", "bbb", True, ("champion",)), ("1", "aaa", True, ())]
    open_warehouse(job).rollback(job.name, datetime.date(2026, 1, 1))
    assert shown(WorkspaceRegistry(job).versions()) == [("2", "bbb", True, ()), ("1", "aaa", True, ("champion",))]


def test_a_night_that_took_over_a_model_is_no_version(job, trained):
    first = trained(1, "aaa")
    trained(2, "aaa", trained_in=first)
    assert shown(WorkspaceRegistry(job).versions()) == [("1", "aaa", True, ("challenger",))]


def test_two_nights_that_made_the_same_model_are_one_version_of_the_first_that_blessed_it(job, trained):
    trained(1, "aaa", blessed=False)
    trained(2, "aaa")
    trained(3, "aaa")
    (version,) = WorkspaceRegistry(job).versions()
    assert (version.version, version.run_date.day, version.blessed) == ("1", 2, True)


def test_registering_and_promoting_change_nothing(job, trained):
    trained(1, "aaa")
    registry = WorkspaceRegistry(job)
    (version,) = registry.versions()
    assert registry.register(version) == registry.promote("aaa") == version
    assert registry.promote("zzz") is None


def test_the_listing_says_which_model_the_table_comes_from(job, trained, tmp_path):
    trained(1, "aaa", mae=0.25)
    trained(2, "bbb", blessed=False)
    published(job, tmp_path, 1, "aaa")
    newest, oldest = list_models(job, open_warehouse(job))
    assert (newest["model_version"], newest["is_published"], newest["blessed"]) == ("bbb", False, False)
    assert (oldest["model_version"], oldest["is_published"], oldest["metrics"]["mae"]) == ("aaa", True, 0.25)
    assert (oldest["run_date"], oldest["aliases"], oldest["version"]) == ("2026-01-01", ["champion"], "1")


def version(number, model, *aliases):
    return ModelVersion(model, "r", datetime.date(2026, 1, 1), "run", "run/model", number, aliases)


VERSIONS = [version("3", "c0ffee00", "champion"), version("2", "facade11", "challenger"), version("", "deadbeef")]


@pytest.mark.parametrize(
    ("name", "model"),
    [("3", "c0ffee00"), ("champion", "c0ffee00"), ("facade11", "facade11"), ("deadbeef", "deadbeef")],
)
def test_a_version_by_number_alias_or_digest(name, model):
    assert find_version(VERSIONS, name, "job.yaml").model_version == model


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("chalenger", "challenger"), ("c0ffee", "c0ffee00"), ("7", "3, champion, c0ffee00"), ("", "3, champion")],
)
def test_an_unknown_version_names_the_nearest(name, nearest):
    with pytest.raises(JobError, match=f"^--model {name}: no such version; nearest: {nearest}") as caught:
        find_version(VERSIONS, name, "job.yaml")
    assert str(caught.value).endswith("; see `foretable models job.yaml`")
    assert "\n" not in str(caught.value)


def test_no_version_at_all():
    with pytest.raises(JobError, match=r"--model 1: there is no model yet; run `foretable run job\.yaml`"):
        find_version([], "1", "job.yaml")


def test_the_model_of_a_published_table_is_found_where_the_night_has_another(job, trained):
    trained(1, "aaa")
    second = trained(2, "bbb")
    assert published_model(second.path, "bbb").model_version == "bbb"
    assert published_model(second.path, "aaa").run_date == datetime.date(2026, 1, 1)
    assert published_model(second.path, "zzz") is None


def test_a_chosen_model_that_is_gone_is_an_error(job, trained):
    first, second = trained(1, "aaa"), trained(2, "bbb")
    assert chosen_model(second.path) is None
    storage.write_json(second.file("chosen_model.json"), {"run_path": first.path, "model_version": "aaa"})
    assert chosen_model(second.path).model_version == "aaa"
    trained(1, "retrained")
    with pytest.raises(RefusedError, match=r"model aaa is not in .* any more; run `foretable precompute`"):
        chosen_model(second.path)
    storage.write_json(second.file("chosen_model.json"), {})
    assert chosen_model(second.path) is None
