"""Prediction tables in a BigQuery dataset, and examples read from BigQuery."""
