"""Nights of a laptop whose models go to the registry on the Vertex twin: the champion is what readers see, always."""

import datetime

import pytest
from conftest import NATALITY, SMALL, ListedConsole
from twins import vertex_faults

from beam_jobs.commands.nights import compare_backends, precompute_with, run_night, run_one_stage
from beam_jobs.commands.reading import list_models, roll_back
from beam_jobs.night import Night
from beam_jobs.vertex.registry import VertexRegistry
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import job_folder
from configs.errors import ForetableError, RefusedError
from configs.loading import load_job

pytestmark = pytest.mark.slow
SMALLER = (*SMALL, "source.rows=2000", "input_space.axes.gestation_weeks={range: [37, 41], step: 0.5}")
DAY = "2026-01-{:02d}".format


class Nights:
    """Nights of one job on the twins, each trained from a seed of its own."""

    def __init__(self, cloud, vertex_twin):
        self.twin = vertex_twin
        vertex = f"vertex={{project: {vertex_twin.project}, region: {vertex_twin.region}}}"
        self.overrides = (*cloud.overrides(vertex=vertex_twin.endpoint), vertex, *SMALLER, "name=registry_nights")

    def run(self, day, function=run_night, *arguments, sets=()):
        """Runs a command on the night of a day of January; returns its console's lines."""
        training = f"model.training={{epochs: 1, batch_size: 256, every: run, seed: {day}}}"
        job = load_job(NATALITY, [*self.overrides, training, *sets])
        night = Night.of(job, NATALITY, datetime.date(2026, 1, day), ListedConsole())
        with night.working():
            function(night, *arguments)
        return night.console.lines

    @property
    def job(self):
        """Of no night in particular."""
        return load_job(NATALITY, self.overrides)

    def aliases(self):
        """By the night that trained the version."""
        return {version.run_date.day: version.aliases for version in VertexRegistry(self.job).versions()}


@pytest.fixture(scope="module")
def nights(cloud, vertex_twin):
    return Nights(cloud, vertex_twin)


def test_the_champion_is_what_readers_see(nights):
    lines = nights.run(6)
    name = "projects/proj/locations/us-central1/models/foretable-registry-nights@1"
    assert next(line for line in lines if "registered: " in line).endswith(f" of 2026-01-06, {name}")
    assert next(line for line in lines if "champion: " in line).endswith(f" of 2026-01-06, {name}")
    assert nights.aliases() == {6: ("champion", "default")}

    lines = nights.run(5)  # late: readers go on seeing the night of the 6th
    assert not [line for line in lines if "champion: " in line]
    assert nights.aliases() == {6: ("champion", "default"), 5: ("challenger",)}

    # Readers are switched, and the alias is refused: the same command makes up for it.
    refused = vertex_faults.permission_denied("aiplatform.models.update")
    nights.twin.faults.on_call("POST", ":mergeVersionAliases$", refused)
    with pytest.raises(
        ForetableError, match=r"^publish: readers see registry_nights_20260107_\w+, but its model is no champion yet"
    ):
        nights.run(7)
    assert open_warehouse(nights.job).current("registry_nights").run_date == datetime.date(2026, 1, 7)
    assert nights.aliases() == {7: ("challenger",), 6: ("champion", "default"), 5: ()}
    nights.run(7)
    assert nights.aliases() == {7: ("champion", "default"), 6: (), 5: ()}

    record = roll_back(nights.job, open_warehouse(nights.job), datetime.date(2026, 1, 5))
    assert record["champion"].endswith("/foretable-registry-nights@2")
    assert nights.aliases() == {7: (), 6: (), 5: ("champion", "default")}
    nights.twin.faults.on_call("POST", ":mergeVersionAliases$", refused)
    with pytest.raises(
        ForetableError, match=r"^registry_nights_predictions is the night of 2026-01-07 again, but its mo"
    ):
        roll_back(nights.job, open_warehouse(nights.job), datetime.date(2026, 1, 7))
    roll_back(nights.job, open_warehouse(nights.job), datetime.date(2026, 1, 7))
    assert nights.aliases() == {7: ("champion", "default"), 6: (), 5: ()}

    # The night is scored with another version, by its number in the registry.
    nights.run(7, precompute_with, "1")
    assert nights.aliases()[7] == ("champion", "default")
    nights.run(7, run_one_stage, "publish")
    assert nights.aliases() == {7: (), 6: ("champion", "default"), 5: ()}

    listed = list_models(nights.job, open_warehouse(nights.job))
    assert [(model["version"], model["run_date"], model["is_published"], model["blessed"]) for model in listed] == [
        ("3", DAY(7), False, True),
        ("1", DAY(6), True, True),
        ("2", DAY(5), False, True),
    ]
    assert listed[0]["metrics"].keys() >= {"mae", "rmse", "r2", "example_count"}
    assert len({model["data_fingerprint"] for model in listed}) == 1
    assert all(len(model["data_fingerprint"]) == 32 for model in listed)


def test_parity_of_a_model_that_nobody_judged_registers_nothing_and_the_next_night_may_score_with_it(nights):
    """`foretable train` and then `foretable parity`: its version would count as blessed."""
    before, precompute = nights.aliases(), ["precompute={on: vertex_batch}"]
    for stage in ("prepare", "train"):
        nights.run(8, run_one_stage, stage, sets=precompute)
    asked = r"^model \w+ of 2026-01-08 was not judged yet, .*; run `foretable evaluate .* --date 2026-01-08` first$"
    with pytest.raises(RefusedError, match=asked):
        nights.run(8, compare_backends, 20, 0, 1e-6, sets=precompute)
    assert nights.aliases() == before
    nights.run(8, run_one_stage, "evaluate", sets=precompute)
    nights.run(8, compare_backends, 20, 0, 1e-6, sets=precompute)
    assert nights.aliases()[8][0] == "challenger"
    assert VertexRegistry(nights.job).versions()[0].metrics.keys() >= {"mae", "example_count"}

    # The next night is scored by batch prediction with that version, and so its manifest says.
    for stage in ("prepare", "train"):
        nights.run(9, run_one_stage, stage, sets=precompute)
    nights.run(9, precompute_with, "challenger", sets=precompute)
    version = VertexRegistry(nights.job).versions()[0]
    job = nights.twin.jobs("batch", "-registry-nights-precompute-")[-1].message
    assert (job.model.rpartition("@")[2], job.labels["foretable_run_date"]) == (version.version, DAY(9))
    (path,) = storage.list_files(job_folder(nights.job), f"{DAY(9)}/*/manifest.json")
    manifest = storage.read_json(path)["manifest"]
    assert (manifest["backend"], manifest["model_version"]) == ("vertex_batch", version.model_version)
