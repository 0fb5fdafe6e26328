"""When a model is trained, and which one a night scores with when none is."""

import datetime

import pytest
from conftest import NATALITY

from beam_jobs.lineage import last_blessed_model, model_definition, model_of, model_to_reuse
from beam_jobs.workspace.run_directory import RunDirectory
from configs.errors import RefusedError
from configs.loading import load_job


def day(number):
    return datetime.date(2026, 1, number)


def job(every, *overrides):
    return load_job(NATALITY, [f"model.training.every={every}", *overrides])


@pytest.fixture
def run_of(tmp_path):
    return lambda number, run_id="000000000000": RunDirectory(str(tmp_path), day(number), run_id)


@pytest.fixture
def trained(run_of):
    """Leaves the markers of a night that trained a model."""

    def leave(number, blessed=True, run_id="000000000000", job=job("run")):  # noqa: B008
        run = run_of(number, run_id)
        body = {
            "trained_in": run.path,
            "run_id": run_id,
            "run_date": run.run_date.isoformat(),
            "model_version": f"model{number}",
            "transform_hash": "hash",
            "definition": model_definition(job),
            "classes": None,
        }
        run.write_marker("training.json", body, {}, 0)
        run.write_marker("blessing.json", {"blessed": blessed}, {}, 0)
        return run

    return leave


def version(model):
    return model.model_version if model is not None else None


def test_every_run_trains(trained, run_of):
    trained(1)
    assert model_to_reuse(job("run"), run_of(2)) is None


@pytest.mark.parametrize(("night", "expected"), [(2, "model1"), (7, "model1"), (8, None), (20, None)])
def test_a_model_is_good_for_its_days(trained, run_of, night, expected):
    trained(1)
    assert version(model_to_reuse(job("7d"), run_of(night))) == expected


def test_only_a_blessed_model_is_reused(trained, run_of):
    trained(1)
    trained(2, blessed=False)
    assert version(model_to_reuse(job("7d"), run_of(3))) == "model1"


def test_a_later_nights_model_is_not_reused_by_an_earlier_one(trained, run_of):
    trained(5)
    assert model_to_reuse(job("7d"), run_of(4)) is None


def test_other_features_or_settings_need_another_model(trained, run_of):
    trained(1)
    assert model_to_reuse(job("7d", "model.network.hidden=[3]"), run_of(2)) is None
    assert version(model_to_reuse(job("3d", "publish.retention_days=9"), run_of(2))) == "model1"


def test_manual_training_reuses_for_ever_and_refuses_without_a_model(trained, run_of):
    with pytest.raises(RefusedError, match=r"every is manual and there is no blessed model; run `foretable train`"):
        model_to_reuse(job("manual"), run_of(2))
    trained(1)
    assert version(model_to_reuse(job("manual"), run_of(28))) == "model1"
    with pytest.raises(RefusedError, match="was made by other features or settings"):
        model_to_reuse(job("manual", "model.network.hidden=[3]"), run_of(28))


def test_training_on_demand_trains(trained, run_of):
    trained(1)
    assert model_to_reuse(job("manual"), run_of(2), train_now=True) is None


def test_a_night_that_trained_goes_on_with_its_own_model(trained):
    trained(1)
    own = trained(2, run_id="111111111111")
    assert model_to_reuse(job("manual"), own) is None


def test_a_night_without_training_leads_to_the_one_that_trained(trained, run_of):
    first, second = trained(1), run_of(2)
    second.write_marker("training.json", {"trained_in": first.path}, {}, 0)
    second.write_marker("blessing.json", {"blessed": True}, {}, 0)
    assert model_of(second.path).run_path == first.path
    assert version(last_blessed_model(first.job_folder)) == "model1"
    assert model_of(run_of(3).path) is None
