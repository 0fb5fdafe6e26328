"""Shared test settings: Beam's own in-process runner, and no noise from TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from apache_beam.options.pipeline_options import StandardOptions

StandardOptions.DEFAULT_RUNNER = "FnApiRunner"
