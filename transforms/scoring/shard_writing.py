"""The shards of a space, each scored and written, or kept where an earlier try finished it."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Iterable

from transforms.scoring.engine import Engine
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import Fingerprint, TableColumn, check_shard, write_shard
from transforms.space.blocks import ShardRange

SHARDS_AT_ONCE = 2
"""One ends while the next begins: its last block is encoded while the next one's first are scored."""


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Scores and writes shards of the engine's space.

    Attributes:
        predictions_dir: folder of the shards.
        fingerprint: what the engine was made from.
    """

    engine: Engine
    columns: tuple[TableColumn, ...]
    predictions_dir: str
    fingerprint: Fingerprint

    def finished(self, shard: ShardRange) -> ShardRecord | None:
        """The record of a shard that is whole and made from the same things, if it is there."""
        count_rows = functools.partial(self.engine.exclusion.included_count, shard.start, shard.stop)
        return check_shard(self.predictions_dir, shard, self.columns, count_rows, self.fingerprint)

    def write(self, shard: ShardRange) -> ShardRecord:
        """Scores and writes a shard; what is there of it is replaced."""
        blocks = self.engine.score_ranges(shard.block_ranges())
        return write_shard(self.predictions_dir, shard, self.columns, blocks, self.fingerprint)

    def all_finished(self, shards: Iterable[ShardRange]) -> list[ShardRecord | None]:
        """`finished` of each, in order."""
        with concurrent.futures.ThreadPoolExecutor(SHARDS_AT_ONCE, "shards") as threads:
            return list(threads.map(self.finished, shards))

    def write_all(self, shards: Iterable[ShardRange]) -> list[ShardRecord]:
        """`write` of each, in order."""
        with concurrent.futures.ThreadPoolExecutor(SHARDS_AT_ONCE, "shards") as threads:
            return list(threads.map(self.write, shards))
