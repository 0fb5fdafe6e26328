"""The expected input space: its axes, their product, what is excluded, and the plan of scoring it."""
