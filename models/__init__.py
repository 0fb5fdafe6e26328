"""TensorFlow: dataset, network, trainer, exporter. Never Beam."""
