"""One night as a DuckDB file that needs nothing else: to hand on, to archive, to open elsewhere."""

import pathlib
import secrets
from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.duckdb.catalog import CONNECTION_CONFIG
from beam_jobs.warehouses.duckdb.views import create_predictions_table, create_runs, scan
from configs.errors import ForetableError, RefusedError


def export_night(
    record: NightRecord,
    rows: Sequence[str] | pa.RecordBatchReader,
    records: Iterable[NightRecord],
    path: pathlib.Path,
    force: bool,
) -> None:
    """Writes `<job>_predictions`, here a table, and `<job>_runs`; under a temporary name until the file is whole.

    Args:
        rows: of the night: paths of its files, or batches that are read once.
        records: for `<job>_runs`.
        force: replaces a file that is there.

    Raises:
        RefusedError: the file is there and `force` is not set.
        ForetableError: it cannot be written.
    """
    if path.exists() and not force:
        raise RefusedError(f"{path}: is there already; add --force to replace it")
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with duckdb.connect(str(temporary), config=CONNECTION_CONFIG) as connection:
            if isinstance(rows, pa.RecordBatchReader):
                connection.register("night_rows", rows)
            source = "night_rows" if isinstance(rows, pa.RecordBatchReader) else scan(rows)
            create_predictions_table(connection, record, source)
            create_runs(connection, record.job, records)
        # A log of the file that is replaced would keep DuckDB from opening the new one.
        _log_of(path).unlink(missing_ok=True)
        temporary.replace(path)
    except (OSError, duckdb.Error) as error:
        raise ForetableError(f"{path}: cannot write the export: {str(error).splitlines()[0]}") from error
    finally:
        for leftover in (temporary, _log_of(temporary)):
            leftover.unlink(missing_ok=True)


def _log_of(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.wal")
