"""Contracts and changes of nights whose tables are BigQuery's: one query for each question, over all rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.warehouses.base import Column, NightRecord
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.views import Definition
from beam_jobs.warehouses.changes import Changes, Comparison
from beam_jobs.warehouses.changes_view import changes_view
from beam_jobs.warehouses.contracts import Ask, Violations, count_violations
from beam_jobs.warehouses.dialects import BigQueryDialect
from beam_jobs.warehouses.joined_tables import JoinedTables
from configs.contracts import Contract

_DIALECT = BigQueryDialect()


def check_contracts(
    dataset: Dataset, name: str, columns: Sequence[Column], contracts: Mapping[str, Contract]
) -> tuple[Violations, ...]:
    """Holds the rows of the table `name` against contracts.

    Raises:
        JobError: a contract does not fit the table.
    """
    return count_violations(_asking(dataset), _DIALECT, _path(dataset, name), columns, contracts)


def compare(
    dataset: Dataset, name: str, columns: Sequence[Column], before: NightRecord, comparison: Comparison
) -> Changes:
    """Compares the rows of the table `name` with an earlier night's of the same key. Quantiles are approximate."""
    tables = (_path(dataset, name), _path(dataset, before.table))
    return JoinedTables(_asking(dataset), _DIALECT, tables, columns, comparison).compare_by_key()


def changes_definition(dataset: Dataset, records: Sequence[NightRecord]) -> Definition | None:
    """The view `<job>_changes`, or None where readers see no night.

    Args:
        records: of one job.
    """
    readable = {record.table: record for record in records if record.status in ("current", "kept")}
    current = next((record for record in readable.values() if record.is_current), None)
    if current is None:
        return None
    before = readable.get(current.compared_with or "")
    view = changes_view(current, before, _DIALECT, lambda record: _path(dataset, record.table))
    return Definition(view.select, view.columns, view.comment, (("foretable_job", current.job),))


def _asking(dataset: Dataset) -> Ask:
    def ask(sql: str) -> list[dict[str, Any]]:
        return [dict(row) for row in dataset.select(sql)]

    return ask


def _path(dataset: Dataset, name: str) -> str:
    return _DIALECT.quote(dataset.path(name))
