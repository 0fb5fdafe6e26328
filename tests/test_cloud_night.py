"""The laptop's nights on Google Cloud's twins: the same job and data give the same bytes, the same rows, the same answers."""

import re

import duckdb
import pytest
from cloud_nights import CloudWorkspace, files_of, shard_hashes
from conftest import FIRST_DATE, ROOT, SECOND_DATE, SMALL
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from test_night import STAGES

from beam_jobs.warehouses.bigquery.source import check_fields
from configs.loading import load_job

pytestmark = pytest.mark.slow  # two whole nights on the twins

KEY = ("is_male=True", "mother_age=29", "plurality=Single(1)", "gestation_weeks=39")
COLUMNS = ("is_male", "mother_age", "plurality", "gestation_weeks", "weight_pounds")


@pytest.fixture(scope="session")
def cloud_nights(cloud):
    """The two nights of `published`, on the twins."""
    workspace = CloudWorkspace(cloud, *SMALL)
    workspace.first = workspace.run("run", "--date", str(FIRST_DATE))
    workspace.second = workspace.run("run", "--date", str(SECOND_DATE))
    return workspace


@pytest.mark.parametrize("date", [FIRST_DATE, SECOND_DATE], ids=str)
def test_the_shards_are_the_laptops_byte_for_byte(published, cloud_nights, date):
    assert shard_hashes(cloud_nights, date) == shard_hashes(published, date)


def test_the_rows_are_the_laptops(published, cloud_nights):
    ((table, rows),) = cloud_nights.select("SELECT table_name, `rows` FROM {d}.natality_runs WHERE status = 'current'")
    found = cloud_nights.table(table, *COLUMNS[:4]).select(COLUMNS)
    with duckdb.connect(str(published.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        expected = connection.table("natality_predictions").to_arrow_table().select(COLUMNS)
    expected = expected.sort_by([(column, "ascending") for column in COLUMNS[:4]])
    assert found.num_rows == rows == expected.num_rows
    assert found.cast(expected.schema).equals(expected)
    count = "SELECT COUNT(*), SUM(weight_pounds) FROM {d}."
    assert cloud_nights.select(count + "natality_predictions") == cloud_nights.select(count + table)


def test_every_stage_says_one_line(cloud_nights):
    assert re.findall(r"^(\w+) +\d+\.\d s  ", cloud_nights.first.err, re.MULTILINE)[: len(STAGES)] == list(STAGES)
    for noise in ("WARNING", "tensorflow", "apache_beam", "I0000"):
        assert noise not in cloud_nights.first.err


def test_a_rerun_does_nothing_twice(cloud_nights):
    before = files_of(cloud_nights.folder)
    loads = {job.job_id for job in cloud_nights.client.list_jobs() if job.job_type == "load"}
    again = cloud_nights.run("run", "--date", str(SECOND_DATE))
    assert again.err.count("done before") >= len(STAGES)
    assert files_of(cloud_nights.folder) == before
    assert {job.job_id for job in cloud_nights.client.list_jobs() if job.job_type == "load"} == loads


def test_a_lookup_and_a_query_answer_as_on_the_laptop(published, cloud_nights):
    laptop, cloud = published.json("lookup", *KEY), cloud_nights.json("lookup", *KEY)
    assert cloud["hit"]
    assert cloud["row"] == laptop["row"]
    assert cloud["model_version"] == laptop["model_version"]
    sql = "SELECT plurality, COUNT(*) AS n, MAX(weight_pounds) AS most FROM natality_predictions GROUP BY 1 ORDER BY 1"
    assert cloud_nights.json("query", sql)["rows"] == published.json("query", sql)["rows"]


def test_a_lookup_misses_as_on_the_laptop(published, cloud_nights):
    key = [part.replace("=29", "=29.1") for part in KEY]
    assert cloud_nights.run("lookup", *key, code=4).err == published.run("lookup", *key, code=4).err


def test_runs_and_status_tell_what_is_published(cloud_nights):
    runs = cloud_nights.json("runs")["runs"]
    assert [(run["run_date"], run["status"]) for run in runs] == [("2026-01-06", "current"), ("2026-01-05", "kept")]
    status = cloud_nights.json("status")
    assert status["published"]["run_date"] == "2026-01-06"
    assert [set(STAGES) <= set(night["finished"]) for night in status["nights"]] == [True] * 2
    assert status["workspace"] == f"{cloud_nights.url}/natality"


def test_a_rollback_and_the_way_back(cloud_nights):
    statuses = "SELECT CAST(run_date AS STRING), status FROM {d}.natality_runs ORDER BY 1"
    for date, expected in ((FIRST_DATE, ["current", "kept"]), (SECOND_DATE, ["kept", "current"])):
        cloud_nights.run("rollback", "--to", str(date))
        dates = (str(FIRST_DATE), str(SECOND_DATE))
        assert cloud_nights.select(statuses) == list(zip(dates, expected, strict=True))
        view = cloud_nights.client.get_table(f"{cloud_nights.dataset}.natality_predictions")
        assert f"natality_{date:%Y%m%d}_" in view.view_query


def test_every_table_expires_or_is_published(cloud_nights):
    ((current,),) = cloud_nights.select("SELECT table_name FROM {d}.natality_runs WHERE status = 'current'")
    tables = [cloud_nights.client.get_table(item) for item in cloud_nights.client.list_tables(cloud_nights.dataset)]
    lasting = {table.table_id for table in tables if table.table_type == "TABLE" and table.expires is None}
    assert lasting == {current, "natality_runs"}


def test_the_cloud_job_is_the_laptops_on_other_ground():
    laptop, cloud = (load_job(ROOT / "configs" / f"{name}.yaml").model_dump() for name in ("natality", "natality_gcp"))
    assert {name for name in laptop if laptop[name] != cloud[name]} == {"source", "workspace", "warehouse", "runner"}


def test_the_cloud_jobs_table_is_made_of_the_public_one(cloud):
    job = load_job(ROOT / "configs" / "natality_gcp.yaml")
    options = {"api_endpoint": cloud.bigquery.endpoint}
    client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)
    for name in ("bigquery-public-data.samples", "my-project.foretable"):
        client.create_dataset(name, exists_ok=True)
    client.query_and_wait(
        "CREATE OR REPLACE TABLE `bigquery-public-data.samples.natality` AS SELECT 2008 AS year, 3 AS month,"
        " TRUE AS is_male, 29 AS mother_age, 2 AS plurality, 99 AS gestation_weeks, 5.5 AS weight_pounds"
        " UNION ALL SELECT 2007, 4, FALSE, 30, 1, 39, 7.5 UNION ALL SELECT 1999, 4, FALSE, 30, 1, 39, 7.5"
    )
    client.query_and_wait((ROOT / "configs" / "natality_births.sql").read_text())
    rows = client.query_and_wait(f"SELECT * EXCEPT (hashmonth) FROM `{job.source.table}` ORDER BY is_male, plurality")
    assert [tuple(row) for row in rows] == [
        ("False", 30, "Single(1)", 39, 7.5),
        ("True", 29, "Twins(2)", None, 5.5),
        ("Unknown", 29, "Multiple(2+)", None, 5.5),
        ("Unknown", 30, "Single(1)", 39, 7.5),
    ]
    check_fields("births", client.get_table(job.source.table).schema, job.read_columns)
