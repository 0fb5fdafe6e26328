"""Examples, from a source of any kind to checked, split and described Parquet shards."""
