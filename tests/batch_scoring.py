"""Nights that score a space by batch prediction on the Vertex twin, and the table that the laptop makes of it."""

import dataclasses
import datetime
import json
import re
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import ListedConsole

from beam_jobs.endpoints import use_endpoints
from beam_jobs.foreign_models import GivenModel
from beam_jobs.lineage import TrainedModel
from beam_jobs.night import Night
from beam_jobs.vertex.batch_prediction import precompute_on_vertex
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.loading import load_job
from transforms.scoring.engine import load_engine
from transforms.scoring.precompute import PrecomputePredictions
from transforms.space.blocks import shard_ranges

RUN_DATE = datetime.date(2026, 1, 5)


@dataclasses.dataclass
class Scoring:
    """A model with a planned space on the storage twin, and nights that score it."""

    cloud: object
    twin: object
    url: str
    job_file: str
    model: TrainedModel | GivenModel
    transform: PrecomputePredictions
    expected: pa.Table
    instances: int

    def night(self, run_id=None, **settings):
        """A night with a run directory of its own, unless it is that of `run_id`."""
        precompute = {"on": "vertex_batch", "batch_size": 50, "shard_blocks": 1, **settings}
        overrides = [
            *self.cloud.overrides(self.url, vertex=self.twin.endpoint, logging=self.twin.endpoint),
            f"vertex={{project: {self.twin.project}, region: {self.twin.region}, service_account: sa@proj.iam}}",
            f"precompute={json.dumps(precompute)}",
        ]
        job = load_job(self.job_file, overrides)
        use_endpoints(job)
        run = RunDirectory(job_folder(job), RUN_DATE, run_id or uuid.uuid4().hex[:12])
        return Night(job, "natality.yaml", run, ListedConsole())

    def run(self, night):
        """Precomputes, as the stage does; returns the table of all shards."""
        transform = dataclasses.replace(self.transform, predictions_dir=night.run.file("predictions"))
        records = precompute_on_vertex(night, transform, self.model)
        shards = shard_ranges(self.transform.plan.cardinality, 1)
        assert sorted(record.name for record in records) == [shard.name for shard in shards]
        folder = self.folder(night) / "predictions"
        return pa.concat_tables(pq.read_table(folder / shard.name) for shard in shards)

    def folder(self, night):
        """Where the storage twin keeps the run directory."""
        return self.cloud.storage.folder / night.run.path.removeprefix("gs://")

    def sent(self, night, number):
        """Keys of a round's instances, in the order of its files."""
        files = sorted(self.folder(night).glob(f"batch_prediction/{number}-*/instances-*.jsonl"))
        return [json.loads(line)["key"] for file in files for line in file.read_text().splitlines()]

    def jobs(self, night):
        """The night's jobs in the order of their creation."""
        return [job for job in self.twin.jobs("batch") if night.run.run_id in job.message.display_name]

    def assert_expected(self, found):
        """The table is the laptop's: floats within 1e-6, all else the same."""
        assert found.schema.equals(self.expected.schema)
        for name in found.column_names:
            column, expected = found[name].combine_chunks(), self.expected[name].combine_chunks()
            if pa.types.is_list(column.type):
                column, expected = column.flatten(), expected.flatten()
            if pa.types.is_float32(column.type):
                np.testing.assert_allclose(column.to_numpy(), expected.to_numpy(), rtol=1e-6, atol=1e-7)
            else:
                assert column.equals(expected), name


def laptop_table(transform):
    """What the laptop's engine makes."""
    shards = shard_ranges(transform.plan.cardinality, 1)
    records = transform.writer(load_engine(transform.engine_files)).write_all(shards)
    return pa.concat_tables(pq.read_table(f"{transform.predictions_dir}/{record.name}") for record in records)


class Interrupting(ListedConsole):
    """Interrupts the night when it is about to say something."""

    def __init__(self, pattern):
        super().__init__()
        self.pattern = pattern

    def line(self, text, style=None):
        """Raises what Ctrl-C raises, once."""
        super().line(text, style)
        if self.pattern and re.search(self.pattern, text):
            self.pattern = None
            raise KeyboardInterrupt


def said(night, pattern):
    """Lines that a person saw."""
    return [line for line in night.console.lines if re.search(pattern, line)]
