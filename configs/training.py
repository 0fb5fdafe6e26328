"""How the model is trained: what decides which model it is, and on which machines."""

import re
from typing import Annotated, ClassVar, Literal, Self

import pydantic

from configs.base import Node
from configs.cloud import Labels
from configs.vertex import Accelerator, Duration

Strategy = Literal["none", "mirrored", "multi_worker", "tpu"]


class Training(Node):
    """How and when the model is trained, wherever that is.

    Attributes:
        every: `run`, a number of days such as `7d`, `drift` (when tonight's examples are too far from those that the
            model was trained on, by the job's `drift` thresholds), or `manual` (only by `foretable train`).
        early_stopping_patience: epochs without a better eval loss before it stops; the best epoch's weights stay.
        strategy: of tf.distribute: over the devices of one machine, over several machines, or over a TPU's cores.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset({"on"})
    """Settings of where it runs: the same trainer makes the same model elsewhere."""

    every: str = "run"
    epochs: int = pydantic.Field(default=20, ge=1)
    batch_size: int = pydantic.Field(default=512, ge=1)
    learning_rate: float = pydantic.Field(default=1e-3, gt=0)
    early_stopping_patience: int = pydantic.Field(default=3, ge=1)
    seed: int = 0
    strategy: Strategy = "none"

    @pydantic.field_validator("every")
    @classmethod
    def _schedule(cls, every: str) -> str:
        if every not in ("run", "drift", "manual") and not re.fullmatch(r"[1-9][0-9]*d", every):
            raise ValueError("expected run, drift, manual, or a number of days such as 7d")
        return every

    @property
    def every_days(self) -> int | None:
        """Days between trainings; 0 for every run, None where it is not by days."""
        return int(self.every[:-1]) if self.every[0].isdigit() else {"run": 0}.get(self.every)


class PythonPackage(Node):
    """This project's source distribution and its lock, staged into the workspace and installed when a job starts.

    Attributes:
        image: with Python 3.11 to 3.13 and pip.
    """

    image: str = "docker.io/library/python:3.11"


class LocalTraining(Training):
    """Trains on the machine that starts the night."""

    on: Literal["local"] = "local"


class VertexTraining(Training):
    """Trains as a custom job on Vertex AI.

    Attributes:
        machine_type: of each replica.
        accelerator: of each replica.
        tpu_topology: of a machine type with TPUs, such as `2x2`; with `strategy: tpu`.
        replica_count: machines; more than one with `strategy: multi_worker`.
        container: this project's image, see the Dockerfile; or else `python_package`.
        service_account: by default that of the job's `vertex`, as are `network` and `labels`.
        timeout: after which Vertex ends the job, such as `90m` or `24h`.
        spot: on machines that may be taken away at any time, and cost less; training goes on from its last epoch.
        boot_disk_gb: of each replica.
        tensorboard: full name of a Vertex TensorBoard that logs go to while the job runs; needs a service account.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset(
        {
            "on",
            "machine_type",
            "accelerator",
            "tpu_topology",
            "replica_count",
            "container",
            "python_package",
            "service_account",
            "network",
            "timeout",
            "spot",
            "boot_disk_gb",
            "labels",
            "tensorboard",
        }
    )

    on: Literal["vertex"]
    machine_type: str = "n1-standard-8"
    accelerator: Accelerator | None = None
    tpu_topology: str | None = pydantic.Field(default=None, pattern=r"^[1-9][0-9]*(x[1-9][0-9]*){1,2}$")
    replica_count: int = pydantic.Field(default=1, ge=1)
    container: str | None = None
    python_package: PythonPackage | None = None
    service_account: str | None = None
    network: str | None = None
    timeout: Duration = "24h"
    spot: bool = False
    boot_disk_gb: int = pydantic.Field(default=100, ge=100)
    labels: Labels = pydantic.Field(default_factory=dict)
    tensorboard: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_way_to_the_code(self) -> Self:
        if (self.container is None) == (self.python_package is None):
            raise ValueError("expected container or python_package, and not both")
        if (self.strategy == "multi_worker") != (self.replica_count > 1):
            raise ValueError(
                f"strategy {self.strategy} and replica_count {self.replica_count}; expected several replicas with"
                " multi_worker, and with nothing else"
            )
        if self.tpu_topology is not None and self.strategy != "tpu":
            raise ValueError(f"tpu_topology {self.tpu_topology} and strategy {self.strategy}; expected strategy tpu")
        return self


def _tag(value: object) -> str:
    on = value.get("on", "local") if isinstance(value, dict) else getattr(value, "on", "local")
    return f"{on} training"


AnyTraining = Annotated[
    Annotated[LocalTraining, pydantic.Tag("local training")]
    | Annotated[VertexTraining, pydantic.Tag("vertex training")],
    pydantic.Discriminator(_tag),
]
