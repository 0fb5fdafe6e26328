"""One run of a job and date at a time; a dead holder holds nothing."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from beam_jobs.workspace.locking import locked
from configs.errors import ForetableError, RefusedError

HOLD = "import sys, time\nfrom beam_jobs.workspace.locking import locked\nwith locked(sys.argv[1], 'x'):\n    print('held', flush=True)\n    time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_refuses_and_names_the_first(tmp_path, holder):
    with pytest.raises(RefusedError, match=rf"^natality 2026-01-01 is running already \(process {holder.pid} since "):
        with locked(str(tmp_path / "lock"), "natality 2026-01-01"):
            pass


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(str(tmp_path / "lock"), "natality"):
        pass


def test_waiting_gets_the_lock_when_the_first_lets_go(tmp_path, holder):
    threading.Timer(0.5, holder.kill).start()
    started = time.monotonic()
    with locked(str(tmp_path / "lock"), "natality", wait=True):
        assert time.monotonic() - started > 0.3


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ForetableError, match=r"^cannot write to the workspace: .*/file/lock: "):
        with locked(str(tmp_path / "file" / "lock"), "natality"):
            pass
