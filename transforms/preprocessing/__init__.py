"""The one tf.Transform graph: what the job declares, its analysis, and the examples that it transforms."""
