"""What can be proved of a TensorFlow graph by walking over it, without running it."""
