"""WHAT to do: the job file as a tree of frozen values, and the job files themselves. Imports nothing of ours."""
