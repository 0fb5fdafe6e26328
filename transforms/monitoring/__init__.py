"""Whether tonight looks like the nights before it, and serving like training."""
