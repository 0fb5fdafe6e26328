"""A whole night with its workspace on `gs://`: the laptop's bytes, resumed, locked, committed once."""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import signal
import time

import pytest
from conftest import FIRST_DATE, SMALL, ListedConsole, Workspace

from beam_jobs.night import Night, Stage, run_stage
from beam_jobs.workspace import cloud_storage, leases, storage
from beam_jobs.workspace.leases import Holder
from beam_jobs.workspace.run_directory import MARKERS
from configs.errors import ForetableError, RefusedError
from configs.loading import load_job

pytestmark = pytest.mark.slow  # a whole night for each module fixture; `test_cloud_storage.py` is the quick one

DATE = ("--date", str(FIRST_DATE))


class GsWorkspace(Workspace):
    """The small job with its workspace on the storage twin."""

    def __init__(self, folder, cloud, *overrides):
        super().__init__(folder, *SMALL, *overrides)
        self.url = cloud.storage.url()
        self.overrides = (*self.overrides, *cloud.overrides(workspace=self.url))

    def start(self, name, *arguments, **settings):
        """Starts a command whose temporary files are the test's."""
        temporary = self.folder / "temporary"
        temporary.mkdir(exist_ok=True)
        settings.setdefault("env", {**os.environ, "TMPDIR": str(temporary)})
        return super().start(name, *arguments, **settings)

    def run_url(self, date=FIRST_DATE):
        """The one run directory of a date."""
        (path,) = storage.list_files(f"{self.url}/natality/{date}", "*/job.json")
        return path.rpartition("/")[0]

    def generations(self, date=FIRST_DATE):
        """What is in the run directory, in which versions."""
        found = storage.list_files(self.run_url(date), "**")
        return {path.removeprefix(f"{self.run_url(date)}/"): cloud_storage.generation_of(path) for path in found}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def night(tmp_path_factory, cloud):
    """A finished night."""
    workspace = GsWorkspace(tmp_path_factory.mktemp("gs-night"), cloud)
    workspace.first = workspace.run("run", *DATE)
    return workspace


def test_a_night_has_the_bytes_that_it_has_on_a_laptop(night, published):
    """Examples, transformed examples, axes and shards; and so the same run id."""
    local, remote = published.run_path(), night.run_url()
    assert remote.rpartition("/")[2] == local.name
    compared = {}
    for pattern in ("examples/*", "transformed_examples/*", "axes/*", "predictions/*.parquet"):
        on_disk = {str(path.relative_to(local)): sha256(path.read_bytes()) for path in local.glob(pattern)}
        in_store = {
            path.removeprefix(f"{remote}/"): sha256(storage.read_bytes(path))
            for path in storage.list_files(remote, pattern)
        }
        assert in_store == on_disk, pattern
        compared |= in_store
    shards = json.loads((local / "manifest.json").read_bytes())["manifest"]["shards"]
    assert storage.read_json(f"{remote}/manifest.json")["manifest"]["shards"] == shards
    assert {f"predictions/{shard['name']}": shard["sha256"] for shard in shards}.items() <= compared.items()


def test_the_warehouses_answer_alike(night, published):
    key = ("is_male=True", "mother_age=30.5", "plurality=Twins(2)", "gestation_weeks=36.25")
    assert night.json("lookup", *key)["row"] == published.json("lookup", *key)["row"]


def test_everything_is_there_and_nothing_else(night):
    names = set(night.generations())
    assert set(MARKERS.values()) <= names
    assert [name for name in names if name.endswith((".tmp", ".parquet.json", ".lock"))] == []
    assert {"model/saved_model.pb", "transform_output/transform_fn/saved_model.pb", "job.json"} <= names
    assert storage.list_files(f"{night.url}/natality", "**/.lock") == []


def test_the_log_is_on_this_machine_and_says_so_and_no_copy_stays(night):
    (line,) = [line for line in night.first.err.splitlines() if "log on this machine" in line]
    left = [path for path in (night.folder / "temporary").iterdir() if path.name.startswith("foretable")]
    assert {path.suffix for path in left} == {".log"}
    assert line.endswith(tuple(str(path) for path in left))
    assert pathlib.Path(line.rpartition(": ")[2]).read_text(encoding="utf-8")


def test_the_same_night_again_does_nothing(night):
    before = night.generations()
    again = night.run("run", *DATE)
    assert [line.split()[0] for line in again.err.splitlines() if " done before " in line] == list(MARKERS)
    after = night.generations()
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {"outcome.json", "report.html"}
    assert after.keys() == before.keys()


def test_status_and_runs_read_the_store(night):
    (listed,) = night.json("status")["nights"]
    assert listed["finished"] == list(MARKERS)
    assert night.json("status")["workspace"] == f"{night.url}/natality"


def test_a_missing_marker_is_done_again_to_the_same_bytes(night):
    before = storage.read_json(f"{night.run_url()}/manifest.json")["manifest"]
    shards = {name: version for name, version in night.generations().items() if name.startswith("predictions/")}
    cloud_storage.delete([f"{night.run_url()}/manifest.json"])
    night.run("precompute", *DATE)
    assert storage.read_json(f"{night.run_url()}/manifest.json")["manifest"] == before
    assert {name: night.generations()[name] for name in shards} == shards  # finished shards were kept


FOREIGN = """
name: flats
model: {{saved_model: {model}, outputs: {{rent: rent, shares: {{classes: [low, high]}}, grade: }}}}
features:
  city: {{type: string, missing: Bern}}
  area: {{type: float, missing: 80}}
  rooms: {{type: int, missing: 3}}
  is_new: {{type: int}}
input_space:
  axes:
    city: {{values: [Basel, Bern, Zürich, null]}}
    area: {{range: [10, 200], step: 0.05, missing: true}}
    rooms: {{range: [1, 8], missing: true}}
    is_new: {{values: [0, 1]}}
precompute: {{shard_blocks: 1}}
"""


class FlatsWorkspace(GsWorkspace):
    """A job over a foreign model that lies on `gs://` itself: 274,000 points in 5 blocks, one a shard."""

    def __init__(self, folder, cloud, model):
        super().__init__(folder, cloud)
        self.model = f"{self.url}-model"
        for path in pathlib.Path(model).rglob("*"):
            if path.is_file():
                storage.write_bytes(f"{self.model}/{path.relative_to(model)}", path.read_bytes())
        self.job_file = folder / "flats.yaml"
        self.job_file.write_text(FOREIGN.format(model=self.model), encoding="utf-8")
        self.overrides = tuple(override for override in self.overrides if override.startswith(("w", "endpoints")))

    def command(self, name, *arguments):
        """The command line of a command on this job."""
        command = super().command(name, *arguments)
        command[4] = str(self.job_file)
        return command

    def run_url(self, date=FIRST_DATE):
        """The one run directory of a date."""
        (path,) = storage.list_files(f"{self.url}/flats/{date}", "*/job.json")
        return path.rpartition("/")[0]


@pytest.fixture(scope="module")
def foreign_model(tmp_path_factory):
    from test_foreign_model import FlatModel, save

    return save(FlatModel(), tmp_path_factory.mktemp("flats") / "model")


@pytest.fixture
def flats(tmp_path, cloud, foreign_model):
    return FlatsWorkspace(tmp_path, cloud, foreign_model)


def test_a_foreign_model_on_gs_is_scored_and_published(flats):
    done = flats.json("run", *DATE)
    assert done["rows"] == 4 * 3802 * 9 * 2
    records = storage.read_json(f"{flats.run_url()}/manifest.json")["manifest"]["shards"]
    hashes = {path.rpartition("/")[2]: sha256(storage.read_bytes(path)) for path in shards_of(flats)}
    assert hashes == {record["name"]: record["sha256"] for record in records}
    storage.write_bytes(f"{flats.model}/another.txt", b"another model")
    assert len(storage.list_files(f"{flats.url}/flats", "*/*/job.json")) == 1
    flats.run("plan", *DATE)
    assert len(storage.list_files(f"{flats.url}/flats", "*/*/job.json")) == 2  # its files are part of the run's id


def shards_of(workspace):
    return storage.list_files(f"{workspace.run_url()}/predictions", "part-*.parquet")


def test_of_two_runs_at_once_exactly_one_works(flats):
    runs = [flats.start("run", *DATE) for _ in range(2)]
    outputs = [run.communicate()[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 3], outputs
    (refused,) = [output for run, output in zip(runs, outputs, strict=True) if run.returncode == 3]
    assert "flats for 2026-01-05 is running already (process " in refused
    assert storage.list_files(f"{flats.url}/flats", "**/.lock") == []


@pytest.mark.slow
def test_a_run_killed_while_it_writes_shards_goes_on_from_there(tmp_path, cloud, foreign_model):
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed = FlatsWorkspace(tmp_path / "undisturbed", cloud, foreign_model)
    undisturbed.run("run", *DATE)
    killed = FlatsWorkspace(tmp_path / "killed", cloud, foreign_model)
    process = killed.start("run", *DATE)
    until = time.monotonic() + 240
    while time.monotonic() < until and not storage.list_files(killed.url, "flats/*/*/predictions/part-*.parquet"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = {path: cloud_storage.generation_of(path) for path in shards_of(killed)}
    assert finished
    assert not storage.exists(f"{killed.run_url()}/manifest.json")
    killed.run("run", *DATE)  # at once: the dead holder was a process of this machine
    assert {path: cloud_storage.generation_of(path) for path in finished} == finished
    expected, found = (
        storage.read_json(f"{workspace.run_url()}/manifest.json")["manifest"]["shards"]
        for workspace in (undisturbed, killed)
    )
    assert found == expected


@pytest.fixture
def stage_night(cloud, tmp_path):
    """A night in this process, and what a stage of it did."""
    job = load_job(Workspace(tmp_path).command("run")[4], [*SMALL, *cloud.overrides()])
    return Night.of(job, "natality.yaml", datetime.date(2026, 1, 5), ListedConsole())


def one_stage(work):
    """A stage without requirements, whose marker is `examples.json`."""
    return Stage("prepare", (), work, lambda marker: "done", makes_model=True)


def test_a_run_whose_lock_was_taken_commits_nothing(stage_night):
    def lose_the_lock(night):
        path = storage.join(night.run.job_folder, "2026-01-05", ".lock")
        theirs = {"owner": "another", "host": "elsewhere", "machine": "another"}
        holder = dataclasses.replace(Holder(**storage.read_json(path)), **theirs)
        storage.write_json(path, dataclasses.asdict(holder))
        return {"rows": 1}

    with stage_night.working(), pytest.raises(RefusedError, match=r"this run lost its lock .* on elsewhere since"):
        run_stage(one_stage(lose_the_lock), stage_night)
    assert stage_night.run.read_marker("examples.json") is None


def test_a_run_that_another_one_overtook_commits_nothing(stage_night):
    """Even if both believe to hold the lock, one marker is committed, once."""

    def be_overtaken(night):
        night.run.write_marker("examples.json", {"rows": 2}, {}, 1.0, replacing=0)
        return {"rows": 1}

    with (
        stage_night.working(),
        pytest.raises(ForetableError, match=r"examples\.json: somebody else wrote it meanwhile"),
    ):
        run_stage(one_stage(be_overtaken), stage_night)
    assert stage_night.run.read_marker("examples.json")["rows"] == 2


def test_a_lease_outlives_a_stage_of_any_length(stage_night, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
    with stage_night.working():
        run_stage(one_stage(lambda night: time.sleep(1.5) or {"rows": 1}), stage_night)
    assert stage_night.run.read_marker("examples.json")["rows"] == 1


def test_what_cloud_storage_says_in_a_stage_is_one_line(stage_night):
    def read_from_nowhere(night):
        from apache_beam.io.filesystems import FileSystems

        FileSystems.match(["gs://no-such-bucket/a/*"])

    with stage_night.working(), pytest.raises(ForetableError) as caught:
        run_stage(one_stage(read_from_nowhere), stage_night)
    assert str(caught.value).startswith(
        "prepare: gs://no-such-bucket: there is no bucket 'no-such-bucket'; make it with "
    )


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["workspace=gs://bkt/x"], "workspace: 'gs://bkt/x': expected a local folder beside a duckdb warehouse"),
        (["workspace=s3://bkt/x"], "workspace: 's3://bkt/x': expected a local folder, or gs://bucket/folder"),
        (["workspace=gs://"], "workspace: 'gs://': expected a local folder, or gs://bucket/folder"),
        (
            ["warehouse={kind: duckdb, path: 'gs://bkt/x.duckdb'}"],
            "warehouse.path: 'gs://bkt/x.duckdb': expected a local path: DuckDB cannot write behind a URL",
        ),
    ],
    ids=["duckdb", "scheme", "no bucket", "catalog"],
)
def test_a_workspace_that_cannot_be_is_refused_before_anything(tmp_path, overrides, problem):
    job_file = Workspace(tmp_path).command("run")[4]
    with pytest.raises(ForetableError) as caught:
        load_job(job_file, overrides)
    (line,) = str(caught.value).splitlines()
    assert problem in line


def test_no_bucket_is_one_line_at_the_first_write(tmp_path, cloud):
    workspace = GsWorkspace(tmp_path, cloud)
    workspace.overrides = (*workspace.overrides, "workspace=gs://no-such-bucket/x")
    failed = workspace.run("prepare", *DATE, code=5)
    (line,) = [line for line in failed.err.splitlines() if line.startswith("error:")]
    assert (
        "there is no bucket 'no-such-bucket'; make it with `gcloud storage buckets create gs://no-such-bucket`" in line
    )
