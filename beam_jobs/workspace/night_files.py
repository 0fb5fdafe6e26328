"""What a night left in its run directory, read for a person: whatever is missing or broken there is just not shown."""

import dataclasses
import datetime
import functools
from typing import Any

from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import MARKERS, RunDirectory, stages_of
from configs.errors import ForetableError

OUTCOME = "outcome.json"


@dataclasses.dataclass(frozen=True)
class NightFiles:
    """The files of one run directory.

    Attributes:
        path: the run directory.
        names: of the files directly in it.
    """

    path: str
    names: frozenset[str]

    @classmethod
    def of(cls, path: str) -> "NightFiles":
        """The files that are there now."""
        return cls(path, frozenset(found.rpartition("/")[2] for found in storage.list_files(path, "*.*")))

    @property
    def run_date(self) -> datetime.date:
        """The night's date."""
        return datetime.date.fromisoformat(self.path.split("/")[-2])

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.path.split("/")[-1]

    @property
    def run(self) -> RunDirectory:
        """The run directory as stages know it."""
        return RunDirectory("/".join(self.path.split("/")[:-2]), self.run_date, self.run_id)

    def json(self, name: str) -> Any | None:
        """Content of a JSON file, or None where it is not there or cannot be read."""
        if name not in self.names:
            return None
        try:
            return storage.read_json(storage.join(self.path, name))
        except (ForetableError, OSError):
            return None

    def tree(self, name: str) -> dict[str, Any]:
        """Content of a JSON file that holds an object; an empty one where it is not there."""
        content = self.json(name)
        return content if isinstance(content, dict) else {}

    def text(self, name: str) -> str | None:
        """Content of a text file, or None where it is not there or cannot be read."""
        if name not in self.names:
            return None
        try:
            return storage.read_bytes(storage.join(self.path, name)).decode("utf-8", "replace")
        except OSError:
            return None

    @functools.cached_property
    def job(self) -> dict[str, Any]:
        """The resolved job, as plain values."""
        return self.tree("job.json")

    @functools.cached_property
    def markers(self) -> dict[str, dict[str, Any]]:
        """The markers of the stages that are done, by stage, in order."""
        found = {stage: self.tree(name) for stage, name in MARKERS.items()}
        return {stage: marker for stage, marker in found.items() if marker}

    @functools.cached_property
    def stages(self) -> list[str]:
        """The stages that this night has, in order."""
        return stages_of(self.job)

    @functools.cached_property
    def outcome(self) -> dict[str, Any]:
        """How the last run of this night ended, if it came to an end."""
        return self.tree(OUTCOME)
