"""One module for each kind of source: a file in, typed Arrow batches and bad rows out."""
