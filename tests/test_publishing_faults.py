"""A handful of faults while small nights are published to BigQuery from `gs://`: see test_cloud_faults for all of them."""

import dataclasses
import datetime
import pathlib

import pytest
from google.api_core.retry import Retry
from nights import DAY, make_night, publish
from test_bigquery import Reader, table_of
from twins.faults import Faults, first_tries, from_call, lost_reply, refusal

from beam_jobs.warehouses.bigquery import clients as bigquery_clients
from beam_jobs.warehouses.bigquery.warehouse import BigQueryWarehouse
from beam_jobs.workspace import cloud_storage, storage
from configs.errors import ForetableError

ONE_DAY = datetime.timedelta(days=1)
DENIED = refusal(403, "Access Denied: Table proj:d.t: Permission bigquery.tables.create denied on table proj:d.t")


@pytest.fixture
def weather(cloud, monkeypatch):
    """Faults before both servers, and clients that do not wait long before they try again."""
    for retry in (bigquery_clients.RETRY, cloud_storage._RETRY):
        assert isinstance(retry, Retry)
        monkeypatch.setattr(retry, "_initial", 0.01)
        monkeypatch.setattr(retry, "_maximum", 0.05)
    faults = Faults()
    with faults.before(cloud.bigquery.endpoint, cloud.storage.endpoint) as (bigquery, objects):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", objects)
        faults.endpoints = cloud.endpoints.model_copy(update={"bigquery": bigquery, "storage": objects})
        yield faults


@pytest.fixture
def reader(cloud):
    """A dataset with yesterday's night, read without faults."""
    return Reader(cloud)


def in_storage(cloud, folder, **settings):
    """A night of which the shards are on `gs://`."""
    night, target = make_night(folder, **settings), cloud.storage.url()
    for path in pathlib.Path(night.run_dir).rglob("*.parquet"):
        storage.write_bytes(storage.join(target, path.parent.name, path.name), path.read_bytes())
    axes = tuple(storage.join(target, "axes", pathlib.Path(path).name) for path in night.axes)
    return dataclasses.replace(night, run_dir=target, axes=axes)


def rows(reader):
    return sorted(reader.read("SELECT * FROM natality_predictions"), key=repr)


def check(reader, night_value, dates):
    """Readers see this night; each is on record once; what nobody reads does not stay for ever."""
    assert rows(reader) == table_of(night_value)
    runs = reader.read("SELECT run_date, status, table_name FROM natality_runs ORDER BY run_date")
    assert [(date, status) for date, status, _ in runs] == [(DAY + n * ONE_DAY, status) for n, status in dates]
    lasting = {
        name for name in reader.names() if reader.table(name).table_type == "TABLE" and not reader.table(name).expires
    }
    assert lasting == {runs[-1][2], "natality_runs"}


def test_the_reply_of_every_call_is_lost_at_its_first_try(cloud, weather, reader, tmp_path):
    warehouse = BigQueryWarehouse(reader.settings, weather.endpoints, retention_days=30)
    for number, status in ((0, ["current"]), (1, ["kept", "current"])):
        settings = {"run_date": DAY + number * ONE_DAY, "run_id": f"a{number}", "night_value": number}
        night = in_storage(cloud, tmp_path / str(number), **settings)
        weather.start(first_tries(lost_reply))
        publish(warehouse, night)
        warehouse.expire("natality", night.run_date, 30)
        weather.stop()
        assert weather.happened > 20
        check(reader, number, list(enumerate(status)))


def test_refused_in_the_middle_and_published_by_the_next_try(cloud, weather, reader, tmp_path):
    warehouse = BigQueryWarehouse(reader.settings, weather.endpoints, retention_days=30)
    publish(warehouse, in_storage(cloud, tmp_path / "0", run_id="a0"))
    night = in_storage(cloud, tmp_path / "1", run_id="a1", run_date=DAY + ONE_DAY, night_value=1)
    weather.start(from_call(25, DENIED))  # the night is loaded and verified, and on record
    with pytest.raises(ForetableError, match=r"permission .*denied"):
        publish(warehouse, night)
    weather.stop()
    assert rows(reader) in (table_of(0), table_of(1))
    publish(BigQueryWarehouse(reader.settings, weather.endpoints, retention_days=30), night)
    check(reader, 1, [(0, "kept"), (1, "current")])
