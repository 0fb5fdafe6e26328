"""The night: its stages, the warehouses they publish to, and the command line."""

__version__ = "0.1.0"
