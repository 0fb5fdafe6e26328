"""How a night ended, kept as `outcome.json` in its run directory: published, or by which stage and why not.

A marker says what a stage did; only this file says why there is none.
"""

import dataclasses
import datetime
import importlib.metadata
import platform
from typing import Any, Literal

from beam_jobs.workspace import storage
from beam_jobs.workspace.night_files import OUTCOME
from beam_jobs.workspace.run_directory import code_version
from configs.errors import ForetableError, RefusedError
from configs.job import Job

Status = Literal["published", "kept", "refused", "failed"]
LIBRARIES = (
    "apache-beam",
    "tensorflow",
    "keras",
    "tensorflow-transform",
    "tfx-bsl",
    "duckdb",
    "google-cloud-bigquery",
    "pyarrow",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        status: `kept` is a published night that readers do not see, because theirs is of a later date.
        exit_code: that the command ends with.
        line: what the person saw, in one line.
        stage: where it ended; None where no stage had begun.
        finished_at: in UTC.
        versions: of Python and of the libraries that decide what is computed.
    """

    status: Status
    exit_code: int
    line: str
    stage: str | None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    finished_at: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @classmethod
    def of_error(cls, error: Exception, stage: str | None, versions: dict[str, str]) -> "Outcome":
        """The end that `error` is, as the command line reports it."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, ForetableError):
            status: Status = "refused" if isinstance(error, RefusedError) else "failed"
            return cls(status, error.exit_code, "; ".join(lines), stage, versions)
        line = f"{type(error).__name__}: {lines[-1][:300]}"
        return cls("failed", ForetableError.exit_code, line, stage, versions)

    def write(self, run_path: str) -> None:
        """Writes it into the run directory, in place of the one of an earlier try."""
        storage.write_json(storage.join(run_path, OUTCOME), dataclasses.asdict(self))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def versions_of(job: Job) -> dict[str, str]:
    """Versions of the code that ran the job, of Python, and of the libraries that are installed."""
    found = {"foretable": code_version(job), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
