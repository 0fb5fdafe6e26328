"""Machines of jobs and endpoints, as Vertex AI wants them described."""

from typing import Any

from configs.errors import JobError
from configs.vertex import Accelerator


def machine_spec(machine_type: str, accelerator: Accelerator | None, setting: str) -> Any:
    """The `MachineSpec` of a machine.

    Args:
        setting: path of the accelerator in the job file, such as `model.training.accelerator`.

    Raises:
        JobError: Vertex knows no such accelerator.
    """
    from google.cloud.aiplatform_v1.types import AcceleratorType, MachineSpec

    spec = MachineSpec(machine_type=machine_type)
    if accelerator is not None:
        known = [each.name for each in AcceleratorType if each]
        if accelerator.type not in known:
            raise JobError(f"{setting}.type: {accelerator.type!r}; expected one of {', '.join(known)}")
        spec.accelerator_type, spec.accelerator_count = AcceleratorType[accelerator.type], accelerator.count
    return spec
