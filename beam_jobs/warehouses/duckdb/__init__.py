"""Prediction tables in an embedded DuckDB catalog over a night's shards."""
