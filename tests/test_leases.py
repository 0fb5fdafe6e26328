"""The lock on an object store: one holder, taken over when it dies, given up in time by one that lost it."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from beam_jobs.workspace import cloud_storage, leases, storage
from beam_jobs.workspace.leases import Holder, leased
from beam_jobs.workspace.locking import RunLock, locked
from beam_jobs.workspace.run_directory import RunDirectory
from configs.errors import ForetableError, RefusedError

ROOT = pathlib.Path(__file__).parent.parent
HOLD = """
import sys, time
from beam_jobs.workspace.locking import locked
with locked(sys.argv[1], "natality"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(cloud):
    return f"{cloud.storage.url()}/2026-01-05/.lock"


@pytest.fixture
def holder(path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def read(path):
    return Holder(**json.loads(storage.read_bytes(path)))


def elsewhere(path, **changes):
    """Makes the holder of the lock one of another machine, which nobody can look at."""
    others = {"owner": "another", "machine": "another boot", "host": "elsewhere"}
    holder = dataclasses.replace(read(path), **others, **changes)
    storage.write_bytes(path, json.dumps(dataclasses.asdict(holder)).encode())


def test_the_lock_says_who_holds_it_and_goes_with_its_holder(path):
    with locked(path, "natality"):
        held = read(path)
        assert (held.pid, held.renewals) == (os.getpid(), 1)
        assert leases._now().isoformat() < held.expires_at
    assert not storage.exists(path)


def test_the_second_run_refuses_and_names_the_first(path, holder):
    who = rf"process {holder.pid} on .+ since .+ UTC"
    expected = (
        rf"^natality 2026-01-05 is running already \({who}\); wait for it, or add --wait; if it died, the lock ends"
    )
    with pytest.raises(RefusedError, match=expected), locked(path, "natality 2026-01-05"):
        pass


def test_a_killed_holder_of_this_machine_holds_nothing(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(path, "natality"):
        assert read(path).pid == os.getpid()


def test_a_killed_holder_of_another_machine_holds_the_lock_until_its_lease_ends(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    elsewhere(path)
    with pytest.raises(RefusedError, match="on elsewhere since"), locked(path, "natality"):
        pass
    elsewhere(path, expires_at=leases._now().isoformat())
    with locked(path, "natality"):
        assert read(path).pid == os.getpid()


def test_of_many_that_find_a_dead_holder_exactly_one_takes_over(path):
    with leased(path, "natality"):
        elsewhere(path, expires_at="2026-01-01T00:00:00+00:00")
    outcomes, ready, done = [], threading.Barrier(6), threading.Event()

    def take_over():
        ready.wait()
        try:
            with leased(path, "natality"):
                outcomes.append("won")
                done.wait(60)
        except RefusedError:
            outcomes.append("refused")
        if outcomes.count("refused") == 5:
            done.set()

    threads = [threading.Thread(target=take_over) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 5 + ["won"]
    assert not storage.exists(path)


def test_waiting_gets_the_lock_when_the_first_lets_go(path, monkeypatch):
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.05)
    order = []
    with contextlib.ExitStack() as first:
        first.enter_context(leased(path, "natality"))

        def wait_for_it():
            with leased(path, "natality", wait=True):
                order.append("second")

        thread = threading.Thread(target=wait_for_it)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_holder_renews_its_lease_while_it_lives(path):
    with leased(path, "natality", seconds=1.5) as lease:
        first = read(path)
        until = time.monotonic() + 30
        while (now := read(path)).renewals < 4 and time.monotonic() < until:
            time.sleep(0.1)
        assert now.renewals >= 4
        assert now.expires_at > first.expires_at
        assert (now.owner, now.since) == (first.owner, first.since)
        lease.check()


def test_a_holder_that_lost_its_lease_commits_nothing(path):
    """It slept, somebody else took over, and it wakes up: before its marker, it learns of it."""
    run = RunDirectory(path.rpartition("/")[0].rpartition("/")[0], datetime.date(2026, 1, 5), "abc")
    lock = RunLock()
    with lock.held(path, "natality 2026-01-05"):
        lock.check()
        elsewhere(path)
        with pytest.raises(
            RefusedError, match=r"^natality 2026-01-05: this run lost its lock gs://.*: process \d+ on else"
        ):
            lock.check()
        assert run.read_marker("plan.json") is None
    assert read(path).host == "elsewhere"  # and takes nothing from who has it now


def test_a_holder_whose_lock_came_and_went_meanwhile_has_lost_it_too(path):
    with leased(path, "natality") as lease:
        cloud_storage.delete([path])
        with pytest.raises(RefusedError, match="somebody else had it meanwhile; nothing more is committed"):
            lease.check()
    assert not storage.exists(path)


def test_the_background_finds_out_by_itself_and_stays_lost(path):
    with leased(path, "natality", seconds=0.5) as lease:
        elsewhere(path)
        lease._thread.join(30)
        cloud_storage.delete([path])
        with pytest.raises(RefusedError, match="lost its lock"):
            lease.check()


def test_a_renewal_whose_answer_was_lost_is_still_ours(path, monkeypatch):
    write = cloud_storage.write

    def lose_the_answer(*arguments):
        write(*arguments)
        return write(*arguments)  # as the client does when it hears nothing

    with leased(path, "natality") as lease:
        monkeypatch.setattr(cloud_storage, "write", lose_the_answer)
        lease.check()
        lease.check()
    assert not storage.exists(path)


def check_in_silence(lease, monkeypatch, write):
    """Checks the lease where `write` takes the place of a write that Cloud Storage does not answer."""
    with monkeypatch.context() as silence:
        silence.setattr(cloud_storage, "write", write)
        with pytest.raises(ForetableError, match="does not answer"):
            lease.check()


def test_a_renewal_that_was_never_answered_is_still_ours(path, monkeypatch):
    write = cloud_storage.write

    def write_unheard(*arguments):
        write(*arguments)
        raise ForetableError("gs://…: Cloud Storage does not answer")

    with leased(path, "natality") as lease:
        check_in_silence(lease, monkeypatch, write_unheard)
        lease.check()
        assert read(path).renewals == 2
        elsewhere(path)
        with pytest.raises(RefusedError, match=r"this run lost its lock gs://.*: process .* on elsewhere .* has it"):
            lease.check()
    assert read(path).host == "elsewhere"


def test_storage_that_does_not_answer_is_no_reason_to_think_the_lock_held(path, monkeypatch):
    def fails(*arguments, **settings):
        raise ForetableError("gs://…: Cloud Storage does not answer")

    with leased(path, "natality") as lease:
        check_in_silence(lease, monkeypatch, fails)
        lease.check()


def test_what_is_no_lock_of_ours_does_not_hold(path):
    storage.write_bytes(path, b"?")
    with locked(path, "natality"):
        assert read(path).pid == os.getpid()


def test_where_the_system_does_not_tell_machines_apart_nobody_is_taken_for_dead(monkeypatch):
    monkeypatch.setattr(leases, "_machine", lambda: "")
    assert not Holder("x", "h", "", 2**22 + 1, "", leases._now().replace(year=2999).isoformat()).is_gone


def test_a_process_of_another_container_is_never_taken_for_dead():
    gone = Holder("x", "h", leases._machine(), 2**22 + 1, "", leases._now().replace(year=2999).isoformat())
    assert gone.is_gone
    assert not dataclasses.replace(gone, machine="another boot").is_gone
    assert not dataclasses.replace(gone, machine="").is_gone
    assert not dataclasses.replace(gone, pid=os.getpid()).is_gone


def test_a_marker_that_another_run_committed_is_not_written_over(path):
    """The second guard: a marker replaces the version that its stage found when it began, and no other."""
    folder = path.rpartition("/")[0].rpartition("/")[0]
    run = RunDirectory(folder, datetime.date(2026, 1, 5), "abc")
    version = run.version_of("plan.json")
    run.write_marker("plan.json", {"plan": "theirs"}, {}, 1.0, replacing=version)
    with pytest.raises(ForetableError, match=r"plan\.json: somebody else wrote it meanwhile"):
        run.write_marker("plan.json", {"plan": "ours"}, {}, 1.0, replacing=version)
    assert run.read_marker("plan.json")["plan"] == "theirs"
    run.write_marker("plan.json", {"plan": "redone"}, {}, 1.0, replacing=run.version_of("plan.json"))
    assert run.read_marker("plan.json")["plan"] == "redone"
