"""Vertex AI in the job file: where it is, as whom, and how a registered model is served."""

import re
from typing import Annotated, Literal, Self

import pydantic

from configs.base import Node
from configs.cloud import Labels

Duration = Annotated[str, pydantic.Field(pattern=r"^[1-9][0-9]*[smhd]$")]
AcceleratorType = Literal[
    "NVIDIA_TESLA_K80",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_V100",
    "NVIDIA_TESLA_P4",
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_L4",
    "NVIDIA_H100_80GB",
    "NVIDIA_H100_MEGA_80GB",
    "NVIDIA_H200_141GB",
    "NVIDIA_B200",
    "NVIDIA_GB200",
    "NVIDIA_RTX_PRO_6000",
    "TPU_V2",
    "TPU_V3",
    "TPU_V4_POD",
    "TPU_V5_LITEPOD",
]
"""Those of Google's client, which takes too long to import where a job file is only read."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration_seconds(duration: str) -> int:
    """Seconds of a duration such as `90m`."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


class Accelerator(Node):
    """Accelerators of one machine, by Vertex's own name."""

    type: AcceleratorType
    count: int = pydantic.Field(default=1, ge=1)


class ServingContainer(Node):
    """The container that Vertex serves a model with.

    Attributes:
        image: by default one of Vertex's own for TensorFlow, which needs no more than that. Any other has to speak
            TensorFlow Serving's REST API; without `command` and `args` it is started as `tensorflow/serving` is.
        command: in place of the image's entry point.
        args: of the command line; Vertex fills in `$(AIP_STORAGE_URI)`, the folder that has the model in a folder `1`,
            or, with an image of Vertex's own, the model itself.
        predict_route: of an image that is not Vertex's own, as are `health_route` and `port`.
        port: that it listens on.
    """

    image: str = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    environment: dict[str, str] = pydantic.Field(default_factory=dict)
    predict_route: str | None = pydantic.Field(default=None, pattern=r"^/")
    health_route: str | None = pydantic.Field(default=None, pattern=r"^/")
    port: int | None = pydantic.Field(default=None, ge=1, le=65535)

    @property
    def is_vertex_image(self) -> bool:
        """Whether the image is one of those that Vertex provides, which know their own routes and port."""
        return re.match(r"(us|europe|asia)-docker\.pkg\.dev/vertex-ai(-restricted)?/", self.image) is not None

    @pydantic.model_validator(mode="after")
    def _routes_of_other_images(self) -> Self:
        given = [name for name in ("predict_route", "health_route", "port") if getattr(self, name) is not None]
        if self.is_vertex_image and given:
            raise ValueError(
                f"expected no {', '.join(given)} beside {self.image!r}, which is Vertex's own and has them"
            )
        return self


class OnlineMachines(Node):
    """Machines of an endpoint, of each model version that is deployed there."""

    machine_type: str = "n1-standard-2"
    accelerator: Accelerator | None = None
    min_replica_count: int = pydantic.Field(default=1, ge=1)
    max_replica_count: int = pydantic.Field(default=1, ge=1)

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replica_count < self.min_replica_count:
            raise ValueError("expected max_replica_count of at least min_replica_count")
        return self


class Vertex(Node):
    """Where on Vertex AI, and as whom. With it, every blessed model becomes a version in the Model Registry.

    Attributes:
        service_account: that jobs and endpoints run as, unless they name their own.
        network: full name of the VPC network that jobs are peered with, `projects/NUMBER/global/networks/NAME`.
        labels: on everything that is made, beside our own.
        serving: the container of a registered model.
        endpoint: of `foretable endpoint deploy`.
    """

    project: str
    region: str
    service_account: str | None = None
    network: str | None = None
    labels: Labels = pydantic.Field(default_factory=dict)
    serving: ServingContainer = ServingContainer()
    endpoint: OnlineMachines = OnlineMachines()
