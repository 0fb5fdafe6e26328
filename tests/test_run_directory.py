"""Run ids, markers, and workspaces of another version."""

import datetime
import json

import pytest

from beam_jobs.workspace.run_directory import RunDirectory, derive_run_id
from configs.errors import RefusedError
from configs.loading import load_job

DATE = datetime.date(2026, 1, 2)
JOB = load_job("configs/natality.yaml")


@pytest.fixture
def run(tmp_path):
    return RunDirectory(str(tmp_path / "natality"), DATE, "0123456789ab")


def test_a_marker_comes_back_with_its_digest_and_inputs(run):
    assert run.read_marker("plan.json") is None
    run.write_marker("plan.json", {"rows": 3}, {"train": "d1"}, seconds=1.5)
    marker = run.read_marker("plan.json")
    assert (marker["rows"], marker["inputs"], marker["seconds"]) == (3, {"train": "d1"}, 1.5)
    assert run.path.endswith("natality/2026-01-02/0123456789ab")


def test_the_digest_is_of_the_body_only(run):
    run.write_marker("a.json", {"rows": 3}, {"train": "d1"}, seconds=1.5)
    run.write_marker("b.json", {"rows": 3}, {"train": "d2"}, seconds=9.0)
    run.write_marker("c.json", {"rows": 4}, {"train": "d1"}, seconds=1.5)
    digests = [run.read_marker(name)["digest"] for name in ("a.json", "b.json", "c.json")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("content", [{"format": 0, "rows": 1}, {"rows": 1}, []])
def test_a_workspace_of_another_version_is_refused_in_one_line(run, content):
    run.write_marker("plan.json", {}, {}, seconds=0)
    with open(run.file("plan.json"), "w") as file:
        json.dump(content, file)
    with pytest.raises(
        RefusedError, match=r"plan.json: format (0|None), this version of foretable reads 1; use the version"
    ):
        run.read_marker("plan.json")


def test_the_run_id_changes_with_each_thing_that_decides_the_table():
    run_id = derive_run_id(JOB, ["source"], DATE)
    assert run_id == derive_run_id(JOB, ["source"], DATE)
    others = {
        derive_run_id(load_job("configs/natality.yaml", ["model.training.seed=1"]), ["source"], DATE),
        derive_run_id(JOB, ["another source"], DATE),
        derive_run_id(JOB, ["source"], DATE + datetime.timedelta(days=1)),
    }
    assert len(others | {run_id}) == 4


def test_the_teams_own_code_is_part_of_the_run_id(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "team_features.py"
    overrides = ["model.build_model=team_features:build_model"]
    module.write_text("one")
    first = derive_run_id(load_job("configs/natality.yaml", overrides), [], DATE)
    module.write_text("two")
    assert derive_run_id(load_job("configs/natality.yaml", overrides), [], DATE) != first


def test_a_module_that_is_not_there_is_named():
    job = load_job("configs/natality.yaml", ["model.build_model=nowhere.at_all:build_model"])
    with pytest.raises(
        RefusedError, match=r"'nowhere.at_all:build_model': no module 'nowhere.at_all' on the Python path"
    ):
        derive_run_id(job, [], DATE)
