"""The scoring engine: points in, columns of predictions out, and the shards that they are kept in."""
