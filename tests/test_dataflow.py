"""Steps as Dataflow jobs: the real DataflowRunner submits to a twin of the service, which runs what it staged."""

import datetime
import os
import signal
import socket
import threading
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)
from conftest import NATALITY, ListedConsole
from interrupts import Terminal, when
from twins.dataflow import dataflow_server

from beam_jobs.dataflow import runner as dataflow
from beam_jobs.dataflow.options import dataflow_options
from beam_jobs.dataflow.service import DataflowService
from beam_jobs.night import Night
from beam_jobs.pipelines import Step, run_step
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.errors import ForetableError, JobError, RefusedError
from configs.loading import load_job

IMAGE = "region-docker.pkg.dev/proj/foretable/foretable:0.3.0"


@pytest.fixture(scope="module")
def twin(storage_twin, metadata_twin, tmp_path_factory):
    environment = {"STORAGE_EMULATOR_HOST": storage_twin.endpoint, **metadata_twin.environment}
    before = dict(os.environ)
    os.environ.update(environment)
    with dataflow_server(tmp_path_factory.mktemp("dataflow"), storage_twin, environment) as server:
        yield server
    os.environ.clear()
    os.environ.update(before)


def night_of(workspace, endpoint="http://localhost:1", runner="", beam_options=(), run_id="abcdef012345"):
    """A night of the natality job on Dataflow; steps of tests' own stand for its stages."""
    overrides = [
        f"workspace={workspace}",
        "warehouse={kind: bigquery, project: proj, dataset: births}",
        f"runner={{kind: dataflow, project: proj, region: us-central1, sdk_container_image: '{IMAGE}', {runner}}}",
        f"endpoints={{dataflow: '{endpoint}'}}",
    ]
    job = load_job(NATALITY, overrides)
    run = RunDirectory(job_folder(job), datetime.date(2026, 1, 5), run_id)
    return Night(job, NATALITY, run, ListedConsole(), tuple(beam_options))


@pytest.fixture
def night(twin, storage_twin):
    twin.jobs.clear()
    return night_of(storage_twin.url(), twin.endpoint)


def squares(night, numbers, name="squares", **settings):
    """A step that squares numbers on a worker."""
    transform = "Numbers" >> beam.Create(numbers) | "Square" >> beam.Map(lambda number: number * number)
    return Step(name, transform, night.run.file(f"{name}.json"), **settings)


def failing(night, fail, **settings):
    transform = "Once" >> beam.Create([0]) | "Fail" >> beam.Map(fail)
    return Step("failing", transform, night.run.file("failing.json"), **settings)


def waiting(night, tmp_path):
    """A step whose worker waits for the file that `free` makes."""
    gate = str(tmp_path / "gate")

    def wait(number):
        import os

        while not os.path.exists(gate):
            time.sleep(0.05)
        return number

    transform = "Once" >> beam.Create([7]) | "Wait" >> beam.Map(wait)
    return Step("waiting", transform, night.run.file("waiting.json")), lambda: open(gate, "w").close()


def is_running(twin):
    return any(job.state == "RUNNING" for job in [*twin.jobs.values()])  # another thread may add one meanwhile


class TestOptions:
    def options(self, night, step="ingest", name="job-1"):
        return PipelineOptions(dataflow_options(night, night.job.runner, step, name))

    def test_come_typed_from_the_job_file(self):
        runner = (
            "machine_type: n2-standard-8, num_workers: 2, max_workers: 20, disk_size_gb: 50, service_account: sa@proj,"
            "network: net, subnetwork: sub, use_public_ips: false, labels: {team: births}"
        )
        options = self.options(night_of("gs://bkt/ws", runner=runner))
        cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
        assert (cloud.project, cloud.region, cloud.job_name) == ("proj", "us-central1", "job-1")
        assert (cloud.temp_location, cloud.staging_location) == (
            "gs://bkt/ws/.dataflow/temp",
            "gs://bkt/ws/.dataflow/staging",
        )
        assert (cloud.service_account_email, cloud.dataflow_endpoint, cloud.no_auth) == (
            "sa@proj",
            "http://localhost:1",
            True,
        )
        assert sorted(cloud.labels) == [
            "foretable_job=natality",
            "foretable_run_date=2026-01-05",
            "foretable_run_id=abcdef012345",
            "foretable_step=ingest",
            "team=births",
        ]
        assert (workers.machine_type, workers.num_workers, workers.max_num_workers) == ("n2-standard-8", 2, 20)
        assert (workers.disk_size_gb, workers.network, workers.subnetwork) == (50, "net", "sub")
        assert (workers.use_public_ips, workers.sdk_container_image) == (False, IMAGE)

    def test_none_is_left_for_beam_to_ignore(self):
        flags = dataflow_options(night_of("gs://bkt/ws"), night_of("gs://bkt/ws").job.runner, "precompute", "job-1")
        known = PipelineOptions(flags).get_all_options(retain_unknown_options=False)
        assert {flag.removeprefix("--").partition("=")[0] for flag in flags} - {"no_use_public_ips"} <= set(known)

    def test_what_follows_a_bare_dash_goes_to_beam_and_wins(self):
        night = night_of("gs://bkt/ws", beam_options=["--max_num_workers=3", "--dataflow_service_options=enable_prime"])
        options = self.options(night)
        assert options.view_as(WorkerOptions).max_num_workers == 3
        assert options.view_as(GoogleCloudOptions).dataflow_service_options == ["enable_prime"]

    def test_temp_location_may_be_elsewhere(self):
        options = self.options(night_of("gs://bkt/ws", runner="temp_location: 'gs://other/t'"))
        cloud = options.view_as(GoogleCloudOptions)
        assert (cloud.temp_location, cloud.staging_location) == ("gs://other/t", "gs://other/t/staging")

    def test_scoring_gets_one_process_a_machine(self):
        night = night_of("gs://bkt/ws")
        assert self.options(night, "precompute").view_as(DebugOptions).experiments == ["no_use_multiple_sdk_containers"]
        assert not self.options(night, "ingest").view_as(DebugOptions).experiments

    def test_setup_file_brings_the_package_and_what_it_needs_of_the_lock(self, tmp_path):
        (tmp_path / "setup.py").write_text("setup(install_requires=['b[x]>=1'], extras_require={'dev': ['c']})")
        (tmp_path / "requirements.lock").write_text("a==1\n    # via b\nb==2\n    # via foretable (setup.py)\nc==3\n")
        night = night_of("gs://bkt/ws", runner=f"setup_file: '{tmp_path}/setup.py', sdk_container_image: null")
        setup = self.options(night).view_as(SetupOptions)
        assert (setup.setup_file, setup.requirements_cache) == (f"{tmp_path}/setup.py", "skip")
        with open(setup.requirements_file) as file:
            assert file.read() == "a==1\nb==2\n"
        assert self.options(night).view_as(SetupOptions).requirements_file == setup.requirements_file

    def test_a_setup_file_that_is_not_there(self):
        night = night_of("gs://bkt/ws", runner="setup_file: away/setup.py, sdk_container_image: null")
        with pytest.raises(JobError, match=r"^runner.setup_file: 'away/setup.py': no such file"):
            self.options(night)


def test_a_step_runs_once_and_again_where_its_output_is_gone(twin, night):
    cleared = []

    def run():
        run_step(squares(night, [3, 1, 2], clear=lambda: cleared.append(1)), night)
        return sorted(storage.read_json(night.run.file("squares.json")))

    assert run() == [1, 4, 9]
    (job,) = twin.jobs.values()
    assert job.body["name"] == "foretable-natality-squares-abcdef012345"
    assert job.body["labels"]["foretable_run_id"] == "abcdef012345"
    assert job.options["pipelineUrl"].startswith(f"{night.job.workspace}/.dataflow/staging/")
    url = f"https://console.cloud.google.com/dataflow/jobs/us-central1/{job.body['id']}?project=proj"
    assert night.console.lines[0] == f"squares      Dataflow job {job.body['name']}: {url}"
    assert night.console.lines[-1] == "squares      Dataflow: done"

    assert run() == [1, 4, 9]
    assert f"squares      Dataflow job {job.body['name']} was done before: {url}" in night.console.lines
    assert (len(twin.jobs), len(cleared)) == (1, 1)

    storage.remove_all_but(night.run.path, ())
    assert run() == [1, 4, 9]
    assert [job.body["name"] for job in twin.jobs.values()] == [job.body["name"], f"{job.body['name']}-2"]
    assert len(cleared) == 2


def test_another_version_that_wrote_over_the_output_is_not_taken_for_the_first(twin, night):
    def run(version, factor):
        output = night.run.file("scores.json")
        holds = lambda: storage.read_json(output) == [7 * factor]  # noqa: E731
        transform = "Once" >> beam.Create([7]) | "Score" >> beam.Map(lambda number: number * factor)
        run_step(Step("scores", transform, output, version, holds), night)
        assert storage.read_json(output) == [7 * factor]

    run("model A", 1)
    run("model B", 2)
    run("model A", 1)
    first, other, again = [job.body["name"] for job in twin.jobs.values()]
    assert (first == other, again) == (False, f"{first}-2")
    run("model A", 1)
    assert len(twin.jobs) == 3


def test_two_nights_and_two_versions_have_jobs_of_their_own(night):
    names = {
        dataflow.job_name(night, squares(night, [1]), 1),
        dataflow.job_name(night, squares(night, [1], version="model-1"), 1),
        dataflow.job_name(night, squares(night, [1], version="model-2"), 1),
        dataflow.job_name(night, squares(night, [1]), 2),
        dataflow.job_name(night_of("gs://bkt/ws", run_id="fff"), squares(night, [1]), 1),
    }
    assert len(names) == 5


def test_the_same_night_again_attaches_to_the_running_job(twin, night, tmp_path):
    step, free = waiting(night, tmp_path)
    first = threading.Thread(target=run_step, args=(step, night))
    first.start()
    when(lambda: is_running(twin)).join()
    when(lambda: any("attached to" in line for line in night.console.lines), free)
    run_step(step, night)
    first.join()
    assert storage.read_json(step.output) == [7]
    assert len(twin.jobs) == 1


@pytest.mark.slow
def test_a_launcher_that_saw_no_job_attaches_to_the_one_that_was_faster(twin, night, tmp_path, monkeypatch):
    step, free = waiting(night, tmp_path)
    first = threading.Thread(target=run_step, args=(step, night))
    first.start()
    when(lambda: is_running(twin)).join()
    find, looks = DataflowService.find, []

    def find_late(service, name):
        looks.append(name)
        return find(service, name) if len(looks) > 1 else []

    monkeypatch.setattr(DataflowService, "find", find_late)
    when(lambda: sum("Dataflow: running" in line for line in night.console.lines) == 2, free)
    run_step(waiting(night, tmp_path)[0], night)
    first.join()
    assert storage.read_json(step.output) == [7]
    assert len(twin.jobs) == 1


def test_our_own_error_comes_back_from_a_worker(twin, night):
    def refuse(_):
        from configs.errors import RefusedError

        raise RefusedError("births.csv: no column 'plurality'")

    with pytest.raises(RefusedError) as error:
        run_step(failing(night, refuse), night)
    (job,) = twin.jobs.values()
    url = f"https://console.cloud.google.com/dataflow/jobs/us-central1/{job.body['id']}?project=proj"
    assert str(error.value) == f"births.csv: no column 'plurality' (Dataflow job {job.body['name']}: {url})"


def test_a_failure_is_one_line_and_the_next_try_has_the_next_name(twin, night):
    for _ in range(2):
        with pytest.raises(ForetableError) as error:
            run_step(failing(night, lambda _: 1 // 0), night)
        (line,) = str(error.value).splitlines()
        assert "failed: ZeroDivisionError: integer division or modulo by zero; see https://console.cloud" in line
    name = "foretable-natality-failing-abcdef012345"
    assert [job.body["name"] for job in twin.jobs.values()] == [name, f"{name}-2"]


@pytest.mark.parametrize(
    "answer",
    ["y", pytest.param("n", marks=pytest.mark.slow), None],
    ids=["cancel", "leave", "nobody to ask"],
)
def test_an_interrupt_asks_whether_to_cancel(twin, night, tmp_path, monkeypatch, answer):
    step, free = waiting(night, tmp_path)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    when(
        lambda: night.console.lines[-1:] == ["waiting      Dataflow: running"],
        lambda: os.kill(os.getpid(), signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        run_step(step, night)
    (job,) = twin.jobs.values()
    if answer == "y":
        when(lambda: job.state == "CANCELLED").join()
        return
    command = f"gcloud dataflow jobs cancel {job.body['id']} --project=proj --region=us-central1"
    assert night.console.lines[-1] == f"waiting      and this one cancels it: {command}"
    assert job.state == "RUNNING"
    free()
    run_step(waiting(night, tmp_path)[0], night)
    assert storage.read_json(step.output) == [7]


def test_a_cancelled_job_is_no_output(twin, night, tmp_path):
    step, _ = waiting(night, tmp_path)
    when(lambda: is_running(twin), lambda: twin.cancel(*twin.jobs.values()))
    with pytest.raises(ForetableError, match=r"^waiting: Dataflow job \S+ is cancelled; see https://console"):
        run_step(step, night)


def test_a_service_that_is_not_there_is_one_line(storage_twin, twin, monkeypatch):
    monkeypatch.setattr("beam_jobs.dataflow.service._RETRY_SECONDS", 0.1)
    night = night_of(storage_twin.url(), "http://localhost:9")
    with pytest.raises(ForetableError, match=r"^dataflow in proj, us-central1: cannot find the jobs of this night: "):
        run_step(squares(night, [1]), night)


@pytest.mark.parametrize(
    "call",
    [
        lambda service: service.find("name"),
        lambda service: service.active("prefix"),
        lambda service: service.get("1"),
        lambda service: service.messages("1"),
        lambda service: service.cancel("1"),
    ],
    ids=["find", "active", "get", "messages", "cancel"],
)
def test_no_call_waits_for_a_service_that_never_answers(monkeypatch, call):
    monkeypatch.setattr("beam_jobs.dataflow.service._CALL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("beam_jobs.dataflow.service._RETRY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and nobody reads from them
        night = night_of("gs://bkt/ws", f"http://localhost:{silent.getsockname()[1]}")
        service = DataflowService(PipelineOptions(dataflow_options(night, night.job.runner, "ingest", "foretable")))
        with pytest.raises(ForetableError, match=r"^dataflow in proj, us-central1: cannot .*the same command attaches"):
            call(service)
