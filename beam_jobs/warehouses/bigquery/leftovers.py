"""Tables of a job that no night names and that would stay for ever: what a killed night or a person left."""

import re
from collections.abc import Collection

from beam_jobs.warehouses.bigquery.dataset import Dataset
from configs.cloud import BigQueryWarehouse, Endpoints


def orphan_tables(warehouse: BigQueryWarehouse, endpoints: Endpoints, job: str, known: Collection[str]) -> list[str]:
    """Names of the job's night tables that have no expiry and are not among `known`, sorted.

    Raises:
        ForetableError: the dataset cannot be listed.
    """
    is_of_a_night = re.compile(rf"{re.escape(job)}_\d{{8}}_\w+").fullmatch
    tables = Dataset(warehouse, endpoints).tables()
    return sorted(
        name for name, item in tables.items() if is_of_a_night(name) and item.expires is None and name not in known
    )
