"""The stages of a night, one file each. They never call each other; they meet in the run directory."""
