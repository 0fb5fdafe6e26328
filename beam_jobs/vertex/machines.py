"""Machines of jobs and endpoints, as Vertex AI wants them described."""

from typing import Any

from configs.vertex import Accelerator


def machine_spec(machine_type: str, accelerator: Accelerator | None, tpu_topology: str | None = None) -> Any:
    """The `MachineSpec` of a machine."""
    from google.cloud.aiplatform_v1.types import AcceleratorType, MachineSpec

    spec = MachineSpec(machine_type=machine_type, tpu_topology=tpu_topology or "")
    if accelerator is not None:
        spec.accelerator_type, spec.accelerator_count = AcceleratorType[accelerator.type], accelerator.count
    return spec
