"""Scoring a night with another version than its own: what is redone, what is published, and the way back."""

import datetime
import json
import pathlib

import pytest
from conftest import NATALITY, SMALL, ListedConsole

from beam_jobs.commands.nights import plan_night, precompute_with, run_night, run_one_stage
from beam_jobs.commands.reading import job_status, list_models, list_runs
from beam_jobs.forecast import stage_actions
from beam_jobs.night import Night
from beam_jobs.stages import evaluate, monitor, plan, precompute, prepare, publish, train
from beam_jobs.warehouses import open_warehouse
from configs.errors import JobError, RefusedError
from configs.loading import load_job

pytestmark = pytest.mark.slow
STAGES = [s.STAGE for s in (prepare, train, evaluate, plan, precompute, publish, monitor)]
SMALLER = (*SMALL, "source.rows=2000", "input_space.axes.gestation_weeks={range: [37, 41], step: 0.5}")
UNREACHABLE = "evaluation.thresholds=[{metric: mae, upper_bound: 0.01}]"


class Nights:
    """Nights of one job in one workspace, each trained from a seed of its own."""

    def __init__(self, folder):
        self.folder = folder

    def night(self, day, *overrides):
        """The night of a day of January, with a console of its own."""
        training = f"model.training={{epochs: 1, batch_size: 256, every: run, seed: {day}}}"
        job = load_job(NATALITY, [f"workspace={self.folder}", *SMALLER, training, *overrides])
        return Night.of(job, NATALITY, datetime.date(2026, 1, day), ListedConsole())

    @property
    def job(self):
        """Of no night in particular."""
        return self.night(5).job

    def models(self):
        """Digest of the model that each night trained, by its day."""
        listed = list_models(self.job, open_warehouse(self.job))
        return {int(model["run_date"][-2:]): model for model in listed}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two published nights, and a third whose model is not blessed."""
    nights = Nights(tmp_path_factory.mktemp("nights"))
    for day in (5, 6):
        work(run_night, nights.night(day))
    with pytest.raises(RefusedError, match="is not blessed"):
        work(run_night, nights.night(7, UNREACHABLE))
    return nights


def work(function, night, *arguments):
    """Runs what a command does on the night, under its lock."""
    with night.working():
        return function(night, *arguments)


def shards(night):
    return {path.name: path.read_bytes() for path in pathlib.Path(night.run.file("predictions")).glob("*.parquet")}


def marker(night, name):
    return json.loads(pathlib.Path(night.run.file(name)).read_text())


def published_model(nights):
    return open_warehouse(nights.job).current("natality")


def test_the_versions_before(nights):
    models = nights.models()
    assert [(day, models[day]["blessed"], models[day]["is_published"]) for day in sorted(models)] == [
        (5, True, False),
        (6, True, True),
        (7, False, False),
    ]
    assert len({model["model_version"] for model in models.values()}) == 3


def test_an_earlier_version_scores_the_night_and_the_own_one_comes_back(nights):
    night, models = nights.night(6), nights.models()
    own, earlier = models[6]["model_version"], models[5]["model_version"]
    before, first = shards(night), shards(nights.night(5))
    assert before != first
    work(precompute_with, night, models[5]["version"])
    assert shards(night).keys() == before.keys()
    assert marker(night, "manifest.json")["manifest"]["model_version"] == earlier
    assert marker(night, "plan.json")["inputs"] == {"model": earlier}
    assert marker(night, "manifest.json")["inputs"].keys() == {"model", "plan"}
    assert published_model(nights).model_version == own  # until it is published

    work(run_one_stage, night, "publish")
    record = published_model(nights)
    assert (record.run_date.day, record.model_version) == (6, earlier)
    assert record.metrics["mae"] == models[5]["metrics"]["mae"] != models[6]["metrics"]["mae"]
    assert nights.models()[5]["is_published"]
    assert "champion" in nights.models()[5]["aliases"]

    again = nights.night(6)  # the scheduler's rerun keeps what a person chose
    assert {action["stage"]: action["action"] for action in stage_actions(again, STAGES)} == {
        "plan": "skip",
        "precompute": "skip",
        "publish": "skip",
        "monitor": "run",
    }
    work(run_night, again)
    assert (
        f"scoring with model {earlier}, which was chosen for this night; `foretable precompute"
        in again.console.lines[1]
    )
    assert published_model(nights).model_version == earlier

    back = nights.night(6)
    work(precompute_with, back, None)
    assert "scoring with the night's own model again" in back.console.lines
    assert shards(back) == before
    work(run_one_stage, back, "publish")
    assert published_model(nights).model_version == own
    assert published_model(nights).metrics["mae"] == models[6]["metrics"]["mae"]


def test_tonights_own_version_is_no_choice(nights):
    night = nights.night(6)
    before = marker(night, "manifest.json")
    work(precompute_with, night, nights.models()[6]["model_version"])
    assert marker(night, "manifest.json") == before


def test_a_night_whose_model_is_not_blessed_is_published_with_the_champion(nights):
    night, models = nights.night(7, UNREACHABLE), nights.models()
    with pytest.raises(RefusedError, match="is not blessed"):
        work(precompute_with, night, None)
    work(precompute_with, night, "champion")
    work(run_one_stage, night, "publish")
    record = published_model(nights)
    assert (record.run_date.day, record.model_version) == (7, models[6]["model_version"])
    (last, *_) = job_status(nights.job, open_warehouse(nights.job))["nights"]
    assert (last["refused"], last["next"]) == ([], "monitor")
    work(run_night, nights.night(7, UNREACHABLE))
    (last, *_) = list_runs(nights.job, open_warehouse(nights.job))
    assert (last["status"], last["model_version"]) == ("current", models[6]["model_version"])

    # The next night's own model is judged beside the one that readers see.
    next_night = nights.night(8)
    work(run_night, next_night)
    note = marker(next_night, "blessing.json")["baseline_note"]
    assert note == f"model {models[6]['model_version']}, published for 2026-01-07"


def test_what_cannot_be_chosen(nights):
    night, models = nights.night(6), nights.models()
    with pytest.raises(RefusedError, match=r"--model \w+: version \d, model \w+ of 2026-01-07 was not blessed in its"):
        work(precompute_with, night, models[7]["model_version"])
    with pytest.raises(JobError, match=r"--model chmpion: no such version; nearest: champion"):
        work(precompute_with, night, "chmpion")
    another = nights.night(6, "features.gestation_weeks={type: int, missing: 39}")
    with pytest.raises(
        RefusedError, match=r"--model champion: version .* the job: .*gestation_weeks is float32 in the"
    ):
        work(precompute_with, another, "champion")
    assert not pathlib.Path(night.run.file("chosen_model.json")).exists() or marker(night, "chosen_model.json") == {}


def test_a_plan_with_another_version_writes_nothing(nights):
    night = nights.night(6)
    before = marker(night, "plan.json")
    planned = plan_night(night, nights.models()[5]["version"])
    assert planned["rows"] == before["plan"]["rows"]
    assert marker(night, "plan.json") == before


def test_a_version_whose_files_are_gone(nights):
    night, model = nights.night(6), nights.models()[5]
    path = pathlib.Path(model["model_path"], "saved_model.pb")
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(RefusedError, match=r"--model \w+: the files of version 1, model .* are not in .* any more"):
            work(precompute_with, night, model["model_version"])
    finally:
        path.with_suffix(".away").rename(path)
