"""Files of instances in the workspace: a few cells at a time become instances, and those lines of JSON or Parquet."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.vertex.instances import example_instances, json_lines, object_instances
from beam_jobs.workspace import storage
from transforms.scoring.classes import ClassSpace
from transforms.scoring.foreign_models import foreign_inputs
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.threads import map_ahead

FILE_INSTANCES = 1 << 17
"""At most, in one file."""
_CHUNK_INSTANCES = 1 << 16
_KEY, _OTHER_KEY = "key", "foretable_key"

Encode = Callable[[np.ndarray], pa.RecordBatch]


def key_field(transform: PrecomputePredictions) -> str:
    """The field that an instance's key is in, which is none of the model's inputs."""
    return _OTHER_KEY if transform.foreign is not None and _KEY in transform.features else _KEY


def instance_encoder(cells: ClassSpace, transform: PrecomputePredictions) -> Encode:
    """Makes the instances of cells, int64 `[num_cells]`: rows of a key and of what the registered model takes.

    Raises:
        RefusedError: a model that somebody else made cannot take a value of an axis as it is.
    """
    if transform.foreign is None:

        def fields(points: np.ndarray, indices: Sequence[np.ndarray]) -> pa.RecordBatch:
            return example_instances(cells.space.inputs(points), transform.features)

    else:
        inputs = foreign_inputs(transform.model_dir, transform.foreign, transform.features, cells.space)

        def fields(points: np.ndarray, indices: Sequence[np.ndarray]) -> pa.RecordBatch:
            return object_instances({name: values[indices[axis]] for name, (axis, values) in inputs.items()})

    def encode(numbers: np.ndarray) -> pa.RecordBatch:
        first = cells.first_points(numbers)
        instances = fields(first.positions, first.indices)
        keys = pa.array(numbers).cast(pa.string())
        return pa.RecordBatch.from_arrays(
            [keys, *instances.columns], names=[key_field(transform), *instances.schema.names]
        )

    return encode


def file_count(instances: int, readers: int) -> int:
    """Files to write: enough that each of the machines that read them has one, and none is too large."""
    return max(-(-instances // FILE_INSTANCES), min(instances, readers))


def write_files(
    folder: str, cells: Iterable[np.ndarray], sizes: Sequence[int], encode: Encode, suffix: str
) -> list[str]:
    """Writes the instances of cells to `folder`, as `instances-00000-of-00002.<suffix>` and so on.

    Args:
        cells: as many in all as the files have, in arrays of any length.
        sizes: instances in each file.
        suffix: `jsonl` or `parquet`.

    Returns:
        The files' paths, in order.
    """
    serialize = _jsonl if suffix == "jsonl" else _parquet
    storage.make_folder(folder)

    def write(numbered: tuple[int, np.ndarray]) -> str:
        index, numbers = numbered
        path = storage.join(folder, f"instances-{index:05d}-of-{len(sizes):05d}.{suffix}")
        chunks = (numbers[start : start + _CHUNK_INSTANCES] for start in range(0, len(numbers), _CHUNK_INSTANCES))
        storage.write_bytes(path, serialize(encode(chunk) for chunk in chunks))
        return path

    return list(map_ahead(write, enumerate(_parts(cells, sizes))))


def _parts(arrays: Iterable[np.ndarray], sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The arrays' elements in order, in new arrays of these sizes."""
    iterator, rest = iter(arrays), np.empty(0, np.int64)
    for size in sizes:
        taken = [rest]
        while sum(map(len, taken)) < size:
            taken.append(next(iterator))
        joined = np.concatenate(taken)
        rest = joined[size:]
        yield joined[:size]


def _jsonl(batches: Iterable[pa.RecordBatch]) -> bytes:
    return b"".join(map(json_lines, batches))


def _parquet(batches: Iterable[pa.RecordBatch]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_batches(list(batches)), file, compression="zstd")
    return file.getvalue()
