"""Publishing to the cloud under every fault at every call, and killed before and after every call.

Whatever happens, the rerun ends in the rows of the undisturbed night; readers see last night's table or tonight's, whole;
no night is on record twice; and no table stays for ever that nobody reads.

`make test-faults` tries every fault at every call, for more than an hour. Without `FORETABLE_ALL_FAULTS=1` publishing is
killed at every 31st of its calls, refused for good at every 61st, and never answered at every 31st; a workspace is killed,
and never answered, at every fifth; and a reset that comes late comes only to a workspace.
"""

import itertools
import json
import os

import pytest
from cloud_nights import CloudWorkspace, files_of, shard_hashes
from conftest import FIRST_DATE, SECOND_DATE, SMALL
from fault_trials import LONGEST_COMMAND_SECONDS, FinishedNight, Trials
from forked_commands import MARKERS, MODEL_FILES, SHARD, Forks, write_objects
from twins.faults import PASSING, Faults, every, first_tries, from_call, once, refusal, silence

pytestmark = pytest.mark.slow

TINY = (
    *SMALL,
    "input_space.axes.mother_age={values: [20, 30.5]}",
    "input_space.axes.gestation_weeks={values: [38, 39.25]}",
    "model.training.every=run",
    "publish.retention_days=3",  # every night some older one goes
)
LASTING = (
    refusal(403, "Access Denied: Permission denied on the resource (or it may not exist)."),
    refusal(401, "Request had invalid authentication credentials."),
)
ALL = os.environ.get("FORETABLE_ALL_FAULTS") == "1"
STRIDE = 1 if ALL else 5
PUBLISHING_STRIDE = 1 if ALL else 31
LASTING_STRIDE = 1 if ALL else 61  # odd: of two lasting refusals each has its turn
PARTS = range(4 if ALL else 1)  # of a test that takes long, for several processes
QUICK = PASSING if ALL else [fault for fault in PASSING if not fault.__name__.startswith("late")]
SILENCES = [[silence()], [silence(acts=True)]] if ALL else [[silence(), silence(acts=True)]]


@pytest.fixture(scope="module")
def forks():
    return Forks()


@pytest.fixture(scope="module")
def nights(cloud):
    """Two nights that differ in every prediction."""
    workspace = CloudWorkspace(cloud, *TINY)
    found = []
    for seed, date in enumerate((FIRST_DATE, SECOND_DATE)):
        overrides = (*TINY, f"model.training.seed={seed}")
        CloudWorkspace(cloud, *overrides, url=workspace.url, dataset=workspace.dataset).run("run", "--date", str(date))
        found.append(FinishedNight.of(workspace, date, overrides))
    assert found[0].content != found[1].content
    return found


@pytest.fixture
def trials(cloud, forks, nights, tmp_path):
    with Trials(cloud, forks, nights, tmp_path / "log.txt").running() as running, running.readers():
        yield running


@pytest.fixture
def tried(record_property):
    """Notes how often something was tried; the test run says it at its end."""
    return lambda what, times=1: record_property("tried", [what, times])


def each_call(trials, schedule_of, part, stride=PUBLISHING_STRIDE):
    """A new night for each call that publishing makes, disturbed at that call; yields the call and the exit code.

    Of all calls, those of a part.
    """
    for call in itertools.count(part * stride, len(PARTS) * stride):
        trials.new_night()
        trials.weather.start(schedule_of(call))
        code = trials.publish()
        trials.weather.stop()
        if not trials.weather.happened:
            assert code == 0
            assert call > 20, f"publishing made {call} calls: some went another way"
            return
        yield call, code
    raise AssertionError


def assert_nothing_half_seen(trials):
    assert trials.seen <= {night.content for night in trials.nights}


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.__name__)
def test_publishing_outlives_a_fault_at_every_call(trials, fault, tried):
    for _ in range(len(trials.nights) if ALL else 1):
        trials.new_night()
        trials.weather.start(first_tries(fault))
        assert trials.publish() == 0, trials.log.read_text()
        trials.weather.stop()
        trials.check()
        assert trials.weather.happened > 20
        tried(f"publishing outlived {fault.__name__}", trials.weather.happened)
    assert_nothing_half_seen(trials)


def silent_at(silences, stride):
    """A schedule: each call has the silence at its first try; or where not all are to be tried, each `stride`-th call."""
    return first_tries(silences[0]) if ALL else every(stride, silences)


@pytest.mark.parametrize("silences", SILENCES, ids=lambda silences: " or ".join(fault.__name__ for fault in silences))
def test_publishing_does_not_wait_for_a_server_that_never_answers(trials, silences, tried):
    """Clients give up by themselves, and try again: no call is without a time limit."""
    trials.new_night()
    trials.weather.start(silent_at(silences, PUBLISHING_STRIDE))
    assert trials.publish() == 0, trials.log.read_text()
    trials.weather.stop()
    trials.check()
    assert trials.weather.happened > (20 if ALL else 1)
    tried("publishing outlived a server that never answered", trials.weather.happened)
    assert_nothing_half_seen(trials)


@pytest.mark.parametrize("part", PARTS)
def test_publishing_killed_after_any_call_is_finished_by_a_rerun(trials, part, tried):
    """When the server has acted: for what is there then, a kill before the next call is the same."""
    for call, code in each_call(trials, lambda call: once(call, trials.weather.kill(acts=True)), part):
        assert code == -9
        assert trials.content() in {night.content for night in trials.nights}
        assert trials.publish() == 0, f"killed at call {call}\n{trials.log.read_text()}"
        trials.check()
        tried("publishing was killed after a call")
    assert_nothing_half_seen(trials)


@pytest.mark.parametrize("part", PARTS)
def test_publishing_refused_from_any_call_on_says_so_in_one_line(trials, part, tried):
    """Permission denied and credentials expired, in turn: nothing that a retry mends."""
    for call, code in each_call(
        trials, lambda call: from_call(call, LASTING[call % len(LASTING)]), part, LASTING_STRIDE
    ):
        assert code != 0
        line, where = trials.error(), f"call {call}, {trials.weather.calls[call]}"
        assert ("permission", "credentials")[call % len(LASTING)] in line, f"{where}: {line}"
        assert trials.content() in {night.content for night in trials.nights}
        assert trials.publish() == 0, f"{where}\n{trials.log.read_text()}"
        trials.check()
        tried("publishing was refused from a call on")
    assert_nothing_half_seen(trials)


@pytest.fixture
def objects(cloud, forks, tmp_path):
    """Runs a script of everything that a workspace is written with, its storage reached through faults."""
    weather = Faults()
    with weather.before(cloud.storage.endpoint) as (address,):

        def run(url):
            settings = cloud.overrides(url, "unused", storage=address)
            process = forks.start(write_objects, url, settings, str(tmp_path / "log.txt"))
            weather.victim = process.pid
            process.join(LONGEST_COMMAND_SECONDS)
            assert not process.is_alive(), f"hangs after {weather.calls[-1]}"
            return process.exitcode

        def check(url):
            folder = cloud.storage.folder / url.removeprefix("gs://")
            found = files_of(folder)
            assert {name: json.loads(found.pop(name)) for name in MARKERS} == MARKERS
            assert found.pop("predictions/part-0.parquet") == SHARD
            assert found == {f"model/{name}": name.encode() * 1000 for name in MODEL_FILES}

        weather.run, weather.check, weather.log = run, check, tmp_path / "log.txt"
        yield weather


def each_object_call(objects, cloud, schedule_of):
    for call in itertools.count(step=STRIDE):
        url = cloud.storage.url()
        objects.start(schedule_of(call))
        code = objects.run(url)
        objects.stop()
        if not objects.happened:
            assert code == 0, objects.log.read_text()
            assert call > 10
            return
        yield url, call, code


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
def test_a_workspace_outlives_a_fault_at_every_call(objects, cloud, fault, tried):
    url = cloud.storage.url()
    objects.start(first_tries(fault))
    assert objects.run(url) == 0, objects.log.read_text()
    objects.check(url)
    assert objects.happened > 10
    tried(f"the workspace outlived {fault.__name__}", objects.happened)


@pytest.mark.parametrize("silences", SILENCES, ids=lambda silences: " or ".join(fault.__name__ for fault in silences))
def test_a_workspace_does_not_wait_for_a_server_that_never_answers(objects, cloud, silences, tried):
    url = cloud.storage.url()
    objects.start(silent_at(silences, STRIDE))
    assert objects.run(url) == 0, objects.log.read_text()
    objects.check(url)
    assert objects.happened > (10 if ALL else 4)
    tried("the workspace outlived a server that never answered", objects.happened)


@pytest.mark.parametrize("acts", [False, True], ids=["before_it", "after_it"])
def test_a_workspace_killed_at_any_call_is_finished_by_a_rerun(objects, cloud, acts, tried):
    for url, call, code in each_object_call(objects, cloud, lambda call: once(call, objects.kill(acts))):
        assert code == -9
        assert objects.run(url) == 0, f"killed at call {call}, {objects.calls[call]}\n{objects.log.read_text()}"
        objects.check(url)
        tried(f"the workspace was killed {'after' if acts else 'before'} a call")


def test_a_night_on_a_bad_network_ends_in_the_same_bytes(cloud, nights, tmp_path, tried):
    """Beam's own client among others: every seventh call of a whole night has a fault, of each kind in turn."""
    weather = Faults()
    with weather.before(cloud.bigquery.endpoint, cloud.storage.endpoint) as (bigquery, objects):
        workspace = CloudWorkspace(cloud, *nights[0].overrides, bigquery=bigquery, storage=objects)
        weather.start(every(7, PASSING))
        workspace.run("run", "--date", str(FIRST_DATE))
    hashes = json.loads(nights[0].files["manifest.json"])["manifest"]["shards"]
    assert shard_hashes(workspace) == {shard["name"]: shard["sha256"] for shard in hashes}
    assert FinishedNight.of(workspace, FIRST_DATE, ()).content == nights[0].content
    tried("a whole night outlived a fault", weather.happened)
