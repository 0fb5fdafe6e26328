"""Nights on the real Google Cloud, for whoever has a project: `make test-gcp`, or `pytest -m gcp`.

`FORETABLE_GCP_PROJECT`, `FORETABLE_GCP_BUCKET` and `FORETABLE_GCP_DATASET` name what they may use, with the credentials that
Google's libraries find; `FORETABLE_GCP_LOCATION` (US) is the dataset's. With `FORETABLE_GCP_REGION` and
`FORETABLE_GCP_IMAGE` one night runs on Dataflow. Objects and tables carry names of their own and are removed.
"""

import concurrent.futures
import contextlib
import os
import uuid

import duckdb
import pytest
from conftest import FIRST_DATE, SECOND_DATE, SMALL, Workspace
from google.api_core.exceptions import PreconditionFailed
from google.cloud import bigquery, storage

pytestmark = pytest.mark.gcp
KEY = ("is_male=True", "mother_age=29", "plurality=Single(1)", "gestation_weeks=39")
PUBLIC = "bigquery-public-data.samples.natality"


def setting(name, default=None):
    """Value of an environment variable; without one, the test is skipped."""
    value = os.environ.get(f"FORETABLE_GCP_{name}", default)
    return value if value is not None else pytest.skip(f"FORETABLE_GCP_{name} is not set")


class GcpWorkspace(Workspace):
    """A job under a name of its own, so that its tables and objects are, too."""

    def __init__(self, *overrides):
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.project, self.dataset = setting("PROJECT"), setting("DATASET")
        self.bucket = setting("BUCKET")
        location = setting("LOCATION", "US")
        warehouse = f"{{kind: bigquery, project: {self.project}, dataset: {self.dataset}, location: {location}}}"
        self.overrides = (
            f"name={self.name}",
            f"workspace=gs://{self.bucket}/{self.name}",
            f"warehouse={warehouse}",
            *overrides,
        )
        self.client = bigquery.Client(self.project, location=location)

    def rows(self):
        """What readers see: the count, and a number that depends on every value."""
        view = f"`{self.project}.{self.dataset}.{self.name}_predictions`"
        sql = f"SELECT COUNT(*), BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t))) FROM {view} AS t"
        return tuple(next(iter(self.client.query_and_wait(sql))))

    def tables(self):
        """Names of the job's tables and views."""
        return {
            item.table_id for item in self.client.list_tables(self.dataset) if item.table_id.startswith(f"{self.name}_")
        }

    def remove(self):
        """Removes all that it made."""
        for table in self.tables():
            self.client.delete_table(f"{self.dataset}.{table}", not_found_ok=True)
        bucket = storage.Client(self.project).bucket(self.bucket)
        for blob in bucket.list_blobs(prefix=f"{self.name}/"):
            with contextlib.suppress(Exception):
                blob.delete()


@pytest.fixture(scope="module")
def nights():
    """Two nights of the small job, with Beam on this machine."""
    workspace = GcpWorkspace(*SMALL)
    try:
        workspace.run("run", "--date", str(FIRST_DATE))
        workspace.run("run", "--date", str(SECOND_DATE))
        yield workspace
    finally:
        workspace.remove()


def test_the_rows_are_the_laptops(nights, published):
    with duckdb.connect(str(published.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        ((expected,),) = connection.sql("SELECT count(*) FROM natality_predictions").fetchall()
    assert nights.rows()[0] == expected
    assert nights.json("lookup", *KEY)["row"] == published.json("lookup", *KEY)["row"]


def test_publishing_again_loads_nothing_twice(nights):
    rows, tables = nights.rows(), nights.tables()
    markers = storage.Client(nights.project).bucket(nights.bucket).list_blobs(prefix=f"{nights.name}/")
    for blob in markers:
        if blob.name.endswith("/published.json"):
            blob.delete()
    nights.run("publish", "--date", str(SECOND_DATE))
    assert (nights.rows(), nights.tables()) == (rows, tables)


def test_a_rollback_and_the_way_back(nights):
    for date in (FIRST_DATE, SECOND_DATE):
        nights.run("rollback", "--to", str(date))
        assert nights.json("status")["published"]["run_date"] == str(date)


def test_a_wrong_location_is_one_line(nights):
    refused = nights.start("publish", "--date", str(SECOND_DATE), "--set", "warehouse.location=asia-east2")
    _, err = refused.communicate()
    assert refused.returncode != 0
    assert "location" in err.splitlines()[-1]


def test_one_of_two_writers_finds_no_object():
    bucket, name = storage.Client(setting("PROJECT")).bucket(setting("BUCKET")), f"t{uuid.uuid4().hex[:12]}"
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            tries = [pool.submit(bucket.blob(name).upload_from_string, "x", if_generation_match=0) for _ in range(4)]
        lost = [type(attempt.exception()) for attempt in tries if attempt.exception()]
        assert lost == [PreconditionFailed] * 3
    finally:
        bucket.blob(name).delete()


def test_examples_from_the_public_table():
    """A query, by the Storage Read API, over a slice of the public natality table."""
    columns = "weight_pounds, CAST(is_male AS STRING) AS is_male, mother_age, CAST(plurality AS STRING) AS plurality"
    query = (
        f"SELECT {columns}, gestation_weeks, CAST(month AS STRING) AS hashmonth FROM `{PUBLIC}`"
        " WHERE year = 2008 AND weight_pounds > 0 AND plurality IN (2, 3) AND mother_age > 35"
    )
    workspace = GcpWorkspace(*SMALL, f'source={{kind: bigquery, project: {setting("PROJECT")}, query: "{query}"}}')
    try:
        prepared = workspace.json("prepare", "--date", str(FIRST_DATE))
        assert prepared["digest"]
    finally:
        workspace.remove()


def test_a_night_on_dataflow(nights):
    runner = (
        f"{{kind: dataflow, project: {setting('PROJECT')}, region: {setting('REGION')}, "
        f"sdk_container_image: '{setting('IMAGE')}', max_workers: 2}}"
    )
    workspace = GcpWorkspace(*SMALL, f"runner={runner}")
    try:
        workspace.run("run", "--date", str(FIRST_DATE))
        assert workspace.rows() == nights.rows()
    finally:
        workspace.remove()
