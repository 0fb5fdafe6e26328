"""Vertex AI: custom training jobs, the Model Registry, batch prediction, endpoints."""
