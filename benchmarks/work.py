"""What a path is asked to do, and the clock that starts when its first row is about to be scored."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from benchmarks.measuring import Instant, read_clocks
from benchmarks.models import BuiltModel
from configs.features import ColumnType
from transforms.scoring.shards import table_schema
from transforms.space.input_space import InputSpace
from transforms.space.planning import table_columns

_started: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Work:
    """Scoring the first points of a space.

    Attributes:
        rows: how many points, from the space's first.
        directory: for the path's files; Parquet files end in `.parquet` and there are no others of that name.
        processes: worker processes, for the paths that have some.
    """

    model: BuiltModel
    space: InputSpace
    rows: int
    directory: str
    processes: int

    @property
    def types(self) -> dict[str, ColumnType]:
        """Raw features with their types."""
        return {name: feature.type for name, feature in self.model.features.items()}

    @property
    def schema(self) -> pa.Schema:
        """Of the Parquet files."""
        return table_schema(table_columns(self.space, self.model.features, self.model.outputs))

    def ranges(self, rows: int) -> Iterator[tuple[int, int]]:
        """`[start, stop)` of consecutive batches."""
        for start in range(0, self.rows, rows):
            yield start, min(start + rows, self.rows)

    def points(self, start: int, stop: int) -> pa.RecordBatch:
        """The points `[start, stop)`: one column a feature."""
        return self.space.columns(np.arange(start, stop))

    def file(self, name: str) -> str:
        """Path of a file in the folder."""
        return os.path.join(self.directory, name)

    def start_clock(self) -> None:
        """Says that the first row is about to be scored; whatever process says so first, once."""
        if self.directory in _started:
            return
        _started.add(self.directory)
        try:
            descriptor = os.open(self.file("started"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            json.dump(dataclasses.asdict(read_clocks()), file)

    def clock_started(self) -> Instant:
        """When the clock started."""
        return Instant(**json.loads(pathlib.Path(self.file("started")).read_text()))


@dataclasses.dataclass(frozen=True)
class ScoringPath:
    """A way to score a space.

    Attributes:
        settings: what a reader has to know to repeat it, for the report.
        prepare: loads what the path needs and gives the function that scores; what it takes is start-up. The function
            starts the clock itself, and returns how many rows it scored.
        expected_rows_per_second: on the small model, as a first guess at how many rows fit the time.
    """

    name: str
    settings: str
    prepare: Callable[[Work], Callable[[], int]]
    expected_rows_per_second: float
