"""A night that is killed at any moment and run again ends in the same bytes, and readers never see half of one."""

import contextlib
import hashlib
import math
import os
import threading
import time

import duckdb
import pytest
from conftest import FIRST_DATE, SECOND_DATE, SMALL, Workspace
from forked_commands import Forks, run_command

from beam_jobs.workspace import run_directory

pytestmark = pytest.mark.slow

MARKERS = frozenset(run_directory.MARKERS.values())
EVERY_NIGHT = (*SMALL, "model.training.every=run")
LONGEST_NIGHT_SECONDS = 240
PRELOADED = ("forked_commands", "beam_jobs.cli", "beam_jobs.commands.nights", "tensorflow", "tensorflow_transform")


def shard_hashes(workspace, date):
    shards = sorted((workspace.run_path(date) / "predictions").glob("part-*.parquet"))
    return {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards}


def published_rows(workspace):
    """Everything that readers see, as one number for each row's content."""
    with duckdb.connect(str(workspace.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        return connection.sql("SELECT count(*), sum(hash(p)), bit_xor(hash(p)) FROM natality_predictions p").fetchall()[
            0
        ]


def files_of(folder):
    """Files of a night and their sizes, as far as they change from step to step of it."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in set(names) - {"log.txt", ".lock"}:
            with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
                found[os.path.join(parent, name)] = os.stat(os.path.join(parent, name)).st_size
    return found


def finished_stages(folder):
    """When each stage that is done wrote its marker."""
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names if name in MARKERS]
    return {os.path.basename(path): os.stat(path).st_mtime_ns for path in paths}


def kill_in_a_stage(process, job_folder, night_folder, changes_allowed):
    """Kills the process once files have changed as often, since the last stage ended, as this stage is allowed.

    Args:
        changes_allowed: by the number of finished stages: 0 to begin with, so that each stage is killed as it begins,
            then more each time.

    Returns:
        The number of finished stages, or None if the night came to its end.
    """
    seen, finished, count = files_of(job_folder), len(finished_stages(night_folder)), 0
    deadline = time.monotonic() + LONGEST_NIGHT_SECONDS
    while process.is_alive():
        assert time.monotonic() < deadline, "the night hangs"
        now = files_of(job_folder)
        if now != seen:
            seen, count = now, count + 1
            if len(finished_stages(night_folder)) != finished:
                finished, count = len(finished_stages(night_folder)), 0
        if count >= changes_allowed[finished]:
            process.kill()
            process.join()
            changes_allowed[finished] = 2 * changes_allowed[finished] + 1
            return finished
        time.sleep(0.005)
    process.join()
    assert process.exitcode == 0
    return None


class Reader(threading.Thread):
    """Asks for the published rows again and again, and keeps every answer that it ever got."""

    def __init__(self, workspace):
        super().__init__(daemon=True)
        self.workspace, self.answers, self.errors, self.stop = workspace, set(), [], threading.Event()

    def run(self):
        while not self.stop.wait(0.05):
            try:
                self.answers.add(published_rows(self.workspace))
            except duckdb.Error as error:
                self.errors.append(str(error))


@pytest.fixture(scope="module")
def forks():
    """Nights without the long imports: a process that is forked dies by `kill -9` as any other."""
    return Forks(PRELOADED)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"), *EVERY_NIGHT)
    rows = []
    for date, seed in ((FIRST_DATE, 0), (SECOND_DATE, 1)):
        night = Workspace(workspace.folder, *EVERY_NIGHT, f"model.training.seed={seed}")
        night.run("run", "--date", str(date))
        rows.append(published_rows(night))
    return workspace, rows


def test_killed_in_every_stage_and_rerun(undisturbed, forks, tmp_path):
    """Each rerun gets a little further before it is killed too; what it finished is never done again."""
    expected, (first_rows, second_rows) = undisturbed
    first = Workspace(tmp_path, *EVERY_NIGHT, "model.training.seed=0")
    first.run("run", "--date", str(FIRST_DATE))
    assert published_rows(first) == first_rows
    second = Workspace(tmp_path, *EVERY_NIGHT, "model.training.seed=1")
    reader = Reader(second)
    reader.start()
    job_folder, night_folder = tmp_path / "natality", tmp_path / "natality" / str(SECOND_DATE)
    markers, killed_in, changes_allowed = {}, [], [0] * len(MARKERS) + [math.inf]
    while True:
        command = second.command("run", "--date", str(SECOND_DATE))[3:]
        process = forks.start(run_command, command, str(tmp_path / "log.txt"))
        stage = kill_in_a_stage(process, job_folder, night_folder, changes_allowed)
        finished = finished_stages(night_folder)
        for name, written in markers.items():
            assert finished[name] == written, f"{name} was written twice: its stage was done again"
        if stage is None:
            break
        killed_in.append(stage)
        markers = finished
    reader.stop.set()
    reader.join()
    print(
        f"killed {len(killed_in)} times, with {killed_in} stages finished; {len(reader.answers)} tables seen by readers"
    )
    assert reader.errors == []
    assert reader.answers <= {first_rows, second_rows}
    assert published_rows(second) == second_rows
    assert shard_hashes(second, SECOND_DATE) == shard_hashes(expected, SECOND_DATE)
    assert not list(tmp_path.rglob("*.parquet.tmp"))
    assert set(killed_in) == set(range(len(MARKERS))), "no kill in some stage"
