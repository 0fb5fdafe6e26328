"""What went wrong in BigQuery, in one line that names the resource and the mend."""

import contextlib
import re
from collections.abc import Iterator

import requests.exceptions
from google.api_core import exceptions

from beam_jobs.endpoints import LOGIN, credentials_problem
from beam_jobs.warehouses.bigquery.clients import is_transient
from configs.errors import ForetableError, JobError

_ROLES = {
    "bigquery.jobs.": "roles/bigquery.jobUser",
    "bigquery.readsessions.": "roles/bigquery.readSessionUser",
    "bigquery.tables.getData": "roles/bigquery.dataViewer",
    "bigquery.tables.get": "roles/bigquery.dataViewer",
    "bigquery.tables.list": "roles/bigquery.dataViewer",
    "bigquery.datasets.get": "roles/bigquery.dataViewer",
    "bigquery.datasets.create": "roles/bigquery.user",
    "bigquery.tables.": "roles/bigquery.dataEditor",
    "storage.": "roles/storage.objectViewer",
}
"""The predefined role with the least rights that has a permission, by how the permission starts; first match counts."""
_PERMISSION = re.compile(r"\b(?:bigquery|storage)\.\w+\.\w+")
_ACCESS_DENIED = re.compile(r"access denied|permission|forbidden", re.IGNORECASE)
_PREFIX = re.compile(r"^\d{3} (?:GET|POST|PATCH|PUT|DELETE) https?://\S+: ")


@contextlib.contextmanager
def explained(resource: str, cap_setting: str = "maximum_bytes_billed") -> Iterator[None]:
    """Turns whatever BigQuery's clients raise inside the block into one line of ours.

    Args:
        resource: what the block works on, such as `proj.ds.table`.
        cap_setting: of the job file that caps the bytes of the block's query.

    Raises:
        ForetableError: or `JobError` where the job file is what has to change.
    """
    try:
        yield
    except (exceptions.GoogleAPIError, requests.exceptions.RequestException, OSError) as error:
        raise explanation(error, resource, cap_setting) from error
    except Exception as error:
        if credentials_problem(error) is None:
            raise
        raise explanation(error, resource, cap_setting) from error


def explanation(error: BaseException, resource: str, cap_setting: str = "maximum_bytes_billed") -> ForetableError:
    """One line on `error`, which a client of BigQuery raised over `resource`, with the mend."""
    gave_up = isinstance(error, exceptions.RetryError)
    cause: BaseException = (error.cause if isinstance(error, exceptions.RetryError) else None) or error
    text = error_text(cause)
    if (problem := credentials_problem(cause)) is not None:
        return ForetableError(problem)
    if isinstance(cause, exceptions.Unauthorized):
        return ForetableError(f"{resource}: BigQuery does not accept the credentials ({text}); {LOGIN}")
    if "bytes billed" in text:
        return JobError(f"{resource}: {text}; raise {cap_setting} in the job file, or ask for less")
    if isinstance(cause, exceptions.Forbidden | exceptions.PermissionDenied) and not is_transient(cause):
        return ForetableError(_denied(resource, text))
    if gave_up or is_transient(cause):
        return ForetableError(f"{resource}: BigQuery gives no answer ({text}); run again: what is finished is kept")
    if isinstance(cause, exceptions.NotFound):
        return _not_found(resource, text)
    return ForetableError(f"{resource}: BigQuery refuses: {text}")


def error_text(error: BaseException) -> str:
    """What the server said, in one line, without the address of the call."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    errors = getattr(error, "errors", None)
    if errors and isinstance(errors[0], dict) and errors[0].get("message"):
        message = errors[0]["message"]
    lines = [line for line in _PREFIX.sub("", str(message)).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def _denied(resource: str, text: str) -> str:
    if not _ACCESS_DENIED.search(text):
        return f"{resource}: BigQuery refuses: {text}"  # a quota, a disabled API or unpaid bill: the text says which
    found = _PERMISSION.search(text)
    if found is None:
        return f"{resource}: permission denied ({text}); ask the project's owner for roles/bigquery.dataEditor"
    role = next((role for start, role in _ROLES.items() if found[0].startswith(start)), "roles/bigquery.dataEditor")
    return f"{resource}: permission denied: {found[0]} ({text}); ask the project's owner for {role}"


def _not_found(resource: str, text: str) -> ForetableError:
    dataset = re.match(r"not found: dataset ([\w.:-]+)", text, re.IGNORECASE)
    if dataset is not None:
        place = re.search(r"in location ([\w-]+)", text)
        return JobError(
            f"{resource}: {text}; set the location in the job file if it lies in another one,"
            f" or make it: bq --location={place[1] if place else 'US'} mk --dataset {dataset[1]}"
        )
    if "gs://" in text:
        return ForetableError(f"{resource}: {text}; run precompute again")
    return JobError(f"{resource}: {text}; check its name in the job file")
