"""What was written as a shard, kept beside it in an object store, so that a rerun need not read the shard back.

The record goes with the checksum that the store computed over what it received: it speaks of that object and no other.
On a local disk no record is kept: what is there is read, which is quick, and proves what the disk holds.
"""

import dataclasses
import json

from apache_beam.io.filesystems import FileSystems

from transforms.files import create_atomically, is_local, open_raw


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """A finished shard.

    Attributes:
        name: of its file in the predictions folder.
        first_block: of the shard, from 0.
        blocks: in the shard.
        rows: in the file; excluded points have none.
        bytes: of the file.
        sha256: of the file.
    """

    name: str
    first_block: int
    blocks: int
    rows: int
    bytes: int
    sha256: str


def keep_record(path: str, record: ShardRecord) -> None:
    """Keeps the record of the shard that was just written to `path`."""
    if not is_local(path):
        with create_atomically(_record_path(path)) as file:
            kept = {"record": dataclasses.asdict(record), "checksum": FileSystems.checksum(path)}
            file.write(json.dumps(kept).encode())


def kept_record(path: str) -> ShardRecord | None:
    """The record of the shard that is at `path` now; None if none is kept, or is of another shard, or is no record."""
    if is_local(path) or not FileSystems.exists(_record_path(path)):
        return None
    with open_raw(_record_path(path)) as file:
        content = file.read()
    try:
        kept = json.loads(content)
        record, checksum = ShardRecord(**kept["record"]), kept["checksum"]
    except (KeyError, TypeError, ValueError):
        return None
    return record if checksum == FileSystems.checksum(path) else None


def _record_path(path: str) -> str:
    return f"{path}.json"
