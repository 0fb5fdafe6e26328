"""The expected input space: the product of its axes, in row-major order, addressed by position and gathered as columns.

Nothing here ever holds more than the points it is asked for, so that a space may be far larger than memory.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from configs.errors import ForetableError
from transforms.files import create_atomically, open_raw
from transforms.space.axes import Axis

_METADATA_KEY = b"foretable"
_LONG = 4096
_FILE_NUMBER = re.compile(r"(\d+)-\w*\.parquet$")


@dataclasses.dataclass(frozen=True)
class Points:
    """Some points of a space.

    Attributes:
        positions: int64 `[num_points]`.
        indices: for each axis, the points' rows of it, int32 `[num_points]`.
    """

    positions: np.ndarray
    indices: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def filter(self, keep: np.ndarray) -> "Points":
        """Those for which `keep`, bool `[num_points]`, is true."""
        return Points(self.positions[keep], tuple(index[keep] for index in self.indices))


@dataclasses.dataclass(frozen=True)
class InputSpace:
    """The product of its axes; `exclude` names the points that are not scored but still have their positions.

    Attributes:
        axes: in row-major order; the last axis varies fastest.
        column_names: of a point, in the order of the prediction table; by default the axes' own.
        exclude: SQL condition over the columns; see `transforms.space.exclusion`.
    """

    axes: tuple[Axis, ...]
    column_names: tuple[str, ...] = ()
    exclude: str | None = None

    def __post_init__(self) -> None:
        names = [name for axis in self.axes for name in axis.table.column_names]
        if not self.column_names:
            object.__setattr__(self, "column_names", tuple(names))
        if sorted(self.column_names) != sorted(names) or len(set(names)) < len(names):
            raise ValueError(f"expected each of the axes' columns {names} once, got {list(self.column_names)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of each axis."""
        return tuple(axis.table.num_rows for axis in self.axes)

    @property
    def cardinality(self) -> int:
        """Number of points, the excluded ones included."""
        return math.prod(self.shape)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Columns that name a point."""
        keys = {name for axis in self.axes for name in axis.keys}
        return tuple(name for name in self.column_names if name in keys)

    @functools.cached_property
    def strides(self) -> tuple[int, ...]:
        """Points from one row of an axis to its next."""
        return tuple(math.prod(self.shape[index + 1 :]) for index in range(len(self.axes)))

    def indices(self, positions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Row of each axis at these positions.

        Args:
            positions: int64 `[num_points]`, each in `[0, cardinality)`.

        Returns:
            For each axis, int64 `[num_points]`.
        """
        rest, found = positions, []
        for stride in self.strides:
            index, rest = np.divmod(rest, stride)
            found.append(index)
        return tuple(found)

    def points(self, positions: np.ndarray) -> "Points":
        """The points at these positions, int64 `[num_points]`, each in `[0, cardinality)`."""
        return Points(positions, tuple(index.astype(np.int32) for index in self.indices(positions)))

    def points_between(self, start: int, stop: int) -> "Points":
        """The points `[start, stop)`: as `points` of them all, without a division for each."""
        indices = tuple(
            _rows_between(start, stop, stride, rows) for stride, rows in zip(self.strides, self.shape, strict=True)
        )
        return Points(np.arange(start, stop), indices)

    def columns(self, positions: np.ndarray) -> pa.RecordBatch:
        """The points at these positions, `[num_points]` rows of `column_names`; null is the missing value.

        Args:
            positions: int64 `[num_points]`, each in `[0, cardinality)`.
        """
        return self.columns_of(self.points(positions))

    def columns_of(self, points: "Points", dictionary: bool = False) -> pa.RecordBatch:
        """These points, `[num_points]` rows of `column_names`; null is the missing value.

        Args:
            dictionary: gives strings dictionary-encoded, which is the same to a Parquet file and quicker to make.
        """
        rows = [pa.array(index) for index in points.indices]
        arrays = self._dictionary_arrays if dictionary else self._arrays
        gathered = {name: arrays[name][1].take(rows[arrays[name][0]]) for name in self.column_names}
        return pa.RecordBatch.from_pydict(gathered)

    def inputs(self, positions: np.ndarray) -> pa.RecordBatch:
        """What the model is given for the points at these positions, `[num_points]` rows; null is the missing value."""
        gathered: dict[str, pa.Array] = {}
        for axis, index in zip(self.axes, self.indices(positions), strict=True):
            columns = axis.inputs.take(pa.array(index))
            gathered |= {name: columns[name].combine_chunks() for name in columns.column_names}
        return pa.RecordBatch.from_pydict(gathered)

    def position(self, key: Mapping[str, Any]) -> int | None:
        """Position of the point with these values, or None if it is not in the space.

        Args:
            key: a value, or None where missing, for each of `key_names`.
        """
        position = 0
        for axis, stride in zip(self.axes, self.strides, strict=True):
            matches = [_equals(axis.table[name], key[name]) for name in axis.keys]
            rows = np.flatnonzero(functools.reduce(np.logical_and, matches))
            if len(rows) == 0:
                return None
            position += int(rows[0]) * stride
        return position

    def digest(self) -> str:
        """SHA-256 of what determines the table's keys: axes, order of columns, and what is excluded."""
        digest = hashlib.sha256()
        described = [[axis.name, axis.table.num_rows, axis.keys, axis.table.column_names] for axis in self.axes]
        digest.update(json.dumps([described, self.column_names, self.exclude]).encode())
        for axis in self.axes:
            for column in _stored(axis).columns:
                _update(digest, column)
        return digest.hexdigest()

    @functools.cached_property
    def _arrays(self) -> dict[str, tuple[int, pa.Array]]:
        return {
            name: (index, axis.table[name].combine_chunks())
            for index, axis in enumerate(self.axes)
            for name in axis.table.column_names
        }

    @functools.cached_property
    def _dictionary_arrays(self) -> dict[str, tuple[int, pa.Array]]:
        # Parquet writes a dictionary whole into every row group, so it has to be small beside one.
        return {
            name: (index, array.dictionary_encode() if pa.types.is_string(array.type) and len(array) <= 4096 else array)
            for name, (index, array) in self._arrays.items()
        }


def _rows_between(start: int, stop: int, stride: int, rows: int) -> np.ndarray:
    """An axis's row at each position of `[start, stop)`: each row for `stride` of them, the first after the last."""
    length, first = stop - start, start // stride
    if stride >= length:  # it changes once, if at all
        index = np.full(length, first % rows, np.int32)
        index[min((first + 1) * stride - start, length) :] = (first + 1) % rows
        return index
    period = rows * stride
    if period < length:
        return _tiled(np.roll(np.repeat(np.arange(rows, dtype=np.int32), stride), -(start % period)), length)
    count, begin = (stop - 1) // stride - first + 1, first % rows
    index = np.arange(begin, begin + count, dtype=np.int32)
    index[rows - begin :] -= rows
    return np.repeat(index, stride)[start - first * stride :][:length]


def _tiled(values: np.ndarray, length: int) -> np.ndarray:
    """The values again and again, `[length]`."""
    values = np.tile(values, -(-_LONG // len(values)))  # a few long pieces are copied faster than many short ones
    return np.tile(values, -(-length // len(values)))[:length]


def save_axes(space: InputSpace, directory: str) -> list[str]:
    """Writes each axis as `NN-<axis>.parquet`, in order, and removes what an earlier try left.

    Returns:
        Paths of the files, in the order of the axes.
    """
    paths = []
    for index, axis in enumerate(space.axes):
        file_name = re.sub(r"\W", "_", axis.name)
        path = FileSystems.join(directory, f"{index:02d}-{file_name}.parquet")
        described = {"name": axis.name, "kind": axis.kind, "keys": axis.keys, "columns": axis.table.column_names}
        metadata = {_METADATA_KEY: json.dumps(described)}
        with create_atomically(path, temporary=f"{path}.tmp") as file:
            pq.write_table(_stored(axis).replace_schema_metadata(metadata), file, compression="zstd")
        paths.append(path)
    if stale := [path for path in _files(directory) if path not in paths]:
        FileSystems.delete(stale)
    return paths


def load_axes(directory: str) -> tuple[Axis, ...]:
    """Axes that `save_axes` wrote.

    Raises:
        ForetableError: there are none, or one cannot be read.
    """
    paths = _files(directory)
    if not paths:
        raise ForetableError(f"{directory}: no axes here; run foretable plan")
    return tuple(_load_axis(path) for path in paths)


def _load_axis(path: str) -> Axis:
    try:
        with open_raw(path) as file:
            table = pq.read_table(pa.BufferReader(file.read()))
        described = json.loads(table.schema.metadata[_METADATA_KEY])
        columns = described["columns"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ForetableError(f"{path}: cannot read the axis: {error}; run foretable plan again") from error
    table = table.replace_schema_metadata(None)
    representatives = table.drop_columns(columns) if len(columns) < table.num_columns else None
    return Axis(described["name"], described["kind"], table.select(columns), tuple(described["keys"]), representatives)


def _stored(axis: Axis) -> pa.Table:
    """The axis's columns, then those of its representatives."""
    table = axis.table
    if axis.representatives is not None:
        for name in axis.representatives.column_names:
            table = table.append_column(name, axis.representatives[name])
    return table


def _files(directory: str) -> list[str]:
    (match,) = FileSystems.match([FileSystems.join(directory, "*.parquet")])
    # By number rather than name: the hundredth axis comes after the ninety-ninth.
    return sorted((file.path for file in match.metadata_list), key=lambda path: int(_FILE_NUMBER.findall(path)[-1]))


def _equals(column: pa.ChunkedArray, value: Any) -> np.ndarray:
    if value is None:
        return pc.is_null(column).to_numpy()
    return pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False).to_numpy()


def _update(digest: Any, column: pa.ChunkedArray) -> None:
    """Hashes values, not buffers: equal columns may differ in chunks, offsets, and what lies under a null."""
    digest.update(str(column.type).encode())
    digest.update(np.packbits(pc.is_null(column).to_numpy()).tobytes())
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    if not pa.types.is_string(column.type):
        digest.update(pc.fill_null(column, 0).to_numpy().tobytes())
        return
    text = pc.fill_null(column, "")
    digest.update(pc.binary_length(text).to_numpy().tobytes())
    for chunk in text.chunks:
        digest.update("".join(chunk.to_pylist()).encode())
