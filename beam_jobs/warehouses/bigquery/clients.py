"""Clients of BigQuery, how long a call may take and what is tried again: settled here for all of them.

A call is repeated after an error that passes by itself, a lost connection among them. That is safe for those that
change something too: jobs carry ids of ours, so the server knows a job that it has already.
"""

from typing import Any

import requests.exceptions
from google.api_core import exceptions, retry
from google.auth.exceptions import TransportError
from google.cloud import bigquery

from beam_jobs.endpoints import credentials
from beam_jobs.passing_faults import PASSING_FAULTS
from configs.cloud import Endpoints

CALL_TIMEOUT_SECONDS = 60.0
_RETRY_SECONDS = 300.0
_TRANSIENT_REASONS = frozenset(
    ["rateLimitExceeded", "backendError", "internalError", "badGateway", "jobBackendError", "jobInternalError"]
)
_LASTING_REASONS = frozenset(["bytesBilledLimitExceeded", "quotaExceeded"])  # though the first comes with a 500
_TRANSIENT_TYPES = (*PASSING_FAULTS, ConnectionError, TransportError)


def bigquery_client(project: str | None, endpoints: Endpoints, location: str | None = None) -> bigquery.Client:
    """A client of the REST API.

    Args:
        project: pays for the jobs; None is that of the credentials.
        location: of the jobs; None lets BigQuery find it.

    Raises:
        ForetableError: there are no credentials.
    """
    options = {"api_endpoint": endpoints.bigquery} if endpoints.bigquery is not None else None
    return bigquery.Client(
        project=project, credentials=credentials(endpoints.bigquery), location=location, client_options=options
    )


def read_client(endpoints: Endpoints) -> Any:
    """A client of the Storage Read API, which sends columns as Arrow.

    Raises:
        ForetableError: there are no credentials.
    """
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    if endpoints.bigquery_storage is None:
        return BigQueryReadClient(credentials=credentials(None))
    import grpc
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    unlimited = [("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(endpoints.bigquery_storage, options=unlimited)
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def is_transient(error: BaseException) -> bool:
    """Whether the error passes by itself: too many requests, a server's trouble, a lost connection, silence."""
    reason = _reason(error)
    if isinstance(error, requests.exceptions.SSLError) or reason in _LASTING_REASONS:
        return False
    return isinstance(error, _TRANSIENT_TYPES) or reason in _TRANSIENT_REASONS


RETRY = retry.Retry(predicate=is_transient, initial=0.5, maximum=20, multiplier=2, timeout=_RETRY_SECONDS)
"""For every call: up to five minutes of tries, further and further apart."""
RECONNECT = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.5, maximum=20, timeout=_RETRY_SECONDS
)
"""For a stream whose connection was lost; the client's own default goes on for a day."""


def _reason(error: BaseException) -> str | None:
    errors = getattr(error, "errors", None)
    first = errors[0] if errors else None
    return first.get("reason") if isinstance(first, dict) else None
