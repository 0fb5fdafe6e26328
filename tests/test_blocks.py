"""The block grid: each point in exactly one block, and the same grid whatever the shards."""

import apache_beam as beam
import hypothesis
import hypothesis.strategies as st
import pytest
from apache_beam.testing.util import assert_that, equal_to

from transforms.space.blocks import BLOCK_ROWS, EnumerateShards, ShardRange, block_count, shard_ranges


@hypothesis.given(st.integers(1, 40 * BLOCK_ROWS), st.integers(1, 50))
def test_each_point_in_one_block_of_one_shard(cardinality, shard_blocks):
    shards = shard_ranges(cardinality, shard_blocks)
    grid = [(start, min(start + BLOCK_ROWS, cardinality)) for start in range(0, cardinality, BLOCK_ROWS)]
    assert [block for shard in shards for block in shard.block_ranges()] == grid
    assert [shard.first_block for shard in shards] == list(range(0, block_count(cardinality), shard_blocks))
    assert sum(shard.blocks for shard in shards) == len(grid) == block_count(cardinality)
    assert all(shard.count == len(shards) and shard.start == shard.first_block * BLOCK_ROWS for shard in shards)
    assert [shard.name for shard in shards] == sorted({shard.name for shard in shards})


def test_pipeline_equals_direct_computation():
    with beam.Pipeline() as pipeline:
        found = pipeline | EnumerateShards(5 * BLOCK_ROWS + 1, 2)
        assert_that(found, equal_to(list(shard_ranges(5 * BLOCK_ROWS + 1, 2))))


def test_a_shard_is_named_by_its_place():
    shards = shard_ranges(3 * BLOCK_ROWS, 2)
    assert shards[1] == ShardRange(1, 2, 2, 1, 2 * BLOCK_ROWS, 3 * BLOCK_ROWS)
    assert shards[1].name == "part-00001-of-00002.parquet"


def test_refuses_an_empty_space():
    with pytest.raises(ValueError, match="cardinality must be at least 1: 0"):
        EnumerateShards(0, 1)
    with pytest.raises(ValueError, match="shard_blocks must be at least 1: 0"):
        EnumerateShards(1, 0)
