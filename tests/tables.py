"""Both warehouses for the tests that hold for either: DuckDB in a folder, BigQuery on its twin."""

import pytest

from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from configs import cloud as cloud_config

# The twin takes seconds for what DuckDB does in milliseconds.
WAREHOUSES = ("duckdb", pytest.param("bigquery", marks=pytest.mark.slow))


def open_tables(request, tmp_path):
    """The warehouse that the fixture is asked for, empty."""
    if request.param == "duckdb":
        return DuckDBWarehouse(str(tmp_path / "warehouse" / "natality.duckdb"))
    from beam_jobs.warehouses.bigquery.warehouse import BigQueryWarehouse

    cloud = request.getfixturevalue("cloud")
    settings = cloud_config.BigQueryWarehouse(
        kind="bigquery", project=cloud.bigquery.project, dataset=cloud.bigquery.new_dataset()
    )
    return BigQueryWarehouse(settings, cloud.endpoints, retention_days=30)
