"""The custom job that trains: the trainer's command in a container, on the machines of the job file."""

import shlex
from collections.abc import Sequence
from typing import Any

from beam_jobs.night import Night
from beam_jobs.vertex.machines import machine_spec
from beam_jobs.vertex.names import labels
from beam_jobs.vertex.staging import StagedPackage
from configs.training import VertexTraining
from configs.vertex import duration_seconds

TRAINER = ("python", "-m", "models.trainer")
_BOOT_DISK = "pd-ssd"
# The trainer takes the shell's place, so that it gets the signals and gives the exit code.
_INSTALL = """\
mount="${{FORETABLE_GCS_MOUNT:-/gcs}}"
python -m pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action ignore \\
  --constraint "$mount"/{lock} "$mount"/{sdist}
exec {trainer} "$@"
"""


def custom_job(
    night: Night,
    training: VertexTraining,
    step: str,
    name: str,
    arguments: Sequence[str],
    package: StagedPackage | None,
) -> Any:
    """The `CustomJob` that runs the trainer once on each machine.

    Its base output directory is the run directory: so the model goes to the run's `model/`, checkpoints to
    `checkpoints/`, and what TensorBoard shows to `logs/`.

    Args:
        name: display name.
        arguments: of the trainer.
        package: where the training has no container of its own.

    Raises:
        JobError: the accelerator is not one of Vertex's.
    """
    from google.cloud.aiplatform_v1 import types
    from google.protobuf.duration_pb2 import Duration

    vertex = night.job.vertex
    assert vertex is not None, night.job.name
    scheduling = types.Scheduling(
        timeout=Duration(seconds=duration_seconds(training.timeout)),
        # The strategies cannot lose a worker; and a whole job that begins anew goes on from its last checkpoint.
        restart_job_on_worker_restart=True,
        strategy=types.Scheduling.Strategy.SPOT if training.spot else types.Scheduling.Strategy.STANDARD,
    )
    spec = types.CustomJobSpec(
        worker_pool_specs=[
            types.WorkerPoolSpec(
                machine_spec=machine_spec(training.machine_type, training.accelerator, training.tpu_topology),
                replica_count=replicas,
                container_spec=_container(training, arguments, package),
                disk_spec=types.DiskSpec(boot_disk_type=_BOOT_DISK, boot_disk_size_gb=training.boot_disk_gb),
            )
            for replicas in pool_sizes(training)
        ],
        scheduling=scheduling,
        service_account=training.service_account or vertex.service_account,
        network=training.network or vertex.network,
        base_output_directory=types.GcsDestination(output_uri_prefix=night.run.path),
        tensorboard=training.tensorboard,
    )
    return types.CustomJob(display_name=name, job_spec=spec, labels=labels(night, step, training.labels))


def pool_sizes(training: VertexTraining) -> list[int]:
    """Machines of each worker pool: the first is the chief's alone.

    https://cloud.google.com/vertex-ai/docs/training/distributed-training
    """
    return [1] if training.replica_count == 1 else [1, training.replica_count - 1]


def _container(training: VertexTraining, arguments: Sequence[str], package: StagedPackage | None) -> Any:
    from google.cloud.aiplatform_v1.types import ContainerSpec

    if training.python_package is None:
        return ContainerSpec(image_uri=training.container, command=TRAINER, args=arguments)
    assert package is not None, training.python_package
    script = _INSTALL.format(
        lock=shlex.quote(_on_mount(package.lock)),
        sdist=shlex.quote(_on_mount(package.sdist)),
        trainer=shlex.join(TRAINER),
    )
    return ContainerSpec(
        image_uri=training.python_package.image, command=["sh", "-e", "-c", script, "trainer"], args=arguments
    )


def _on_mount(path: str) -> str:
    return path.removeprefix("gs://")
