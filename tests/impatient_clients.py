"""Imported before anything else where trials run: clients wait less, for an answer and for their next try.

What they do is what they do in earnest; a trial of 60 seconds' silence would only take that long. Whoever waits without
a limit still does so.
"""

import requests.adapters
from google.cloud.bigquery import client as bigquery_client

from beam_jobs.warehouses.bigquery import clients as bigquery_clients
from beam_jobs.workspace import cloud_storage

PATIENCE_SECONDS = 3.0

cloud_storage.TIMEOUT_SECONDS = (PATIENCE_SECONDS, PATIENCE_SECONDS)
bigquery_clients.CALL_TIMEOUT_SECONDS = PATIENCE_SECONDS
for retry in (cloud_storage._RETRY, bigquery_clients.RETRY):
    retry._initial, retry._maximum = 0.02, 0.2
# BigQuery's client raises what it is told to this for a query's results.
bigquery_client._MIN_GET_QUERY_RESULTS_TIMEOUT = PATIENCE_SECONDS


class _ImpatientAdapter(requests.adapters.HTTPAdapter):
    """Beam's own client, too, waits no longer, which cannot be told so."""

    def send(self, request, stream=False, timeout=None, **settings):
        is_longer = isinstance(timeout, int | float) and timeout > PATIENCE_SECONDS
        return super().send(request, stream, PATIENCE_SECONDS if is_longer else timeout, **settings)


requests.sessions.HTTPAdapter = _ImpatientAdapter
