"""The block grid: consecutive points of the input space, cut the same way whatever runs them, on however many workers.

A block is the unit of scoring and one row group; a shard is a few blocks in one file, the unit of retry and resume.
"""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

BLOCK_ROWS = 65_536


@dataclasses.dataclass(frozen=True)
class ShardRange:
    """The points `[start, stop)` of the space, which one shard holds.

    Attributes:
        index: of the shard, from 0.
        count: shards in all.
        first_block: of the shard, from 0.
        blocks: in the shard.
        start: the first point.
        stop: one past the last point.
    """

    index: int
    count: int
    first_block: int
    blocks: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of the shard's file."""
        return f"part-{self.index:05d}-of-{self.count:05d}.parquet"

    def block_ranges(self) -> Iterator[tuple[int, int]]:
        """`[start, stop)` of each of its blocks, in order."""
        for start in range(self.start, self.stop, BLOCK_ROWS):
            yield start, min(start + BLOCK_ROWS, self.stop)


def block_count(cardinality: int) -> int:
    """Blocks in a space of `cardinality` points."""
    return -(-cardinality // BLOCK_ROWS)


def shard_ranges(cardinality: int, shard_blocks: int) -> tuple[ShardRange, ...]:
    """Shards of a space of `cardinality` points, in order; each but the last has `shard_blocks` blocks."""
    blocks = block_count(cardinality)
    count = -(-blocks // shard_blocks)
    shards = []
    for index in range(count):
        first = index * shard_blocks
        last = min(first + shard_blocks, blocks)
        shards.append(
            ShardRange(index, count, first, last - first, first * BLOCK_ROWS, min(last * BLOCK_ROWS, cardinality))
        )
    return tuple(shards)


@dataclasses.dataclass
class EnumerateShards(beam.PTransform):
    """Enumerates the space as shard ranges: each point in exactly one, in no promised order.

    Attributes:
        cardinality: points of the space.
        shard_blocks: blocks in a shard.
    """

    cardinality: int
    shard_blocks: int

    def __post_init__(self) -> None:
        if self.cardinality < 1:
            raise ValueError(f"cardinality must be at least 1: {self.cardinality!r}")
        if self.shard_blocks < 1:
            raise ValueError(f"shard_blocks must be at least 1: {self.shard_blocks!r}")

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[ShardRange]:
        """Wires the transform."""
        keyed = [(shard.index, shard) for shard in shard_ranges(self.cardinality, self.shard_blocks)]
        return (
            root
            | "ShardRanges" >> beam.Create(keyed, reshuffle=False)
            # Breaks fusion, or one worker would write every shard. Reshuffle does so too, in three times the time.
            | "BreakFusion" >> beam.GroupByKey()
            | "TakeShards" >> beam.FlatMapTuple(lambda _, shards: shards).with_output_types(ShardRange)
        )
