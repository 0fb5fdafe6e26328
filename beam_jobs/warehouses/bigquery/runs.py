"""`<job>_runs`: the record of every night, in BigQuery itself, so that any machine may run the next one."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from google.cloud import bigquery

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.bigquery.dataset import Dataset, Parameter
from beam_jobs.warehouses.bigquery.sql import quote
from beam_jobs.warehouses.published_tables import RUNS_COMMENTS, runs_comment
from configs.errors import ForetableError, RefusedError

FORMAT = "1"
_FORMAT_LABEL = "foretable_runs"
_RECORD = "record"
_TYPES = dict.fromkeys(RUNS_COMMENTS, "STRING") | {
    "run_date": "DATE",
    "rows": "INT64",
    "excluded": "INT64",
    "published_at": "TIMESTAMP",
}
_PAIRS = {"metrics": ("value", "FLOAT64"), "accepted": ("reason", "STRING")}
_COLUMNS = (*RUNS_COMMENTS, _RECORD)
# Of a night that is recorded again these stay, unless it had gone in between.
_KEPT = ("status", "published_at")


class Runs:
    """The table `<job>_runs`."""

    def __init__(self, dataset: Dataset, job: str):
        self.name = f"{job}_runs"
        self._dataset = dataset
        self._job = job
        self._path = quote(dataset.path(self.name))

    def make(self) -> None:
        """Makes the table, unless it is there.

        Raises:
            RefusedError: what is there is somebody else's, or another version's.
        """
        self._check(self._dataset.make(self._definition()))

    def read(self) -> tuple[NightRecord, ...]:
        """Every night on record, in no order; none where there is no table yet.

        Raises:
            RefusedError: what is there is somebody else's, or another version's.
        """
        sql = f"SELECT status, published_at, {_RECORD} FROM {self._path} ORDER BY published_at"
        try:
            records = [_record(row) for row in self._dataset.select(sql, if_there=self.name)]
        except ForetableError:
            table = self._dataset.table(self.name)
            if table is not None:
                self._check(table)  # which may say better what is wrong
            raise
        return tuple({record.table: record for record in records}.values())

    def add(self, record: NightRecord) -> None:
        """Records a night; one that is on record already gets its details anew and keeps its standing."""
        before = {known.table: known for known in self.read()}.get(record.table)
        statement, parameters = self._merge(), _parameters(record)
        if before is None:
            # Two MERGE statements that both insert do not get in each other's way, and would leave two rows.
            self._dataset.run_once(
                f"foretable_{record.run_id}_record",
                self._dataset.start_statement(statement, parameters),
                counts=lambda job: any(known.table == record.table for known in self.read()),
            )
            return
        is_alike = dataclasses.replace(record, **{name: getattr(before, name) for name in _KEPT}) == before
        if not is_alike or before.status not in ("current", "kept"):
            self._dataset.change(statement, parameters)

    def set_current(self, table: str | None) -> None:
        """Marks the night that readers see, and takes the mark from the one that they saw before."""
        is_shown = "(table_name = @table)"
        self._dataset.change(
            f"UPDATE {self._path} SET"
            f" published_at = IF({is_shown}, CURRENT_TIMESTAMP(), published_at),"
            f" status = IF({is_shown}, 'current', 'kept')"
            f" WHERE {is_shown} != (status = 'current')",
            [bigquery.ScalarQueryParameter("table", "STRING", table or "")],
        )

    def set_expired(self, tables: Iterable[str]) -> None:
        """Marks nights as gone."""
        self._dataset.change(
            f"UPDATE {self._path} SET status = 'expired' WHERE status = 'kept' AND table_name IN UNNEST(@tables)",
            [bigquery.ArrayQueryParameter("tables", "STRING", list(tables))],
        )

    def _merge(self) -> str:
        source = ", ".join(f"@{name} AS {quote(name)}" for name in _COLUMNS)
        names = ", ".join(map(quote, _COLUMNS))
        values = ", ".join(f"night.{quote(name)}" for name in _COLUMNS)
        is_there = "runs.status IN ('current', 'kept')"
        updates = ", ".join(
            f"{quote(name)} = IF({is_there}, runs.{quote(name)}, night.{quote(name)})"
            if name in _KEPT
            else f"{quote(name)} = night.{quote(name)}"
            for name in _COLUMNS
        )
        return (
            f"MERGE {self._path} AS runs USING (SELECT {source}) AS night ON runs.table_name = night.table_name\n"
            f"WHEN MATCHED THEN UPDATE SET {updates}\nWHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
        )

    def _definition(self) -> bigquery.Table:
        fields = [_field(name, comment) for name, comment in RUNS_COMMENTS.items()]
        about = "All of the above and more, as foretable reads it"
        record = bigquery.SchemaField(_RECORD, "STRING", description=about)
        table = bigquery.Table(self._dataset.path(self.name), schema=[*fields, record])
        table.description = runs_comment(self._job)
        table.labels = self._dataset.labels | {_FORMAT_LABEL: FORMAT}
        return table

    def _check(self, table: bigquery.Table) -> None:
        written = table.labels.get(_FORMAT_LABEL)
        if written is None:
            raise RefusedError(
                f"{self._dataset.path(self.name)} is there and is no table of foretable's; rename it, or set "
                "warehouse.dataset to another"
            )
        if written != FORMAT:
            raise RefusedError(
                f"{self._dataset.path(self.name)}: format {written!r}, this version of foretable reads {FORMAT!r}; "
                "use the version that wrote it, or another dataset"
            )


def _field(name: str, comment: str) -> bigquery.SchemaField:
    if name not in _PAIRS:
        return bigquery.SchemaField(name, _TYPES[name], description=comment)
    value, value_type = _PAIRS[name]
    fields = (bigquery.SchemaField("name", "STRING"), bigquery.SchemaField(value, value_type))
    return bigquery.SchemaField(name, "RECORD", mode="REPEATED", description=comment, fields=fields)


def _parameters(record: NightRecord) -> list[Parameter]:
    values: dict[str, Any] = {
        name: record.table if name == "table_name" else getattr(record, name) for name in RUNS_COMMENTS
    }
    parameters: list[Parameter] = [
        bigquery.ScalarQueryParameter(name, _TYPES[name], value) for name, value in values.items() if name not in _PAIRS
    ]
    for name, (value_name, value_type) in _PAIRS.items():
        pair_type = bigquery.StructQueryParameterType(
            bigquery.ScalarQueryParameterType("STRING", name="name"),
            bigquery.ScalarQueryParameterType(value_type, name=value_name),
        )
        pairs = [
            bigquery.StructQueryParameter(
                None,
                bigquery.ScalarQueryParameter("name", "STRING", key),
                bigquery.ScalarQueryParameter(value_name, value_type, value),
            )
            for key, value in values[name].items()
        ]
        parameters.append(bigquery.ArrayQueryParameter(name, pair_type, pairs))
    text = json.dumps(record.to_json(), ensure_ascii=False)
    return [*parameters, bigquery.ScalarQueryParameter(_RECORD, "STRING", text)]


def _record(row: Any) -> NightRecord:
    record = NightRecord.from_json(json.loads(row[_RECORD]))
    return dataclasses.replace(record, status=row["status"], published_at=row["published_at"])
