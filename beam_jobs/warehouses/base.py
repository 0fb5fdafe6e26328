"""What every warehouse can do, and what passes between it and the rest: a night on its way in, a night on record.

Publishing is three steps with the same promise everywhere: `load` makes a table that nobody reads, `verify` proves it
there, `switch` shows it to readers in one step. Each may be repeated after a crash.
"""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from configs.contracts import Contract
from configs.outputs import TableType

if TYPE_CHECKING:
    from beam_jobs.warehouses.changes import Changes, Comparison
    from beam_jobs.warehouses.contracts import Violations
    from transforms.scoring.shards import Manifest  # its import takes seconds of Beam, which a lookup does not need

Value = str | float | int | None
Cell = Value | list[str] | list[float] | list[int]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a published table.

    Attributes:
        type: an array only of an output.
        role: `key` names a row, `feature` is an input beside the keys of a `rows` axis, `output` is the model's.
    """

    name: str
    type: TableType
    role: Literal["key", "feature", "output"]
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Night:
    """A night's finished predictions, on their way to readers.

    Attributes:
        run_dir: the run directory; a warehouse on this machine needs it absolute.
        axes: paths of the axes' Parquet files, in row-major order.
        planned_rows: points of the space less the excluded ones, as planned.
        excluded: points that `exclude` takes away, as planned.
        exclude: SQL condition of the input space, or None.
        description: of the prediction table.
        metrics: of the model, overall.
        labels: for a warehouse that can label a table.
        accepted: checks that a person lets this night fail, each with the reason.
        compared_with: table of the night that readers saw when this one came, if they saw one.
    """

    job: str
    run_date: datetime.date
    run_id: str
    run_dir: str
    manifest: "Manifest"
    axes: tuple[str, ...]
    planned_rows: int
    excluded: int = 0
    exclude: str | None = None
    description: str = ""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accepted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    compared_with: str | None = None

    @property
    def table(self) -> str:
        """Name of the night's own table."""
        return f"{self.job}_{self.run_date:%Y%m%d}_{self.run_id}"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the table, in order."""
        return tuple(
            Column(column.name, column.type, column.role, column.description) for column in self.manifest.columns
        )


@dataclasses.dataclass(frozen=True)
class NightRecord:
    """A published night, as `<job>_runs` keeps it.

    Attributes:
        status: `current` is what readers see, `kept` can be rolled back to, `expired` has gone after its retention,
            `lost` has no files any more though nobody expired it.
        published_at: when readers first saw it since it was last out of sight, in UTC.
        axes: paths of the axes' Parquet files, in row-major order.
        compared_with: table of the night that readers saw when this one came; `<job>_changes` compares the two.
    """

    job: str
    run_date: datetime.date
    run_id: str
    status: Literal["current", "kept", "expired", "lost"]
    rows: int
    excluded: int
    model_version: str
    transform_hash: str
    space_hash: str
    published_at: datetime.datetime
    table: str
    run_dir: str
    columns: tuple[Column, ...]
    axes: tuple[str, ...]
    exclude: str | None = None
    description: str = ""
    metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    accepted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    compared_with: str | None = None

    @classmethod
    def of(cls, night: Night, published_at: datetime.datetime) -> "NightRecord":
        """The record of `night`, kept but not current."""
        return cls(
            job=night.job,
            run_date=night.run_date,
            run_id=night.run_id,
            status="kept",
            rows=night.manifest.rows,
            excluded=night.excluded,
            model_version=night.manifest.model_version,
            transform_hash=night.manifest.transform_hash,
            space_hash=night.manifest.space_hash,
            published_at=published_at,
            table=night.table,
            run_dir=night.run_dir,
            columns=night.columns,
            axes=night.axes,
            exclude=night.exclude,
            description=night.description,
            metrics={name: value if math.isfinite(value) else None for name, value in night.metrics.items()},
            accepted=dict(night.accepted),
            compared_with=night.compared_with,
        )

    @property
    def is_current(self) -> bool:
        """Whether readers see it."""
        return self.status == "current"

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """Columns that name a row."""
        return tuple(column for column in self.columns if column.role == "key")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        dates = {"run_date": self.run_date.isoformat(), "published_at": self.published_at.isoformat()}
        return dataclasses.asdict(self) | dates

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NightRecord":
        """The record that `to_json` gave."""
        parsed = {
            "run_date": datetime.date.fromisoformat(values["run_date"]),
            "published_at": datetime.datetime.fromisoformat(values["published_at"]),
            "columns": tuple(Column(**column) for column in values["columns"]),
            "axes": tuple(values["axes"]),
        }
        return cls(**{**values, **parsed})


@dataclasses.dataclass(frozen=True)
class Check:
    """A check of a loaded table.

    Attributes:
        finding: one line: what was proved, or what is wrong where a person accepted it.
        accepted: the reason for which the failed check lets the night through, or None where it passed.
    """

    name: str
    finding: str
    accepted: str | None = None


@dataclasses.dataclass(frozen=True)
class Verification:
    """A night's table is complete and right, by these checks."""

    rows: int
    checks: tuple[Check, ...]


class Warehouse(Protocol):
    """Where prediction tables live, one table a night, and one view that readers see."""

    @property
    def location(self) -> str:
        """Where a reader finds the tables: a file's path, or a dataset's name."""

    def check(self) -> None:
        """Finds out, before anything is computed for it, whether a night can be published here.

        Raises:
            JobError: it is not there, or not where the job file says.
            ForetableError: something is denied.
        """

    def load(self, night: Night) -> str:
        """Makes the night's own table, which nobody reads yet; returns its name.

        Raises:
            RefusedError: the shards are not what the manifest says.
        """

    def verify(self, night: Night) -> Verification:
        """Proves that the loaded table is complete and right.

        Raises:
            RefusedError: a check failed that nobody accepted; one line with the check, a count, and the first keys.
        """

    def before(self, night: Night) -> NightRecord | None:
        """The night that readers see; where that is this very one, from an earlier try, the one it was compared with.

        None where there is none, or its rows are gone.
        """

    def check_contracts(self, night: Night, contracts: Mapping[str, Contract]) -> "tuple[Violations, ...]":
        """Holds the loaded table against contracts: the rows that break each, over the whole table; refuses nothing."""

    def compare(self, night: Night, before: NightRecord, comparison: "Comparison") -> "Changes":
        """What the loaded table changes against an earlier night's, over the whole of both; refuses nothing."""

    def switch(self, night: Night) -> NightRecord:
        """Records the night and shows it to readers, in one step.

        A night older than the one that readers see is recorded and kept, and readers go on seeing the newer one.
        With `<job>_predictions`, `<job>_changes` is switched (see `changes_view`): the current night against the one
        that it was compared with, no row where that one is gone. So it is after `rollback` and `expire`.
        """

    def current(self, job: str) -> NightRecord | None:
        """The night that readers see."""

    def runs(self, job: str) -> tuple[NightRecord, ...]:
        """Every night on record, newest first."""

    def rollback(self, job: str, run_date: datetime.date) -> NightRecord:
        """Shows readers the kept night of `run_date`, the one published last if there are several.

        Raises:
            RefusedError: no such night is kept.
        """

    def expire(self, job: str, today: datetime.date, retention_days: int) -> tuple[NightRecord, ...]:
        """Removes the tables of nights `retention_days` old or older, but never the current one; returns them."""

    def row(self, record: NightRecord, key: Mapping[str, Value], position: int) -> dict[str, Cell] | None:
        """The row of a night's table that has exactly these key values, or None.

        Args:
            position: of the key in the space, in row-major order: where to look.
        """

    def query_bytes(self, sql: str) -> int | None:
        """Bytes that a query would read, where somebody pays for them; None where nobody does.

        Raises:
            JobError: the statement is wrong or would write.
        """

    def query(self, sql: str) -> pa.Table:
        """Answers one SELECT, read-only.

        Raises:
            JobError: the statement is wrong or would write.
        """

    def key_query(self, record: NightRecord) -> str:
        """SQL that answers a key, to start from, with a row of the night's table as its example."""

    def export(self, job: str, path: str, force: bool = False) -> int:
        """Writes the current table into a self-contained DuckDB file; returns its rows.

        Raises:
            RefusedError: nothing is published, or the file is there and `force` is not set.
        """
