"""Nights on the twins of Google Cloud, run through the command line as on a laptop, and what they left there."""

import functools
import hashlib
import os
import pathlib

import grpc
import pyarrow as pa
from conftest import FIRST_DATE, Workspace
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

AMBIENT = ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_")


class CloudWorkspace(Workspace):
    """A job with its workspace on the storage twin and its warehouse on the BigQuery twin.

    Its commands know the twins by the job file's `endpoints` alone.
    """

    def __init__(self, cloud, *overrides, url=None, dataset=None, **endpoints):
        self.cloud = cloud
        self.url, self.dataset = url or cloud.storage.url(), dataset or cloud.bigquery.new_dataset()
        self.overrides = (*cloud.overrides(self.url, self.dataset, **endpoints), *overrides)

    def start(self, name, *arguments, **settings):
        """Starts a command and does not wait."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)}
        return super().start(name, *arguments, env=environment, **settings)

    @property
    def folder(self):
        """Where the storage twin keeps the workspace."""
        return self.cloud.storage.folder / self.url.removeprefix("gs://")

    @functools.cached_property
    def client(self):
        """A client of the BigQuery twin."""
        options = {"api_endpoint": self.cloud.bigquery.endpoint}
        return bigquery.Client(self.cloud.bigquery.project, AnonymousCredentials(), client_options=options)

    def select(self, sql):
        """Rows that a query answers, as tuples; `{d}` in it is the dataset."""
        return [tuple(row) for row in self.client.query_and_wait(sql.format(d=f"`{self.dataset}`"))]

    def table(self, name, *sorted_by):
        """Whole content of a table, by the Storage Read API."""
        twin = self.cloud.bigquery
        channel = grpc.insecure_channel(twin.storage_endpoint, [("grpc.max_receive_message_length", -1)])
        reader = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        path = f"projects/{twin.project}/datasets/{self.dataset}/tables/{name}"
        session = types.ReadSession(table=path, data_format=types.DataFormat.ARROW)
        session = reader.create_read_session(parent=f"projects/{twin.project}", read_session=session)
        rows = [reader.read_rows(stream.name).rows(session).to_arrow() for stream in session.streams]
        return pa.concat_tables(rows).sort_by([(column, "ascending") for column in sorted_by])


def shard_hashes(workspace, date=FIRST_DATE):
    """SHA-256 of each shard of a night."""
    shards = sorted((workspace.run_path(date) / "predictions").glob("part-*.parquet"))
    assert shards
    return {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards}


def files_of(folder: pathlib.Path):
    """Content of each object of a workspace, by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
