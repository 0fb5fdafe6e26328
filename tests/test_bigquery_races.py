"""A night that dies at any call, and nights that publish at once: readers see whole nights, the record stays true.

Dying is an exception that nothing catches, in place of a call or of its reply. `test_cloud_faults` kills processes.
"""

import concurrent.futures
import datetime
import itertools
import os
import threading

import pytest
import requests
from bigquery_reader import Reader
from nights import AXES, DAY, make_night, points, prediction, publish

from configs.errors import ForetableError

pytestmark = pytest.mark.slow  # the twin takes seconds for a night; `test_bigquery.py` has the quick ones

ONE_DAY = datetime.timedelta(days=1)


class DeathError(BaseException):
    """The process is dead."""


class Deaths:
    """Counts calls over HTTP, and dies at one of them, before it or after it."""

    def __init__(self, patch):
        self.calls, self.last, self.after = 0, None, False
        self._lock, self._request = threading.Lock(), requests.Session.request
        patch.setattr(requests.Session, "request", lambda *args, **settings: self.request(*args, **settings))

    def at(self, call, after):
        self.calls, self.last, self.after = 0, call, after

    def request(self, *args, **settings):
        with self._lock:
            number = self.calls
            self.calls += 1
        if self.last is not None and (number > self.last or (number == self.last and not self.after)):
            raise DeathError
        reply = self._request(*args, **settings)
        if number == self.last:
            raise DeathError
        return reply


def table_of(night_value):
    rows = [(*point.values(), prediction(i, night_value)) for i, point in enumerate(points(AXES))]
    return sorted(rows, key=repr)


def check_record(reader, current, kept):
    """What is on record is what is there, without a row twice, and only what readers see stays for ever."""
    runs = reader.read("SELECT run_id, status FROM natality_runs WHERE status != 'expired' ORDER BY run_date")
    assert runs == [(run_id, "current" if run_id == current else "kept") for run_id in kept]
    assert reader.read("SELECT COUNT(*) - COUNT(DISTINCT table_name) FROM natality_runs") == [(0,)]
    assert reader.read("SELECT DISTINCT run_id FROM natality_history ORDER BY 1") == [
        (run_id,) for run_id in sorted(kept)
    ]
    nights = [name for name in reader.names() if name.startswith("natality_2")]
    assert sorted(name.rpartition("_")[2] for name in nights) == sorted(kept)
    assert [name for name in nights if reader.table(name).expires is None] == [n for n in nights if n.endswith(current)]


def test_a_night_that_dies_at_any_call_is_finished_by_the_next_try(cloud, tmp_path, monkeypatch):
    """At every call with `make test-faults`."""
    every = 1 if os.environ.get("FORETABLE_ALL_FAULTS") == "1" else 37
    reader, deaths = Reader(cloud), Deaths(monkeypatch)

    def night_of(number):
        return make_night(tmp_path, run_date=DAY + number * ONE_DAY, run_id=f"r{number:03d}", night_value=number)

    def run(night):
        warehouse = reader.open()
        publish(warehouse, night)
        warehouse.expire("natality", night.run_date, retention_days=2)

    for number in range(3):
        run(night_of(number))
    for number in itertools.count(3):
        night, call = night_of(number), (number - 3) * every
        deaths.at(call // 2, after=bool(call % 2))
        try:
            run(night)
            died = False
        except DeathError:
            died = True
        deaths.at(None, after=False)
        assert reader.rows() in (table_of(number - 1), table_of(number))
        if died:
            run(night)
        assert reader.rows() == table_of(number)
        if not died or number % 10 == 0:
            check_record(reader, f"r{number:03d}", [f"r{number - 1:03d}", f"r{number:03d}"])
        if not died:
            break
    assert number > 3 + 80 / every


TWIN_RACES = ("ommit", "onflict", "Duplicate key", "is no view of foretable's")
"""What is said where the twin could not commit: it takes one writer at a time, loses a race for a job id otherwise than by
a 409, and makes a view before it gives the view its labels. BigQuery does each of these in one step."""


def until_done(step, *arguments):
    """Runs a step, and again where the twin was not up to what happens at once."""
    for _ in range(20):
        try:
            return step(*arguments)
        except ForetableError as error:
            if not any(words in str(error) for words in TWIN_RACES):
                raise
    raise AssertionError("20 tries")


def test_nights_that_publish_at_once(cloud, tmp_path):
    """Each of three nights twice: the newest is what readers see, whoever comes last."""
    reader = Reader(cloud)
    nights = [
        make_night(tmp_path, run_date=DAY + i * ONE_DAY, run_id=f"r{i}", night_value=i, shard_blocks=8)
        for i in range(3)
    ]
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda night: until_done(publish, reader.open(), night), nights * 2))
    assert reader.rows() == table_of(2)
    check_record(reader, "r2", ["r0", "r1", "r2"])


def test_rollbacks_at_once_leave_one_of_them(cloud, tmp_path):
    reader = Reader(cloud)
    days = [DAY + i * ONE_DAY for i in range(3)]
    for i, day in enumerate(days):
        publish(reader.warehouse, make_night(tmp_path, run_date=day, run_id=f"r{i}", night_value=i, shard_blocks=8))
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda day: until_done(reader.open().rollback, "natality", day), days))
    current = reader.warehouse.current("natality")
    assert reader.rows() == table_of(days.index(current.run_date))
    check_record(reader, current.run_id, ["r0", "r1", "r2"])
