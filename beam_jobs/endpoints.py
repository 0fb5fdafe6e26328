"""Who answers for Google Cloud: the addresses in the job file's `endpoints`, and the credentials to show there.

Google's clients and Beam read both from the environment, which worker processes and the trainer inherit; so they are
set there, once, before the first client is made. A job without endpoints leaves the environment as it is.
"""

import functools
import os
import pathlib
from typing import Any

from configs.errors import ForetableError
from configs.job import Job

STORAGE_VARIABLE = "STORAGE_EMULATOR_HOST"
BIGQUERY_VARIABLE = "BIGQUERY_EMULATOR_HOST"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
LOGIN = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key"
_CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_METADATA_VARIABLE = "GCE_METADATA_HOST"
# A token that never expires and opens nothing. Beam's storage client has no other way to be told that nobody asks for
# credentials; without any, it looks for them for 24 seconds in every process.
_STAND_IN = pathlib.Path(__file__).with_name("stand_in_credentials.json")


def use_endpoints(job: Job) -> None:
    """Makes the clients of this process, and of those that it starts, talk to the servers in `job.endpoints`.

    With a server in place of Cloud Storage, Beam is given stand-in credentials, unless the environment names some.
    """
    endpoints = job.endpoints
    if endpoints.bigquery is not None:
        os.environ[BIGQUERY_VARIABLE] = endpoints.bigquery
    if endpoints.storage is not None:
        os.environ[STORAGE_VARIABLE] = endpoints.storage
        if _METADATA_VARIABLE not in os.environ:
            os.environ.setdefault(_CREDENTIALS_VARIABLE, str(_STAND_IN))


def credentials(endpoint: str | None) -> Any:
    """Credentials for a client: none for a server in Google's place, else those that the environment provides.

    Args:
        endpoint: of the job file, or None for Google's own.

    Raises:
        ForetableError: there are none, or they have expired or been revoked.
    """
    if endpoint is None:
        return _google_credentials()
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()


def credentials_problem(error: BaseException) -> str | None:
    """One line on what is wrong with the credentials and its mend, if that is what `error` is about."""
    from google.auth import exceptions

    if isinstance(error, exceptions.DefaultCredentialsError):
        return f"no Google Cloud credentials ({_first_line(error)}); {LOGIN}"
    if isinstance(error, exceptions.RefreshError):
        return f"the Google Cloud credentials have expired or been revoked ({_first_line(error)}); {LOGIN}"
    return None


@functools.cache
def _google_credentials() -> Any:
    import google.auth
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        found, _ = google.auth.default(scopes=SCOPES)
        if not found.valid:
            found.refresh(Request())
    except (exceptions.DefaultCredentialsError, exceptions.RefreshError) as error:
        raise ForetableError(credentials_problem(error)) from error
    except exceptions.TransportError as error:
        raise ForetableError(f"cannot reach Google's token server: {_first_line(error)}; check the network") from error
    return found


def _first_line(error: BaseException) -> str:
    """The error's own words: Google's come with the server's whole answer behind them."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.partition("\n")[0].rstrip(". ")
