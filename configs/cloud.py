"""Google Cloud in the job file: where Beam runs, where tables live, and what answers for the cloud in a trial."""

from typing import Annotated, Literal, Self

import pydantic

from configs.base import Node

LabelKey = Annotated[str, pydantic.Field(pattern=r"^[\p{Ll}\p{Lo}][\p{Ll}\p{Lm}\p{Lo}\p{M}\p{N}_-]{0,62}$")]
LabelValue = Annotated[str, pydantic.Field(pattern=r"^[\p{Ll}\p{Lm}\p{Lo}\p{M}\p{N}_-]{0,63}$")]
Labels = dict[LabelKey, LabelValue]
"""What Google Cloud takes: https://cloud.google.com/resource-manager/docs/labels-overview#requirements."""


class Endpoints(Node):
    """Servers in place of Google Cloud's own, such as emulators on loopback; then nobody needs credentials.

    Attributes:
        bigquery: `http://host:port` of the REST API.
        bigquery_storage: `host:port` of the Storage Read API, by gRPC without TLS.
        storage: `http://host:port` of Cloud Storage.
        dataflow: `http://localhost:port`, with the word localhost.
        vertex: `http://host:port` of Vertex AI's REST API.
        logging: `http://host:port` of Cloud Logging's REST API.
    """

    bigquery: str | None = pydantic.Field(default=None, pattern=r"^https?://[^/]+$")
    bigquery_storage: str | None = pydantic.Field(default=None, pattern=r"^[^/:]+:[0-9]+$")
    storage: str | None = pydantic.Field(default=None, pattern=r"^https?://[^/]+$")
    dataflow: str | None = pydantic.Field(default=None, pattern=r"^https?://[^/]+$")
    vertex: str | None = pydantic.Field(default=None, pattern=r"^https?://[^/]+$")
    logging: str | None = pydantic.Field(default=None, pattern=r"^https?://[^/]+$")


class BigQueryWarehouse(Node):
    """Prediction tables in a BigQuery dataset.

    Attributes:
        location: the dataset's; checked before anything is scored.
        maximum_bytes_billed: of one query; BigQuery refuses a larger one.
        labels: on every table and job, beside our own.
    """

    kind: Literal["bigquery"]
    project: str
    dataset: str = pydantic.Field(pattern=r"^[A-Za-z0-9_]{1,1024}$")
    location: str = "US"
    maximum_bytes_billed: int | None = pydantic.Field(default=None, ge=1)
    labels: Labels = pydantic.Field(default_factory=dict)


class DataflowRunner(Node):
    """Runs Beam on Dataflow. Beam's further options follow a bare `--` on the command line.

    Attributes:
        temp_location: `gs://` folder for Beam's own files; by default under the workspace.
        sdk_container_image: the project's image, see the Dockerfile; or else `setup_file`.
        setup_file: of this project, whose package and locked requirements each worker then installs when it starts.
    """

    kind: Literal["dataflow"]
    project: str
    region: str
    temp_location: str | None = pydantic.Field(default=None, pattern=r"^gs://")
    machine_type: str = "n2-standard-4"
    num_workers: int | None = pydantic.Field(default=None, ge=1)
    max_workers: int = pydantic.Field(default=10, ge=1)
    disk_size_gb: int | None = pydantic.Field(default=None, ge=10)
    sdk_container_image: str | None = None
    setup_file: str | None = None
    service_account: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    use_public_ips: bool = True
    labels: Labels = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _one_way_to_the_code(self) -> Self:
        if (self.sdk_container_image is None) == (self.setup_file is None):
            raise ValueError("expected sdk_container_image or setup_file, and not both")
        return self
