"""One dataset and every call on it: each has a deadline, is tried again, and fails with one line of ours.

Whatever may happen once only is a job under an id of ours. BigQuery never runs an id twice, so a job whose reply was
lost, or that a killed process left running, is found by its id and waited for.
"""

import datetime
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeAlias

from google.api_core import exceptions, retry
from google.cloud import bigquery

from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RETRY, bigquery_client, is_transient
from beam_jobs.warehouses.bigquery.errors import error_text, explained
from configs.cloud import BigQueryWarehouse, Endpoints
from configs.errors import ForetableError, JobError

_MOST_ATTEMPTS = 100
# Of a job that fails by what passes by itself: eight tries in about two minutes.
_MOST_TRIES = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0
_CALL: dict[str, Any] = {"retry": RETRY, "timeout": CALL_TIMEOUT_SECONDS}
_CAP_SETTING = "warehouse.maximum_bytes_billed"

Parameter: TypeAlias = bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter


class Dataset:
    """A dataset of the job file's warehouse.

    Attributes:
        name: `project.dataset`.
        labels: on every table and job.
    """

    def __init__(self, warehouse: BigQueryWarehouse, endpoints: Endpoints):
        self.name = f"{warehouse.project}.{warehouse.dataset}"
        self.labels = dict(warehouse.labels)
        self._warehouse = warehouse
        self.client = bigquery_client(warehouse.project, endpoints, warehouse.location)

    def check(self) -> None:
        """The dataset is there, where the job file says, and this project may run jobs on it.

        Raises:
            JobError: it is not there, or in another location.
            ForetableError: a permission is missing.
        """
        warehouse = self._warehouse
        try:
            with explained(self.name):
                dataset = self.client.get_dataset(self.name, **_CALL)
        except JobError as error:
            raise JobError(
                f"warehouse.dataset: {self.name} is not there; make it: "
                f"bq --location={warehouse.location} mk --dataset {warehouse.project}:{warehouse.dataset}"
            ) from error
        if dataset.location.lower() != warehouse.location.lower():
            raise JobError(
                f"warehouse.location: {warehouse.location!r}, but {self.name} lies in {dataset.location}; "
                f"set warehouse.location: {dataset.location} (a dataset cannot be moved)"
            )
        self.dry_run("SELECT 1")

    def path(self, table: str) -> str:
        """`project.dataset.table`."""
        return f"{self.name}.{table}"

    def table(self, name: str) -> bigquery.Table | None:
        """The table or view with its metadata, or None."""
        with explained(self.path(name)):
            try:
                return self.client.get_table(self.path(name), **_CALL)
            except exceptions.NotFound as error:
                if error_text(error).lower().startswith("not found: dataset"):
                    raise
                return None

    def tables(self) -> dict[str, Any]:
        """Tables and views by name, with what a list tells of them: labels, expiry."""
        with explained(self.name):
            return {item.table_id: item for item in self.client.list_tables(self.name, **_CALL)}

    def make(self, table: bigquery.Table) -> bigquery.Table:
        """Makes the table, unless one of its name is there; returns the one that is there then."""
        with explained(str(table.reference)):
            return self.client.create_table(table, exists_ok=True, **_CALL)

    def set_expiry(self, name: str, expires: datetime.datetime | None) -> None:
        """Lets the table or view vanish at that time, or never; one that is gone already stays so."""
        table = bigquery.Table(self.path(name))
        table.expires = expires
        with explained(self.path(name)):
            try:
                self.client.update_table(table, ["expires"], **_CALL)
            except exceptions.NotFound:
                if expires is None:
                    raise

    def delete(self, name: str) -> None:
        """Deletes the table, unless it is gone already."""
        with explained(self.path(name)):
            self.client.delete_table(self.path(name), not_found_ok=True, **_CALL)

    def rows(self, name: str, start: int, count: int) -> list[dict[str, Any]]:
        """Some rows of a table, in no order, at no cost."""
        with explained(self.path(name)):
            found = self.client.list_rows(self.path(name), start_index=start, max_results=count, **_CALL)
            return [dict(row) for row in found]

    def select(self, sql: str, parameters: Sequence[Parameter] = (), if_there: str | None = None) -> Any:
        """Rows that a SELECT answers.

        Args:
            if_there: a table without which there are no rows.
        """
        with explained(self.name, _CAP_SETTING):
            try:
                return self.client.query_and_wait(
                    sql, job_config=self.config(parameters), api_timeout=CALL_TIMEOUT_SECONDS, retry=RETRY
                )
            except exceptions.NotFound as error:
                if if_there is None or f".{if_there}" not in error_text(error):
                    raise
                return []

    def dry_run(self, sql: str) -> bigquery.QueryJob:
        """What BigQuery says about a statement without running it: its kind, the bytes it reads."""
        config = self.config()
        config.dry_run, config.use_query_cache = True, False
        with explained(self.name, _CAP_SETTING):
            return self.client.query(sql, job_config=config, **_CALL)

    def change(self, sql: str, parameters: Sequence[Parameter] = ()) -> int:
        """Runs a DML statement that may run twice; one that meets another on the same table is tried again.

        Returns:
            Number of rows changed.
        """

        def run() -> int:
            job = self.client.query(sql, job_config=self.config(parameters), **_CALL)
            job.result(retry=RETRY)
            return int(job.num_dml_affected_rows or 0)

        with explained(self.name, _CAP_SETTING):
            return int(retry.Retry(predicate=_met_another, initial=1, maximum=20, timeout=RETRY.timeout)(run)())

    def run_once(
        self, job_id: str, start: Callable[[str], Any], counts: Callable[[Any], bool] = lambda job: True
    ) -> tuple[Any, bool]:
        """Runs a job under `job_id`, or waits for the one that is there.

        An earlier one that failed, or that does not count, gives way to the next id: `<job_id>_2` and so on. So
        whoever asks for the same thing at the same time gets the same job, and only one of them starts it. One that
        cannot be asked about does not give way: it may still run.

        Args:
            start: starts the job under the id that it is given.
            counts: whether a finished job is the one that is meant.

        Returns:
            The finished job, and whether this call started it.

        Raises:
            ForetableError: the job failed.
        """
        pauses = itertools.islice(
            retry.exponential_sleep_generator(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), _MOST_TRIES - 1
        )
        with explained(self.name, _CAP_SETTING):
            for attempt in range(1, _MOST_ATTEMPTS):
                attempt_id = job_id if attempt == 1 else f"{job_id}_{attempt}"
                job, is_mine = self._find(attempt_id), False
                if job is None:
                    try:
                        job, is_mine = start(attempt_id), True
                    except exceptions.Conflict:
                        job = self.client.get_job(attempt_id, **_CALL)
                failure = _failure(job)
                if failure is None and (is_mine or counts(job)):
                    return job, is_mine
                if failure is not None and is_mine:
                    pause = next(pauses, None) if is_transient(failure) else None
                    if pause is None:
                        raise failure
                    time.sleep(pause)
        raise ForetableError(f"{self.name}: {_MOST_ATTEMPTS:,} jobs {job_id}… failed; see them in the console")

    def start_statement(self, sql: str, parameters: Sequence[Parameter] = ()) -> Callable[[str], Any]:
        """For `run_once`: starts a statement."""
        config = self.config(parameters)
        return lambda job_id: self.client.query(sql, job_config=config, job_id=job_id, job_retry=None, **_CALL)

    def start_load(self, uris: Sequence[str], table: str, config: bigquery.LoadJobConfig) -> Callable[[str], Any]:
        """For `run_once`: starts loading objects of Cloud Storage."""
        return lambda job_id: self.client.load_table_from_uri(
            list(uris), self.path(table), job_id=job_id, job_config=config, **_CALL
        )

    def start_upload(self, file: BinaryIO, table: str, config: bigquery.LoadJobConfig) -> Callable[[str], Any]:
        """For `run_once`: uploads a file and starts loading it."""

        def start(job_id: str) -> Any:
            return RETRY(self.client.load_table_from_file)(
                file, self.path(table), rewind=True, job_id=job_id, job_config=config, timeout=CALL_TIMEOUT_SECONDS
            )

        return start

    def config(self, parameters: Sequence[Parameter] = ()) -> bigquery.QueryJobConfig:
        """Of a query: bare names are tables of this dataset, and the job file's cap holds."""
        config = bigquery.QueryJobConfig(
            default_dataset=self.name, labels=self.labels, query_parameters=list(parameters)
        )
        if self._warehouse.maximum_bytes_billed is not None:
            config.maximum_bytes_billed = self._warehouse.maximum_bytes_billed
        return config

    def _find(self, job_id: str) -> Any:
        try:
            return self.client.get_job(job_id, **_CALL)
        except exceptions.NotFound:
            return None


def _failure(job: Any) -> exceptions.GoogleAPICallError | None:
    """Waits for the job's end; the error that it failed by, or None.

    Raises:
        GoogleAPICallError: the question failed, and not the job, which may still run.
    """
    try:
        job.result(retry=RETRY)
    except exceptions.GoogleAPICallError as error:
        job.reload(**_CALL)
        if job.error_result is not None:
            return error
        if job.state != "DONE":
            raise
    return None


def _met_another(error: BaseException) -> bool:
    # "Could not serialize access to table … due to concurrent update"; a transaction is "aborted due to" one.
    return isinstance(error, exceptions.GoogleAPICallError) and "concurrent update" in str(error)
