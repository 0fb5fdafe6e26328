"""What a night on Google Cloud may cost: a range for each service, from its sizes and a table of list prices.

A range, because nobody knows beforehand how long Dataflow keeps how many workers, what Vertex AI takes to start a
machine, and because of free amounts.
"""

import dataclasses
import re

from beam_jobs.vertex.expected_jobs import ExpectedJobs
from configs.cloud import DataflowRunner
from configs.prices import Prices

GIB, TIB, GB = 2**30, 2**40, 10**9
FEWEST_MINUTES, MOST_MINUTES = 3, 8
"""A Dataflow worker's life beside its work: start, container, end."""
SLOWDOWN = 3
"""How much slower a worker's core may be than one here, at most."""
EXAMPLE_ROWS_PER_CORE_SECOND = 30_000
"""Rows of examples that a core reads, checks, transforms and judges."""
SCANS = (1, 4)
"""Times that publishing reads tonight's table: to verify it, to hold it against contracts and last night's."""
DAYS_A_MONTH = 30
SPOT_DISCOUNT = 0.91
"""What a spot machine is cheaper by, at most; at worst it is taken away and what it did is paid twice."""
DEFAULT_DISK_GB = 25
_MEMORY_GB_A_VCPU = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
_MACHINE = re.compile(r"(\w+)-(standard|highmem|highcpu)-(\d+)$")
_ASSUMED_VCPUS = 4


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a night works on.

    Attributes:
        example_rows: that are read, or None if nobody knows.
        example_bytes: that the run directory keeps, once as they are read and once transformed.
        scoring_core_seconds: on this machine.
        rows: of the table.
        shard_bytes: of all shards.
        table_bytes: of the table in BigQuery, uncompressed.
        read_bytes: of BigQuery tables, by the Storage Read API.
        queried_bytes: by queries that a source runs.
        dataflow_jobs: that the night starts.
        objects: that it writes.
        days: that its table and its files are kept.
    """

    example_rows: int | None
    example_bytes: int
    scoring_core_seconds: float
    rows: int
    shard_bytes: int
    table_bytes: int
    read_bytes: int
    queried_bytes: int
    dataflow_jobs: int
    objects: int
    days: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """A range of money.

    Attributes:
        basis: what was multiplied.
    """

    what: str
    low: float
    high: float
    basis: str


def machine_size(machine_type: str) -> tuple[int, float]:
    """Virtual CPUs and GB of memory; of a type that its name does not tell, those of n2-standard-4."""
    match = _MACHINE.search(machine_type)
    if match is None:
        return _ASSUMED_VCPUS, _ASSUMED_VCPUS * _MEMORY_GB_A_VCPU["standard"]
    family, kind, count = match[1], match[2], int(match[3])
    per_vcpu = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9} if family == "n1" else _MEMORY_GB_A_VCPU
    return count, count * per_vcpu[kind]


def dataflow_costs(sizes: Sizes, runner: DataflowRunner, prices: Prices) -> list[Cost]:
    """Of the workers, and of what they shuffle."""
    if not sizes.dataflow_jobs:
        return []
    listed = prices.dataflow
    vcpus, memory_gb = machine_size(runner.machine_type)
    disk_gb = runner.disk_size_gb or DEFAULT_DISK_GB
    hour = vcpus * listed.vcpu_hour + memory_gb * listed.memory_gb_hour + disk_gb * listed.disk_gb_hour
    core_seconds = sizes.scoring_core_seconds + (sizes.example_rows or 0) / EXAMPLE_ROWS_PER_CORE_SECOND
    work_hours = core_seconds / 3600 / vcpus
    idle_hours = sizes.dataflow_jobs * FEWEST_MINUTES / 60, sizes.dataflow_jobs * runner.max_workers * MOST_MINUTES / 60
    low, high = work_hours + idle_hours[0], SLOWDOWN * work_hours + idle_hours[1]
    workers = Cost(
        "Dataflow workers",
        low * hour,
        high * hour,
        f"{sizes.dataflow_jobs} jobs, {low:.2g} to {high:.2g} hours of {runner.machine_type} at {hour:.3g}",
    )
    # Records of shards, and the sums of statistics and metrics; rows stay where they are read.
    shuffled_gb = sizes.dataflow_jobs
    return [workers, Cost("Dataflow shuffle", 0.0, shuffled_gb * listed.shuffled_gb, f"at most {shuffled_gb} GB")]


def bigquery_costs(sizes: Sizes, prices: Prices) -> list[Cost]:
    """Of queries on demand, of reading, and of the table for as long as it is kept. Loading is free."""
    listed = prices.bigquery
    least, most = (sizes.queried_bytes + times * sizes.table_bytes for times in SCANS)
    costs = []
    if most:
        basis = f"{least / GIB:.3g} to {most / GIB:.3g} GiB; the first TiB of a month is free"
        costs.append(Cost("BigQuery queries", 0.0, most / TIB * listed.queried_tib, basis))
    if sizes.read_bytes:
        basis = f"{sizes.read_bytes / GIB:.3g} GiB; the first 300 TiB of a month are free"
        costs.append(Cost("BigQuery reading", 0.0, sizes.read_bytes / TIB * listed.read_tib, basis))
    if sizes.table_bytes:
        month = sizes.table_bytes / GIB * listed.stored_gib_month * sizes.days / DAYS_A_MONTH
        costs.append(Cost("BigQuery storage", 0.0, month, f"{sizes.table_bytes / GIB:.3g} GiB for {sizes.days} days"))
    return costs


def storage_costs(sizes: Sizes, prices: Prices) -> list[Cost]:
    """Of the run directory for as long as it is kept, and of writing it."""
    listed = prices.storage
    stored_bytes = sizes.shard_bytes + 2 * sizes.example_bytes
    stored = stored_bytes / GB * listed.stored_gb_month * sizes.days / DAYS_A_MONTH
    # An object is written under a temporary name and renamed, and looked at a few times.
    calls = sizes.objects / 1000 * (2 * listed.thousand_writes + 5 * listed.thousand_reads)
    basis = f"{stored_bytes / GB:.3g} GB for {sizes.days} days, {sizes.objects:,} objects"
    return [Cost("Cloud Storage", stored + calls, 3 * (stored + calls), basis)]


def vertex_costs(expected: ExpectedJobs, prices: Prices) -> list[Cost]:
    """Of the machines of some jobs on Vertex AI; none where their hours or their price are not known."""
    hour = vertex_machine_hour(expected, prices)
    if hour is None or expected.machine_hours is None:
        return []
    low, high = expected.machine_hours
    cheapest = hour * (1 - SPOT_DISCOUNT) if expected.spot else hour
    spot = "spot " if expected.spot else ""
    basis = f"{low:.2g} to {high:.2g} hours of {spot}{machine_text(expected)} at {hour:.3g}; {expected.basis}"
    return [Cost(f"Vertex AI {expected.kind}", low * cheapest, high * hour, basis)]


def vertex_machine_hour(expected: ExpectedJobs, prices: Prices) -> float | None:
    """Price of one machine for an hour, accelerators included; None where the table does not list it."""
    match = _MACHINE.search(expected.machine_type)
    if prices.vertex is None or match is None or match[1] not in prices.vertex.machines:
        return None
    listed = prices.vertex.machines[match[1]]
    vcpus, memory_gb = machine_size(expected.machine_type)
    hour = vcpus * listed.vcpu_hour + memory_gb * listed.memory_gb_hour
    if expected.accelerator is None:
        return hour
    accelerator = prices.vertex.accelerators.get(expected.accelerator.type)
    return None if accelerator is None else hour + expected.accelerator.count * accelerator


def machine_text(expected: ExpectedJobs) -> str:
    """A machine's type, with its accelerators."""
    accelerator = expected.accelerator
    return expected.machine_type + (f" with {accelerator.count} {accelerator.type}" if accelerator is not None else "")
