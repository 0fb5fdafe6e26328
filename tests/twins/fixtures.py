"""Fixtures: each twin once a session, and `cloud`, all of them with the environment that clients read."""

import dataclasses
import os

import pytest

from configs.cloud import Endpoints
from twins.bigquery import BigQueryTwin, bigquery_server
from twins.metadata import MetadataTwin, metadata_server
from twins.processes import twin_environment
from twins.storage import StorageTwin, storage_server


@dataclasses.dataclass(frozen=True)
class Cloud:
    """All twins, as a job file names them."""

    storage: StorageTwin
    bigquery: BigQueryTwin
    metadata: MetadataTwin

    @property
    def endpoints(self) -> Endpoints:
        """Of a job."""
        return Endpoints(
            bigquery=self.bigquery.endpoint,
            bigquery_storage=self.bigquery.storage_endpoint,
            storage=self.storage.endpoint,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Of a process whose clients are to find the twins without a job's `endpoints`."""
        addresses = {
            "STORAGE_EMULATOR_HOST": self.storage.endpoint,
            "BIGQUERY_EMULATOR_HOST": self.bigquery.endpoint,
            "GOOGLE_CLOUD_PROJECT": self.bigquery.project,
        }
        return addresses | self.metadata.environment

    def overrides(self, workspace: str | None = None, dataset: str | None = None, **endpoints: str) -> list[str]:
        """Values of `--set` that move a job here, by default into a workspace and a dataset of its own.

        Args:
            endpoints: other addresses than the twins' own, such as a proxy's.
        """
        addresses = self.endpoints.model_dump(exclude_none=True) | endpoints
        flow = ", ".join(f"{name}: '{address}'" for name, address in addresses.items())
        project, dataset = self.bigquery.project, dataset or self.bigquery.new_dataset()
        return [
            f"workspace={workspace or self.storage.url()}",
            f"warehouse={{kind: bigquery, project: {project}, dataset: {dataset}}}",
            f"endpoints={{{flow}}}",
        ]


@pytest.fixture(scope="session")
def storage_twin(tmp_path_factory):
    """Cloud Storage."""
    twin_environment()
    with storage_server(tmp_path_factory.mktemp("storage-twin")) as twin:
        yield twin


@pytest.fixture(scope="session")
def bigquery_twin(tmp_path_factory, storage_twin):
    """BigQuery, which can load from the storage twin."""
    with bigquery_server(tmp_path_factory.mktemp("bigquery-twin"), storage_twin) as twin:
        yield twin


@pytest.fixture(scope="session")
def metadata_twin():
    """The metadata server."""
    with metadata_server() as twin:
        yield twin


@pytest.fixture(scope="session")
def vertex_twin(tmp_path_factory, cloud):
    """Vertex AI, whose jobs find the other twins; Cloud Logging is at the same address."""
    from twins.vertex import vertex_server  # the protos take seconds to import

    folder = tmp_path_factory.mktemp("vertex-twin")
    with vertex_server(folder, cloud.storage, cloud.bigquery, cloud.environment) as twin:
        yield twin


@pytest.fixture
def clean_vertex_twin(vertex_twin):
    """Vertex AI without jobs and faults of other tests."""
    vertex_twin.faults.clear()
    vertex_twin.all_jobs.clear()
    yield vertex_twin
    vertex_twin.faults.clear()
    vertex_twin.end_jobs()


@pytest.fixture(scope="session")
def cloud(storage_twin, bigquery_twin, metadata_twin):
    """All twins; clients of this process and of its children find them by the environment."""
    twins = Cloud(storage_twin, bigquery_twin, metadata_twin)
    before = dict(os.environ)
    os.environ.update(twins.environment)
    yield twins
    for name in twins.environment:
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]
