"""Steps of a stage as jobs on Dataflow."""
