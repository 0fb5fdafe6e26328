"""What may keep a job from running, looked at before it runs: each finding with what mends it."""
