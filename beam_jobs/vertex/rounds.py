"""A round of batch prediction: instances written and divided among jobs, and the messages that make those jobs.

What was written is noted last, in `sent.json`: a night that is started again sends these very files, or finds the jobs
that read them.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from beam_jobs.night import Night
from beam_jobs.vertex.exchanges import Exchange, FileExchange, TableExchange
from beam_jobs.vertex.instance_files import Encode, file_count, write_files
from beam_jobs.vertex.machines import machine_spec
from beam_jobs.vertex.names import display_name, labels
from beam_jobs.workspace import storage
from configs.precomputing import VertexBatchPrecompute

FOLDER, STEP = "batch_prediction", "precompute"
_SENT = "sent.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """What one job of a round reads.

    Attributes:
        instances: in each of the files.
    """

    files: tuple[str, ...]
    instances: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Round:
    """A round of a night.

    Attributes:
        number: from 1.
        version: what decides the instances and their predictions beside the run: the model, the space, the format.
        key: field of the instances' keys.
        step: in the jobs' names and labels, and before lines about them.
    """

    night: Night
    settings: VertexBatchPrecompute
    number: int
    version: str
    key: str
    step: str = STEP

    @property
    def folder(self) -> str:
        """Where its files are."""
        return self.night.run.file(FOLDER, f"{self.number}-{storage.digest_of(self.version)[:8]}")

    @property
    def is_sent(self) -> bool:
        """Whether an earlier try has written all instances."""
        return storage.exists(storage.join(self.folder, _SENT))

    def exchange(self) -> Exchange:
        """The way there and back that the job file asks for."""
        if self.settings.instances_format == "jsonl":
            return FileExchange(self.folder, self.key)
        from beam_jobs.warehouses.bigquery.instance_tables import InstanceTables

        run = self.night.run
        name = f"foretable_instances_{self.night.job.name}_{run.run_id}_{self.folder.rpartition('-')[2]}_{self.number}"
        tables = InstanceTables(self.night.job, self.settings.dataset)
        return TableExchange(tables, name, self.key, labels(self.night, self.step, self.settings.labels))

    def write(self, cells: Iterable[np.ndarray], instances: int, encode: Encode, suffix: str) -> None:
        """Writes the cells' instances, for as many jobs as the job file says; there are never more than instances."""
        jobs = min(self.settings.jobs, instances)
        files = file_count(instances, jobs * self.settings.starting_replica_count)
        sizes = np.diff(np.linspace(0, instances, files + 1).astype(np.int64)).tolist()
        paths = write_files(self.folder, cells, sizes, encode, suffix)
        parts = [Part(tuple(paths[job::jobs]), tuple(sizes[job::jobs])) for job in range(jobs)]
        storage.write_json(storage.join(self.folder, _SENT), {"parts": [dataclasses.asdict(part) for part in parts]})

    def parts(self) -> list[Part]:
        """What its jobs read, as it was written."""
        noted = storage.read_json(storage.join(self.folder, _SENT))["parts"]
        return [Part(tuple(part["files"]), tuple(part["instances"])) for part in noted]

    def messages(self, exchange: Exchange, encode: Encode, model: str) -> list[Any]:
        """A `BatchPredictionJob` for each part, under the name of its first try.

        Args:
            model: resource name of a version, `projects/…/models/ID@VERSION`.
        """
        schema = encode(np.zeros(1, np.int64)).schema
        return [
            self._message(model, index, exchange.configure(exchange.sources(part.files, part.instances, schema), index))
            for index, part in enumerate(self.parts())
        ]

    def _message(self, model: str, part: int, configuration: dict[str, Any]) -> Any:
        from google.cloud.aiplatform_v1.types import BatchPredictionJob

        settings, vertex = self.settings, self.night.job.vertex
        assert vertex is not None
        replicas = settings.starting_replica_count
        own = {"foretable_round": str(self.number), "foretable_part": str(part)}
        return BatchPredictionJob(
            display_name=display_name(self.night, self.step, f"{self.version} {self.number} {part}"),
            model=model,
            labels=labels(self.night, self.step, settings.labels) | own,
            dedicated_resources={
                "machine_spec": machine_spec(settings.machine_type, settings.accelerator),
                "starting_replica_count": replicas,
                "max_replica_count": replicas,  # ignored, and refused where it is lower
            },
            manual_batch_tuning_parameters={"batch_size": settings.batch_size},
            service_account=settings.service_account or vertex.service_account or "",
            **configuration,
        )
