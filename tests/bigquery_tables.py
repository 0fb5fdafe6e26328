"""Tables in the BigQuery twin, and a Storage Read server before it that notes calls and breaks streams off."""

import concurrent.futures
import contextlib

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types

from beam_jobs.warehouses.bigquery.pins import pin_bigquery
from beam_jobs.warehouses.bigquery.source import open_bigquery
from configs.cloud import Endpoints
from configs.sources import BigQuerySource
from transforms.examples.reading import read_table


class BigQuery:
    """A dataset of the twin, to make tables in."""

    def __init__(self, twin):
        self.endpoints = Endpoints(bigquery=twin.endpoint, bigquery_storage=twin.storage_endpoint)
        self.dataset = f"{twin.project}.{twin.new_dataset()}"
        self.client = bigquery.Client(
            twin.project, AnonymousCredentials(), client_options={"api_endpoint": twin.endpoint}
        )

    def query(self, sql):
        return [tuple(row) for row in self.client.query(sql).result()]

    def table(self, name, sql):
        """Makes a table of a query's rows; returns its source."""
        self.query(f"CREATE OR REPLACE TABLE `{self.dataset}.{name}` AS {sql}")
        return self.source(name)

    def load(self, name, table, folder):
        """Loads an Arrow table; returns its source."""
        path = folder / f"{name}.parquet"
        pq.write_table(table, path)
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
        with path.open("rb") as file:
            self.client.load_table_from_file(file, f"{self.dataset}.{name}_loaded", job_config=config).result()
        # A copy: of a table that a load job made, the twin does not know when that was, and says now, each time.
        return self.table(name, f"SELECT * FROM `{self.dataset}.{name}_loaded`")

    def source(self, name, **settings):
        return BigQuerySource(kind="bigquery", table=f"{self.dataset}.{name}", **settings)

    def asking(self, query, **settings):
        settings.setdefault("project", self.client.project)
        return BigQuerySource(kind="bigquery", query=query, **settings)

    def open(self, source, columns, run_id="r1", endpoints=None):
        pin = pin_bigquery(source, self.endpoints, run_id)
        return open_bigquery(source, pin, columns, endpoints or self.endpoints)

    def read(self, source, columns, **settings):
        return read_table(self.open(source, columns, **settings), columns).to_pydict()


class Tap:
    """A Storage Read server before the twin's, which notes calls, sends smaller messages, and breaks streams off."""

    def __init__(self, origin, message_rows, fault_every, fault):
        self.sessions, self.reads = [], []
        self.message_rows, self.fault_every, self.fault = message_rows, fault_every, fault
        self.service = "/google.cloud.bigquery.storage.v1.BigQueryRead/"
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.origin = grpc.insecure_channel(origin, options=unlimited)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=unlimited)
        create = grpc.unary_unary_rpc_method_handler(
            self.create, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
        )
        read = grpc.unary_stream_rpc_method_handler(
            self.read, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
        )
        methods = {"CreateReadSession": create, "ReadRows": read}
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(self.service.strip("/"), methods)])
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def create(self, request, context):
        self.sessions.append(request)
        method, encode = self.service + "CreateReadSession", types.CreateReadSessionRequest.serialize
        return self.origin.unary_unary(method, encode, types.ReadSession.deserialize)(request)

    def read(self, request, context):
        self.reads.append(request)
        method, encode = self.service + "ReadRows", types.ReadRowsRequest.serialize
        sent = 0
        # All of it first: the twin lets nobody resume within a message that it is still sending.
        for response in list(self.origin.unary_stream(method, encode, types.ReadRowsResponse.deserialize)(request)):
            schema = pa.ipc.read_schema(pa.py_buffer(response.arrow_schema.serialized_schema))
            rows = pa.ipc.read_record_batch(pa.py_buffer(response.arrow_record_batch.serialized_record_batch), schema)
            for start in range(0, rows.num_rows, self.message_rows):
                if self.fault is not None and sent == self.fault_every:
                    context.abort(*self.fault)
                piece = rows.slice(start, self.message_rows)
                encoded = types.ArrowRecordBatch(serialized_record_batch=piece.serialize().to_pybytes())
                yield types.ReadRowsResponse(row_count=piece.num_rows, arrow_record_batch=encoded)
                sent += 1


@contextlib.contextmanager
def tapped(warehouse, message_rows=10**9, fault_every=0, fault=None):
    tap = Tap(warehouse.endpoints.bigquery_storage, message_rows, fault_every, fault)
    tap.endpoints = warehouse.endpoints.model_copy(update={"bigquery_storage": f"127.0.0.1:{tap.port}"})
    tap.server.start()
    try:
        yield tap
    finally:
        tap.server.stop(None)
        tap.origin.close()
